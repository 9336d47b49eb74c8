// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The graph's invariants: topological order, uses that match inputs, unique names, constants with types, producers in the right
// graph. Runs after each pass in debug builds, and always after import.

#include <string>
#include <vector>

#include "ir/graph.h"

namespace lathe::ir {

/// All defects, each one sentence that names node and value; empty when sound.
std::vector<std::string> find_defects(const Graph& graph);
/// Throws Error(kInternal) listing the defects, with `after` (the pass's name) in the message.
void verify(const Graph& graph, std::string_view after);

}  // namespace lathe::ir
