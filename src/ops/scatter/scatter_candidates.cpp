// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cpu.scatter": the updates in their order, side by side where they cannot meet.

#include <array>

#include "ops/scatter/scatter_step.h"

namespace lathe::ops {
namespace {

std::vector<StepPlan> plan(const PlanRequest& request) { return {scatter_step(request, "cpu.scatter")}; }

}  // namespace

std::span<const Candidate> candidates_scatter() {
  static const std::array<Candidate, 2> list{
      {{"cpu.scatter", "ScatterElements", scatter_verdict, plan, row_major}, {"cpu.scatter", "ScatterND", scatter_verdict, plan, row_major}}};
  return list;
}

}  // namespace lathe::ops
