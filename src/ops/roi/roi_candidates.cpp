// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cpu.roi_align": places and weights of a region once for all its channels.

#include <array>

#include "ops/roi/roi_step.h"

namespace lathe::ops {
namespace {

std::vector<StepPlan> plan(const PlanRequest& request) { return {roi_step(request, "cpu.roi_align")}; }

}  // namespace

std::span<const Candidate> candidates_roi() {
  static const std::array<Candidate, 1> list{{{"cpu.roi_align", "RoiAlign", roi_verdict, plan, row_major}}};
  return list;
}

}  // namespace lathe::ops
