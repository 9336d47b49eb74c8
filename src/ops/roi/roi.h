// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// roi_lower.cpp: RoiAlign and MaxRoiPool in the region language.

#include "ops/op_def.h"

namespace lathe::ops {

bool roi_align_lower(const Node& node, loops::RegionBuilder& builder);
bool max_roi_lower(const Node& node, loops::RegionBuilder& builder);

}  // namespace lathe::ops
