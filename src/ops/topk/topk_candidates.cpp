// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cpu.topk": selection in one pass over each row.

#include <array>

#include "ops/candidate.h"

namespace lathe::ops {
namespace {

bool is_stored(DType dtype) { return dtype == DType::kFloat32 || dtype == DType::kBFloat16; }

Verdict supports(const PlanRequest& request) {
  const ir::Node& node = *request.region.nodes.front();
  const plan::TensorDesc& x = request.inputs[0];
  if (x.dtype == DType::kUndefined || dtype_bits(x.dtype) < 8) return Verdict::decline("no kernel reads this element type");
  for (std::size_t i = 0; i < request.region.outputs.size(); ++i) {
    const DType stored = request.outputs[i].dtype;
    if (request.region.outputs[i] != node.output(0) || stored == x.dtype) continue;
    if (!is_stored(stored) || !is_stored(x.dtype)) return Verdict::decline("the values are stored in another type than the input");
  }
  return Verdict::accept();
}

std::vector<StepPlan> plan(const PlanRequest& request) {
  const ir::Node& node = *request.region.nodes.front();
  StepPlan step;
  step.kernel = "cpu.topk";
  step.params.set("axis", node.attrs.get_int("axis", -1));
  step.params.set("largest", node.attrs.get_int("largest", 1));
  step.inputs = {node.input(0)};
  for (std::size_t i = 0; i < 2; ++i) {
    ir::Value* output = node.output(i);
    step.outputs.push_back(output && output->uses.empty() && !output->is_graph_output() ? nullptr : output);
  }
  const plan::TensorDesc& x = request.inputs[0];
  step.bytes = static_cast<double>(dtype_bytes(x.dtype, x.elements()));
  step.flops = 4 * static_cast<double>(x.elements());
  return {step};
}

}  // namespace

std::span<const Candidate> candidates_topk() {
  static const std::array<Candidate, 1> list{{{"cpu.topk", "TopK", supports, plan, row_major}}};
  return list;
}

}  // namespace lathe::ops
