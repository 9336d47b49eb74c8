// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// DynamicQuantizeLinear: a tensor to uint8 by the scale and zero point of its own range, which always holds 0.
//
//   scale = (max(x, 0) - min(x, 0)) / 255      zero_point = saturate(round(-min(x, 0) / scale))      y = saturate(round(x / scale) + zero_point)
//
// A tensor of zeros has the scale 1 / 255 (as if its range were 1).
#include <algorithm>
#include <cmath>

#include "loops/builder.h"
#include "ops/lower_util.h"
#include "ops/op_def.h"
#include "ops/quantize/quantize.h"
#include "ops/ref_util.h"

namespace lathe::ops {
namespace {

using loops::ExprId;
using loops::ExprOp;
using loops::Reduce;

void dynamic_infer(InferContext& ctx) {
  if (ctx.shape(0)) ctx.set(0, DType::kUint8, *ctx.shape(0));
  else ctx.set_unknown(0, DType::kUint8);
  if (ctx.node().outputs.size() > 1 && ctx.node().outputs[1]) ctx.set(1, DType::kFloat32, {});
  if (ctx.node().outputs.size() > 2 && ctx.node().outputs[2]) ctx.set(2, DType::kUint8, {});
}

void dynamic_reference(RefContext& ctx) {
  const Tensor& x = ctx.input(0);
  const auto values = to_doubles(x);
  double low = 0, high = 0;
  for (const double v : values) {
    low = std::min(low, v);
    high = std::max(high, v);
  }
  const auto single = [](double v) { return round_as(DType::kFloat32, v); };
  const double scale = single((high == low ? 1.0 : single(high - low)) / 255.0);
  const double zero = std::nearbyint(std::clamp(single(0.0 - single(low / scale)), 0.0, 255.0));
  std::vector<double> result;
  for (const double v : values) result.push_back(quantised_integer(single(v / scale), zero, DType::kUint8));
  ctx.set_output(0, from_doubles(DType::kUint8, x.dims(), result));
  if (ctx.wants_output(1)) ctx.set_output(1, from_doubles(DType::kFloat32, {}, {scale}));
  if (ctx.wants_output(2)) ctx.set_output(2, from_doubles(DType::kUint8, {}, {zero}));
}

bool dynamic_lower(const Node& node, loops::RegionBuilder& builder) {
  const Value* x = node.input(0);
  if (!can_lower_real(x, builder)) return false;
  std::vector<std::int64_t> all;
  for (std::size_t a = 0; a < x->shape().size(); ++a) all.push_back(static_cast<std::int64_t>(a));
  const ReducedAxes axes(x->shape().size(), all, false);
  // 0 takes part in both, and an empty tensor has nothing else.
  const auto bound = [&](const char* name, Reduce reduce, ExprOp with_zero) {
    return reduce_to_temporary(builder, name, reduce, DType::kFloat32, x->shape(), axes, [x, with_zero](loops::RegionBuilder& b, const auto& i) {
      return b.binary(with_zero, b.read(x, i), b.constant(0, DType::kFloat32));
    });
  };
  if (ir::product(x->shape()).lower_bound().value_or(0) < 1) {
    builder.decline("a tensor that may be empty");
    return false;
  }
  const Value *low = bound("low", Reduce::kMin, ExprOp::kMin), *high = bound("high", Reduce::kMax, ExprOp::kMax);
  const auto number = [](loops::RegionBuilder& b, double v) { return b.constant(v, DType::kFloat32); };
  const auto scale = [=](loops::RegionBuilder& b) {
    const ExprId l = b.read(low, {}), h = b.read(high, {});
    const ExprId range = b.select(b.binary(ExprOp::kEqual, h, l), number(b, 1), b.binary(ExprOp::kSub, h, l));
    return b.binary(ExprOp::kDiv, range, number(b, 255));
  };
  const auto zero = [=](loops::RegionBuilder& b) {
    const ExprId first = b.binary(ExprOp::kSub, number(b, 0), b.binary(ExprOp::kDiv, b.read(low, {}), scale(b)));
    return b.unary(ExprOp::kRound, b.binary(ExprOp::kMin, b.binary(ExprOp::kMax, first, number(b, 0)), number(b, 255)));
  };
  builder.define(node.output(), [=](loops::RegionBuilder& b, const auto& i) {
    const ExprId value = b.binary(ExprOp::kAdd, b.unary(ExprOp::kRound, b.binary(ExprOp::kDiv, b.read(x, i), scale(b))), zero(b));
    return b.cast(b.binary(ExprOp::kMin, b.binary(ExprOp::kMax, value, number(b, 0)), number(b, 255)), DType::kUint8);
  });
  if (const Value* out = node.outputs.size() > 1 ? node.outputs[1] : nullptr)
    builder.define(out, [=](loops::RegionBuilder& b, const auto&) { return scale(b); });
  if (const Value* out = node.outputs.size() > 2 ? node.outputs[2] : nullptr)
    builder.define(out, [=](loops::RegionBuilder& b, const auto&) { return b.cast(zero(b), DType::kUint8); });
  return true;
}

}  // namespace

std::vector<OpDef> dynamic_quantize_ops() {
  return {
      {.name = "DynamicQuantizeLinear",
       .versions = {{11, "x:T1 -> y:T2 y_scale:float y_zero_point:T2", "", "T1: float; T2: uint8"}},
       .infer = dynamic_infer,
       .reference = dynamic_reference,
       .tolerance = {.absolute = 1},
       .lower = dynamic_lower,
       .doc = "to uint8 by the scale and zero point of the tensor's own range"},
  };
}

}  // namespace lathe::ops
