// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// From chosen regions to a Program: slots for values, copies where memory orders differ, aliases for views, concats and splits, blobs
// for weights.

#include <string_view>
#include <vector>

#include "builder/blob_store.h"
#include "builder/cover.h"
#include "builder/progress.h"

namespace lathe::builder {

/// `used` marks the blobs that the program names. The program's blob ids are those of `blobs`. `phase` takes a step for each region.
plan::Program lower_program(const ir::Graph& graph, const std::vector<PlannedRegion>& regions, const ValuePlans& plans, std::vector<plan::SymbolHint> symbols,
                            BlobStore& blobs, std::vector<bool>& used, Phase& phase, std::string_view copy_kernel = "cpu.copy");

}  // namespace lathe::builder
