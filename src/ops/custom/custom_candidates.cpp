// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cpu.custom": the function of a custom operator. Its pattern is "custom", which src/builder/proposals.cpp gives every such node.

#include <array>

#include "ops/custom/plan.h"
#include "ops/step_node.h"

namespace lathe::ops {

bool custom_types_are_kept(const PlanRequest& request) {
  for (std::size_t i = 0; i < request.region.inputs.size(); ++i)
    if (request.inputs[i].dtype != request.region.inputs[i]->dtype()) return false;
  for (std::size_t i = 0; i < request.region.outputs.size(); ++i)
    if (request.outputs[i].dtype != request.region.outputs[i]->dtype()) return false;
  return true;
}

StepPlan custom_plan(const PlanRequest& request, std::string kernel) {
  const ir::Node& node = *request.region.nodes.front();
  StepPlan step;
  step.kernel = std::move(kernel);
  // With defaults: those of a later registration may be others.
  set_node(step.params, node.domain, node.op, with_defaults(custom_op_of(request), node.attrs));
  step.params.set("name", node.name.empty() && !node.sources.empty() ? node.sources.front() : node.name);
  step.inputs = node.inputs;
  step.outputs = node.outputs;  // what nobody reads has a place too: the function need not ask
  for (const auto* list : {&request.inputs, &request.outputs})
    for (const plan::TensorDesc& desc : *list) step.bytes += static_cast<double>(dtype_bytes(desc.dtype, desc.elements()));
  return step;
}

namespace {

Verdict supports(const PlanRequest& request) {
  if (!custom_types_are_kept(request)) return Verdict::decline("a value is stored in another type than the model's");
  return Verdict::accept();
}

std::vector<StepPlan> plan(const PlanRequest& request) { return {custom_plan(request, "cpu.custom")}; }

}  // namespace

std::span<const Candidate> candidates_custom() {
  static const std::array<Candidate, 1> list{{{"cpu.custom", "custom", supports, plan, row_major}}};
  return list;
}

}  // namespace lathe::ops
