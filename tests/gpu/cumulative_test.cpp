// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// cuda.cumulative on a GPU, exactly as the references have it. Compiled for the driver that checks calls too, where nothing is compared.

#include "cumulative_cases.h"
#include "kernel_runner.h"

namespace lathe {
namespace {

using testing_gpu::kComputes;

TEST(GpuCumulative, AddsAsTheReferencesDo) {
  testing_gpu::run_cases<testing_gpu::CumulativeTensors>(testing_gpu::cumulative_cases(kComputes), [](const auto& c, auto& t) {
    testing_gpu::KernelRunner::Step step;
    step.kernel = "cuda.cumulative";
    step.params = t.params;
    step.inputs = {&t.x};
    step.outputs = {&t.y};
    // Also from other extents: rows of one piece where these have several, or the other way round.
    step.moves = true;
    Dims other = c.dims;
    std::int64_t& extent = other[static_cast<std::size_t>(c.axis < 0 ? c.axis + static_cast<std::int64_t>(other.size()) : c.axis)];
    extent = extent > 2048 ? 5 : 4100;
    step.other_inputs = {plan::TensorDesc::row_major(c.type, other)};
    step.other_outputs = {plan::TensorDesc::row_major(t.y.desc.dtype, other)};
    return step;
  });
}

}  // namespace
}  // namespace lathe
