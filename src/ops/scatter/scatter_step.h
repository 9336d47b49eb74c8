// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the candidates of ScatterElements and ScatterND have in common.

#include "ops/node_descs.h"
#include "ops/scatter/scatter_plan.h"

namespace lathe::ops {

/// The axis that a step is told: -1 for ScatterND.
inline std::int64_t scatter_axis(const ir::Node& node, std::size_t rank) {
  if (node.op == "ScatterND") return -1;
  const std::int64_t axis = node.attrs.get_int("axis", 0);
  return axis < 0 ? axis + static_cast<std::int64_t>(rank) : axis;
}

inline Verdict scatter_verdict(const PlanRequest& request) {
  const ir::Node& node = *request.region.nodes.front();
  const auto inputs = node_input_descs<3>(request);
  const auto reduction = reduction_of(node.attrs);
  if (!reduction) return Verdict::decline("an unknown reduction");
  if (request.outputs.size() != 1) return Verdict::decline("nothing is read of it");
  cuda::ScatterParams params;
  std::string why;
  if (!scatter_plan(inputs[0], inputs[1], inputs[2], request.outputs[0], scatter_axis(node, inputs[0].dims.size()), *reduction, params, why))
    return Verdict::decline(why);
  return Verdict::accept();
}

inline StepPlan scatter_step(const PlanRequest& request, std::string kernel) {
  const ir::Node& node = *request.region.nodes.front();
  StepPlan step;
  step.kernel = std::move(kernel);
  step.params.set("axis", scatter_axis(node, node.input(0)->shape().size()));
  step.params.set("reduction", static_cast<std::int64_t>(*reduction_of(node.attrs)));
  step.inputs = {node.input(0), node.input(1), node.input(2)};
  step.outputs = {node.output(0)};
  for (const plan::TensorDesc& desc : request.inputs) step.bytes += static_cast<double>(dtype_bytes(desc.dtype, desc.elements()));
  step.bytes += static_cast<double>(dtype_bytes(request.outputs[0].dtype, request.outputs[0].elements()));
  step.flops = static_cast<double>(request.outputs[0].elements());
  return step;
}

}  // namespace lathe::ops
