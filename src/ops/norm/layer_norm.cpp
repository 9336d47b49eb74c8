// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// LayerNormalization and RMSNormalization: each row (the axes from `axis` on) by its own statistics.
//   layer: y = (x - mean) / sqrt(var + epsilon) * scale + bias        rms: y = x / sqrt(mean(x^2) + epsilon) * scale
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

DType statistics_dtype(const Node& node) { return static_cast<DType>(node.attrs.get_int("stash_type", 1)); }

/// Scale and bias broadcast one way: they may not widen the input.
void check_broadcast(InferContext& ctx, std::size_t i) {
  const auto &in = ctx.shape(0), &shape = ctx.shape(i);
  if (!in || !shape) return;
  bool fits = shape->size() <= in->size();
  for (std::size_t k = 0; fits && k < shape->size(); ++k) {
    const Dim &d = (*shape)[shape->size() - 1 - k], &x = (*in)[in->size() - 1 - k];
    fits = is_one(d) || d == x || !d.is_constant() || !x.is_constant();
  }
  if (!fits) ctx.fail("input " + std::to_string(i) + " of shape " + ir::to_string(*shape) + " does not broadcast to " + ir::to_string(*in));
}

void layer_norm_infer(InferContext& ctx) {
  const auto& in = ctx.shape(0);
  ctx.set_type(0, ctx.node().input(0)->type);
  const DType statistics = statistics_dtype(ctx.node());
  if (!in) {
    for (std::size_t i = 1; i < 3; ++i) ctx.set_unknown(i, statistics);
    return;
  }
  const auto axis = infer_axis(ctx, ctx.attrs().get_int("axis", -1), static_cast<std::int64_t>(in->size()));
  Shape kept(in->begin(), in->begin() + axis);
  kept.resize(in->size(), Dim(1));
  for (std::size_t i = 1; i < 3; ++i) {
    if (ctx.has_input(i)) check_broadcast(ctx, i);
    ctx.set(i, statistics, kept);
  }
}

void rms_norm_infer(InferContext& ctx) {
  const auto& in = ctx.shape(0);
  if (in) infer_axis(ctx, ctx.attrs().get_int("axis", -1), static_cast<std::int64_t>(in->size()));
  check_broadcast(ctx, 1);
  if (in) {
    ctx.set(0, ctx.dtype(1), *in);
  } else {
    ctx.set_unknown(0, ctx.dtype(1));
  }
}

/// Element of `t` broadcast to the index of a tensor of `dims`.
std::function<double(const Dims&)> broadcast_reader(RefContext& ctx, std::size_t i, const Dims& dims) {
  const Tensor& t = ctx.input(i);
  const Dims strides = strides_of(t.dims());
  const std::size_t skip = dims.size() - std::min(dims.size(), t.dims().size());
  if (t.dims().size() > dims.size()) ctx.fail("input " + std::to_string(i) + " has more axes than X");
  Dims step(dims.size(), 0);
  for (std::size_t a = 0; a < t.dims().size(); ++a) {
    if (t.dims()[a] != 1 && t.dims()[a] != dims[a + skip])
      ctx.fail("input " + std::to_string(i) + " of shape " + lathe::to_string(t.dims()) + " does not broadcast to X");
    if (t.dims()[a] != 1) step[a + skip] = strides[a];
  }
  return [values = to_doubles(t), step](const Dims& index) {
    return values[static_cast<std::size_t>(std::inner_product(index.begin(), index.end(), step.begin(), std::int64_t{0}))];
  };
}

struct Rows {
  std::int64_t count = 1, length = 1;
};

Rows rows_of(const RefContext& ctx, const Tensor& in) {
  const std::int64_t axis = ref_axis(ctx, ctx.attrs().get_int("axis", -1), in.rank());
  Rows rows;
  for (std::int64_t a = 0; a < in.rank(); ++a) (a < axis ? rows.count : rows.length) *= in.dims()[static_cast<std::size_t>(a)];
  return rows;
}

void layer_norm_reference(RefContext& ctx) {
  const Tensor& in = ctx.input(0);
  const Rows rows = rows_of(ctx, in);
  const double epsilon = ctx.attrs().get_float("epsilon", 1e-5f);
  auto x = to_doubles(in);
  std::vector<double> means, deviations;
  for (std::int64_t r = 0; r < rows.count; ++r) {
    double* row = x.data() + r * rows.length;
    const double mean = std::accumulate(row, row + rows.length, 0.0) / static_cast<double>(rows.length);
    double squares = 0;
    for (std::int64_t k = 0; k < rows.length; ++k) squares += (row[k] - mean) * (row[k] - mean);
    const double inverse = 1 / std::sqrt(squares / static_cast<double>(rows.length) + epsilon);
    for (std::int64_t k = 0; k < rows.length; ++k) row[k] = (row[k] - mean) * inverse;
    means.push_back(mean);
    deviations.push_back(inverse);
  }
  const auto scale = broadcast_reader(ctx, 1, in.dims());
  const auto bias = ctx.has_input(2) ? broadcast_reader(ctx, 2, in.dims()) : [](const Dims&) { return 0.0; };
  std::size_t n = 0;
  for_each_index(in.dims(), [&](const Dims& i) {
    x[n] = x[n] * scale(i) + bias(i);
    ++n;
  });
  ctx.set_output(0, from_doubles(in.dtype(), in.dims(), x));
  Dims kept = in.dims();
  const std::int64_t axis = ref_axis(ctx, ctx.attrs().get_int("axis", -1), in.rank());
  for (std::size_t a = static_cast<std::size_t>(axis); a < kept.size(); ++a) kept[a] = 1;
  const DType statistics = stash_dtype(ctx);
  ctx.set_output(1, from_doubles(statistics, kept, means));
  ctx.set_output(2, from_doubles(statistics, kept, deviations));
}

void rms_norm_reference(RefContext& ctx) {
  const Tensor& in = ctx.input(0);
  const Rows rows = rows_of(ctx, in);
  const double epsilon = ctx.attrs().get_float("epsilon", 1e-5f);
  auto x = to_doubles(in);
  for (std::int64_t r = 0; r < rows.count; ++r) {
    double* row = x.data() + r * rows.length;
    const double squares = std::inner_product(row, row + rows.length, row, 0.0);
    const double inverse = 1 / std::sqrt(squares / static_cast<double>(rows.length) + epsilon);
    for (std::int64_t k = 0; k < rows.length; ++k) row[k] *= inverse;
  }
  const auto scale = broadcast_reader(ctx, 1, in.dims());
  std::size_t n = 0;
  for_each_index(in.dims(), [&](const Dims& i) { x[n++] *= scale(i); });
  ctx.set_output(0, from_doubles(ctx.input(1).dtype(), in.dims(), x));
}

template <bool kCentred>
bool row_norm_lower(const Node& node, loops::RegionBuilder& builder) {
  const Value *in = node.input(0), *out = node.output();
  if (!can_lower_real(in, builder)) return false;
  for (std::size_t i = 1; i < node.inputs.size(); ++i) {
    if (node.input(i) && !can_lower_real(node.input(i), builder)) return false;
  }
  const Shape shape = in->shape();
  std::int64_t axis = node.attrs.get_int("axis", -1);
  if (axis < 0) axis += static_cast<std::int64_t>(shape.size());
  std::vector<std::int64_t> row_axes(shape.size() - static_cast<std::size_t>(axis));
  std::iota(row_axes.begin(), row_axes.end(), axis);
  const ReducedAxes axes(shape.size(), row_axes, true);
  const DType wide = compute_dtype(in->dtype());
  const double epsilon = node.attrs.get_float("epsilon", 1e-5f);
  const auto x = [in, wide](loops::RegionBuilder& b, const auto& i) { return b.cast(b.read(in, i), wide); };
  const auto mean_of = [=](loops::RegionBuilder& b, const Value* sum, const auto& kept) {
    return b.binary(ExprOp::kDiv, b.read(sum, kept), b.cast(b.dim(axes.count(shape)), wide));
  };
  const Value* sum = kCentred ? reduce_to_temporary(builder, "sum", Reduce::kSum, wide, shape, axes, x) : nullptr;
  const auto centred = [=](loops::RegionBuilder& b, const auto& i) {
    return kCentred ? b.binary(ExprOp::kSub, x(b, i), mean_of(b, sum, axes.kept_indices(b, i))) : x(b, i);
  };
  const Value* squares = reduce_to_temporary(builder, "squares", Reduce::kSum, wide, shape, axes, [=](loops::RegionBuilder& b, const auto& i) {
    const auto c = centred(b, i);
    return b.binary(ExprOp::kMul, c, c);
  });
  const auto inverse = [=](loops::RegionBuilder& b, const auto& kept) {
    return b.unary(ExprOp::kRsqrt, b.binary(ExprOp::kAdd, mean_of(b, squares, kept), b.constant(epsilon, wide)));
  };
  builder.define(out, [=, &node](loops::RegionBuilder& b, const auto& i) {
    auto y = b.binary(ExprOp::kMul, centred(b, i), inverse(b, axes.kept_indices(b, i)));
    y = b.binary(ExprOp::kMul, y, b.cast(b.read_broadcast(node.input(1), shape, i), wide));
    if (node.input(2)) y = b.binary(ExprOp::kAdd, y, b.cast(b.read_broadcast(node.input(2), shape, i), wide));
    return b.cast(y, out->dtype());
  });
  if (const Value* mean = node.output(1)) {
    builder.define(mean, [=](loops::RegionBuilder& b, const auto& i) { return b.cast(mean_of(b, sum, i), mean->dtype()); });
  }
  if (const Value* deviation = node.output(2)) {
    builder.define(deviation, [=](loops::RegionBuilder& b, const auto& i) { return b.cast(inverse(b, i), deviation->dtype()); });
  }
  return true;
}

}  // namespace

OpDef layer_normalization() {
  // Version 1 is none of the format's: ONNX Runtime's optimiser writes the op into files of older opsets.
  constexpr std::string_view kIo = "X:T Scale:T B?:T -> Y:T Mean?:U InvStdDev?:U", kAttrs = "axis:int=-1 epsilon:float=1e-5 stash_type:int=1";
  return {.name = "LayerNormalization",
          .versions = {{1, kIo, kAttrs, "T: @float13; U: float double bfloat16"}, {17, kIo, kAttrs, "T: @float13; U: float bfloat16"}},
          .infer = layer_norm_infer,
          .reference = layer_norm_reference,
          .tolerance = kNormTolerance,
          .lower = row_norm_lower<true>,
          .doc = "normalisation of each row by its mean and variance"};
}

OpDef rms_normalization() {
  return {.name = "RMSNormalization",
          .versions = {{23, "X:T scale:V -> Y:V", "axis:int=-1 epsilon:float=1e-5 stash_type:int=1", "T: @float13; V: @float13"}},
          .infer = rms_norm_infer,
          .reference = rms_norm_reference,
          .tolerance = kNormTolerance,
          .lower = row_norm_lower<false>,
          .doc = "normalisation of each row by its root mean square"};
}

}  // namespace lathe::ops
