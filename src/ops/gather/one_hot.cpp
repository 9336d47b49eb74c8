// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// OneHot: an index tensor made.
#include <algorithm>

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

}  // namespace

std::vector<OpDef> one_hot_ops() {
  constexpr std::string_view kHot = "indices:T1 depth:T2 values:T3 -> output:T3", kAxis = "axis:int=-1";
  return {
      {.name = "OneHot",
       .versions = {{9, kHot, kAxis, "T1: @num; T2: @num; T3: @all"},
                    {11, kHot, kAxis, "T1: @num; T2: @num; T3: @all"},
                    {28, kHot, kAxis, "T1: @num; T2: @num; T3: @all13"}},
       .infer = one_hot_infer,
       .reference = one_hot_reference,
       .lower = one_hot_lower,
       .doc = "one of two values by index along a new axis"},
  };
}

}  // namespace lathe::ops
