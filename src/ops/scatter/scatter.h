// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the references of the scatters share with their lowerings.

#include <optional>

#include "ops/op_def.h"

namespace lathe::ops {

enum class Reduction : std::uint8_t { kNone, kAdd, kMul, kMax, kMin };

std::optional<Reduction> reduction_of(const Attrs& attrs);

// scatter_lower.cpp
bool scatter_elements_lower(const Node& node, loops::RegionBuilder& builder);
bool scatter_nd_lower(const Node& node, loops::RegionBuilder& builder);
bool tensor_scatter_lower(const Node& node, loops::RegionBuilder& builder);

}  // namespace lathe::ops
