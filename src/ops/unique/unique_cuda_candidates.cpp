// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cuda.sorted_slices": places of slices, sorted by merging.

#include <array>

#include "ops/node_descs.h"
#include "ops/unique/unique_plan.h"
#include "regions/cuda_params.h"

namespace lathe::ops {
namespace {

Verdict supports(const PlanRequest& request) {
  const auto [order, begins] = node_output_descs<2>(request);
  cuda::SliceParams params;
  std::string why;
  if (!slice_plan(request.inputs[0], request.region.nodes.front()->attrs.get_int("axis", 0), order, begins, params, why)) return Verdict::decline(why);
  return regions::need_device(request.device).has_builtin_module("unique") ? Verdict::accept() : Verdict::decline("this build has no such kernel");
}

std::vector<StepPlan> plan(const PlanRequest& request) {
  const ir::Node& node = *request.region.nodes.front();
  StepPlan step;
  step.kernel = "cuda.sorted_slices";
  step.params.set("axis", node.attrs.get_int("axis", 0));
  step.inputs = {node.input(0)};
  step.outputs = {node.output(0), node.output(1)};
  const plan::TensorDesc& x = request.inputs[0];
  step.bytes = 2 * static_cast<double>(dtype_bytes(x.dtype, x.elements()));
  step.flops = 20 * static_cast<double>(x.elements());
  return {step};
}

}  // namespace

std::span<const Candidate> candidates_unique_cuda() {
  static const std::array<Candidate, 1> list{{{"cuda.sorted_slices", "lathe.internal::SortedSlices", supports, plan, row_major}}};
  return list;
}

}  // namespace lathe::ops
