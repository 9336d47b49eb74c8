// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cpu.nonzero": two passes over shares of the elements.

#include <array>

#include "ops/candidate.h"
#include "ops/nonzero/nonzero_plan.h"

namespace lathe::ops {
namespace {

Verdict supports(const PlanRequest& request) {
  return non_zero_bits(request.inputs[0].dtype) ? Verdict::accept() : Verdict::decline("no kernel reads this element type");
}

std::vector<StepPlan> plan(const PlanRequest& request) {
  const ir::Node& node = *request.region.nodes.front();
  StepPlan step;
  step.kernel = "cpu.nonzero";
  step.inputs = {node.input(0)};
  step.outputs = {node.output(0), node.output(1)};
  const plan::TensorDesc& x = request.inputs[0];
  step.bytes = 2 * static_cast<double>(dtype_bytes(x.dtype, x.elements()));
  step.flops = 2 * static_cast<double>(x.elements());
  return {step};
}

}  // namespace

std::span<const Candidate> candidates_nonzero() {
  static const std::array<Candidate, 1> list{{{"cpu.nonzero", "lathe.internal::NonZeroPadded", supports, plan, row_major}}};
  return list;
}

}  // namespace lathe::ops
