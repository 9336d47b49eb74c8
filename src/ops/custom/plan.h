// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The plan that the candidates of custom operators share.

#include "ops/candidate.h"
#include "ops/custom/custom.h"

namespace lathe::ops {

/// The region's only node, and its op; the proposal asked whether there is one.
inline const CustomOp& custom_op_of(const PlanRequest& request) { return *find_custom_op(*request.region.nodes.front()); }

/// Are all values stored in their own types? A function is written for those.
bool custom_types_are_kept(const PlanRequest& request);
StepPlan custom_plan(const PlanRequest& request, std::string kernel);

}  // namespace lathe::ops
