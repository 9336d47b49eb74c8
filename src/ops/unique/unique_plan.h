// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the CUDA candidate and kernel of SortedSlices share, and the tests without a GPU.

#include <cstdint>
#include <string>

#include "ops/topk/topk_plan.h"
#include "ops/unique/unique_params.h"
#include "plan/extents.h"

namespace lathe::ops {

/// All but addresses. False, and in `why` the reason, when the kernels cannot run it.
inline bool slice_plan(const plan::TensorDesc& x, std::int64_t axis, const plan::TensorDesc& order, const plan::TensorDesc& begins, cuda::SliceParams& p,
                       std::string& why) {
  const auto refuse = [&](const char* reason) {
    why = reason;
    return false;
  };
  p = {};
  const auto type = topk_type(x.dtype == DType::kBool ? DType::kUint8 : x.dtype);
  if (!type) return refuse("no kernel reads this element type");
  const auto rank = static_cast<std::int64_t>(x.dims.size());
  if (axis < -rank || axis >= rank) return refuse("the axis is outside of the input");
  const auto along = static_cast<std::size_t>(axis < 0 ? axis + rank : axis);
  if (x.dims[along] > std::int64_t{1} << 30) return refuse("more slices than the kernel counts");
  if (order.dtype != DType::kInt64 || !plan::has_extents(order, {x.dims[along]}) || begins.dtype != DType::kBool || !plan::has_extents(begins, {x.dims[along]}))
    return refuse("results of other extents");
  p.type = *type;
  p.count = static_cast<int>(x.dims[along]);
  p.slice_step = x.strides[along];
  p.axes = 0;
  for (std::size_t i = 0; i < x.dims.size(); ++i) {
    if (i == along || x.dims[i] == 1) continue;
    // Neighbours are joined where one walk goes over both.
    if (p.axes > 0 && p.step[p.axes - 1] == x.strides[i] * x.dims[i]) {
      if (__builtin_mul_overflow(p.extent[p.axes - 1], x.dims[i], &p.extent[p.axes - 1])) return refuse("more elements than the kernel counts");
      p.step[p.axes - 1] = x.strides[i];
      continue;
    }
    if (p.axes == cuda::kSliceAxes) return refuse("more axes than the kernel walks");
    p.extent[p.axes] = x.dims[i], p.step[p.axes] = x.strides[i];
    ++p.axes;
  }
  if (p.axes == 0) p.axes = 1, p.extent[0] = 1;
  for (int i = 0; i + 1 < p.axes; ++i)
    if (__builtin_mul_overflow(p.lines, p.extent[i], &p.lines)) return refuse("more elements than the kernel counts");
  p.order_step = order.strides[0];
  p.begin_step = begins.strides[0];
  return true;
}

/// Two lists of places.
inline std::size_t slice_scratch(const cuda::SliceParams& p) noexcept { return 2 * static_cast<std::size_t>(p.count) * sizeof(int); }

/// How often sorted chunks are merged two by two.
inline int slice_levels(const cuda::SliceParams& p) noexcept {
  int levels = 0;
  for (std::int64_t run = cuda::kSliceChunk; run < p.count; run *= 2) ++levels;
  return levels;
}

}  // namespace lathe::ops
