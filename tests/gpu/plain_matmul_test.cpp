// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// cuda.matmul.generic on a GPU, exactly as the references have it. Compiled for the driver that checks calls too, where nothing is compared.

#include "kernel_runner.h"
#include "plain_matmul_cases.h"

namespace lathe {
namespace {

TEST(GpuPlainMatMul, MultipliesAsTheReferencesDo) {
  testing_gpu::run_cases<testing_gpu::PlainMatMulTensors>(testing_gpu::plain_matmul_cases(testing_gpu::kComputes), [](const auto& c, auto& t) {
    testing_gpu::KernelRunner::Step step;
    step.kernel = "cuda.matmul.generic";
    step.params = t.params;
    step.inputs = t.inputs();
    step.outputs = {&t.y};
    // Also from other extents: large tiles where these are small, or the other way round.
    if (c.a.size() == 2 && c.b.size() == 2 && !c.z) {
      step.moves = true;
      const std::int64_t side = c.a[0] > 100 ? 3 : 600;
      step.other_inputs = {plan::TensorDesc::row_major(t.a.desc.dtype, c.trans_a ? Dims{5, side} : Dims{side, 5}),
                           plan::TensorDesc::row_major(t.b.desc.dtype, c.trans_b ? Dims{side, 5} : Dims{5, side})};
      step.other_outputs = {plan::TensorDesc::row_major(t.y.desc.dtype, {side, side})};
    }
    return step;
  });
}

}  // namespace
}  // namespace lathe
