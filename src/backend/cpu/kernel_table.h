// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the kernels of all ISA levels share: argument blocks and the table of functions that each level fills. Only plain data here:
// this header is included by files compiled with wide-vector flags, so it must not define anything with external linkage.

#include <cstddef>
#include <cstdint>
#include <optional>

#include "backend/cpu/epilogue.h"
#include "backend/cpu/features.h"
#include "lathe/dtype.h"

namespace lathe::cpu {

inline constexpr int kMaxTileRows = 14;  ///< pixels in a register tile
inline constexpr int kMaxUnits = 2;      ///< 16-channel units in a register tile
inline constexpr int kMaxPanel = 16 * kMaxUnits;

/// Register tiles of rows x (16 * units) sums over k, `tiles` of them one after the other. Both element types move in steps of 4 bytes of A: one float, or a
/// pair of bf16 along k. A's rows: the first ceil(rows / 2) start at a0, the others at a1, each group a_stride bytes apart. The k range is outer x inner
/// segments of `k` contiguous steps. Weights: one step every w_stride bytes, 64 bytes of it per unit, units w_unit bytes apart (64: side by side), segments
/// following each other.
struct TileArgs {
  const char* a0;
  const char* a1;
  std::int64_t a_stride;
  const char* w;
  std::int64_t w_stride, w_unit;
  std::int64_t k;
  std::int64_t outer, inner;
  std::int64_t outer_stride, inner_stride;  ///< bytes
  float* acc;                               ///< [rows][acc_stride floats]
  std::int64_t acc_stride;
  bool accumulate;  ///< add the sums to acc instead of storing them
  std::int64_t tiles = 1;
  std::int64_t tile_step = 0;  ///< bytes of A from a tile to the next; their sums follow each other in acc
};
using TileFn = void (*)(const TileArgs&);

/// Epilogue over a block of sums: rows x cols.
struct EpilogueArgs {
  const float* acc;
  std::int64_t acc_stride;  ///< floats
  std::int64_t rows, cols;
  const float* bias;             ///< may be nullptr
  const char* residual;          ///< may be nullptr
  std::int64_t residual_stride;  ///< bytes
  char* dst;
  std::int64_t dst_stride;  ///< bytes
  DType residual_type, dst_type;
  Epilogue op;
};
using EpilogueFn = void (*)(const EpilogueArgs&);

/// A row of rows x cols elements each: dst = convert(src). Strides in bytes.
struct CopyArgs {
  const char* src;
  std::int64_t src_stride;
  char* dst;
  std::int64_t dst_stride;
  std::int64_t rows, cols;
  DType src_type, dst_type;
};

struct DepthwiseArgs {   ///< one output row of one image
  const char* src;       ///< the image's first element
  const float* weights;  ///< [kh][kw][c]
  std::int64_t h, w, c, kh, kw, stride_w, dilation_h, dilation_w;
  std::int64_t iy0, ix0;  ///< input position of tap (0, 0) of the row's first output; may be negative
  std::int64_t ow;
  std::int64_t src_pixel, src_row;  ///< bytes
  DType src_type;
  EpilogueArgs epilogue;  ///< acc: scratch for 16 rows of kDepthwiseChannels; dst, residual, bias at channel 0
};
inline constexpr int kDepthwiseChannels = 64;
inline constexpr int kDepthwisePixels = 8;

struct PoolArgs {  ///< one output row of one image
  const char* src;
  char* dst;
  std::int64_t h, w, c, kh, kw, stride_w, dilation_h, dilation_w;
  std::int64_t iy0, ix0, ow;
  std::int64_t src_pixel, src_row, dst_pixel;  ///< bytes
  std::int64_t pad_h_end, pad_w_end;           ///< count_include_pad: the padded extent's end in input coordinates
  DType src_type, dst_type;
  bool average, count_include_pad;
};

struct GlobalPoolArgs {  ///< channels [0, c) over all pixels
  const char* src;
  char* dst;
  std::int64_t pixels, c, src_pixel;
  DType src_type, dst_type;
  bool average;
};

struct TransposeArgs {  ///< dst[c][r] = src[r][c]; strides in bytes
  const char* src;
  char* dst;
  std::int64_t rows, cols, src_stride, dst_stride;
  DType src_type, dst_type;
};

/// Pairs of bf16 along k: dst[c] = low[c] | high[c] << 16, converted; high nullptr: zeros.
struct PairArgs {
  const char* low;
  const char* high;
  std::uint32_t* dst;
  std::int64_t cols;
  DType src_type;
};

/// Winograd input transform of one tile: (m+2)^2 pixels -> (m+2)^2 planes. Rows and columns outside the image read `zeros`.
struct WinogradInput {
  const char* const* pixels;  ///< (m+2)^2 pixel addresses
  std::int64_t c;             ///< channels, any number; planes get zeros up to c_padded
  std::int64_t c_padded;
  DType type;
  float* dst;
  std::int64_t plane;  ///< floats between planes of dst
};
/// Winograd output transform of one tile: planes of sums -> m x m pixels x 16-channel units, before the epilogue.
struct WinogradOutput {
  const float* src;
  std::int64_t plane;  ///< floats
  float* dst;          ///< [m * m][dst_stride]
  std::int64_t dst_stride;
  std::int64_t units;
};

struct KernelTable {
  Isa isa;
  int max_rows;  ///< of a tile
  int max_units;
  TileFn f32[kMaxUnits + 1][kMaxTileRows + 1];  ///< [units][rows]
  TileFn bf16[kMaxUnits + 1][kMaxTileRows + 1];
  EpilogueFn epilogue;
  void (*copy)(const CopyArgs&);
  void (*depthwise)(const DepthwiseArgs&);
  void (*pool)(const PoolArgs&);
  void (*global_pool)(const GlobalPoolArgs&);
  void (*transpose)(const TransposeArgs&);
  void (*pair_rows)(const PairArgs&);
  void (*winograd_input[2])(const WinogradInput&);  ///< [0]: F(2x2,3x3), [1]: F(4x4,3x3)
  void (*winograd_output[2])(const WinogradOutput&);
};

/// The best table at or below `level` that this build has. Features must have been checked.
const KernelTable& kernel_table(Isa level) noexcept;
/// The table for what cpu_features() allows.
const KernelTable& kernel_table() noexcept;
/// For tests: caps what kernel_table() returns (process-wide); nullopt lifts the cap.
void limit_kernel_isa(std::optional<Isa> level) noexcept;

}  // namespace lathe::cpu
