// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Comparisons of a tensor's extents for kernels that move to other ones, which may allocate nothing.

#include <algorithm>
#include <initializer_list>

#include "plan/kernel.h"

namespace lathe::plan {

inline bool has_extents(const TensorDesc& desc, std::initializer_list<std::int64_t> extents) noexcept {
  return std::equal(desc.dims.begin(), desc.dims.end(), extents.begin(), extents.end());
}

/// Makes `desc` a dense row-major tensor of these extents; of a rank that it has had already this allocates nothing.
inline void set_row_major(TensorDesc& desc, DType dtype, std::initializer_list<std::int64_t> extents) {
  desc.dtype = dtype;
  desc.dims.assign(extents.begin(), extents.end());
  desc.strides.assign(extents.size(), 1);
  for (std::size_t i = extents.size(); i-- > 1;) desc.strides[i - 1] = desc.strides[i] * std::max<std::int64_t>(desc.dims[i], 1);
}

}  // namespace lathe::plan
