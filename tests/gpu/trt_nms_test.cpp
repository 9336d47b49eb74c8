// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// cuda.trt_nms on a GPU as the references of TensorRT's plugins have it. Compiled for the driver that checks calls too, where nothing is compared.

#include "trt_nms_cases.h"

#include "kernel_runner.h"
#ifdef LATHE_FAKE_CUDA
#include "fake_cuda.h"
#endif

namespace lathe {
namespace {

TEST(GpuTrtNms, SelectsAsTheReferencesDo) {
#ifdef LATHE_FAKE_CUDA
  constexpr bool kComputes = false;
#else
  constexpr bool kComputes = true;
#endif
  testing_gpu::KernelRunner runner(cuda::Device::open(0));
  for (const testing_gpu::TrtNmsCase& c : testing_gpu::trt_nms_cases(kComputes)) {
    SCOPED_TRACE(c.describe());
    testing_gpu::TrtNmsTensors t(c);
    testing_gpu::KernelRunner::Step step;
    step.kernel = "cuda.trt_nms";
    step.params = t.params;
    step.inputs = t.list(t.inputs);
    step.outputs = t.list(t.outputs);
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
