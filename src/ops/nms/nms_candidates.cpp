// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cpu.nms": images and classes side by side, boxes sorted as far as they are asked for.

#include "ops/nms/nms_step.h"

namespace lathe::ops {
namespace {

bool is_stored(DType dtype) { return dtype == DType::kFloat32 || dtype == DType::kFloat16 || dtype == DType::kBFloat16; }

Verdict supports(const PlanRequest& request) { return nms_verdict(request, is_stored); }

std::vector<StepPlan> plan(const PlanRequest& request) { return {nms_step(request, "cpu.nms")}; }

}  // namespace

std::span<const Candidate> candidates_nms() {
  static const std::array<Candidate, 1> list{{{"cpu.nms", "lathe.internal::NonMaxSuppressionPadded", supports, plan, row_major}}};
  return list;
}

}  // namespace lathe::ops
