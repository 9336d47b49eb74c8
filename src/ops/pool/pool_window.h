// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What all poolings share: shape rules, and the walk over a window's taps inside the input.

#include <string>
#include <vector>

#include "ops/op_def.h"
#include "ops/window.h"

namespace lathe::ops {

/// Why a tensor of this rank cannot be pooled; empty when it can.
std::string pool_rank_defect(std::size_t rank);
void pool_infer(InferContext& ctx);
void global_pool_infer(InferContext& ctx);
/// The window of a node with concrete pads; fails at the node.
Window checked_window(RefContext& ctx, const Dims& x);

struct PoolExtents {
  Dims spatial_in, spatial_out, all_out;
  std::int64_t planes, in_area, out_area;
};

PoolExtents extents_of(const Dims& x, const Window& window);

/// Visits the window at output position `at`: `inside(offset)` per tap within the input; returns how many taps lie within the input and
/// its pads (what count_include_pad divides by).
template <class F>
std::int64_t visit_window(const Window& window, const PoolExtents& e, const Dims& at, F&& inside) {
  std::int64_t padded_taps = 0;
  Dims k(window.rank(), 0);
  for (;;) {
    std::int64_t offset = 0;
    bool in_input = true, in_pads = true;
    for (std::size_t axis = 0; axis < k.size(); ++axis) {
      const std::int64_t i = at[axis] * window.strides[axis] - window.pads_begin[axis] + k[axis] * window.dilations[axis];
      in_input &= i >= 0 && i < e.spatial_in[axis];
      in_pads &= i < e.spatial_in[axis] + window.pads_end[axis];
      offset = offset * e.spatial_in[axis] + i;
    }
    padded_taps += in_pads;
    if (in_input) inside(offset);
    std::size_t axis = k.size();
    while (axis-- > 0) {
      if (++k[axis] < window.kernel[axis]) break;
      k[axis] = 0;
    }
    if (axis == static_cast<std::size_t>(-1)) return padded_taps;
  }
}

/// LpPool and GlobalLpPool (lp_pool.cpp).
std::vector<OpDef> lp_pool_ops();
std::vector<OpDef> max_unpool_ops();

}  // namespace lathe::ops
