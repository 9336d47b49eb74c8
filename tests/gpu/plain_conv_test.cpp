// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// cuda.conv.generic on a GPU, exactly as the references have it. Compiled for the driver that checks calls too, where nothing is compared.

#include "kernel_runner.h"
#include "plain_conv_cases.h"

namespace lathe {
namespace {

TEST(GpuPlainConv, ConvolvesAsTheReferencesDo) {
  testing_gpu::run_cases<testing_gpu::PlainConvTensors>(testing_gpu::plain_conv_cases(testing_gpu::kComputes), [](const auto&, auto& t) {
    testing_gpu::KernelRunner::Step step;
    step.kernel = "cuda.conv.generic";
    step.params = t.params;
    step.inputs = t.inputs();
    step.outputs = {&t.y};
    // Also from another batch.
    step.moves = true;
    const auto others = [](std::vector<plan::TensorDesc>& list, const std::vector<testing_gpu::GuardedTensor*>& tensors) {
      for (const testing_gpu::GuardedTensor* tensor : tensors) list.push_back(plan::TensorDesc::row_major(tensor->desc.dtype, tensor->desc.dims));
      list[0].dims[0] = 5;
    };
    others(step.other_inputs, step.inputs);
    others(step.other_outputs, step.outputs);
    return step;
  });
}

}  // namespace
}  // namespace lathe
