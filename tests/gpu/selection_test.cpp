// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// cuda.nonzero, cuda.nms, cuda.scatter, cuda.sorted_slices and cuda.max_roi_pool on a GPU, exactly, and cuda.roi_align, closely, as the references have it.
// Compiled for the driver that checks calls too, where nothing is compared.

#include "counted_cases.h"
#include "kernel_runner.h"
#include "roi_cases.h"
#include "scatter_cases.h"
#include "slices_cases.h"

namespace lathe {
namespace {

using testing_gpu::kComputes;

TEST(GpuNonZero, CountsAsTheReferenceDoes) {
  testing_gpu::run_cases<testing_gpu::NonZeroTensors>(testing_gpu::non_zero_cases(kComputes), [](const auto&, auto& t) {
    testing_gpu::KernelRunner::Step step;
    step.kernel = "cuda.nonzero";
    step.inputs = {&t.x};
    step.outputs = {&t.places, &t.count};
    return step;
  });
}

TEST(GpuNms, SelectsAsTheReferenceDoes) {
  testing_gpu::run_cases<testing_gpu::NmsTensors>(testing_gpu::nms_cases(kComputes), [](const auto&, auto& t) {
    testing_gpu::KernelRunner::Step step;
    step.kernel = "cuda.nms";
    step.params = t.params;
    step.inputs = t.input_list();
    step.outputs = {&t.rows, &t.count};
    return step;
  });
}

TEST(GpuScatter, UpdatesAsTheReferenceDoes) {
  testing_gpu::run_cases<testing_gpu::ScatterTensors>(testing_gpu::scatter_cases(kComputes), [](const auto&, auto& t) {
    testing_gpu::KernelRunner::Step step;
    step.kernel = "cuda.scatter";
    step.params = t.params;
    step.inputs = {&t.data, &t.indices, &t.updates};
    step.outputs = {&t.out};
    return step;
  });
}

TEST(GpuRoiAlign, AlignsAsTheReferenceDoes) {
  testing_gpu::run_cases<testing_gpu::RoiTensors>(testing_gpu::roi_cases(kComputes), [](const auto&, auto& t) {
    testing_gpu::KernelRunner::Step step;
    step.kernel = "cuda.roi_align";
    step.params = t.params;
    step.inputs = {&t.x, &t.rois, &t.batch};
    step.outputs = {&t.y};
    return step;
  });
}

TEST(GpuMaxRoiPool, PoolsAsTheReferenceDoes) {
  testing_gpu::run_cases<testing_gpu::MaxRoiTensors>(testing_gpu::max_roi_cases(kComputes), [](const auto&, auto& t) {
    testing_gpu::KernelRunner::Step step;
    step.kernel = "cuda.max_roi_pool";
    step.params = t.params;
    step.inputs = {&t.x, &t.rois};
    step.outputs = {&t.y};
    return step;
  });
}

TEST(GpuSlices, SortAsTheReferenceDoes) {
  testing_gpu::run_cases<testing_gpu::SlicesTensors>(testing_gpu::slices_cases(kComputes), [](const auto&, auto& t) {
    testing_gpu::KernelRunner::Step step;
    step.kernel = "cuda.sorted_slices";
    step.params = t.params;
    step.inputs = {&t.x};
    step.outputs = {&t.order, &t.begins};
    return step;
  });
}

}  // namespace
}  // namespace lathe
