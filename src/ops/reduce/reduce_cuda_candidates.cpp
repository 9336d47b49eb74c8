// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cuda.cumulative": CumSum and CumProd along axes of any length; short ones are left to the region language, where they fuse with what is around them.

#include <array>

#include "ops/candidate.h"
#include "ops/infer.h"
#include "ops/reduce/cumulative_plan.h"
#include "regions/cuda_params.h"

namespace lathe::ops {
namespace {

constexpr std::int64_t kShort = 256;

std::optional<std::int64_t> axis_of(const ir::Node& node) {
  const auto known = node.input(1) ? known_content(*node.input(1)) : std::nullopt;
  const auto numbers = known ? ir::constant_dims(*known) : std::nullopt;
  if (!numbers || numbers->size() != 1) return std::nullopt;
  return numbers->front();
}

/// The tensor that runs; the axis, where it is one of the region's, is only read when it is planned.
const plan::TensorDesc* data_of(const PlanRequest& request) {
  for (std::size_t i = 0; i < request.region.inputs.size(); ++i)
    if (request.region.inputs[i] == request.region.nodes.front()->input(0)) return &request.inputs[i];
  return nullptr;
}

Verdict supports(const PlanRequest& request) {
  const ir::Node& node = *request.region.nodes.front();
  const auto axis = axis_of(node);
  const plan::TensorDesc* x = data_of(request);
  if (!axis) return Verdict::decline("an axis known at run time only");
  if (!x || request.outputs.size() != 1) return Verdict::decline("nothing is read of it");
  CumulativePlan plan;
  std::string why;
  if (!cumulative_plan(*x, request.outputs[0], *axis, node.is("CumProd"), plan, why)) return Verdict::decline(why);
  const ir::Shape& shape = node.input(0)->shape();
  if (shape[static_cast<std::size_t>(*axis < 0 ? *axis + static_cast<std::int64_t>(shape.size()) : *axis)].constant().value_or(kShort + 1) <= kShort)
    return Verdict::decline("a short axis is an expression");
  return regions::need_device(request.device).has_builtin_module(cumulative_launches(plan.whole, plan.scaled).front().module)
             ? Verdict::accept()
             : Verdict::decline("this build has no such kernel");
}

std::vector<StepPlan> plan(const PlanRequest& request) {
  const ir::Node& node = *request.region.nodes.front();
  StepPlan step;
  step.kernel = "cuda.cumulative";
  step.params.set("axis", *axis_of(node));
  step.params.set("product", std::int64_t{node.is("CumProd")});
  step.params.set("exclusive", node.attrs.get_int("exclusive", 0));
  step.params.set("reverse", node.attrs.get_int("reverse", 0));
  step.inputs = {node.input(0)};
  step.outputs = {node.output(0)};
  const plan::TensorDesc& x = *data_of(request);
  step.bytes = 2 * static_cast<double>(dtype_bytes(x.dtype, x.elements()));
  step.flops = 2 * static_cast<double>(x.elements());
  return {step};
}

}  // namespace

std::span<const Candidate> candidates_reduce_cuda() {
  static const std::array<Candidate, 2> list{
      {{"cuda.cumulative", "CumSum", supports, plan, row_major}, {"cuda.cumulative", "CumProd", supports, plan, row_major}}};
  return list;
}

}  // namespace lathe::ops
