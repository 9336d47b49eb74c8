// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cuda.scatter": any number of updates, anywhere.

#include <array>

#include "ops/scatter/scatter_step.h"
#include "regions/cuda_params.h"

namespace lathe::ops {
namespace {

Verdict supports(const PlanRequest& request) {
  if (const Verdict verdict = scatter_verdict(request); !verdict.yes) return verdict;
  const auto& device = regions::need_device(request.device);
  return device.has_builtin_module("scatter") && device.has_builtin_module("topk") ? Verdict::accept() : Verdict::decline("this build has no such kernel");
}

std::vector<StepPlan> plan(const PlanRequest& request) { return {scatter_step(request, "cuda.scatter")}; }

}  // namespace

std::span<const Candidate> candidates_scatter_cuda() {
  static const std::array<Candidate, 2> list{
      {{"cuda.scatter", "ScatterElements", supports, plan, row_major}, {"cuda.scatter", "ScatterND", supports, plan, row_major}}};
  return list;
}

}  // namespace lathe::ops
