// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// LpPool and GlobalLpPool: the p-norm of a window.

#include <cmath>

#include "ops/pool/pool_lower.h"
#include "ops/ref_util.h"

namespace lathe::ops {
namespace {

std::int64_t norm_order(RefContext& ctx) {
  const std::int64_t p = ctx.attrs().get_int("p", 2);
  if (p < 1) ctx.fail("the norm's order p is " + std::to_string(p) + ", expected 1 or more");
  return p;
}

void lp_pool_reference(RefContext& ctx) {
  const Tensor& x = ctx.input(0);
  const Window window = checked_window(ctx, x.dims());
  const PoolExtents e = extents_of(x.dims(), window);
  const auto p = static_cast<double>(norm_order(ctx));
  const auto values = to_doubles(x);
  std::vector<double> y(static_cast<std::size_t>(e.planes * e.out_area));
  for (std::int64_t plane = 0; plane < e.planes; ++plane) {
    std::int64_t position = 0;
    for_each_index(e.spatial_out, [&](const Dims& at) {
      double sum = 0;
      visit_window(window, e, at, [&](std::int64_t offset) { sum += std::pow(std::fabs(values[static_cast<std::size_t>(plane * e.in_area + offset)]), p); });
      y[static_cast<std::size_t>(plane * e.out_area + position++)] = std::pow(sum, 1 / p);
    });
  }
  ctx.set_output(0, from_doubles(x.dtype(), e.all_out, y));
}

void global_lp_pool_reference(RefContext& ctx) {
  const Tensor& x = ctx.input(0);
  if (const std::string defect = pool_rank_defect(x.dims().size()); !defect.empty()) ctx.fail(defect);
  const auto p = static_cast<double>(norm_order(ctx));
  const auto values = to_doubles(x);
  Dims out(x.dims().size(), 1);
  out[0] = x.dims()[0];
  out[1] = x.dims()[1];
  const std::int64_t planes = out[0] * out[1], area = element_count(Dims(x.dims().begin() + 2, x.dims().end()));
  std::vector<double> y(static_cast<std::size_t>(planes), 0.0);
  for (std::int64_t plane = 0; plane < planes; ++plane) {
    for (std::int64_t i = 0; i < area; ++i) y[static_cast<std::size_t>(plane)] += std::pow(std::fabs(values[static_cast<std::size_t>(plane * area + i)]), p);
    y[static_cast<std::size_t>(plane)] = std::pow(y[static_cast<std::size_t>(plane)], 1 / p);
  }
  ctx.set_output(0, from_doubles(x.dtype(), out, y));
}

using loops::ExprId;
using loops::ExprOp;
using loops::RegionBuilder;

/// The root of a sum of powers; orders 1 and 2 need no power function.
bool lp_lower(const Node& node, RegionBuilder& builder, bool global) {
  const Value* x = node.input(0);
  if (!can_lower_real(x, builder)) return false;
  const std::int64_t p = node.attrs.get_int("p", 2);
  if (p < 1 || !is_float(x->dtype())) {
    builder.decline("no order of a norm, or no floating numbers");
    return false;
  }
  const DType dtype = x->dtype(), type = compute_dtype(dtype);
  const auto power = [=](RegionBuilder& b, ExprId e) {
    const ExprId size = b.unary(ExprOp::kAbs, e);
    return b.binary(ExprOp::kPow, size, b.constant(static_cast<double>(p), type));
  };
  const Value* sum;
  if (global) {
    sum = reduce_planes(node, builder, "plane_powers", loops::Reduce::kSum, type, power);
  } else {
    const auto window = known_window(node, builder);
    if (!window) return false;
    sum = reduce_window(
        node, builder, "window_powers", *window, loops::Reduce::kSum, type, [dtype](RegionBuilder& b, const auto&) { return b.constant(0, dtype); }, power);
  }
  builder.define(node.output(), [=](RegionBuilder& b, const RegionBuilder::Indices& at) {
    const ExprId all = b.read(sum, at);
    if (p == 2) return b.cast(b.unary(ExprOp::kSqrt, all), dtype);
    return b.cast(p == 1 ? all : b.binary(ExprOp::kPow, all, b.constant(1 / static_cast<double>(p), type)), dtype);
  });
  return true;
}

/// The first version wrote the order as a real number.
void lp_upgrade(UpgradeContext& ctx) {
  if (ctx.from_version > 1 || !ctx.node.attrs.has("p")) return;
  ctx.node.attrs.set("p", static_cast<std::int64_t>(std::lround(ctx.node.attrs.get_float("p", 2))));
}

constexpr std::string_view kLp2 = "auto_pad:string=NOTSET kernel_shape:ints p:int=2 pads:ints? strides:ints?";
constexpr std::string_view kLp18 = "auto_pad:string=NOTSET ceil_mode:int=0 dilations:ints? kernel_shape:ints p:int=2 pads:ints? strides:ints?";

}  // namespace

std::vector<OpDef> lp_pool_ops() {
  return {
      {.name = "LpPool",
       .versions = {{1, "X:T -> Y:T", "auto_pad:string=NOTSET kernel_shape:ints? p:float=2 pads:ints? strides:ints?", "T: @float"},
                    {2, "X:T -> Y:T", kLp2, "T: @float"},
                    {11, "X:T -> Y:T", kLp2, "T: @float"},
                    {18, "X:T -> Y:T", kLp18, "T: @float"},
                    {22, "X:T -> Y:T", kLp18, "T: @float13"}},
       .upgrade = lp_upgrade,
       .infer = pool_infer,
       .reference = lp_pool_reference,
       .tolerance = {.relative = 2e-6, .absolute = 1e-6},
       .lower = [](const Node& node, RegionBuilder& b) { return lp_lower(node, b, false); },
       .doc = "p-norm over a sliding window."},
      {.name = "GlobalLpPool",
       .versions = {{1, "X:T -> Y:T", "p:float=2", "T: @float"}, {2, "X:T -> Y:T", "p:int=2", "T: @float"}, {22, "X:T -> Y:T", "p:int=2", "T: @float13"}},
       .upgrade = lp_upgrade,
       .infer = global_pool_infer,
       .reference = global_lp_pool_reference,
       .tolerance = {.relative = 2e-6, .absolute = 1e-6},
       .lower = [](const Node& node, RegionBuilder& b) { return lp_lower(node, b, true); },
       .doc = "p-norm over all spatial axes."},
  };
}

}  // namespace lathe::ops
