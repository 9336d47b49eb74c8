// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Index arithmetic between two shapes of the same elements in row-major order: the region form of every reshape.

#include "ir/dim.h"
#include "loops/builder.h"

namespace lathe::ops {

/// Indices into `from` of the element that `indices` name in `to`. Axes that correspond keep their index untouched, so that only
/// really merged or split groups cost divisions.
loops::RegionBuilder::Indices view_indices(loops::RegionBuilder& builder, const ir::Shape& from, const ir::Shape& to,
                                           const loops::RegionBuilder::Indices& indices);

}  // namespace lathe::ops
