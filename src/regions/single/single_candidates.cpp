// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cpu.reference": any single node by its defining reference (the blocked oracle where the op has one). The last resort, so that no
// valid model is refused; --explain and `lathe profile` show where it was needed.

#include <array>

#include "ops/evaluate.h"
#include "ops/candidate.h"
#include "ops/step_node.h"

namespace lathe::ops {
namespace {

Verdict supports(const PlanRequest& request) {
  if (request.region.nodes.size() != 1) return Verdict::decline("more than one node");
  const ir::Node& node = *request.region.nodes.front();
  if (!can_evaluate(node)) return Verdict::decline("the op has no reference");
  if (!ir::nested_graphs(node).empty()) return Verdict::decline("control flow is not run as a single step");
  for (const auto* list : {&node.inputs, &node.outputs})
    for (const ir::Value* value : *list)
      if (value && value->dtype() == DType::kString) return Verdict::decline("string tensors");
  return Verdict::accept();
}

std::vector<StepPlan> plan(const PlanRequest& request) {
  const ir::Node& node = *request.region.nodes.front();
  StepPlan step;
  step.kernel = "cpu.reference";
  set_node(step.params, node.domain, node.op, node.attrs);
  step.inputs = node.inputs;
  step.outputs = node.outputs;
  // float32 values that a precision plan stores as float16: the op itself computes in its own type.
  for (std::size_t i = 0; i < request.region.outputs.size(); ++i)
    if (request.outputs[i].dtype == DType::kFloat16 && request.region.outputs[i]->dtype() == DType::kFloat32) step.params.set("half_storage", std::int64_t{1});
  for (std::size_t i = 0; i < request.region.inputs.size(); ++i)
    if (request.inputs[i].dtype == DType::kFloat16 && request.region.inputs[i]->dtype() == DType::kFloat32) step.params.set("half_storage", std::int64_t{1});
  for (ir::Value*& output : step.outputs)
    if (output && output->uses.empty() && !output->is_graph_output()) output = nullptr;
  for (const auto* list : {&request.inputs, &request.outputs})
    for (const plan::TensorDesc& desc : *list) step.bytes += static_cast<double>(dtype_bytes(desc.dtype, desc.elements()));
  // Scalar double loops: price them far above any kernel.
  step.bytes *= 40;
  return {step};
}

}  // namespace

std::span<const Candidate> candidates_single() {
  static const std::array<Candidate, 1> list{{{"cpu.reference", "single", supports, plan, row_major}}};
  return list;
}

}  // namespace lathe::ops
