// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See shape_class.h.

#include "plan/shape_class.h"

#include <algorithm>

namespace lathe::plan {

SymbolRange symbol_range(std::int64_t value, const SymbolHint& hint) {
  if (value == hint.opt || value <= 0) return {value, value};
  // Beyond 2^40 no tensor is accepted; the stretch then ends at the value itself.
  SymbolRange range{1, 2};
  while (range.high < value && range.high < (std::int64_t{1} << 40)) range = {range.high + 1, range.high * 2};
  range.high = std::max(range.high, value);
  if (hint.max >= value) range.high = std::min(range.high, hint.max);
  if (hint.min <= value) range.low = std::max(range.low, hint.min);
  return range;
}

}  // namespace lathe::plan
