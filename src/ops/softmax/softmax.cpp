// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Softmax, LogSoftmax, Hardmax: normalisation of one axis by its exponentials or its largest element.
#include "ops/softmax/softmax.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/lower_util.h"
#include "ops/ref_util.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

using loops::ExprOp;
using loops::Reduce;

enum class Kind { kSoftmax, kLogSoftmax, kHardmax };

void softmax_infer(InferContext& ctx) {
  const auto& shape = ctx.shape(0);
  if (shape) infer_axis(ctx, ctx.attrs().get_int("axis", -1), static_cast<std::int64_t>(shape->size()));
  ctx.set_type(0, ctx.node().input(0)->type);
}

template <Kind kKind>
std::vector<double> normalised(const Tensor& in, std::int64_t axis) {
  const AxisView view = around_axis(in.dims(), axis);
  auto values = to_doubles(in);
  for (std::int64_t line = 0; line < view.outer * view.inner; ++line) {
    double* const first = values.data() + line / view.inner * view.extent * view.inner + line % view.inner;
    const auto at = [&](std::int64_t k) -> double& { return first[k * view.inner]; };
    std::int64_t best = 0;
    for (std::int64_t k = 1; k < view.extent; ++k) {
      if (at(k) > at(best)) best = k;
    }
    if (view.extent == 0) continue;
    if (kKind == Kind::kHardmax) {
      for (std::int64_t k = 0; k < view.extent; ++k) at(k) = k == best;
      continue;
    }
    const double largest = at(best);
    double sum = 0;
    for (std::int64_t k = 0; k < view.extent; ++k) sum += std::exp(at(k) - largest);
    for (std::int64_t k = 0; k < view.extent; ++k) {
      at(k) = kKind == Kind::kSoftmax ? std::exp(at(k) - largest) / sum : at(k) - largest - std::log(sum);
    }
  }
  return values;
}

template <Kind kKind>
void softmax_reference(RefContext& ctx) {
  const Tensor& in = ctx.input(0);
  ctx.set_output(0, from_doubles(in.dtype(), in.dims(), normalised<kKind>(in, ref_axis(ctx, ctx.attrs().get_int("axis", -1), in.rank()))));
}

template <Kind kKind>
bool softmax_lower(const Node& node, loops::RegionBuilder& builder) {
  const Value *in = node.input(0), *out = node.output();
  if (!can_lower_real(in, builder)) return false;
  const std::int64_t axis = node.attrs.get_int("axis", -1);
  if (kKind == Kind::kLogSoftmax) {
    define_log_softmax(builder, in, out, axis);
    return true;
  }
  const Shape shape = in->shape();
  const ReducedAxes axes(shape.size(), {axis}, true);
  const DType wide = compute_dtype(in->dtype());
  const auto x = [in, wide](loops::RegionBuilder& b, const auto& i) { return b.cast(b.read(in, i), wide); };
  if (kKind == Kind::kHardmax) {
    const Value* best = reduce_to_temporary(builder, "best", Reduce::kArgMax, wide, shape, axes, x);
    const auto at = static_cast<std::size_t>(axis < 0 ? axis + static_cast<std::int64_t>(shape.size()) : axis);
    builder.define(out, [=](loops::RegionBuilder& b, const auto& i) {
      const auto hit = b.binary(ExprOp::kEqual, i[at], b.read(best, axes.kept_indices(b, i)));
      return b.select(hit, b.constant(1, out->dtype()), b.constant(0, out->dtype()));
    });
    return true;
  }
  const Value* largest = reduce_to_temporary(builder, "largest", Reduce::kMax, wide, shape, axes, x);
  const auto shifted = [=](loops::RegionBuilder& b, const auto& i) { return b.binary(ExprOp::kSub, x(b, i), b.read(largest, axes.kept_indices(b, i))); };
  // The sum is at least 1 (the largest element's part), so multiplying by its reciprocal is safe.
  const Value* power = builder.temporary("power", wide, shape);
  builder.define(power, [=](loops::RegionBuilder& b, const auto& i) { return b.unary(ExprOp::kExp, shifted(b, i)); });
  const Value* sum =
      reduce_to_temporary(builder, "sum", Reduce::kSum, wide, shape, axes, [=](loops::RegionBuilder& b, const auto& i) { return b.read(power, i); });
  builder.define(out, [=](loops::RegionBuilder& b, const auto& i) {
    const auto scale = b.unary(ExprOp::kReciprocal, b.read(sum, axes.kept_indices(b, i)));
    return b.cast(b.binary(ExprOp::kMul, b.read(power, i), scale), out->dtype());
  });
  return true;
}

// Before version 13 the axes from `axis` on were normalised together, as one row of a matrix:
//   y = Reshape(Softmax(Flatten(x, axis), axis = -1), Shape(x))        the same as axis = -1 when `axis` is the last one
void softmax_upgrade(UpgradeContext& ctx) {
  Node& node = ctx.node;
  if (ctx.from_version >= 13) return;
  const std::int64_t axis = node.attrs.get_int("axis", 1);
  const auto& shape = node.input(0)->type.shape;
  if (axis == -1 || (shape && axis == static_cast<std::int64_t>(shape->size()) - 1)) {
    node.attrs.set("axis", -1);
    return;
  }
  const std::string base = node.output()->name;
  Attrs flatten, last;
  flatten.set("axis", axis);
  last.set("axis", -1);
  Node* rows = ctx.graph.add_node("", "Flatten", {node.input(0)}, {ctx.graph.unique_name(base + "_rows")}, flatten, &node);
  Node* soft = ctx.graph.add_node("", node.op, {rows->output()}, {ctx.graph.unique_name(base + "_flat")}, last, &node);
  Node* extents = ctx.graph.add_node("", "Shape", {node.input(0)}, {ctx.graph.unique_name(base + "_shape")}, {}, &node);
  for (Node* added : {rows, soft, extents}) added->sources = node.sources;
  soft->name = node.name;
  node.name.clear();
  node.op = "Reshape";
  node.attrs = {};
  ctx.graph.set_inputs(&node, {soft->output(), extents->output()});
}

}  // namespace

std::vector<double> log_softmax(const Tensor& in, std::int64_t axis) { return normalised<Kind::kLogSoftmax>(in, axis); }

void define_log_softmax(loops::RegionBuilder& builder, const Value* in, const Value* out, std::int64_t axis) {
  const ReducedAxes axes(in->shape().size(), {axis}, true);
  const DType wide = compute_dtype(in->dtype());
  const auto x = [in, wide](loops::RegionBuilder& b, const auto& i) { return b.cast(b.read(in, i), wide); };
  const Value* largest = reduce_to_temporary(builder, "largest", Reduce::kMax, wide, in->shape(), axes, x);
  const auto shifted = [=](loops::RegionBuilder& b, const auto& i) { return b.binary(ExprOp::kSub, x(b, i), b.read(largest, axes.kept_indices(b, i))); };
  const Value* sum = reduce_to_temporary(builder, "sum", Reduce::kSum, wide, in->shape(), axes,
                                         [=](loops::RegionBuilder& b, const auto& i) { return b.unary(ExprOp::kExp, shifted(b, i)); });
  builder.define(out, [=](loops::RegionBuilder& b, const auto& i) {
    return b.cast(b.binary(ExprOp::kSub, shifted(b, i), b.unary(ExprOp::kLog, b.read(sum, axes.kept_indices(b, i)))), out->dtype());
  });
}

std::span<const OpDef> ops_softmax() {
  constexpr std::string_view kIo = "input:T -> output:T", kOld = "axis:int=1", kNew = "axis:int=-1";
  const auto versions = [=] { return std::vector<VersionDef>{{1, kIo, kOld, "T: @float"}, {11, kIo, kOld, "T: @float"}, {13, kIo, kNew, "T: @float13"}}; };
  static const std::vector<OpDef> ops{
      {.name = "Softmax",
       .versions = versions(),
       .upgrade = softmax_upgrade,
       .infer = softmax_infer,
       .reference = softmax_reference<Kind::kSoftmax>,
       .tolerance = {.relative = 1e-5, .absolute = 1e-7},
       .lower = softmax_lower<Kind::kSoftmax>,
       .doc = "exp(x) over its sum along an axis"},
      {.name = "LogSoftmax",
       .versions = versions(),
       .upgrade = softmax_upgrade,
       .infer = softmax_infer,
       .reference = softmax_reference<Kind::kLogSoftmax>,
       .tolerance = {.relative = 1e-5, .absolute = 1e-5},
       .lower = softmax_lower<Kind::kLogSoftmax>,
       .doc = "the logarithm of Softmax"},
      {.name = "Hardmax",
       .versions = versions(),
       .upgrade = softmax_upgrade,
       .infer = softmax_infer,
       .reference = softmax_reference<Kind::kHardmax>,
       .lower = softmax_lower<Kind::kHardmax>,
       .doc = "1 at the first largest element along an axis"},
  };
  return ops;
}

}  // namespace lathe::ops
