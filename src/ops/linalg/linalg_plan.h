// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the CUDA candidates and kernels of Det and Inverse share, and the tests without a GPU.

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>

#include "ops/linalg/linalg_params.h"
#include "plan/extents.h"

namespace lathe::ops {

inline std::optional<int> matrix_type(DType dtype) noexcept {
  switch (dtype) {
    case DType::kFloat32: return 0;
    case DType::kFloat16: return 1;
    case DType::kBFloat16: return 2;
    case DType::kFloat64: return cuda::kMatrixFloat64;
    default: return std::nullopt;
  }
}

/// All but addresses, and how it is launched. Shared memory and scratch grow with rows and matrices: what is planned for the most serves fewer.
struct MatrixPlan {
  cuda::MatrixParams params;
  bool in_shared = true;
  std::uint32_t grid = 0, block = 32, shared = cuda::kPivotBytes;
  std::size_t scratch = 0;  ///< bytes
};

/// False, and in `why` the reason, when the kernels cannot run it.
inline bool matrix_plan(const plan::TensorDesc& x, const plan::TensorDesc& y, bool inverse, MatrixPlan& into, std::string& why) {
  const auto refuse = [&](const char* reason) {
    why = reason;
    return false;
  };
  into = {};
  cuda::MatrixParams& p = into.params;
  const auto type = matrix_type(x.dtype), y_type = matrix_type(y.dtype);
  if (!type || !y_type) return refuse("no kernel reads this element type");
  const std::size_t rank = x.dims.size();
  if (rank < 2 || x.dims[rank - 1] != x.dims[rank - 2]) return refuse("no square matrices");
  const std::size_t axes = rank - 2;
  if (axes > cuda::kMatrixAxes) return refuse("more axes than the kernel walks");
  constexpr std::int64_t kMostRows = 1 << 14, kMostItems = std::int64_t{1} << 40;
  if (x.dims[axes] > kMostRows) return refuse("more rows than the kernel counts");
  if (y.dims.size() != (inverse ? rank : axes) || !std::equal(y.dims.begin(), y.dims.end(), x.dims.begin())) return refuse("a result of other extents");
  p.type = *type, p.y_type = *y_type;
  p.n = static_cast<int>(x.dims[axes]);
  p.axes = static_cast<int>(axes);
  p.items = 1;
  for (std::size_t i = 0; i < axes; ++i) {
    if (__builtin_mul_overflow(p.items, x.dims[i], &p.items) || p.items > kMostItems) return refuse("more matrices than the kernel counts");
    p.extent[i] = x.dims[i], p.x_step[i] = x.strides[i], p.y_step[i] = y.strides[i];
  }
  p.x_row = x.strides[axes], p.x_column = x.strides[axes + 1];
  if (inverse) p.y_row = y.strides[axes], p.y_column = y.strides[axes + 1];
  if (p.items == 0 || (inverse && p.n == 0)) return true;
  constexpr std::size_t kMostScratch = std::size_t{256} << 20;
  constexpr std::int64_t kMostBlocks = 1 << 20;
  const std::size_t n = static_cast<std::size_t>(p.n), bytes = n * n * (inverse ? 2 : 1) * sizeof(double);
  std::int64_t blocks = std::min<std::int64_t>(p.items, kMostBlocks);
  into.in_shared = bytes + cuda::kPivotBytes <= cuda::kMatrixShared;
  if (into.in_shared) {
    into.shared += static_cast<std::uint32_t>(bytes);
  } else {
    into.scratch = std::min(static_cast<std::size_t>(blocks) * bytes, std::max(bytes, kMostScratch));
    blocks = static_cast<std::int64_t>(into.scratch / bytes);
  }
  into.grid = static_cast<std::uint32_t>(blocks);
  into.block = static_cast<std::uint32_t>(std::clamp((p.n + 3) / 4 * 32, 32, cuda::kMatrixThreads));
  return true;
}

}  // namespace lathe::ops
