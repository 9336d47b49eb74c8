// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Which scale and zero point belong to an element: one for the tensor, one for each index of an axis, or one for each block along it.

#include <cstdint>
#include <string>

#include "base/tensor.h"
#include "ir/dim.h"

namespace lathe::ops {

struct Granularity {
  enum class Kind : std::uint8_t { kTensor, kAxis, kBlock } kind = Kind::kTensor;
  std::size_t axis = 0;    ///< kAxis, kBlock
  std::int64_t block = 0;  ///< kBlock: elements along the axis that share a scale
};

/// From a scale's rank (and extent, where it has one axis of it) and the node's attributes. `defect` says what does not fit.
Granularity granularity_of(std::size_t rank, std::size_t scale_rank, bool single, std::int64_t axis, std::int64_t block_size, std::string& defect);

}  // namespace lathe::ops
