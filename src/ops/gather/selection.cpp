// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// OneHot, NonZero, Compress: index tensors made and used.
#include <algorithm>
#include <cstring>

#include "loops/builder.h"
#include "ops/lower_util.h"
#include "ops/ref_util.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

void one_hot_infer(InferContext& ctx) {
  const auto& indices = ctx.shape(0);
  if (!indices) return ctx.set_unknown(0, ctx.dtype(2));
  const auto rank = static_cast<std::int64_t>(indices->size());
  const auto axis = infer_axis(ctx, ctx.attrs().get_int("axis", -1), rank + 1);
  Dim depth = ctx.fresh_symbol();
  if (const auto content = ctx.content(1); content && content->size() == 1) depth = content->front();
  Shape out = *indices;
  out.insert(out.begin() + axis, depth);
  ctx.set(0, ctx.dtype(2), out);
}

void one_hot_reference(RefContext& ctx) {
  const Tensor &indices = ctx.input(0), &values = ctx.input(2);
  const auto depth = static_cast<std::int64_t>(ctx.input(1).as_double(0));
  if (depth < 0) ctx.fail("depth " + std::to_string(depth) + " is negative");
  if (values.size() != 2) ctx.fail("values must hold [off, on]");
  const std::int64_t axis = ref_axis(ctx, ctx.attrs().get_int("axis", -1), indices.rank() + 1);
  Dims dims = indices.dims();
  dims.insert(dims.begin() + axis, depth);
  const AxisView view = around_axis(dims, axis);
  ctx.set_output(0, remap(values, dims, [&](std::int64_t i) {
                   const std::int64_t inner = i % view.inner, position = i / view.inner % depth, outer = i / view.inner / depth;
                   auto hot = static_cast<std::int64_t>(indices.as_double(outer * view.inner + inner));
                   if (hot < 0) hot += depth;
                   return static_cast<std::int64_t>(hot == position);
                 }));
}

bool one_hot_lower(const Node& node, loops::RegionBuilder& builder) {
  const Value *indices = node.input(0), *values = node.input(2);
  if (!can_lower_real(indices, builder) || !can_lower_real(values, builder)) return false;
  if (values->shape().size() != 1 || values->shape()[0] != Dim(2)) {
    builder.decline("values that may not be [off, on]");
    return false;
  }
  std::int64_t signed_axis = node.attrs.get_int("axis", -1);
  if (signed_axis < 0) signed_axis += static_cast<std::int64_t>(indices->shape().size()) + 1;
  builder.define(node.output(), [=, out = node.output()](loops::RegionBuilder& b, const auto& i) {
    using loops::ExprOp;
    auto at = i;
    at.erase(at.begin() + signed_axis);
    const auto axis = static_cast<std::size_t>(signed_axis);
    const auto is_hot = b.binary(ExprOp::kEqual, from_end(b, b.read(indices, at), out->shape()[axis]), i[axis]);
    return b.select(is_hot, b.read(values, {b.integer(1)}), b.read(values, {b.integer(0)}));
  });
  return true;
}

void non_zero_infer(InferContext& ctx) {
  const auto& in = ctx.shape(0);
  ctx.set(0, DType::kInt64, {in ? Dim(static_cast<std::int64_t>(in->size())) : ctx.fresh_symbol(), ctx.fresh_symbol()});
}

bool is_non_zero(const Tensor& t, std::int64_t i) {
  if (t.dtype() == DType::kString) return !t.string_data()[static_cast<std::size_t>(i)].empty();
  if (is_integer(t.dtype()) || t.dtype() == DType::kBool) return t.as_int64(i) != 0;
  return t.as_double(i) != 0;
}

/// Calls `visit` with the place of each element of a mask that is set.
template <class Visit>
void for_each_set(std::span<const std::byte> mask, const Visit& visit) {
  for (std::size_t i = 0; i < mask.size();) {
    std::uint64_t eight = 0;
    if (i + 8 <= mask.size() && (std::memcpy(&eight, mask.data() + i, 8), eight == 0)) {
      i += 8;  // most masks are empty for long
      continue;
    }
    for (const std::size_t end = std::min(i + 8, mask.size()); i < end; ++i)
      if (mask[i] != std::byte{0}) visit(static_cast<std::int64_t>(i));
  }
}

void non_zero_reference(RefContext& ctx) {
  const Tensor& in = ctx.input(0);
  const bool is_mask = in.dtype() == DType::kBool;
  const auto mask = is_mask ? std::span(in.raw(), static_cast<std::size_t>(in.size())) : std::span<const std::byte>();
  std::vector<std::int64_t> found;
  for (std::int64_t i = 0; !is_mask && i < in.size(); ++i)
    if (is_non_zero(in, i)) found.push_back(i);
  const auto rank = static_cast<std::int64_t>(in.dims().size());
  const auto count =
      is_mask ? static_cast<std::int64_t>(mask.size()) - std::count(mask.begin(), mask.end(), std::byte{0}) : static_cast<std::int64_t>(found.size());
  Tensor out = Tensor::to_be_filled(DType::kInt64, {rank, count});
  if (out.size() > 0) {
    const auto rows = out.mutable_data<std::int64_t>();
    // The first row has the places in the flat tensor until the other axes are split off, the last of which changes fastest.
    std::int64_t* place = rows.data();
    if (is_mask) for_each_set(mask, [&](std::int64_t i) { *place++ = i; });
    else std::copy(found.begin(), found.end(), place);
    for (std::int64_t axis = rank; axis-- > 1;) {
      const std::int64_t extent = in.dims()[static_cast<std::size_t>(axis)];
      for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
        rows[static_cast<std::size_t>(axis * count) + i] = rows[i] % extent;
        rows[i] /= extent;
      }
    }
  }
  ctx.set_output(0, std::move(out));
}

void compress_infer(InferContext& ctx) {
  const auto& in = ctx.shape(0);
  if (!ctx.attrs().has("axis")) return ctx.set(0, ctx.dtype(0), {ctx.fresh_symbol()});
  if (!in) return ctx.set_unknown(0, ctx.dtype(0));
  const auto axis = infer_axis(ctx, ctx.attrs().get_int("axis", 0), static_cast<std::int64_t>(in->size()));
  Shape out = *in;
  out[static_cast<std::size_t>(axis)] = ctx.fresh_symbol();
  ctx.set(0, ctx.dtype(0), out);
}

void compress_reference(RefContext& ctx) {
  Tensor in = ctx.input(0);
  std::int64_t axis = 0;
  if (ctx.attrs().has("axis")) {
    axis = ref_axis(ctx, ctx.attrs().get_int("axis", 0), in.rank());
  } else {
    in = in.reshaped({in.size()});
  }
  const AxisView view = around_axis(in.dims(), axis);
  const Tensor& condition = ctx.input(1);
  if (condition.size() > view.extent) ctx.fail("the condition is longer than the axis");
  std::vector<std::int64_t> kept;
  for (std::int64_t i = 0; i < condition.size(); ++i) {
    if (condition.as_int64(i)) kept.push_back(i);
  }
  Dims dims = in.dims();
  const auto count = static_cast<std::int64_t>(kept.size());
  dims[static_cast<std::size_t>(axis)] = count;
  ctx.set_output(0, remap(in, dims, [&](std::int64_t i) {
                   const std::int64_t inner = i % view.inner, k = i / view.inner % count, outer = i / view.inner / count;
                   return (outer * view.extent + kept[static_cast<std::size_t>(k)]) * view.inner + inner;
                 }));
}

}  // namespace

std::vector<OpDef> selection_ops() {
  constexpr std::string_view kHot = "indices:T1 depth:T2 values:T3 -> output:T3", kAxis = "axis:int=-1";
  constexpr std::string_view kCompress = "input:T condition:T1 -> output:T";
  return {
      {.name = "OneHot",
       .versions = {{9, kHot, kAxis, "T1: @num; T2: @num; T3: @all"},
                    {11, kHot, kAxis, "T1: @num; T2: @num; T3: @all"},
                    {28, kHot, kAxis, "T1: @num; T2: @num; T3: @all13"}},
       .infer = one_hot_infer,
       .reference = one_hot_reference,
       .lower = one_hot_lower,
       .doc = "one of two values by index along a new axis"},
      {.name = "NonZero",
       .versions = {{9, "X:T -> Y:int64", "", "T: @all"}, {13, "X:T -> Y:int64", "", "T: @all13"}},
       .infer = non_zero_infer,
       .reference = non_zero_reference,
       .doc = "indices of the elements that are not zero"},
      {.name = "Compress",
       .versions = {{9, kCompress, "axis:int?", "T: @all; T1: bool"},
                    {11, kCompress, "axis:int?", "T: @all; T1: bool"},
                    {28, kCompress, "axis:int?", "T: @all13; T1: bool"}},
       .infer = compress_infer,
       .reference = compress_reference,
       .doc = "slices picked by a mask"},
  };
}

}  // namespace lathe::ops
