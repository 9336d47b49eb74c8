// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// cuda.trt_nms on a GPU as the references of TensorRT's plugins have it. Compiled for the driver that checks calls too, where nothing is compared.

#include "trt_nms_cases.h"

#include "kernel_runner.h"

namespace lathe {
namespace {

using testing_gpu::kComputes;

TEST(GpuTrtNms, SelectsAsTheReferencesDo) {
  testing_gpu::run_cases<testing_gpu::TrtNmsTensors>(testing_gpu::trt_nms_cases(kComputes), [](const auto&, auto& t) {
    testing_gpu::KernelRunner::Step step;
    step.kernel = "cuda.trt_nms";
    step.params = t.params;
    step.inputs = t.list(t.inputs);
    step.outputs = t.list(t.outputs);
    return step;
  });
}

}  // namespace
}  // namespace lathe
