// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cuda.custom": the CUDA kernel of a custom operator. One without becomes a step of the host's.

#include <algorithm>
#include <array>

#include "ops/custom/plan.h"

namespace lathe::ops {
namespace {

Verdict supports(const PlanRequest& request) {
  if (custom_op_of(request).cuda.empty()) return Verdict::decline("the operator has no CUDA kernel");
  if (!custom_types_are_kept(request)) return Verdict::decline("a value is stored in another type than the model's");
  const ir::Node& node = *request.region.nodes.front();
  if (node.outputs.empty() || !node.outputs.front()) return Verdict::decline("the first output is left out, whose elements count the threads");
  for (const auto* list : {&request.inputs, &request.outputs})
    for (const plan::TensorDesc& desc : *list) {
      if (dtype_bits(desc.dtype) < 8) return Verdict::decline("elements smaller than a byte");
      if (desc.dims.size() > 8) return Verdict::decline("more than 8 axes");
    }
  return Verdict::accept();
}

std::vector<StepPlan> plan(const PlanRequest& request) { return {custom_plan(request, "cuda.custom")}; }

}  // namespace

std::span<const Candidate> candidates_custom_cuda() {
  static const std::array<Candidate, 1> list{{{"cuda.custom", "custom", supports, plan, row_major}}};
  return list;
}

}  // namespace lathe::ops
