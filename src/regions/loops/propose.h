// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Which nodes become one region of the region language.

#include <unordered_set>
#include <vector>

#include "ops/candidate.h"

namespace lathe::regions {

/// Groups the nodes that are not in `taken` and have a lowering into connected regions, in topological order; nodes without a lowering
/// are left to others. No region depends on itself through nodes outside.
std::vector<ops::Region> propose_loops(const ir::Graph& graph, const std::unordered_set<const ir::Node*>& taken);

}  // namespace lathe::regions
