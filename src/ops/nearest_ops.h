// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// For messages about operators that are not known.

#include <string>
#include <string_view>
#include <vector>

namespace lathe::ops {

/// Known operators that are spelled much like this one, nearest first, those of its domain before others; three at most.
std::vector<std::string> nearest_ops(std::string_view domain, std::string_view name);

/// What to do about an operator that is not known.
inline constexpr std::string_view kUnknownOpRemedy =
    "`lathe ops` lists the supported ones; register a custom op (docs/custom_ops.md), or give the model a local function of this name.";

}  // namespace lathe::ops
