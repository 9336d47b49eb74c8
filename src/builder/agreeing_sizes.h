// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Sizes that belong together although a file calls each of them free: a mask as long as the cache and the new tokens are together.

#include <vector>

#include "ir/graph.h"

namespace lathe::builder {

/// Changes each of `sets` (values of the symbols of the graph's inputs) so that the model's own definitions run on random inputs of these sizes:
/// one symbol becomes the sum of two others, in all sets the same. False, and nothing is changed, where no such sum helps.
bool make_sizes_agree(const ir::Graph& graph, std::vector<ir::Bindings*> sets);

}  // namespace lathe::builder
