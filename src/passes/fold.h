// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What folding shares with the passes that work as it does.

#include <cstddef>

#include "ir/graph.h"

namespace lathe::passes {

/// Bytes that all constants may take where quantised ones are made wide for running.
inline constexpr std::size_t kMostDequantised = std::size_t{2} << 30;

/// Runs its nested graph any number of times.
inline bool is_loop(const ir::Node& node) { return node.is("Loop") || node.is("Scan") || node.is("SequenceMap"); }

}  // namespace lathe::passes
