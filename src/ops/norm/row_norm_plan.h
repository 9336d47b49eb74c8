// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the candidate and the kernel of row normalisation on GPUs share: a strided tensor seen as rows.

#include <cstdint>
#include <optional>

#include "plan/kernel.h"

namespace lathe::ops {

inline constexpr std::int64_t kMostNormColumns = 8192;

struct NormRows {
  std::int64_t rows = 1, columns = 1, stride = 0;
};

/// Axes before `axis` as rows a fixed stride apart, the others as contiguous columns; nullopt where the strides do not allow it.
inline std::optional<NormRows> rows_of(const plan::TensorDesc& desc, std::size_t axis) noexcept {
  NormRows r;
  for (std::size_t a = desc.dims.size(); a-- > axis;) {
    if (desc.dims[a] > 1 && desc.strides[a] != r.columns) return std::nullopt;
    r.columns *= desc.dims[a];
  }
  r.stride = r.columns;
  bool first = true;
  for (std::size_t a = axis; a-- > 0;) {
    if (desc.dims[a] == 1) continue;
    if (desc.dims[a] == 0) return NormRows{0, r.columns, r.columns};  // no row, whatever the strides
    if (first) r.stride = desc.strides[a];
    else if (desc.strides[a] != r.stride * r.rows) return std::nullopt;
    first = false;
    r.rows *= desc.dims[a];
  }
  return r;
}

}  // namespace lathe::ops
