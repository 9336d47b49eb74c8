// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// cuda.rnn on a GPU against the ops' references: everything that the format allows of LSTM, GRU and RNN, odd extents, unaligned rows, weights that are
// no constants. Compiled for the driver that checks calls too, where nothing is compared.

#include "kernel_runner.h"
#include "rnn_cases.h"
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

TEST(GpuRnn, ComputesWhatTheReferencesDo) {
  testing_gpu::KernelRunner runner(cuda::Device::open(0));
  for (const testing_gpu::RnnCase& c : testing_gpu::rnn_cases(kComputes)) {
    SCOPED_TRACE(c.describe());
    testing_gpu::RnnTensors t(c);
    testing_gpu::KernelRunner::Step step;
    step.kernel = "cuda.rnn";
    step.params = t.params;
    for (auto& tensor : t.inputs) step.inputs.push_back(&tensor);
    for (auto& tensor : t.outputs) step.outputs.push_back(&tensor);
    step.weights = t.packed;
    // From other steps and batches.
    step.moves = true;
    const auto moved = [&](std::vector<plan::TensorDesc> descs, std::size_t which) {
      for (std::size_t i = 0; i < descs.size(); ++i) {
        plan::TensorDesc& desc = descs[i];
        const bool weight = which == 0 && i >= regions::kRnnW;
        if (desc.dtype == DType::kUndefined || weight) continue;
        const bool has_steps = i == 0;  // X and Y
        for (std::size_t axis = 0; axis < desc.dims.size(); ++axis) {
          const std::size_t steps = has_steps ? (c.batch_first ? 1 : 0) : 9, batch = desc.dims.size() == 1   ? 0
                                                                                     : c.batch_first         ? 0
                                                                                     : desc.dims.size() == 4 ? 2
                                                                                                             : 1;
          if (axis == steps) desc.dims[axis] += 3;
          if (axis == batch) desc.dims[axis] += 2;
        }
        desc.strides = regions::testing::strides_in(ops::Layout::kRowMajor, desc.dims, desc.dims.size() == 1 ? 0 : c.extra);
      }
      return descs;
    };
    step.other_inputs = moved(t.descs(false), 0);
    step.other_outputs = moved(t.descs(true), 1);
    runner.run(step, [&] {
      if (kComputes) t.compare();
    });
    if (HasFailure()) return;
  }
#ifdef LATHE_FAKE_CUDA
  EXPECT_STREQ(fake_cuda_violations(), "");
#endif
}

}  // namespace
}  // namespace lathe
