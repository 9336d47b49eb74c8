// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cuda.roi_align": any number of samples.

#include <array>

#include "ops/roi/roi_step.h"
#include "regions/cuda_params.h"

namespace lathe::ops {
namespace {

Verdict supports(const PlanRequest& request) {
  if (const Verdict verdict = roi_verdict(request); !verdict.yes) return verdict;
  return regions::need_device(request.device).has_builtin_module("roi") ? Verdict::accept() : Verdict::decline("this build has no such kernel");
}

std::vector<StepPlan> plan(const PlanRequest& request) { return {roi_step(request, "cuda.roi_align")}; }

}  // namespace

std::span<const Candidate> candidates_roi_cuda() {
  static const std::array<Candidate, 1> list{{{"cuda.roi_align", "RoiAlign", supports, plan, row_major}}};
  return list;
}

}  // namespace lathe::ops
