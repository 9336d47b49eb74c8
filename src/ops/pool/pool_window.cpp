// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#include "ops/pool/pool_window.h"

#include <fmt/format.h>

#include <algorithm>

#include "ops/ref_util.h"

namespace lathe::ops {

std::string pool_rank_defect(std::size_t rank) {
  return rank < 3 ? fmt::format("the input has rank {}; pooling needs a batch, a channel and at least one spatial axis", rank) : std::string();
}

void pool_infer(InferContext& ctx) {
  const bool wants_indices = ctx.node().output(1) != nullptr;
  const auto& x = ctx.shape(0);
  if (!x) {
    ctx.set_unknown(0, ctx.dtype(0));
    if (wants_indices) ctx.set_unknown(1, DType::kInt64);
    return;
  }
  if (const std::string defect = pool_rank_defect(x->size()); !defect.empty()) ctx.fail(defect);
  Shape shape{(*x)[0], (*x)[1]};
  try {
    const Window window = read_window(ctx.attrs(), {}, x->size() - 2);
    for (std::size_t axis = 0; axis < window.rank(); ++axis) {
      Dim extent = window.output(axis, (*x)[axis + 2]);
      if (const auto known = extent.constant(); known && *known < 0)
        ctx.fail(fmt::format("the window of {} does not fit into the input {}", window.reach(axis), ir::to_string(*x)));
      shape.push_back(std::move(extent));
    }
  } catch (const Error& error) {
    if (!error.node().empty()) throw;
    ctx.fail(error.message());
  }
  if (wants_indices) ctx.set(1, DType::kInt64, shape);
  ctx.set(0, ctx.dtype(0), std::move(shape));
}

Window checked_window(RefContext& ctx, const Dims& x) {
  if (const std::string defect = pool_rank_defect(x.size()); !defect.empty()) ctx.fail(defect);
  Window window;
  try {
    window = read_window(ctx.attrs(), {}, x.size() - 2).concrete(Dims(x.begin() + 2, x.end()));
  } catch (const Error& error) {
    ctx.fail(error.message());
  }
  return window;
}

PoolExtents extents_of(const Dims& x, const Window& window) {
  PoolExtents e;
  e.spatial_in.assign(x.begin() + 2, x.end());
  e.all_out = {x[0], x[1]};
  for (std::size_t axis = 0; axis < window.rank(); ++axis) {
    // Pads are concrete already: SAME_* keeps its rule for the extent.
    e.spatial_out.push_back(std::max<std::int64_t>(0, window.output(axis, e.spatial_in[axis])));
    e.all_out.push_back(e.spatial_out.back());
  }
  e.planes = x[0] * x[1];
  e.in_area = element_count(e.spatial_in);
  e.out_area = element_count(e.spatial_out);
  return e;
}

void global_pool_infer(InferContext& ctx) {
  const auto& x = ctx.shape(0);
  if (!x) return ctx.set_unknown(0, ctx.dtype(0));
  if (const std::string defect = pool_rank_defect(x->size()); !defect.empty()) ctx.fail(defect);
  Shape shape(x->size(), Dim(1));
  shape[0] = (*x)[0];
  shape[1] = (*x)[1];
  ctx.set(0, ctx.dtype(0), std::move(shape));
}

}  // namespace lathe::ops
