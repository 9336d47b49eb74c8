// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the lowerings of the poolings share: reductions over a window and over a plane.

#include "loops/builder.h"
#include "ops/lower_util.h"
#include "ops/pool/pool_window.h"

namespace lathe::ops {

/// What is reduced: an element in the type that is computed in.
using ElementMap = std::function<loops::ExprId(loops::RegionBuilder&, loops::ExprId)>;

/// A temporary of the output's shape: `map`ped elements reduced over the window (to a position in it by ArgMax). Taps outside the input
/// read `outside`.
const Value* reduce_window(const Node& node, loops::RegionBuilder& builder, const char* name, const Window& window, loops::Reduce reduce, DType type,
                           const loops::RegionBuilder::Body& outside, ElementMap map);
/// A temporary of the output's shape: `map`ped elements reduced over all spatial axes.
const Value* reduce_planes(const Node& node, loops::RegionBuilder& builder, const char* name, loops::Reduce reduce, DType type, ElementMap map);

}  // namespace lathe::ops
