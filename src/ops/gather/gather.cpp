// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Gather, GatherElements, GatherND: elements picked by an index tensor. Indices out of bounds are an error in the reference; the
// region form yields 0 there, so that a hostile file cannot read foreign memory.
#include <algorithm>

#include "loops/builder.h"
#include "ops/infer.h"
#include "ops/lower_util.h"
#include "ops/ref_util.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {

std::vector<OpDef> one_hot_ops();  // one_hot.cpp

namespace {

using loops::ExprId;
using loops::ExprOp;

std::int64_t checked_index(const RefContext& ctx, std::int64_t index, std::int64_t extent) {
  if (index < -extent || index >= extent) {
    ctx.fail("index " + std::to_string(index) + " is out of bounds for the extent " + std::to_string(extent));
  }
  return index < 0 ? index + extent : index;
}

// Gather -------------------------------------------------------------------------------------------------------------

void gather_content(InferContext& ctx) {
  const auto data = ctx.content(0), indices = ctx.content(1);
  if (!data || !indices || ctx.shape(0)->size() != 1) return;
  const auto numbers = ir::constant_dims(*indices);
  if (!numbers) return;
  std::vector<Dim> picked;
  const auto extent = static_cast<std::int64_t>(data->size());
  for (const auto n : *numbers) {
    if (n < -extent || n >= extent) ctx.fail("index " + std::to_string(n) + " is out of bounds for the extent " + std::to_string(extent));
    picked.push_back((*data)[static_cast<std::size_t>(n < 0 ? n + extent : n)]);
  }
  ctx.set_content(0, std::move(picked));
}

void gather_infer(InferContext& ctx) {
  const auto &data = ctx.shape(0), &indices = ctx.shape(1);
  if (!data || !indices) return ctx.set_unknown(0, ctx.dtype(0));
  const auto axis = infer_axis(ctx, ctx.attrs().get_int("axis", 0), static_cast<std::int64_t>(data->size()));
  Shape out(data->begin(), data->begin() + axis);
  out.insert(out.end(), indices->begin(), indices->end());
  out.insert(out.end(), data->begin() + axis + 1, data->end());
  ctx.set(0, ctx.dtype(0), out);
  gather_content(ctx);
}

void gather_reference(RefContext& ctx) {
  const Tensor &data = ctx.input(0), &indices = ctx.input(1);
  const std::int64_t axis = ref_axis(ctx, ctx.attrs().get_int("axis", 0), data.rank());
  const AxisView view = around_axis(data.dims(), axis);
  Dims dims(data.dims().begin(), data.dims().begin() + axis);
  dims.insert(dims.end(), indices.dims().begin(), indices.dims().end());
  dims.insert(dims.end(), data.dims().begin() + axis + 1, data.dims().end());
  auto picks = to_int64s(indices);
  for (auto& p : picks) p = checked_index(ctx, p, view.extent);
  const auto count = static_cast<std::int64_t>(picks.size());
  ctx.set_output(0, remap(data, dims, [&](std::int64_t i) {
                   const std::int64_t inner = i % view.inner, pick = i / view.inner % count, outer = i / view.inner / count;
                   return (outer * view.extent + picks[static_cast<std::size_t>(pick)]) * view.inner + inner;
                 }));
}

/// The element of `data` where axis `axis` has the index `position`: negative ones count from the end, others out of bounds give 0.
ExprId guarded_read(loops::RegionBuilder& b, const Value* data, loops::RegionBuilder::Indices at, std::size_t axis, ExprId position, bool sure) {
  at[axis] = from_end(b, position, data->shape()[axis]);
  return sure ? b.read(data, at) : b.read_or(data, at, b.constant(0, data->dtype()));
}

/// True when every index is a known number within the known extent.
bool surely_inside(const Value& indices, const Dim& extent) {
  if (!indices.is_constant() || !extent.is_constant()) return false;
  const auto n = *extent.constant();
  for (std::int64_t i = 0; i < indices.constant.size(); ++i) {
    const auto v = indices.constant.as_int64(i);
    if (v < -n || v >= n) return false;
  }
  return true;
}

bool gather_lower(const Node& node, loops::RegionBuilder& builder) {
  const Value *data = node.input(0), *indices = node.input(1);
  if (!data->has_shape() || !indices->has_shape() || data->dtype() == DType::kString) {
    builder.decline("unknown rank, or strings");
    return false;
  }
  std::int64_t signed_axis = node.attrs.get_int("axis", 0);
  if (signed_axis < 0) signed_axis += static_cast<std::int64_t>(data->shape().size());
  const auto axis = static_cast<std::size_t>(signed_axis);
  const bool sure = surely_inside(*indices, data->shape()[axis]);
  builder.define(node.output(), [=](loops::RegionBuilder& b, const auto& i) {
    const std::size_t index_rank = indices->shape().size();
    loops::RegionBuilder::Indices which(i.begin() + static_cast<std::ptrdiff_t>(axis), i.begin() + static_cast<std::ptrdiff_t>(axis + index_rank));
    loops::RegionBuilder::Indices at(i.begin(), i.begin() + static_cast<std::ptrdiff_t>(axis));
    at.push_back(-1);
    at.insert(at.end(), i.begin() + static_cast<std::ptrdiff_t>(axis + index_rank), i.end());
    return guarded_read(b, data, std::move(at), axis, b.read(indices, which), sure);
  });
  return true;
}

// GatherElements -----------------------------------------------------------------------------------------------------

void gather_elements_infer(InferContext& ctx) {
  const auto &data = ctx.shape(0), &indices = ctx.shape(1);
  if (data && indices && data->size() != indices->size()) {
    ctx.fail("data " + ir::to_string(*data) + " and indices " + ir::to_string(*indices) + " differ in rank");
  }
  if (data) infer_axis(ctx, ctx.attrs().get_int("axis", 0), static_cast<std::int64_t>(data->size()));
  if (!indices) return ctx.set_unknown(0, ctx.dtype(0));
  ctx.set(0, ctx.dtype(0), *indices);
}

void gather_elements_reference(RefContext& ctx) {
  const Tensor &data = ctx.input(0), &indices = ctx.input(1);
  if (data.rank() != indices.rank()) ctx.fail("data and indices differ in rank");
  const auto axis = static_cast<std::size_t>(ref_axis(ctx, ctx.attrs().get_int("axis", 0), data.rank()));
  const Dims strides = strides_of(data.dims());
  std::int64_t n = 0;
  ctx.set_output(0, remap_nd(data, indices.dims(), [&](const Dims& i) {
                   std::int64_t at = 0;
                   for (std::size_t a = 0; a < i.size(); ++a) {
                     const std::int64_t index = a == axis ? indices.as_int64(n) : i[a];
                     at += checked_index(ctx, index, data.dims()[a]) * strides[a];
                   }
                   ++n;
                   return at;
                 }));
}

bool gather_elements_lower(const Node& node, loops::RegionBuilder& builder) {
  const Value *data = node.input(0), *indices = node.input(1);
  if (!data->has_shape() || !indices->has_shape() || data->dtype() == DType::kString) {
    builder.decline("unknown rank, or strings");
    return false;
  }
  std::int64_t signed_axis = node.attrs.get_int("axis", 0);
  if (signed_axis < 0) signed_axis += static_cast<std::int64_t>(data->shape().size());
  const auto axis = static_cast<std::size_t>(signed_axis);
  builder.define(node.output(), [=](loops::RegionBuilder& b, const auto& i) {
    // Extents of `indices` may exceed those of the data in a hostile file, so the guard stays.
    return guarded_read(b, data, i, axis, b.read(indices, i), false);
  });
  return true;
}

// GatherND -----------------------------------------------------------------------------------------------------------

void gather_nd_infer(InferContext& ctx) {
  const auto &data = ctx.shape(0), &indices = ctx.shape(1);
  if (!data || !indices) return ctx.set_unknown(0, ctx.dtype(0));
  const auto batch = ctx.attrs().get_int("batch_dims", 0);
  const auto rank = static_cast<std::int64_t>(data->size()), index_rank = static_cast<std::int64_t>(indices->size());
  if (rank < 1 || index_rank < 1) ctx.fail("data and indices need rank 1 or more");
  if (batch < 0 || batch >= std::min(rank, index_rank)) ctx.fail("batch_dims " + std::to_string(batch) + " is out of range");
  const auto depth = indices->back().constant();
  if (!depth) return ctx.set_unknown(0, ctx.dtype(0));
  if (*depth < 1 || batch + *depth > rank) ctx.fail("indices of depth " + std::to_string(*depth) + " do not fit data " + ir::to_string(*data));
  Shape out(indices->begin(), indices->end() - 1);
  out.insert(out.end(), data->begin() + batch + *depth, data->end());
  ctx.set(0, ctx.dtype(0), out);
}

void gather_nd_reference(RefContext& ctx) {
  const Tensor &data = ctx.input(0), &indices = ctx.input(1);
  const std::int64_t batch = ctx.attrs().get_int("batch_dims", 0);
  if (indices.rank() < 1 || data.rank() < 1 || batch < 0 || batch >= std::min(data.rank(), indices.rank())) ctx.fail("ranks and batch_dims do not fit");
  const std::int64_t depth = indices.dims().back();
  if (depth < 1 || batch + depth > data.rank()) ctx.fail("indices of depth " + std::to_string(depth) + " do not fit data " + lathe::to_string(data.dims()));
  Dims dims(indices.dims().begin(), indices.dims().end() - 1);
  dims.insert(dims.end(), data.dims().begin() + batch + depth, data.dims().end());
  const Dims strides = strides_of(data.dims());
  std::int64_t inner = 1, tuples = 1;
  for (std::int64_t a = batch + depth; a < data.rank(); ++a) inner *= data.dims()[static_cast<std::size_t>(a)];
  for (std::int64_t a = batch; a + 1 < indices.rank(); ++a) tuples *= indices.dims()[static_cast<std::size_t>(a)];
  if (!std::equal(dims.begin(), dims.begin() + batch, data.dims().begin()))
    ctx.fail("data " + lathe::to_string(data.dims()) + " and indices " + lathe::to_string(indices.dims()) + " differ on the first " + std::to_string(batch) +
             " axes");
  const std::int64_t batch_stride = batch > 0 ? strides[static_cast<std::size_t>(batch - 1)] : 0;
  ctx.set_output(0, remap(data, dims, [&](std::int64_t i) {
                   const std::int64_t tuple = i / inner;
                   std::int64_t at = tuple / tuples * batch_stride + i % inner;
                   for (std::int64_t d = 0; d < depth; ++d) {
                     const auto axis = static_cast<std::size_t>(batch + d);
                     at += checked_index(ctx, indices.as_int64(tuple * depth + d), data.dims()[axis]) * strides[axis];
                   }
                   return at;
                 }));
}

bool gather_nd_lower(const Node& node, loops::RegionBuilder& builder) {
  const Value *data = node.input(0), *indices = node.input(1);
  const auto depth = indices->has_shape() && !indices->shape().empty() ? indices->shape().back().constant() : std::nullopt;
  if (!data->has_shape() || !depth || data->dtype() == DType::kString) {
    builder.decline("unknown rank or depth of the tuples, or strings");
    return false;
  }
  const auto batch = static_cast<std::size_t>(node.attrs.get_int("batch_dims", 0));
  const std::size_t tuple_rank = indices->shape().size() - 1;
  builder.define(node.output(), [=, depth = *depth](loops::RegionBuilder& b, const auto& i) {
    for (std::size_t a = 0; a < batch; ++a) b.require_equal(indices, indices->shape()[a], data->shape()[a]);
    loops::RegionBuilder::Indices which(i.begin(), i.begin() + static_cast<std::ptrdiff_t>(tuple_rank)),
        at(i.begin(), i.begin() + static_cast<std::ptrdiff_t>(batch));
    for (std::int64_t d = 0; d < depth; ++d) {
      which.push_back(b.integer(d));
      const auto position = b.read(indices, which);
      which.pop_back();
      at.push_back(from_end(b, position, data->shape()[at.size()]));
    }
    at.insert(at.end(), i.begin() + static_cast<std::ptrdiff_t>(tuple_rank), i.end());
    return b.read_or(data, at, b.constant(0, data->dtype()));
  });
  return true;
}

}  // namespace

std::span<const OpDef> ops_gather() {
  constexpr std::string_view kIo = "data:T indices:Tind -> output:T", kAxis = "axis:int=0", kNd = "data:T indices:int64 -> output:T";
  constexpr std::string_view kAll = "T: @all; Tind: int32 int64", kAll13 = "T: @all13; Tind: int32 int64";
  static const std::vector<OpDef> ops = [&] {
    std::vector<OpDef> list{
        {.name = "Gather",
         .versions = {{1, kIo, kAxis, kAll}, {11, kIo, kAxis, kAll}, {13, kIo, kAxis, kAll13}},
         .infer = gather_infer,
         .reference = gather_reference,
         .lower = gather_lower,
         .doc = "slices along an axis, picked by index"},
        {.name = "GatherElements",
         .versions = {{11, kIo, kAxis, kAll}, {13, kIo, kAxis, kAll13}},
         .infer = gather_elements_infer,
         .reference = gather_elements_reference,
         .lower = gather_elements_lower,
         .doc = "one element per index"},
        {.name = "GatherND",
         .versions = {{11, kNd, "", "T: @all"}, {12, kNd, "batch_dims:int=0", "T: @all"}, {13, kNd, "batch_dims:int=0", "T: @all13"}},
         .infer = gather_nd_infer,
         .reference = gather_nd_reference,
         .lower = gather_nd_lower,
         .doc = "slices picked by index tuples"},
    };
    for (auto& op : one_hot_ops()) list.push_back(std::move(op));
    return list;
  }();
  return ops;
}

}  // namespace lathe::ops
