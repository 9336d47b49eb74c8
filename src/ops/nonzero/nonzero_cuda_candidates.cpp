// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cuda.nonzero": counted by blocks, then written where the counts tell.

#include <array>

#include "ops/candidate.h"
#include "ops/nonzero/nonzero_plan.h"
#include "regions/cuda_params.h"

namespace lathe::ops {
namespace {

Verdict supports(const PlanRequest& request) {
  const plan::TensorDesc& x = request.inputs[0];
  cuda::NonZeroParams params;
  std::string why;
  const auto places = plan::TensorDesc::row_major(DType::kInt64, {static_cast<std::int64_t>(x.dims.size()), x.elements()});
  if (!non_zero_plan(x, places, plan::TensorDesc::row_major(DType::kInt64, {1}), params, why)) return Verdict::decline(why);
  return regions::need_device(request.device).has_builtin_module("nonzero") ? Verdict::accept() : Verdict::decline("this build has no such kernel");
}

std::vector<StepPlan> plan(const PlanRequest& request) {
  const ir::Node& node = *request.region.nodes.front();
  StepPlan step;
  step.kernel = "cuda.nonzero";
  step.inputs = {node.input(0)};
  step.outputs = {node.output(0), node.output(1)};
  const plan::TensorDesc& x = request.inputs[0];
  step.bytes = 2 * static_cast<double>(dtype_bytes(x.dtype, x.elements()));
  step.flops = 2 * static_cast<double>(x.elements());
  return {step};
}

}  // namespace

std::span<const Candidate> candidates_nonzero_cuda() {
  static const std::array<Candidate, 1> list{{{"cuda.nonzero", "lathe.internal::NonZeroPadded", supports, plan, row_major}}};
  return list;
}

}  // namespace lathe::ops
