// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The projections to queries, keys and values of one attention, joined to one product: their weights side by side, one reading of the
// activations, one kernel. The parts come back through a Split that the attention region takes along.

#include <unordered_map>
#include <vector>

#include "ir/graph.h"

namespace lathe::regions {

inline constexpr std::int64_t kMostAttentionDepth = 128;  ///< elements of a head that the GPU's kernels hold

/// Constants that were made of others, side by side along their last axis.
using JoinedConstants = std::unordered_map<const ir::Value*, std::vector<ir::Value*>>;

/// Rewrites `graph`; the parts of joined constants stay in it. Only for attentions whose heads have at most `most_depth` elements.
JoinedConstants join_projections(ir::Graph& graph, std::int64_t most_depth);

}  // namespace lathe::regions
