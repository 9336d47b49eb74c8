// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Which two loops of a stage become the columns and rows of its tiles, and how many points each takes at once: the cheapest pair by a
// rough model of what a tile's reads, stores and kernel calls cost.

#include <cstdint>

#include "loops/cpu/analysis.h"

namespace lathe::loops::cpu {

struct TileShape {
  int row_loop = -1, col_loop = -1;  ///< -1: one row / one column
  std::int64_t row_step = 1, col_step = 1;
};

struct TileQuestion {
  const StageAnalysis& stage;  ///< offsets set
  int first_loop = 0;          ///< loops before it stay apart
  int block_loop = -1;         ///< a loop that must be a side of the tile, with `block` points
  std::int64_t block = 1;
  bool pure_copy = false;  ///< memory to memory, no registers in between
};

TileShape choose_tile(const TileQuestion& question);

}  // namespace lathe::loops::cpu
