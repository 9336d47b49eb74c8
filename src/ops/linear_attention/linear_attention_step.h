// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the candidates of LinearAttention have in common.

#include <array>

#include "ops/linear_attention/linear_attention_plan.h"
#include "ops/node_descs.h"

namespace lathe::ops {

struct LinearTensors {
  std::array<plan::TensorDesc, kLinearInputs> inputs;
  std::array<plan::TensorDesc, kLinearOutputs> outputs;  ///< without type where nobody reads them
};

inline LinearTensors linear_attention_tensors(const PlanRequest& request) {
  return {node_input_descs<kLinearInputs>(request), node_output_descs<kLinearOutputs>(request)};
}

/// Why no kernel could run it; `params` as the plan makes them.
inline Verdict linear_attention_verdict(const PlanRequest& request, cuda::LinearAttentionParams& params) {
  const ir::Node& node = *request.region.nodes.front();
  const LinearTensors tensors = linear_attention_tensors(request);
  std::string why;
  const bool fits = linear_attention_plan(tensors.inputs, tensors.outputs, node.attrs.get_int("q_num_heads", 0), node.attrs.get_int("kv_num_heads", 0),
                                          node.attrs.get_float("scale", 0), params, why);
  return fits ? Verdict::accept() : Verdict::decline(why);
}

/// The rule is in the tensors that are there: decays where it is gated, betas where it has the delta.
inline StepPlan linear_attention_step(const PlanRequest& request, std::string kernel) {
  const ir::Node& node = *request.region.nodes.front();
  const LinearTensors tensors = linear_attention_tensors(request);
  StepPlan step;
  step.kernel = std::move(kernel);
  for (const char* name : {"q_num_heads", "kv_num_heads"}) step.params.set(name, node.attrs.get_int(name, 0));
  step.params.set("scale", node.attrs.get_float("scale", 0));
  for (std::size_t i = 0; i < kLinearInputs; ++i) step.inputs.push_back(node.input(i));
  for (std::size_t i = 0; i < kLinearOutputs; ++i) step.outputs.push_back(tensors.outputs[i].dtype == DType::kUndefined ? nullptr : node.output(i));
  for (const auto* list : {&request.inputs, &request.outputs})
    for (const plan::TensorDesc& desc : *list) step.bytes += static_cast<double>(dtype_bytes(desc.dtype, desc.elements()));
  cuda::LinearAttentionParams p;
  if (linear_attention_verdict(request, p).yes)
    step.flops = static_cast<double>(p.batch) * p.steps * p.heads * p.key_size * p.value_size * (2 + p.gated + 2 * p.delta + 2.0 * p.group);
  return step;
}

}  // namespace lathe::ops
