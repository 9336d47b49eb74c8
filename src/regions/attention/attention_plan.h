// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the CUDA half of attention shares: the kernels that exist, how an operand's place is written into a step, and the launch that strides and
// extents come to.

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "backend/cuda/kernels/gemm_plan.h"
#include "plan/kernel.h"
#include "regions/attention/attention.h"
#include "regions/attention/attention_params.h"
#include "regions/attention/attention_tiles.h"

namespace lathe::regions {

struct AttentionTile {
  int depth, row_warps, key_warps, stages, blocks;
  int rows() const noexcept { return 16 * row_warps; }
  int keys() const noexcept { return 64 * key_warps; }
  std::uint32_t shared_bytes() const noexcept { return static_cast<std::uint32_t>(depth * 2 * (rows() + 2 * stages * keys())); }
};
#define LATHE_ATTENTION_ROW(...) AttentionTile{__VA_ARGS__},
inline constexpr AttentionTile kAttentionTiles[] = {LATHE_ATTENTION_TILES(LATHE_ATTENTION_ROW)};
#undef LATHE_ATTENTION_ROW

/// Concrete extents.
struct AttentionShape {
  std::int64_t outer = 1, inner = 1, queries = 0, keys = 0, depth = 0, value_depth = 0;
  std::int64_t batch() const noexcept { return outer * inner; }
};

inline bool attention_tile_fits(const AttentionTile& tile, const AttentionShape& s, const cuda::GpuLimits& gpu) noexcept {
  const std::int64_t depth = std::max(s.depth, s.value_depth);
  // The narrowest kernel that holds a head.
  return depth <= tile.depth && (tile.depth == 64 || depth > 64) && tile.shared_bytes() + 2048 <= static_cast<std::uint32_t>(gpu.shared_per_block);
}

/// Modelled cycles: the chain of steps of a block times the rounds in which all blocks run.
inline double attention_cycles(const AttentionTile& tile, const AttentionShape& s, const cuda::GpuLimits& gpu) noexcept {
  const double blocks = static_cast<double>((s.queries + tile.rows() - 1) / tile.rows()) * static_cast<double>(s.batch());
  const double steps = static_cast<double>((s.keys + tile.keys() - 1) / tile.keys());
  const double resident = std::clamp(static_cast<double>(gpu.shared_per_multiprocessor) / (tile.shared_bytes() + 2048), 1.0, static_cast<double>(tile.blocks));
  const double step = tile.depth / 64.0 * 700, work = tile.depth / 64.0 * 330;  // alone, and when others hide its latency
  const double per_multiprocessor = std::max(1.0, blocks / gpu.multiprocessors);
  return std::max(per_multiprocessor * steps * work, (steps * step + 1500) * std::max(1.0, per_multiprocessor / resident));
}

/// Index of the tile to run, -1 where there is none.
inline int best_attention_tile(const AttentionShape& s, const cuda::GpuLimits& gpu) noexcept {
  int best = -1;
  double least = std::numeric_limits<double>::infinity();
  for (int i = 0; i < static_cast<int>(std::size(kAttentionTiles)); ++i) {
    if (!attention_tile_fits(kAttentionTiles[i], s, gpu)) continue;
    if (const double cycles = attention_cycles(kAttentionTiles[i], s, gpu); cycles < least) least = cycles, best = i;
  }
  return best;
}

inline std::string attention_kernel_name(const AttentionTile& tile, DType dtype) {
  return fmt::format("attention_{}_{}_{}x{}", dtype == DType::kFloat16 ? "f16" : "bf16", tile.depth, tile.row_warps, tile.key_warps);
}
inline std::string attention_module(DType dtype) { return dtype == DType::kFloat16 ? "attention_f16" : "attention_bf16"; }

/// An operand's elements in a strided tensor.
struct AttentionReach {
  cuda::AttentionStrides at;
  std::int64_t column = 0, offset = 0;
};

/// nullopt, and why: the operand's places lie outside the tensor (a damaged file).
inline std::optional<AttentionReach> attention_reach(const AttentionOperand& operand, const plan::TensorDesc& desc, const std::array<std::int64_t, 2>& batch,
                                                     std::int64_t rows, std::int64_t columns, std::string& why) {
  AttentionReach reach;
  if (operand.offset.size() != desc.dims.size() || operand.batch.size() != 2) {
    why = "the rank of an attention operand is not that of its plan";
    return std::nullopt;
  }
  std::array<std::int64_t, 16> last{};
  if (desc.dims.size() > last.size()) {
    why = "an attention operand of more than 16 axes";
    return std::nullopt;
  }
  for (std::size_t a = 0; a < desc.dims.size(); ++a) last[a] = operand.offset[a];
  bool inside = true;
  const auto stride = [&](const Place& place, std::int64_t extent) -> std::int64_t {
    if (place.axis < 0 || extent <= 1) return 0;
    const auto axis = static_cast<std::size_t>(place.axis);
    inside = inside && axis < desc.dims.size() && place.step >= 0;
    if (!inside) return 0;
    last[axis] += (extent - 1) * place.step;
    inside = last[axis] < desc.dims[axis];
    return inside ? desc.strides[axis] * place.step : 0;
  };
  reach.at.outer = stride(operand.batch[0], batch[0]);
  reach.at.inner = stride(operand.batch[1], batch[1]);
  reach.at.row = stride(operand.row, rows);
  reach.column = stride(operand.column, columns);
  const bool empty = rows == 0 || columns == 0;  // nothing is read there
  for (std::size_t a = 0; a < desc.dims.size(); ++a)
    inside = inside && operand.offset[a] >= 0 && last[a] < (empty ? std::max<std::int64_t>(desc.dims[a], 1) : desc.dims[a]);
  if (!inside) {
    why = "an attention operand reaches outside its tensor";
    return std::nullopt;
  }
  for (std::size_t a = 0; a < desc.dims.size(); ++a) reach.offset += operand.offset[a] * desc.strides[a];
  return reach;
}

}  // namespace lathe::regions
