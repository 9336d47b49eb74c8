// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// cuda.trees and cuda.svm on a GPU against the references: labels and plain sums exactly, functions of sums within what two libraries differ by.
// Compiled for the driver that checks calls too, where nothing is compared.

#include "kernel_runner.h"
#include "ml_cases.h"
#ifdef LATHE_FAKE_CUDA
#include "fake_cuda.h"
#endif

namespace lathe {
namespace {

#ifdef LATHE_FAKE_CUDA
constexpr bool kComputes = false;
#else
constexpr bool kComputes = true;
#endif

void run_all(const std::vector<testing_gpu::MlCase>& cases) {
  testing_gpu::KernelRunner runner(cuda::Device::open(0));
  for (const testing_gpu::MlCase& c : cases) {
    SCOPED_TRACE(c.describe());
    testing_gpu::MlTensors t(c);
    testing_gpu::KernelRunner::Step step;
    step.kernel = t.kernel;
    step.params = t.params;
    step.inputs = {&t.x};
    step.outputs = {&t.labels, &t.scores};
    step.weights = {t.tables};
    step.moves = true;
    step.other_inputs = t.other_inputs;
    step.other_outputs = t.other_outputs;
    runner.run(step, [&] {
      if (kComputes) t.compare(c.op.starts_with("Tree") && c.attrs.get_string("post_transform", "NONE") == "NONE");
    });
    if (testing::Test::HasFailure()) return;
  }
#ifdef LATHE_FAKE_CUDA
  EXPECT_STREQ(fake_cuda_violations(), "");
#endif
}

TEST(GpuTrees, VoteAsTheReferenceDoes) { run_all(testing_gpu::tree_cases(kComputes)); }

TEST(GpuSvm, DecidesAsTheReferenceDoes) { run_all(testing_gpu::svm_cases(kComputes)); }

}  // namespace
}  // namespace lathe
