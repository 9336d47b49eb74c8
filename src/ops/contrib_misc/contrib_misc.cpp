// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Ops of com.microsoft that the format took over later under other names or with other inputs, and small ones of their own.
#include "ops/contrib_misc/contrib_misc.h"

#include <algorithm>

#include "ops/expand_util.h"
#include "ops/expansion.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

bool trilu(ExpandContext& ctx) {
  ctx.replace(0, ctx.add("Trilu", ctx.node.inputs, some_attrs(ctx.attrs(), {"upper"})));
  return true;
}

/// Pads may be [1, 2 * rank], the value of rank 1.
bool pad(ExpandContext& ctx) {
  Parts p(ctx);
  const Node& node = ctx.node;
  Value* value = node.input(2) ? p.reshape(node.input(2), {}) : nullptr;
  ctx.replace(0, ctx.add("Pad", {node.input(0), p.reshape(node.input(1), {-1}), value}, some_attrs(ctx.attrs(), {"mode"})));
  return true;
}

bool expand_dims(ExpandContext& ctx) {
  Parts p(ctx);
  ctx.replace(0, p.binary("Unsqueeze", ctx.node.input(0), p.reshape(p.cast(ctx.node.input(1), DType::kInt64), {-1})));
  return true;
}

bool gather_nd(ExpandContext& ctx) {
  Parts p(ctx);
  Value* indices = p.as(ctx.node.input(1), ctx.node.input(1)->dtype(), DType::kInt64);
  ctx.replace(0, p.binary("GatherND", ctx.node.input(0), indices));
  return true;
}

bool range(ExpandContext& ctx) {
  Parts p(ctx);
  const auto scalar = [&](Value* v) { return p.reshape(v, {}); };
  const DType dtype = ctx.node.input(0)->dtype();
  Value* delta = ctx.node.input(2) ? scalar(ctx.node.input(2)) : p.number(dtype, 1);
  ctx.replace(0, ctx.add("Range", {scalar(ctx.node.input(0)), scalar(ctx.node.input(1)), delta}));
  return true;
}

/// Elements in the order of their first appearance.
bool unique(ExpandContext& ctx) {
  const Node* all = ctx.add_node("Unique", {ctx.node.input(0)}, 4, attrs_of({{"sorted", 0}}));
  ctx.replace(0, all->outputs[0]);
  ctx.replace(1, all->outputs[2]);
  ctx.replace(2, all->outputs[3]);
  return true;
}

bool grid_sample(ExpandContext& ctx) {
  std::string mode = ctx.attrs().get_string("mode", "bilinear");
  if (mode == "bilinear") mode = "linear";
  if (mode == "bicubic") mode = "cubic";
  Attrs attrs = some_attrs(ctx.attrs(), {"align_corners", "padding_mode"});
  attrs.set("mode", mode);
  ctx.replace(0, ctx.add("GridSample", ctx.node.inputs, std::move(attrs)));
  return true;
}

/// Distances of all pairs of rows: [m, n].
bool distances(ExpandContext& ctx) {
  const std::string metric = ctx.attrs().get_string("metric", "sqeuclidean");
  if (metric != "sqeuclidean" && metric != "euclidean") ctx.fail("the metric '" + metric + "' is not known");
  for (std::size_t i = 0; i < 2; ++i)
    if (const auto rank = rank_of(ctx.node.input(i)); rank && *rank != 2) ctx.fail("takes two matrices");
  Parts p(ctx);
  Value* difference = p.binary("Sub", p.unsqueeze(ctx.node.input(0), {1}), p.unsqueeze(ctx.node.input(1), {0}));
  Value* sum = ctx.add("ReduceSum", {p.times(difference, difference), p.ints({2})}, attrs_of({{"keepdims", 0}}));
  ctx.replace(0, metric == "euclidean" ? p.unary("Sqrt", sum) : sum);
  return true;
}

}  // namespace

std::span<const OpDef> ops_contrib_misc() {
  constexpr std::string_view kMs = "com.microsoft";
  static const std::vector<OpDef> ops = [=] {
    std::vector<OpDef> list{
        {.domain = kMs,
         .name = "Trilu",
         .versions = {{1, "X:T k?:int64 -> Y:T", "upper:int=1", "T: @num13 bool"}},
         .infer = infer_same_as_input,
         .expand = trilu,
         .doc = "the upper or lower triangle of matrices"},
        {.domain = kMs,
         .name = "Pad",
         .versions = {{1, "data:T pads:int64 value?:T -> output:T", "mode:string=constant", "T: @float"}},
         .infer = infer_expanded,
         .expand = pad,
         .doc = "Pad with its pads as an input"},
        {.domain = kMs,
         .name = "ExpandDims",
         .versions = {{1, "X:T axis:int32 -> Y:T", "", "T: @all"}},
         .infer = infer_expanded,
         .expand = expand_dims,
         .doc = "Unsqueeze of one axis"},
        {.domain = kMs,
         .name = "GatherND",
         .versions = {{1, "data:T indices:Tind -> output:T", "", "T: @all; Tind: int32 int64"}},
         .infer = infer_expanded,
         .expand = gather_nd,
         .doc = "GatherND with 32-bit indices as well"},
        {.domain = kMs,
         .name = "Range",
         .versions = {{1, "start:T limit:T delta?:T -> Y:T", "", "T: float double int16 int32 int64"}},
         .infer = infer_expanded,
         .expand = range,
         .doc = "Range whose step may be left out"},
        {.domain = kMs,
         .name = "Unique",
         .versions = {{1, "x:T -> y:T idx:int64 counts:int64", "", "T: @all"}},
         .infer = infer_expanded,
         .expand = unique,
         .doc = "the distinct elements in order of appearance"},
        {.domain = kMs,
         .name = "GridSample",
         .versions = {{1, "X:T1 Grid:T1 -> Y:T2", "align_corners:int=0 mode:string=bilinear padding_mode:string=zeros", "T1: @all; T2: @float"}},
         .infer = infer_expanded,
         .tolerance = {.relative = 1e-5, .absolute = 1e-5},
         .expand = grid_sample,
         .doc = "GridSample by its older names of the modes"},
        {.domain = kMs,
         .name = "CDist",
         .versions = {{1, "A:T B:T -> C:T", "metric:string=sqeuclidean", "T: float double"}},
         .infer = infer_expanded,
         .tolerance = {.relative = 1e-5, .absolute = 1e-5},
         .expand = distances,
         .doc = "distances of all pairs of rows"},
    };
    for (auto family : {crop_ops(), inverse_ops()}) list.insert(list.end(), family.begin(), family.end());
    return list;
  }();
  return ops;
}

}  // namespace lathe::ops
