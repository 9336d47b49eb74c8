// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Runs a LoopRegion point by point in double (or int64) precision: the oracle of every emitter.

#include <span>
#include <vector>

#include "base/tensor.h"
#include "loops/region.h"

namespace lathe::loops {

/// `inputs` in the order of the region's input buffers; returns the outputs in theirs. `symbols` binds every symbol of the shapes.
/// Reductions accumulate in double (int64 for integers); each store rounds to its buffer's dtype, temporaries included when
/// `round_temporaries` (else they stay double).
std::vector<Tensor> interpret(const LoopRegion& region, std::span<const Tensor> inputs, const ir::Bindings& symbols, bool round_temporaries = false);

}  // namespace lathe::loops
