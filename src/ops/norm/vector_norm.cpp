// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// LpNormalization, MeanVarianceNormalization, LRN: normalisations without learned parameters.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "ops/lower_util.h"
#include "ops/norm/norm_defs.h"
#include "ops/ref_util.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

using loops::ExprOp;
using loops::Reduce;

void same_infer(InferContext& ctx) { ctx.set_type(0, ctx.node().input(0)->type); }

void lp_infer(InferContext& ctx) {
  const auto p = ctx.attrs().get_int("p", 2);
  if (p != 1 && p != 2) ctx.fail("attribute 'p' is " + std::to_string(p) + "; expected 1 or 2");
  if (const auto& in = ctx.shape(0)) infer_axis(ctx, ctx.attrs().get_int("axis", -1), static_cast<std::int64_t>(in->size()));
  same_infer(ctx);
}

void lp_reference(RefContext& ctx) {
  const Tensor& in = ctx.input(0);
  const AxisView view = around_axis(in.dims(), ref_axis(ctx, ctx.attrs().get_int("axis", -1), in.rank()));
  const bool euclid = ctx.attrs().get_int("p", 2) == 2;
  auto x = to_doubles(in);
  for (std::int64_t o = 0; o < view.outer; ++o) {
    for (std::int64_t i = 0; i < view.inner; ++i) {
      const auto at = [&](std::int64_t k) -> double& { return x[static_cast<std::size_t>((o * view.extent + k) * view.inner + i)]; };
      double norm = 0;
      for (std::int64_t k = 0; k < view.extent; ++k) norm += euclid ? at(k) * at(k) : std::abs(at(k));
      if (euclid) norm = std::sqrt(norm);
      for (std::int64_t k = 0; k < view.extent; ++k) at(k) = norm == 0 ? 0 : at(k) / norm;
    }
  }
  ctx.set_output(0, from_doubles(in.dtype(), in.dims(), x));
}

bool lp_lower(const Node& node, loops::RegionBuilder& builder) {
  const Value *in = node.input(0), *out = node.output();
  if (!can_lower_real(in, builder)) return false;
  const bool euclid = node.attrs.get_int("p", 2) == 2;
  const ReducedAxes axes(in->shape().size(), {node.attrs.get_int("axis", -1)}, true);
  const DType wide = compute_dtype(in->dtype());
  const auto x = [in, wide](loops::RegionBuilder& b, const auto& i) { return b.cast(b.read(in, i), wide); };
  const Value* sum = reduce_to_temporary(builder, "norm", Reduce::kSum, wide, in->shape(), axes, [=](loops::RegionBuilder& b, const auto& i) {
    const auto v = x(b, i);
    return euclid ? b.binary(ExprOp::kMul, v, v) : b.unary(ExprOp::kAbs, v);
  });
  builder.define(out, [=](loops::RegionBuilder& b, const auto& i) {
    auto norm = b.read(sum, axes.kept_indices(b, i));
    if (euclid) norm = b.unary(ExprOp::kSqrt, norm);
    const auto zero = b.constant(0, wide);
    return b.cast(b.select(b.binary(ExprOp::kEqual, norm, zero), zero, b.binary(ExprOp::kDiv, x(b, i), norm)), out->dtype());
  });
  return true;
}

// MeanVarianceNormalization: y = (x - mean) / (sqrt(mean(x^2) - mean^2) + 1e-9)
constexpr double kDeviationFloor = 1e-9;

std::vector<std::int64_t> mvn_axes(const Attrs& attrs) { return attrs.get_ints("axes", {0, 2, 3}); }

void mvn_infer(InferContext& ctx) {
  if (const auto& in = ctx.shape(0)) infer_axes(ctx, mvn_axes(ctx.attrs()), static_cast<std::int64_t>(in->size()));
  same_infer(ctx);
}

void mvn_reference(RefContext& ctx) {
  const Tensor& in = ctx.input(0);
  std::vector<bool> reduced(in.dims().size());
  for (const auto axis : mvn_axes(ctx.attrs())) reduced[static_cast<std::size_t>(ref_axis(ctx, axis, in.rank()))] = true;
  Dims kept = in.dims();
  double count = 1;
  for (std::size_t a = 0; a < kept.size(); ++a) {
    if (reduced[a]) {
      count *= static_cast<double>(kept[a]);
      kept[a] = 1;
    }
  }
  Dims strides = strides_of(kept);
  for (std::size_t a = 0; a < kept.size(); ++a) strides[a] = reduced[a] ? 0 : strides[a];
  std::vector<std::size_t> group;
  for_each_index(in.dims(),
                 [&](const Dims& i) { group.push_back(static_cast<std::size_t>(std::inner_product(i.begin(), i.end(), strides.begin(), std::int64_t{0}))); });
  const auto groups = static_cast<std::size_t>(element_count(kept));
  auto x = to_doubles(in);
  std::vector<double> mean(groups), squares(groups);
  for (std::size_t i = 0; i < x.size(); ++i) mean[group[i]] += x[i] / count;
  for (std::size_t i = 0; i < x.size(); ++i) squares[group[i]] += (x[i] - mean[group[i]]) * (x[i] - mean[group[i]]);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = (x[i] - mean[group[i]]) / (std::sqrt(squares[group[i]] / count) + kDeviationFloor);
  ctx.set_output(0, from_doubles(in.dtype(), in.dims(), x));
}

bool mvn_lower(const Node& node, loops::RegionBuilder& builder) {
  const Value *in = node.input(0), *out = node.output();
  if (!can_lower_real(in, builder)) return false;
  const Shape shape = in->shape();
  const ReducedAxes axes(shape.size(), mvn_axes(node.attrs), true);
  const DType wide = compute_dtype(in->dtype());
  const auto x = [in, wide](loops::RegionBuilder& b, const auto& i) { return b.cast(b.read(in, i), wide); };
  const auto mean_of = [=](loops::RegionBuilder& b, const Value* sum, const auto& i) {
    return b.binary(ExprOp::kDiv, b.read(sum, axes.kept_indices(b, i)), b.cast(b.dim(axes.count(shape)), wide));
  };
  const Value* sum = reduce_to_temporary(builder, "sum", Reduce::kSum, wide, shape, axes, x);
  const auto centred = [=](loops::RegionBuilder& b, const auto& i) { return b.binary(ExprOp::kSub, x(b, i), mean_of(b, sum, i)); };
  const Value* squares = reduce_to_temporary(builder, "squares", Reduce::kSum, wide, shape, axes, [=](loops::RegionBuilder& b, const auto& i) {
    const auto c = centred(b, i);
    return b.binary(ExprOp::kMul, c, c);
  });
  builder.define(out, [=](loops::RegionBuilder& b, const auto& i) {
    const auto deviation = b.binary(ExprOp::kAdd, b.unary(ExprOp::kSqrt, mean_of(b, squares, i)), b.constant(kDeviationFloor, wide));
    return b.cast(b.binary(ExprOp::kDiv, centred(b, i), deviation), out->dtype());
  });
  return true;
}

// LRN: y = x / (bias + alpha / size * sum of x^2 over the channels around)^beta

void lrn_infer(InferContext& ctx) {
  if (ctx.attrs().get_int("size", 0) < 1) ctx.fail("attribute 'size' must be positive");
  if (const auto& in = ctx.shape(0); in && in->size() < 2) ctx.fail("takes rank 2 or more, got " + ir::to_string(*in));
  same_infer(ctx);
}

void lrn_reference(RefContext& ctx) {
  const Tensor& in = ctx.input(0);
  if (in.rank() < 2) ctx.fail("takes rank 2 or more");
  const AxisView view = around_axis(in.dims(), 1);
  const std::int64_t size = ctx.attrs().get_int("size", 1), before = (size - 1) / 2, after = size - 1 - before;
  const double alpha = ctx.attrs().get_float("alpha", 1e-4f), beta = ctx.attrs().get_float("beta", 0.75f), bias = ctx.attrs().get_float("bias", 1.0f);
  const auto x = to_doubles(in);
  auto y = x;
  for (std::int64_t o = 0; o < view.outer; ++o) {
    for (std::int64_t c = 0; c < view.extent; ++c) {
      for (std::int64_t i = 0; i < view.inner; ++i) {
        const auto at = [&](std::int64_t k) { return static_cast<std::size_t>((o * view.extent + k) * view.inner + i); };
        double squares = 0;
        for (std::int64_t k = std::max<std::int64_t>(0, c - before); k <= std::min(view.extent - 1, c + after); ++k) squares += x[at(k)] * x[at(k)];
        y[at(c)] = x[at(c)] / std::pow(bias + alpha / static_cast<double>(size) * squares, beta);
      }
    }
  }
  ctx.set_output(0, from_doubles(in.dtype(), in.dims(), y));
}

bool lrn_lower(const Node& node, loops::RegionBuilder& builder) {
  const Value *in = node.input(0), *out = node.output();
  if (!can_lower_real(in, builder)) return false;
  const DType wide = compute_dtype(in->dtype());
  const std::int64_t size = node.attrs.get_int("size", 1), before = (size - 1) / 2;
  const double alpha = node.attrs.get_float("alpha", 1e-4f), beta = node.attrs.get_float("beta", 0.75f), bias = node.attrs.get_float("bias", 1.0f);
  const Value* squares = builder.temporary("squares", wide, in->shape());
  builder.define_reduction(
      squares, Reduce::kSum, {Dim(size)},
      [=](loops::RegionBuilder& b, const auto& kept, const auto& reduced) {
        auto at = kept;
        at[1] = b.binary(ExprOp::kAdd, kept[1], b.binary(ExprOp::kSub, reduced[0], b.integer(before)));
        const auto v = b.cast(b.read_or(in, at, b.constant(0, in->dtype())), wide);
        return b.binary(ExprOp::kMul, v, v);
      },
      wide);
  builder.define(out, [=](loops::RegionBuilder& b, const auto& i) {
    const auto scaled = b.binary(ExprOp::kMul, b.read(squares, i), b.constant(alpha / static_cast<double>(size), wide));
    const auto base = b.binary(ExprOp::kAdd, scaled, b.constant(bias, wide));
    return b.cast(b.binary(ExprOp::kDiv, b.cast(b.read(in, i), wide), b.binary(ExprOp::kPow, base, b.constant(beta, wide))), out->dtype());
  });
  return true;
}

}  // namespace

OpDef lp_normalization() {
  constexpr std::string_view kIo = "input:T -> output:T", kAttrs = "axis:int=-1 p:int=2";
  return {.name = "LpNormalization",
          .versions = {{1, kIo, kAttrs, "T: @float"}, {22, kIo, kAttrs, "T: @float13"}},
          .infer = lp_infer,
          .reference = lp_reference,
          .tolerance = kNormTolerance,
          .lower = lp_lower,
          .doc = "vectors along an axis scaled to unit length"};
}

OpDef mean_variance_normalization() {
  return {.name = "MeanVarianceNormalization",
          .versions = {{9, "X:T -> Y:T", "axes:ints=0,2,3", "T: @float"}, {13, "X:T -> Y:T", "axes:ints=0,2,3", "T: @float13"}},
          .infer = mvn_infer,
          .reference = mvn_reference,
          .tolerance = kNormTolerance,
          .lower = mvn_lower,
          .doc = "mean 0 and variance 1 over axes"};
}

OpDef local_response_normalization() {
  constexpr std::string_view kAttrs = "size:int alpha:float=1e-4 beta:float=0.75 bias:float=1.0";
  return {.name = "LRN",
          .versions = {{1, "X:T -> Y:T", kAttrs, "T: @float"}, {13, "X:T -> Y:T", kAttrs, "T: @float13"}},
          .infer = lrn_infer,
          .reference = lrn_reference,
          .tolerance = kNormTolerance,
          .lower = lrn_lower,
          .doc = "each element by the energy of the channels around it"};
}

}  // namespace lathe::ops
