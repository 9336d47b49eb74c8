// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cpu.linear_attention": heads, and slices of their states, side by side.

#include "ops/linear_attention/linear_attention_step.h"

namespace lathe::ops {
namespace {

Verdict supports(const PlanRequest& request) {
  cuda::LinearAttentionParams params;
  return linear_attention_verdict(request, params);
}

std::vector<StepPlan> plan(const PlanRequest& request) { return {linear_attention_step(request, "cpu.linear_attention")}; }

}  // namespace

std::span<const Candidate> candidates_linear_attention() {
  static const std::array<Candidate, 1> list{{{"cpu.linear_attention", "LinearAttention", supports, plan, row_major}}};
  return list;
}

}  // namespace lathe::ops
