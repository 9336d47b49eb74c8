// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the candidates and kernels of NonZeroPadded share, and the tests without a GPU.

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>

#include "ops/nonzero/nonzero_params.h"
#include "plan/extents.h"

namespace lathe::ops {

/// An element is not zero when a bit of it that `mask` names is set.
struct NonZeroBits {
  int bytes = 1;
  std::uint64_t mask = 0;
};

/// nullopt: elements of less than a byte, or a type without a zero.
inline std::optional<NonZeroBits> non_zero_bits(DType dtype) noexcept {
  if (dtype == DType::kUndefined || dtype == DType::kString || dtype == DType::kComplex64 || dtype == DType::kComplex128 || dtype == DType::kFloat8E8M0)
    return std::nullopt;
  const int bits = dtype_bits(dtype);
  if (bits % 8 != 0) return std::nullopt;
  const std::uint64_t all = bits == 64 ? std::numeric_limits<std::uint64_t>::max() : (std::uint64_t{1} << bits) - 1;
  // A negative zero is a zero, in types that have one.
  const bool has_one = is_float(dtype) && dtype != DType::kFloat8E4M3FNUZ && dtype != DType::kFloat8E5M2FNUZ;
  return NonZeroBits{bits / 8, has_one ? all >> 1 : all};
}

/// Do the results belong to `x`?
inline bool non_zero_fits(const plan::TensorDesc& x, const plan::TensorDesc& places, const plan::TensorDesc& count) {
  return places.dtype == DType::kInt64 && count.dtype == DType::kInt64 && plan::has_extents(count, {1}) &&
         plan::has_extents(places, {static_cast<std::int64_t>(x.dims.size()), x.elements()});
}

/// All but the addresses. False, and in `why` the reason, when the kernels cannot run it.
inline bool non_zero_plan(const plan::TensorDesc& x, const plan::TensorDesc& places, const plan::TensorDesc& count, cuda::NonZeroParams& p, std::string& why) {
  p = {};
  const auto bits = non_zero_bits(x.dtype);
  if (!bits) why = "no kernel reads this element type";
  else if (x.dims.size() > cuda::kNonZeroAxes) why = "more axes than the kernel walks";
  else if (!non_zero_fits(x, places, count)) why = "results of other extents";
  if (!why.empty()) return false;
  p.bytes = bits->bytes;
  p.mask = bits->mask;
  p.elements = x.elements();
  constexpr long long kLeast = 16 * cuda::kNonZeroThreads;
  const long long share = std::max(kLeast, (p.elements + cuda::kNonZeroBlocks - 1) / cuda::kNonZeroBlocks);
  p.share = (share + cuda::kNonZeroThreads - 1) / cuda::kNonZeroThreads * cuda::kNonZeroThreads;
  p.dense = x.is_dense_row_major();
  p.axes = static_cast<int>(x.dims.size());
  for (std::size_t i = 0; i < x.dims.size(); ++i) p.extent[i] = x.dims[i], p.step[i] = x.strides[i];
  p.row_step = places.strides[0];
  p.column_step = places.strides[1];
  return true;
}
/// At least one: the count is written even where there is no element.
inline unsigned non_zero_grid(const cuda::NonZeroParams& p) noexcept {
  return static_cast<unsigned>(p.elements == 0 ? 1 : (p.elements + p.share - 1) / p.share);
}

}  // namespace lathe::ops
