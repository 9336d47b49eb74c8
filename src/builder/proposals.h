// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Where regions come from: the anchored patterns of src/regions/*, the region language's fusion, and single nodes.

#include <unordered_set>
#include <vector>

#include "ops/candidate.h"

namespace lathe::builder {

using NodeSet = std::unordered_set<const ir::Node*>;

/// Alternatives for a region anchored at `node` (its contraction, pooling, ...), widest first; empty when it anchors nothing.
std::vector<ops::Region> propose_anchored(const ir::Node& node);
/// Fused regions of the region language over the nodes that are not in `taken`.
std::vector<ops::Region> propose_fused(const ir::Graph& graph, const NodeSet& taken);
/// A region of exactly these nodes (topological order): inputs in first-use order, outputs = values used outside.
ops::Region make_region(std::string pattern, std::vector<const ir::Node*> nodes);
/// Reshape, Flatten, Squeeze, Unsqueeze, Identity: the same elements under another shape.
bool is_view(const ir::Node& node);

}  // namespace lathe::builder
