// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// ScatterElements (and Scatter, its older name), ScatterND, TensorScatter: elements of a copy replaced, or combined, at given positions.
//
// Updates are applied in row-major order, so where positions repeat the last one stays, and floating sums have one order.
#include "ops/scatter/scatter.h"

#include <algorithm>
#include <numeric>

#include "ops/ref_util.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {

std::optional<Reduction> reduction_of(const Attrs& attrs) {
  const std::string name = attrs.get_string("reduction", "none");
  if (name == "none") return Reduction::kNone;
  if (name == "add") return Reduction::kAdd;
  if (name == "mul") return Reduction::kMul;
  if (name == "max") return Reduction::kMax;
  if (name == "min") return Reduction::kMin;
  return std::nullopt;
}

namespace {

void check_reduction(InferContext& ctx) {
  if (!reduction_of(ctx.attrs())) ctx.fail("the reduction '" + ctx.attrs().get_string("reduction", "") + "' is none of none, add, mul, max, min");
}

Reduction ref_reduction(const RefContext& ctx) {
  const auto reduction = reduction_of(ctx.attrs());
  if (!reduction) ctx.fail("the reduction '" + ctx.attrs().get_string("reduction", "") + "' is none of none, add, mul, max, min");
  if (*reduction != Reduction::kNone && ctx.input(0).dtype() == DType::kString) ctx.fail("strings cannot be combined");
  return *reduction;
}

template <class T>
T combined(Reduction reduction, T old, T update) {
  switch (reduction) {
    case Reduction::kAdd: return old + update;
    case Reduction::kMul: return old * update;
    case Reduction::kMax: return old != old || old > update ? old : update;
    case Reduction::kMin: return old != old || old < update ? old : update;
    case Reduction::kNone: break;
  }
  return update;
}

/// data[di] = data[di] (op) updates[ui], computed in the tensor's type.
void apply(Reduction reduction, Tensor& data, std::int64_t di, const Tensor& updates, std::int64_t ui) {
  if (reduction == Reduction::kNone) return copy_element(data, di, updates, ui);
  if (is_float(data.dtype())) return data.set_from_double(di, combined(reduction, data.as_double(di), updates.as_double(ui)));
  const std::int64_t a = data.as_int64(di), b = updates.as_int64(ui);
  if (data.dtype() == DType::kBool) {  // sums and products of truth values are or, and
    const bool any = reduction == Reduction::kAdd || reduction == Reduction::kMax;
    return data.set_from_int64(di, any ? (a | b) : (a & b));
  }
  const auto x = static_cast<std::uint64_t>(a), y = static_cast<std::uint64_t>(b);
  const bool wraps = reduction == Reduction::kAdd || reduction == Reduction::kMul || data.dtype() == DType::kUint64;
  data.set_from_int64(di, wraps ? static_cast<std::int64_t>(combined(reduction, x, y)) : combined(reduction, a, b));
}

std::int64_t checked_position(const RefContext& ctx, std::int64_t index, std::int64_t extent, std::size_t axis) {
  if (index < -extent || index >= extent)
    ctx.fail("index " + std::to_string(index) + " is out of bounds for axis " + std::to_string(axis) + " of extent " + std::to_string(extent));
  return index < 0 ? index + extent : index;
}

// ScatterElements ----------------------------------------------------------------------------------------------------

void scatter_elements_infer(InferContext& ctx) {
  check_reduction(ctx);
  const auto &data = ctx.shape(0), &indices = ctx.shape(1), &updates = ctx.shape(2);
  if (data && indices && data->size() != indices->size())
    ctx.fail("data " + ir::to_string(*data) + " and indices " + ir::to_string(*indices) + " differ in rank");
  if (indices && updates && indices->size() != updates->size())
    ctx.fail("indices " + ir::to_string(*indices) + " and updates " + ir::to_string(*updates) + " differ in rank");
  if (data) infer_axis(ctx, ctx.attrs().get_int("axis", 0), static_cast<std::int64_t>(data->size()));
  ctx.set_type(0, ctx.node().input(0)->type);
}

void scatter_elements_reference(RefContext& ctx) {
  const Tensor &data = ctx.input(0), &indices = ctx.input(1), &updates = ctx.input(2);
  const Reduction reduction = ref_reduction(ctx);
  if (data.rank() != indices.rank() || indices.dims() != updates.dims())
    ctx.fail("data " + lathe::to_string(data.dims()) + ", indices " + lathe::to_string(indices.dims()) + " and updates " + lathe::to_string(updates.dims()) +
             " do not fit: one rank, and updates with the extents of indices");
  const auto axis = static_cast<std::size_t>(ref_axis(ctx, ctx.attrs().get_int("axis", 0), data.rank()));
  const Dims strides = strides_of(data.dims());
  for (std::size_t a = 0; a < data.dims().size(); ++a)
    if (a != axis && indices.dims()[a] > data.dims()[a])
      ctx.fail("indices " + lathe::to_string(indices.dims()) + " exceed data " + lathe::to_string(data.dims()) + " on axis " + std::to_string(a));
  Tensor out = data;  // the first write gives it storage of its own
  std::int64_t n = 0;
  for_each_index(indices.dims(), [&](const Dims& at) {
    std::int64_t to = 0;
    for (std::size_t a = 0; a < at.size(); ++a) to += (a == axis ? checked_position(ctx, indices.as_int64(n), data.dims()[a], a) : at[a]) * strides[a];
    apply(reduction, out, to, updates, n++);
  });
  ctx.set_output(0, std::move(out));
}

// ScatterND ----------------------------------------------------------------------------------------------------------

void scatter_nd_infer(InferContext& ctx) {
  check_reduction(ctx);
  const auto &data = ctx.shape(0), &indices = ctx.shape(1), &updates = ctx.shape(2);
  if (data && indices && !indices->empty()) {
    if (const auto depth = indices->back().constant()) {
      if (*depth < 0 || *depth > static_cast<std::int64_t>(data->size()))
        ctx.fail("indices of depth " + std::to_string(*depth) + " do not fit data " + ir::to_string(*data));
      const std::size_t rank = indices->size() - 1 + data->size() - static_cast<std::size_t>(*depth);
      if (updates && updates->size() != rank)
        ctx.fail("updates " + ir::to_string(*updates) + " should have rank " + std::to_string(rank) + " for indices " + ir::to_string(*indices));
    }
  }
  if (indices && indices->empty()) ctx.fail("indices need rank 1 or more");
  ctx.set_type(0, ctx.node().input(0)->type);
}

void scatter_nd_reference(RefContext& ctx) {
  const Tensor &data = ctx.input(0), &indices = ctx.input(1), &updates = ctx.input(2);
  const Reduction reduction = ref_reduction(ctx);
  if (indices.rank() < 1) ctx.fail("indices need rank 1 or more");
  const std::int64_t depth = indices.dims().back();
  if (depth > data.rank()) ctx.fail("indices of depth " + std::to_string(depth) + " do not fit data " + lathe::to_string(data.dims()));
  Dims expected(indices.dims().begin(), indices.dims().end() - 1);
  expected.insert(expected.end(), data.dims().begin() + depth, data.dims().end());
  if (updates.dims() != expected)
    ctx.fail("updates " + lathe::to_string(updates.dims()) + " should be " + lathe::to_string(expected) + " for data " + lathe::to_string(data.dims()));
  const Dims strides = strides_of(data.dims());
  const std::int64_t block = std::accumulate(data.dims().begin() + depth, data.dims().end(), std::int64_t{1}, std::multiplies<>());
  std::int64_t tuples = 1;
  for (std::size_t a = 0; a + 1 < indices.dims().size(); ++a) tuples *= indices.dims()[a];
  Tensor out = data;  // the first write gives it storage of its own
  for (std::int64_t t = 0; t < tuples && block > 0; ++t) {
    std::int64_t to = 0;
    for (std::int64_t d = 0; d < depth; ++d) {
      const auto a = static_cast<std::size_t>(d);
      to += checked_position(ctx, indices.as_int64(t * depth + d), data.dims()[a], a) * strides[a];
    }
    for (std::int64_t e = 0; e < block; ++e) apply(reduction, out, to + e, updates, t * block + e);
  }
  ctx.set_output(0, std::move(out));
}

// TensorScatter: a cache's rows overwritten from an index of each batch on ---------------------------------------------------

void tensor_scatter_infer(InferContext& ctx) {
  const std::string mode = ctx.attrs().get_string("mode", "linear");
  if (mode != "linear" && mode != "circular") ctx.fail("the mode '" + mode + "' is neither linear nor circular");
  const auto &cache = ctx.shape(0), &update = ctx.shape(1);
  if (cache && update && cache->size() != update->size())
    ctx.fail("the cache " + ir::to_string(*cache) + " and the update " + ir::to_string(*update) + " differ in rank");
  if (cache) {
    const auto axis = infer_axis(ctx, ctx.attrs().get_int("axis", -2), static_cast<std::int64_t>(cache->size()));
    if (axis == 0) ctx.fail("axis 0 is the batch");
  }
  ctx.set_type(0, ctx.node().input(0)->type);
}

void tensor_scatter_reference(RefContext& ctx) {
  const Tensor &cache = ctx.input(0), &update = ctx.input(1);
  if (cache.rank() != update.rank() || cache.rank() < 2) ctx.fail("the cache and the update need one rank, of 2 or more");
  const std::int64_t axis = ref_axis(ctx, ctx.attrs().get_int("axis", -2), cache.rank());
  if (axis == 0) ctx.fail("axis 0 is the batch");
  for (std::size_t a = 0; a < cache.dims().size(); ++a) {
    const bool fits = a == static_cast<std::size_t>(axis) ? update.dims()[a] <= cache.dims()[a] : update.dims()[a] == cache.dims()[a];
    if (!fits) ctx.fail("the update " + lathe::to_string(update.dims()) + " does not fit the cache " + lathe::to_string(cache.dims()));
  }
  const bool circular = ctx.attrs().get_string("mode", "linear") == "circular";
  const std::int64_t extent = cache.dims()[static_cast<std::size_t>(axis)], batch = cache.dims()[0];
  std::vector<std::int64_t> starts(static_cast<std::size_t>(batch), 0);
  if (ctx.has_input(2)) starts = ctx.input(2).to_int64_vector();
  if (static_cast<std::int64_t>(starts.size()) != batch)
    ctx.fail("has " + std::to_string(starts.size()) + " write indices for " + std::to_string(batch) + " batches");
  const Dims strides = strides_of(cache.dims());
  Tensor out = cache;  // the first write gives it storage of its own
  std::int64_t n = 0;
  for_each_index(update.dims(), [&](const Dims& at) {
    std::int64_t to = 0;
    for (std::size_t a = 0; a < at.size(); ++a) {
      std::int64_t index = at[a];
      if (a == static_cast<std::size_t>(axis)) {
        index += starts[static_cast<std::size_t>(at[0])];
        if (circular) index = ((index % extent) + extent) % extent;
        if (index < 0 || index >= extent) ctx.fail("row " + std::to_string(index) + " is outside the cache's " + std::to_string(extent));
      }
      to += index * strides[a];
    }
    copy_element(out, to, update, n++);
  });
  ctx.set_output(0, std::move(out));
}

}  // namespace

std::span<const OpDef> ops_scatter() {
  constexpr std::string_view kIo = "data:T indices:Tind updates:T -> output:T", kNd = "data:T indices:int64 updates:T -> output:T";
  constexpr std::string_view kReduced = "reduction:string=none axis:int=0", kNdReduced = "reduction:string=none";
  static const std::vector<OpDef> ops{
      {.name = "Scatter",
       .versions = {{9, kIo, "axis:int=0", "T: @all; Tind: int32 int64"}, {11, kIo, "axis:int=0", "T: @all; Tind: int32 int64", true}},
       .upgrade = [](UpgradeContext& ctx) { ctx.node.op = "ScatterElements"; },
       .doc = "The older name of ScatterElements."},
      {.name = "ScatterElements",
       .versions = {{11, kIo, "axis:int=0", "T: @all; Tind: int32 int64"},
                    {13, kIo, "axis:int=0", "T: @all13; Tind: int32 int64"},
                    {16, kIo, kReduced, "T: @all13; Tind: int32 int64"},
                    {18, kIo, kReduced, "T: @all13; Tind: int32 int64"}},
       .infer = scatter_elements_infer,
       .reference = scatter_elements_reference,
       .lower = scatter_elements_lower,
       .doc = "elements replaced or combined at positions along an axis"},
      {.name = "ScatterND",
       .versions = {{11, kNd, "", "T: @all"}, {13, kNd, "", "T: @all13"}, {16, kNd, kNdReduced, "T: @all13"}, {18, kNd, kNdReduced, "T: @all13"}},
       .infer = scatter_nd_infer,
       .reference = scatter_nd_reference,
       .lower = scatter_nd_lower,
       .doc = "slices replaced or combined at index tuples"},
      {.name = "TensorScatter",
       .versions = {{24, "past_cache:T update:T write_indices?:int64 -> present_cache:T", "mode:string=linear axis:int=-2", "T: @all24"}},
       .infer = tensor_scatter_infer,
       .reference = tensor_scatter_reference,
       .lower = tensor_scatter_lower,
       .doc = "rows of a cache overwritten from a position of each batch on"},
  };
  return ops;
}

}  // namespace lathe::ops
