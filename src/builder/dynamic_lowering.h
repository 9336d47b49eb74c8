// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// From a cut graph (islands.h) to a dynamic program (src/plan/program.h): a slot for each whole value, a call for each island, a host-op for
// each node that its definition runs.

#include <functional>
#include <vector>

#include "builder/blob_store.h"
#include "builder/islands.h"

namespace lathe::builder {

/// Plans an island: its program, whose inputs and outputs are the island graph's.
using LowerIsland = std::function<plan::Program(const ir::Graph& island)>;

/// `used` marks the blobs that the program names, as in lower_program(). `symbols`: of the outermost graph's inputs.
plan::Program lower_dynamic(const CutGraph& cut, std::vector<plan::SymbolHint> symbols, BlobStore& blobs, std::vector<bool>& used,
                            const LowerIsland& lower_island);

}  // namespace lathe::builder
