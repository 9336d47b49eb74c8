// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// cuda.nonzero, cuda.nms, cuda.scatter, cuda.sorted_slices and cuda.max_roi_pool on a GPU, exactly, and cuda.roi_align, closely, as the references have it.
// Compiled for the driver that checks calls too, where nothing is compared.

#include "counted_cases.h"
#include "kernel_runner.h"
#include "roi_cases.h"
#include "scatter_cases.h"
#include "slices_cases.h"
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

TEST(GpuNonZero, CountsAsTheReferenceDoes) {
  testing_gpu::KernelRunner runner(cuda::Device::open(0));
  for (const testing_gpu::NonZeroCase& c : testing_gpu::non_zero_cases(kComputes)) {
    SCOPED_TRACE(c.describe());
    testing_gpu::NonZeroTensors t(c);
    testing_gpu::KernelRunner::Step step;
    step.kernel = "cuda.nonzero";
    step.inputs = {&t.x};
    step.outputs = {&t.places, &t.count};
    runner.run(step, [&] {
      if (kComputes) t.compare();
    });
    if (HasFailure()) return;
  }
#ifdef LATHE_FAKE_CUDA
  EXPECT_STREQ(fake_cuda_violations(), "");
#endif
}

TEST(GpuNms, SelectsAsTheReferenceDoes) {
  testing_gpu::KernelRunner runner(cuda::Device::open(0));
  for (const testing_gpu::NmsCase& c : testing_gpu::nms_cases(kComputes)) {
    SCOPED_TRACE(c.describe());
    testing_gpu::NmsTensors t(c);
    testing_gpu::KernelRunner::Step step;
    step.kernel = "cuda.nms";
    step.params = t.params;
    step.inputs = t.input_list();
    step.outputs = {&t.rows, &t.count};
    runner.run(step, [&] {
      if (kComputes) t.compare();
    });
    if (HasFailure()) return;
  }
#ifdef LATHE_FAKE_CUDA
  EXPECT_STREQ(fake_cuda_violations(), "");
#endif
}

TEST(GpuScatter, UpdatesAsTheReferenceDoes) {
  testing_gpu::KernelRunner runner(cuda::Device::open(0));
  for (const testing_gpu::ScatterCase& c : testing_gpu::scatter_cases(kComputes)) {
    SCOPED_TRACE(c.describe());
    testing_gpu::ScatterTensors t(c);
    testing_gpu::KernelRunner::Step step;
    step.kernel = "cuda.scatter";
    step.params = t.params;
    step.inputs = {&t.data, &t.indices, &t.updates};
    step.outputs = {&t.out};
    runner.run(step, [&] {
      if (kComputes) t.compare();
    });
    if (HasFailure()) return;
  }
#ifdef LATHE_FAKE_CUDA
  EXPECT_STREQ(fake_cuda_violations(), "");
#endif
}

TEST(GpuRoiAlign, AlignsAsTheReferenceDoes) {
  testing_gpu::KernelRunner runner(cuda::Device::open(0));
  for (const testing_gpu::RoiCase& c : testing_gpu::roi_cases(kComputes)) {
    SCOPED_TRACE(c.describe());
    testing_gpu::RoiTensors t(c);
    testing_gpu::KernelRunner::Step step;
    step.kernel = "cuda.roi_align";
    step.params = t.params;
    step.inputs = {&t.x, &t.rois, &t.batch};
    step.outputs = {&t.y};
    runner.run(step, [&] {
      if (kComputes) t.compare();
    });
    if (HasFailure()) return;
  }
#ifdef LATHE_FAKE_CUDA
  EXPECT_STREQ(fake_cuda_violations(), "");
#endif
}

TEST(GpuMaxRoiPool, PoolsAsTheReferenceDoes) {
  testing_gpu::KernelRunner runner(cuda::Device::open(0));
  for (const testing_gpu::MaxRoiCase& c : testing_gpu::max_roi_cases(kComputes)) {
    SCOPED_TRACE(c.describe());
    testing_gpu::MaxRoiTensors t(c);
    testing_gpu::KernelRunner::Step step;
    step.kernel = "cuda.max_roi_pool";
    step.params = t.params;
    step.inputs = {&t.x, &t.rois};
    step.outputs = {&t.y};
    runner.run(step, [&] {
      if (kComputes) t.compare();
    });
    if (HasFailure()) return;
  }
#ifdef LATHE_FAKE_CUDA
  EXPECT_STREQ(fake_cuda_violations(), "");
#endif
}

TEST(GpuSlices, SortAsTheReferenceDoes) {
  testing_gpu::KernelRunner runner(cuda::Device::open(0));
  for (const testing_gpu::SlicesCase& c : testing_gpu::slices_cases(kComputes)) {
    SCOPED_TRACE(c.describe());
    testing_gpu::SlicesTensors t(c);
    testing_gpu::KernelRunner::Step step;
    step.kernel = "cuda.sorted_slices";
    step.params = t.params;
    step.inputs = {&t.x};
    step.outputs = {&t.order, &t.begins};
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
