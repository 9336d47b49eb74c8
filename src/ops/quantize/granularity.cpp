// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#include "ops/quantize/granularity.h"

namespace lathe::ops {

Granularity granularity_of(std::size_t rank, std::size_t scale_rank, bool single, std::int64_t axis, std::int64_t block_size, std::string& defect) {
  Granularity g;
  const auto signed_rank = static_cast<std::int64_t>(rank);
  const bool whole = scale_rank == 0 || (scale_rank == 1 && single && block_size == 0);
  if (whole) return g;
  if (axis < -signed_rank || axis >= signed_rank) {
    defect = "axis " + std::to_string(axis) + " is out of range for rank " + std::to_string(rank);
    return g;
  }
  g.axis = static_cast<std::size_t>(axis < 0 ? axis + signed_rank : axis);
  if (block_size < 0) {
    defect = "block_size " + std::to_string(block_size) + " is negative";
  } else if (block_size > 0) {
    g.kind = Granularity::Kind::kBlock;
    g.block = block_size;
    if (scale_rank != rank) defect = "a blocked scale has the tensor's rank " + std::to_string(rank) + ", this one has " + std::to_string(scale_rank);
  } else {
    g.kind = Granularity::Kind::kAxis;
    if (scale_rank != 1) defect = "the scale has rank " + std::to_string(scale_rank) + "; without block_size it is a scalar or has one axis";
  }
  return g;
}

}  // namespace lathe::ops
