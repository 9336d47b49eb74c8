// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Runs register tiles over a grid of pixels x weight panels, with the epilogue: the part that convolution, matrix product and
// transposed convolution share. Also the packed panel format: [panel][k step][width] where a step is 4 bytes of A (one float or
// a pair of bf16), the width is that of the panel (32, or 16 for a last panel of at most 16 columns), and columns past the end are zero.

#include <cstdint>

#include "backend/cpu/kernel_table.h"

namespace lathe::cpu {

inline std::int64_t element_bytes(DType type) noexcept { return type == DType::kBFloat16 ? 2 : 4; }
inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) noexcept { return (a + b - 1) / b; }
inline std::int64_t round_up(std::int64_t a, std::int64_t b) noexcept { return ceil_div(a, b) * b; }

/// Width of panel `p` when `cols` columns are cut into panels of `panel`.
inline std::int64_t panel_width(std::int64_t cols, std::int64_t panel, std::int64_t p) noexcept {
  const std::int64_t left = cols - p * panel;
  return left >= panel ? panel : round_up(left, 16);
}
/// Columns of all panels, with the padding of the last one.
inline std::int64_t padded_cols(std::int64_t cols) noexcept { return round_up(cols, 16); }

/// Panels that a register tile takes side by side, when they are narrower than it.
inline std::int64_t panels_side_by_side(const KernelTable& kernels, std::int64_t panel) noexcept {
  return panel < 16 * kernels.max_units ? 16 * kernels.max_units / panel : 1;
}

/// Calls a register tile, with long sums cut: a chain of float32 additions errs with its length, so every few hundred steps the sums so far are added to
/// `acc` and a new chain begins (two-level summation, as in Castaldo, Whaley and Chronopoulos, "Reducing floating point error in dot product using the
/// superblock family of algorithms", 2008). The weights of a piece also stay in the first-level cache while `tiles` pass.
inline constexpr std::int64_t kChainSteps = 512;
void run_tiles_in_pieces(TileFn tile, const TileArgs& args) noexcept;
inline void run_tiles(TileFn tile, const TileArgs& args) noexcept {
  if (args.outer * args.inner * args.k <= kChainSteps) {
    tile(args);
  } else {
    run_tiles_in_pieces(tile, args);
  }
}

/// A grid of rows x cols pixels. Byte strides throughout.
struct TileGrid {
  const char* a;  ///< first pixel, first k step of chunk 0
  std::int64_t a_pixel, a_row;
  std::int64_t rows, cols;
  // k: `chunks` parts; part i starts a_chunk bytes after the one before, has outer x inner segments of k steps (last_k in the last).
  std::int64_t chunks, a_chunk;
  std::int64_t outer, outer_stride, inner, inner_stride, k, last_k;
  // Row r's outer segment o reads input row top + r * top_step + o * tap_step: those outside [0, height) are zeros and skipped.
  // height 0: none is skipped.
  std::int64_t height, top, top_step, tap_step;
  bool bf16;
  bool prefetch_a;        ///< A is read in place from cold memory: touch the next tile early
  const char* weights;    ///< panel 0
  std::int64_t panel, n;  ///< panel width; all columns
  std::int64_t panel_begin, panel_end;
  float* acc;  ///< tile_grid_acc_bytes()
  // Output: pixel (0,0), column 0 of the grid.
  char* dst;
  std::int64_t dst_pixel, dst_row;
  const char* residual;
  std::int64_t residual_pixel, residual_row;
  DType dst_type, residual_type;
  const float* bias;
  Epilogue op;
};

std::int64_t tile_grid_acc_bytes(std::int64_t pixels, std::int64_t chunks) noexcept;
void run_tile_grid(const KernelTable& kernels, const TileGrid& grid) noexcept;

}  // namespace lathe::cpu
