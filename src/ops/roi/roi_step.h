// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the candidates of RoiAlign have in common.

#include "ops/expand_util.h"
#include "ops/node_descs.h"
#include "ops/roi/roi_plan.h"

namespace lathe::ops {

inline Verdict roi_verdict(const PlanRequest& request) {
  const ir::Node& node = *request.region.nodes.front();
  const auto inputs = node_input_descs<3>(request);
  if (request.outputs.size() != 1) return Verdict::decline("nothing is read of it");
  cuda::RoiParams params;
  std::string why;
  return roi_plan(inputs[0], inputs[1], inputs[2], request.outputs[0], RoiHow(node.attrs), params, why) ? Verdict::accept() : Verdict::decline(why);
}

inline StepPlan roi_step(const PlanRequest& request, std::string kernel) {
  const ir::Node& node = *request.region.nodes.front();
  StepPlan step;
  step.kernel = std::move(kernel);
  step.params = some_attrs(node.attrs, {"coordinate_transformation_mode", "mode", "output_height", "output_width", "sampling_ratio", "spatial_scale"});
  step.inputs = {node.input(0), node.input(1), node.input(2)};
  step.outputs = {node.output(0)};
  const double elements = static_cast<double>(request.outputs[0].elements());
  const std::int64_t ratio = node.attrs.get_int("sampling_ratio", 0), samples = ratio > 0 ? ratio * ratio : 4;
  step.flops = elements * 8 * static_cast<double>(samples);
  step.bytes = elements * 4 + static_cast<double>(dtype_bytes(request.inputs[0].dtype, request.inputs[0].elements()));
  return step;
}

}  // namespace lathe::ops
