// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// From the tensors of a TopK to the launches of its kernels: what the candidate, the kernel and the tests without a GPU share.

#include <algorithm>
#include <bit>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ops/topk/topk_params.h"
#include "plan/kernel.h"

namespace lathe::ops {

enum class TopKKernelKind { kSort, kRows, kMerge };

inline std::string_view topk_kernel_name(TopKKernelKind kind, bool wide) noexcept {
  switch (kind) {
    case TopKKernelKind::kRows: return wide ? "topk_rows_wide" : "topk_rows_narrow";
    case TopKKernelKind::kMerge: return wide ? "topk_merge_wide" : "topk_merge_narrow";
    case TopKKernelKind::kSort: break;
  }
  return wide ? "topk_sort_wide" : "topk_sort_narrow";
}

struct TopKLaunch {
  TopKKernelKind kind = TopKKernelKind::kSort;
  std::uint32_t grid = 1, block = 32, shared = 0;
  int from = 0, to = 0;     ///< which half of the workspace
  cuda::TopKParams params;  ///< addresses are the caller's to fill in
};

struct TopKPlan {
  bool wide = false;                 ///< keys of 64 bits
  std::int64_t halves[2] = {0, 0};   ///< entries of each half of the workspace
  std::vector<TopKLaunch> launches;  ///< none: there is nothing to do
  std::size_t entry_bytes() const noexcept { return wide ? 12 : 8; }
  std::size_t scratch_bytes() const noexcept { return static_cast<std::size_t>(halves[0] + halves[1]) * entry_bytes(); }
  /// Keys of both halves, then places.
  cuda::TopKEntries half(int which, void* scratch) const noexcept {
    auto* keys = static_cast<unsigned long long*>(scratch);
    cuda::TopKEntries entries{keys + (which ? halves[0] : 0), nullptr};
    if (wide) entries.places = reinterpret_cast<unsigned*>(keys + halves[0] + halves[1]) + (which ? halves[0] : 0);
    return entries;
  }
};

inline std::optional<cuda::TopKType> topk_type(DType dtype) noexcept {
  switch (dtype) {
    case DType::kFloat32: return cuda::kTopKFloat32;
    case DType::kFloat16: return cuda::kTopKFloat16;
    case DType::kBFloat16: return cuda::kTopKBFloat16;
    case DType::kFloat64: return cuda::kTopKFloat64;
    case DType::kInt8: return cuda::kTopKInt8;
    case DType::kInt16: return cuda::kTopKInt16;
    case DType::kInt32: return cuda::kTopKInt32;
    case DType::kInt64: return cuda::kTopKInt64;
    case DType::kUint8: return cuda::kTopKUint8;
    case DType::kUint16: return cuda::kTopKUint16;
    case DType::kUint32: return cuda::kTopKUint32;
    case DType::kUint64: return cuda::kTopKUint64;
    default: return std::nullopt;
  }
}

/// The rows' axes, neighbours joined where all tensors allow it. False: too many.
inline bool topk_rows(const plan::TensorDesc& x, const plan::TensorDesc& values, const plan::TensorDesc& indices, std::size_t along, cuda::TopKParams& p) {
  const auto step = [](const plan::TensorDesc& desc, std::size_t i) { return desc.dtype == DType::kUndefined ? 0 : desc.strides[i]; };
  p.axes = 0;
  p.x_along = step(x, along), p.value_along = step(values, along), p.index_along = step(indices, along);
  for (std::size_t i = 0; i < x.dims.size(); ++i) {
    if (i == along || x.dims[i] == 1) continue;
    const long long steps[3] = {step(x, i), step(values, i), step(indices, i)};
    if (p.axes > 0) {
      const int last = p.axes - 1;
      if (p.x_step[last] == steps[0] * x.dims[i] && p.value_step[last] == steps[1] * x.dims[i] && p.index_step[last] == steps[2] * x.dims[i]) {
        p.extent[last] *= static_cast<int>(x.dims[i]);
        p.x_step[last] = steps[0], p.value_step[last] = steps[1], p.index_step[last] = steps[2];
        continue;
      }
    }
    if (p.axes == cuda::kTopKAxes) return false;
    p.extent[p.axes] = static_cast<int>(x.dims[i]);
    p.x_step[p.axes] = steps[0], p.value_step[p.axes] = steps[1], p.index_step[p.axes] = steps[2];
    ++p.axes;
  }
  return true;
}

/// False, and in `why` the reason, when the kernels cannot run it. `into` keeps its memory. Left out results have no type; extents fit each other.
inline bool topk_plan(const plan::TensorDesc& x, const plan::TensorDesc& values, const plan::TensorDesc& indices, std::size_t along, bool largest,
                      TopKPlan& into, std::string& why) {
  constexpr std::int64_t kMostElements = std::int64_t{1} << 30, kMostBlocks = (std::int64_t{1} << 31) - 1;
  into.launches.clear();
  into.halves[0] = into.halves[1] = 0;
  const auto type = topk_type(x.dtype), value_type = values.dtype == DType::kUndefined ? type : topk_type(values.dtype);
  const auto converts = [](cuda::TopKType t) { return t <= cuda::kTopKBFloat16; };
  if (!type || !value_type || (type != value_type && !(converts(*type) && converts(*value_type)))) {
    why = "no kernel reads this element type";
    return false;
  }
  into.wide = *type == cuda::kTopKFloat64 || *type == cuda::kTopKInt64 || *type == cuda::kTopKUint64;
  const std::int64_t n = x.dims[along], k = (values.dtype == DType::kUndefined ? indices : values).dims[along];
  std::int64_t rows = 1;
  for (std::size_t i = 0; i < x.dims.size(); ++i) {
    if (i == along) continue;
    if (x.dims[i] == 0) rows = 0;
    else if (rows > kMostBlocks / x.dims[i]) rows = kMostBlocks;
    else rows *= x.dims[i];
  }
  if (rows == 0 || k == 0) return true;
  if (n >= kMostElements || rows >= kMostBlocks) {
    why = "more elements than the kernels count";
    return false;
  }
  cuda::TopKParams base;
  if (!topk_rows(x, values, indices, along, base)) {
    why = "rows along more axes than the kernels walk";
    return false;
  }
  base.type = *type;
  base.value_type = *value_type;
  base.largest = largest;
  base.rows = static_cast<int>(rows);
  std::int64_t count = n, run = 1;  // `count` entries a row, in sorted runs of `run`
  for (int level = 0;; ++level) {
    TopKLaunch launch;
    cuda::TopKParams& p = launch.params = base;
    p.first = level == 0;
    launch.from = (level + 1) % 2;
    launch.to = level % 2;
    p.count = static_cast<int>(count);
    p.from_row = count;
    std::int64_t pieces = 1;
    if (count <= cuda::kTopKChunk || run <= cuda::kTopKChunk / 4) {
      const std::int64_t piece = std::min(count, cuda::kTopKChunk / run * run);
      pieces = (count + piece - 1) / piece;
      p.piece = static_cast<int>(piece);
      p.keep = static_cast<int>(std::min(k, piece));
      p.size = static_cast<int>(std::bit_ceil(static_cast<std::uint32_t>(std::max<std::int64_t>(piece, 2))));
      const bool by_warps = p.size <= 64;
      if (by_warps) launch.kind = TopKKernelKind::kRows;
      const std::int64_t items = rows * pieces, a_block = by_warps ? 4 : 1;
      if (items > kMostBlocks) {
        why = "more rows than the kernels count";
        return false;
      }
      launch.grid = static_cast<std::uint32_t>((items + a_block - 1) / a_block);
      launch.block = by_warps ? 128 : static_cast<std::uint32_t>(std::min(p.size / 2, 1024));
      launch.shared = static_cast<std::uint32_t>(p.size * a_block) * static_cast<std::uint32_t>(into.entry_bytes());
    } else {
      launch.kind = TopKKernelKind::kMerge;
      pieces = (count + 2 * run - 1) / (2 * run);
      p.piece = static_cast<int>(run);
      p.keep = static_cast<int>(std::min(k, 2 * run));
      constexpr std::int64_t kTile = cuda::kTopKMerged * cuda::kTopKMergeThreads;
      const std::int64_t tiles = (std::min<std::int64_t>(p.keep, count) + kTile - 1) / kTile;
      p.tiles = static_cast<int>(tiles);
      if (rows > kMostBlocks / (pieces * tiles)) {
        why = "more rows than the kernels count";
        return false;
      }
      launch.grid = static_cast<std::uint32_t>(rows * pieces * tiles);
      launch.block = cuda::kTopKMergeThreads;
    }
    p.pieces = static_cast<int>(pieces);
    p.last = pieces == 1;
    const std::int64_t covered = (launch.kind == TopKKernelKind::kMerge ? 2 * run : p.piece) * (pieces - 1);  // by all pieces but the last
    count = (pieces - 1) * p.keep + std::min<std::int64_t>(p.keep, count - covered);
    run = p.keep;
    p.to_row = count;
    if (!p.last) into.halves[launch.to] = std::max(into.halves[launch.to], rows * count);
    into.launches.push_back(launch);
    if (p.last) return true;
  }
}

}  // namespace lathe::ops
