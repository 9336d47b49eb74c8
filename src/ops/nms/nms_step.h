// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the candidates of NonMaxSuppressionPadded have in common.

#include <array>

#include "ops/nms/nms_plan.h"
#include "ops/node_descs.h"

namespace lathe::ops {

/// Why no kernel could run it; `stored` says of an element type whether boxes, scores and thresholds may have it.
inline Verdict nms_verdict(const PlanRequest& request, bool (*stored)(DType)) {
  const ir::Node& node = *request.region.nodes.front();
  const auto inputs = node_input_descs<kNmsInputs>(request);
  for (const std::size_t i : {std::size_t{0}, std::size_t{1}, std::size_t{3}, std::size_t{4}})
    if (nms_is_given(inputs[i]) && !stored(inputs[i].dtype)) return Verdict::decline("no kernel reads this element type");
  const Dims& scores = inputs[1].dims;
  if (scores.size() != 3) return Verdict::decline("scores of another rank than 3");
  const std::int64_t most = node.attrs.get_int("most", -1), room = most < 0 ? scores[2] : std::min(most, scores[2]);
  const plan::TensorDesc outputs[] = {plan::TensorDesc::row_major(DType::kInt64, {scores[0] * scores[1] * room, 3}),
                                      plan::TensorDesc::row_major(DType::kInt64, {1})};
  NmsPlan plan;
  std::string why;
  return nms_plan(inputs, outputs, most, false, plan, why) ? Verdict::accept() : Verdict::decline(why);
}

inline StepPlan nms_step(const PlanRequest& request, std::string kernel) {
  const ir::Node& node = *request.region.nodes.front();
  StepPlan step;
  step.kernel = std::move(kernel);
  step.params.set("center_point_box", node.attrs.get_int("center_point_box", 0));
  step.params.set("most", node.attrs.get_int("most", -1));
  for (std::size_t i = 0; i < kNmsInputs; ++i) step.inputs.push_back(node.input(i));
  step.outputs = {node.output(0), node.output(1)};
  for (const plan::TensorDesc& desc : request.inputs) step.bytes += static_cast<double>(dtype_bytes(desc.dtype, desc.elements()));
  step.flops = 4 * step.bytes;
  return step;
}

}  // namespace lathe::ops
