// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cuda.topk": sorted pieces of rows, of any length, along any axis.

#include <array>

#include "ops/node_descs.h"
#include "ops/topk/topk_plan.h"
#include "regions/cuda_params.h"

namespace lathe::ops {
namespace {

Verdict supports(const PlanRequest& request) {
  const ir::Node& node = *request.region.nodes.front();
  const plan::TensorDesc& x = request.inputs[0];
  const auto [values, indices] = node_output_descs<2>(request);
  if (values.dtype == DType::kUndefined && indices.dtype == DType::kUndefined) return Verdict::decline("nothing is read of it");
  const auto rank = static_cast<std::int64_t>(x.dims.size());
  const std::int64_t axis = node.attrs.get_int("axis", -1);
  if (axis < -rank || axis >= rank) return Verdict::decline("the axis is outside of the input");
  TopKPlan plan;
  std::string why;
  if (!topk_plan(x, values, indices, static_cast<std::size_t>(axis < 0 ? axis + rank : axis), true, plan, why)) return Verdict::decline(why);
  return regions::need_device(request.device).has_builtin_module("topk") ? Verdict::accept() : Verdict::decline("this build has no such kernel");
}

std::vector<StepPlan> plan(const PlanRequest& request) {
  const ir::Node& node = *request.region.nodes.front();
  StepPlan step;
  step.kernel = "cuda.topk";
  step.params.set("axis", node.attrs.get_int("axis", -1));
  step.params.set("largest", node.attrs.get_int("largest", 1));
  step.inputs = {node.input(0)};
  const auto results = node_output_descs<2>(request);
  for (std::size_t i = 0; i < 2; ++i) step.outputs.push_back(results[i].dtype == DType::kUndefined ? nullptr : node.output(i));
  const plan::TensorDesc& x = request.inputs[0];
  step.bytes = static_cast<double>(dtype_bytes(x.dtype, x.elements()));
  step.flops = 4 * static_cast<double>(x.elements());
  return {step};
}

}  // namespace

std::span<const Candidate> candidates_topk_cuda() {
  static const std::array<Candidate, 1> list{{{"cuda.topk", "TopK", supports, plan, row_major}}};
  return list;
}

}  // namespace lathe::ops
