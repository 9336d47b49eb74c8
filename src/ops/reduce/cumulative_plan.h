// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// From the tensors of a CumSum or CumProd to the launches of their kernels: what the candidate, the kernel and the tests without a GPU share.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "ops/reduce/cumulative_params.h"
#include "plan/extents.h"

namespace lathe::ops {

inline std::optional<cuda::CumulativeType> cumulative_type(DType dtype) noexcept {
  switch (dtype) {
    case DType::kFloat32: return cuda::kCumulativeFloat32;
    case DType::kFloat16: return cuda::kCumulativeFloat16;
    case DType::kBFloat16: return cuda::kCumulativeBFloat16;
    case DType::kFloat64: return cuda::kCumulativeFloat64;
    case DType::kInt32: return cuda::kCumulativeInt32;
    case DType::kUint32: return cuda::kCumulativeUint32;
    case DType::kInt64: return cuda::kCumulativeInt64;
    case DType::kUint64: return cuda::kCumulativeUint64;
    default: return std::nullopt;
  }
}

struct CumulativePlan {
  cuda::CumulativeParams params;
  std::uint32_t grid = 0;  ///< rows times pieces
  bool whole = false;      ///< integers
  bool scaled = false;     ///< a product of floating-point numbers, by cumulative_product.cu
  std::uint32_t rows() const noexcept { return params.pieces > 0 ? grid / static_cast<std::uint32_t>(params.pieces) : 0; }
  std::size_t scratch_bytes() const noexcept {
    if (scaled) return std::size_t{grid} * (cuda::kCumulativePartBytes + cuda::kCumulativeBaseBytes);
    return params.pieces > 1 ? std::size_t{grid} * 8 : 0;
  }
};

struct CumulativeLaunch {
  std::string_view module, kernel;
  bool by_rows = false;  ///< a block a row; else one a piece
};
/// In order.
inline std::span<const CumulativeLaunch> cumulative_launches(bool whole, bool scaled) noexcept {
  static constexpr CumulativeLaunch kWhole[] = {{"cumulative", "cumulative_totals_whole"}, {"cumulative", "cumulative_elements_whole"}};
  static constexpr CumulativeLaunch kFloat[] = {{"cumulative", "cumulative_totals_float"}, {"cumulative", "cumulative_elements_float"}};
  static constexpr CumulativeLaunch kScaled[] = {{"cumulative_product", "cumulative_product_parts"},
                                                 {"cumulative_product", "cumulative_product_bases", true},
                                                 {"cumulative_product", "cumulative_product_elements"}};
  if (scaled) return kScaled;
  return whole ? std::span<const CumulativeLaunch>(kWhole) : std::span<const CumulativeLaunch>(kFloat);
}

/// False, and in `why` the reason, when no kernel can run it. `axis` counts from the front, or from behind where it is negative.
inline bool cumulative_plan(const plan::TensorDesc& x, const plan::TensorDesc& y, std::int64_t axis, bool product, CumulativePlan& into, std::string& why) {
  const auto refuse = [&](const char* reason) {
    why = reason;
    return false;
  };
  into = {};
  cuda::CumulativeParams& p = into.params;
  const auto type = cumulative_type(x.dtype), y_type = cumulative_type(y.dtype);
  if (!type || !y_type) return refuse("no kernel reads this element type");
  into.whole = *type >= cuda::kCumulativeInt32;
  into.scaled = product && !into.whole;
  if (*type != *y_type && (into.whole || *y_type >= cuda::kCumulativeInt32)) return refuse("a result of another type");
  const auto rank = static_cast<std::int64_t>(x.dims.size());
  if (axis < -rank || axis >= rank) return refuse("an axis outside of its input");
  if (x.dims != y.dims) return refuse("a result of other extents");
  if (rank - 1 > cuda::kCumulativeAxes) return refuse("more axes than the kernels walk");
  const auto along = static_cast<std::size_t>(axis < 0 ? axis + rank : axis);
  constexpr std::int64_t kMostBlocks = (std::int64_t{1} << 31) - 1;
  p.type = *type, p.y_type = *y_type;
  p.count = x.dims[along], p.x_along = x.strides[along], p.y_along = y.strides[along];
  std::int64_t pieces = (p.count + cuda::kCumulativePiece - 1) / cuda::kCumulativePiece, blocks = pieces;
  for (std::size_t i = 0; i < x.dims.size(); ++i) {
    if (i == along) continue;
    p.extent[p.axes] = x.dims[i], p.x_step[p.axes] = x.strides[i], p.y_step[p.axes] = y.strides[i];
    ++p.axes;
    if (__builtin_mul_overflow(blocks, x.dims[i], &blocks)) return refuse("more elements than the kernels count");
  }
  if (blocks > kMostBlocks || pieces > kMostBlocks) return refuse("more elements than the kernels count");
  into.grid = static_cast<std::uint32_t>(blocks);
  p.pieces = static_cast<int>(pieces);
  return true;
}

}  // namespace lathe::ops
