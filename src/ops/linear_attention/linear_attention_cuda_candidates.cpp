// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cuda.linear_attention": a block for each head and slice of its state's columns.

#include "ops/linear_attention/linear_attention_step.h"
#include "regions/cuda_params.h"

namespace lathe::ops {
namespace {

Verdict supports(const PlanRequest& request) {
  cuda::LinearAttentionParams params;
  if (const Verdict verdict = linear_attention_verdict(request, params); !verdict.yes) return verdict;
  LinearLaunch launch;
  std::string why;
  if (!linear_attention_launch(params, launch, why)) return Verdict::decline(why);
  return regions::need_device(request.device).has_builtin_module("linear_attention") ? Verdict::accept() : Verdict::decline("this build has no such kernel");
}

std::vector<StepPlan> plan(const PlanRequest& request) { return {linear_attention_step(request, "cuda.linear_attention")}; }

}  // namespace

std::span<const Candidate> candidates_linear_attention_cuda() {
  static const std::array<Candidate, 1> list{{{"cuda.linear_attention", "LinearAttention", supports, plan, row_major}}};
  return list;
}

}  // namespace lathe::ops
