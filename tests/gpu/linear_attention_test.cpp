// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// cuda.linear_attention on a GPU against the op's reference. Compiled for the driver that checks calls too, where nothing is compared.

#include "kernel_runner.h"
#include "linear_attention_cases.h"
#include "linear_attention_model.h"
#include "verified_build.h"

namespace lathe {
namespace {

using testing_gpu::kComputes;

TEST(GpuLinearAttention, ComputesWhatTheReferenceDoes) {
  testing_gpu::run_cases<testing_gpu::LinearAttentionTensors>(testing_gpu::linear_attention_cases(kComputes), [](const auto& c, auto& t) {
    testing_gpu::KernelRunner::Step step;
    step.kernel = "cuda.linear_attention";
    step.params = t.params;
    step.inputs = t.input_list();
    step.outputs = t.output_list();
    // From other batches and steps.
    testing_gpu::LinearAttentionCase other = c;
    other.batch += 2;
    other.steps += 3;
    step.moves = true;
    step.other_inputs = other.descs(false);
    step.other_outputs = other.descs(true);
    return step;
  });
}

#ifndef LATHE_FAKE_CUDA
/// Built, timed and verified: nothing on the host, nothing pinned to float32.
TEST(GpuLinearAttention, EnginesAreVerified) {
  for (const char* precision : {"fp32", "fp16", "bf16"})
    for (const char* rule : {"linear", "gated", "delta", "gated_delta"}) {
      SCOPED_TRACE(fmt::format("{} in {}", rule, precision));
      verified_build(testing_gpu::linear_attention_model(rule), precision, 0.2, {{"x", {{1, 1, 24}, {2, 12, 24}, {5, 70, 24}}}});
    }
}
#endif

}  // namespace
}  // namespace lathe
