// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Real tensors that hold whole numbers: what products of quantised tensors are made of once they run in float32 (the pass
// "quantised-products"). Sums of such products are exact as long as nothing rounds on the way, so those who choose how a product runs ask here.

#include <cstdint>
#include <optional>
#include <utility>

#include "ir/graph.h"

namespace lathe::ops {

/// Least and greatest number that the value can hold, when it can hold whole numbers alone: as far as casts from small integers, sums,
/// differences, bounds and movements tell, and the contents of constants.
std::optional<std::pair<std::int64_t, std::int64_t>> whole_range(const ir::Value* value);

/// A Conv or MatMul of floats whose operands (and bias) hold whole numbers of at most 16 bits.
bool is_whole_product(const ir::Node& node);

}  // namespace lathe::ops
