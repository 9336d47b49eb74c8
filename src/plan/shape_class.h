// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Which extents share a specialisation: memory is planned once for the largest of them, kernels then move among them.

#include <cstdint>
#include <vector>

#include "plan/program.h"

namespace lathe::plan {

/// Values of one symbol, both ends included.
struct SymbolRange {
  std::int64_t low = 0, high = 0;
  friend bool operator==(const SymbolRange&, const SymbolRange&) = default;
};

/// The range that `value` falls in. The value that the engine was tuned at stands alone, so that it wastes no memory; others share the
/// stretch from one power of two (excluded) to the next (included), cut to the limits of the hint. 0 stands alone, 1 and 2 go together.
/// So 1..512 are at most ten ranges and 1..32 at most six.
SymbolRange symbol_range(std::int64_t value, const SymbolHint& hint);

/// One range per symbol, in the order of ShapeProgram::symbols(). Two shapes are of one class when these are equal.
using ShapeClass = std::vector<SymbolRange>;

}  // namespace lathe::plan
