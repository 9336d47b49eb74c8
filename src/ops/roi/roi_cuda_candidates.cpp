// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cuda.roi_align": any number of samples. "cuda.max_roi_pool": maps of any size, of which a bin reads its own pixels alone.

#include <array>

#include "ops/roi/roi_step.h"
#include "regions/cuda_params.h"

namespace lathe::ops {
namespace {

Verdict has_module(const PlanRequest& request) {
  return regions::need_device(request.device).has_builtin_module("roi") ? Verdict::accept() : Verdict::decline("this build has no such kernel");
}

Verdict supports(const PlanRequest& request) {
  const Verdict verdict = roi_verdict(request);
  return verdict.yes ? has_module(request) : verdict;
}

std::vector<StepPlan> plan(const PlanRequest& request) { return {roi_step(request, "cuda.roi_align")}; }

Verdict supports_max(const PlanRequest& request) {
  const auto inputs = node_input_descs<2>(request);
  if (request.outputs.size() != 1) return Verdict::decline("nothing is read of it");
  cuda::RoiParams params;
  std::string why;
  const bool fits = max_roi_plan(inputs[0], inputs[1], request.outputs[0], RoiHow::max_pool(request.region.nodes.front()->attrs), params, why);
  return fits ? has_module(request) : Verdict::decline(why);
}

std::vector<StepPlan> plan_max(const PlanRequest& request) {
  const ir::Node& node = *request.region.nodes.front();
  StepPlan step;
  step.kernel = "cuda.max_roi_pool";
  step.params = some_attrs(node.attrs, {"pooled_shape", "spatial_scale"});
  step.inputs = {node.input(0), node.input(1)};
  step.outputs = {node.output(0)};
  const double elements = static_cast<double>(request.outputs[0].elements());
  step.bytes = elements * 4 + static_cast<double>(dtype_bytes(request.inputs[0].dtype, request.inputs[0].elements()));
  step.flops = elements * 16;
  return {step};
}

}  // namespace

std::span<const Candidate> candidates_roi_cuda() {
  static const std::array<Candidate, 2> list{
      {{"cuda.roi_align", "RoiAlign", supports, plan, row_major}, {"cuda.max_roi_pool", "MaxRoiPool", supports_max, plan_max, row_major}}};
  return list;
}

}  // namespace lathe::ops
