// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// BatchNormalization: y = (x - mean) / sqrt(var + epsilon) * scale + bias per channel; in training with the batch's own statistics.
#include <cmath>

#include "ops/lower_util.h"
#include "ops/norm/norm_defs.h"
#include "ops/ref_util.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

using loops::ExprOp;

bool trains(const Node& node) { return node.attrs.get_int("training_mode", 0) != 0; }

void batch_norm_infer(InferContext& ctx) {
  const auto& in = ctx.shape(0);
  if (in && in->empty()) ctx.fail("takes rank 1 or more");
  if (!trains(ctx.node()) && (ctx.node().output(1) || ctx.node().output(2))) ctx.fail("has outputs beside the first, which only training_mode = 1 makes");
  ctx.set_type(0, ctx.node().input(0)->type);
  std::optional<Dim> channels;
  if (in) channels = in->size() == 1 ? Dim(1) : (*in)[1];
  for (std::size_t i = 1; i < 5; ++i) {
    const auto& shape = ctx.shape(i);
    if (!shape) continue;
    if (shape->size() != 1) ctx.fail("input " + std::to_string(i) + " must have rank 1, has " + ir::to_string(*shape));
    const Dim& dim = shape->front();
    if (channels && channels->is_constant() && dim.is_constant() && *channels != dim) {
      ctx.fail("input " + std::to_string(i) + " has " + dim.to_string() + " elements for " + channels->to_string() + " channels");
    }
    if (!channels || (!channels->is_constant() && dim.is_constant())) channels = dim;
  }
  for (std::size_t i = 1; i < ctx.node().outputs.size(); ++i) {
    const DType dtype = ctx.dtype(3);
    if (channels) {
      ctx.set(i, dtype, {*channels});
    } else {
      ctx.set(i, dtype, {ctx.fresh_symbol()});
    }
  }
}

void batch_norm_reference(RefContext& ctx) {
  const Tensor& in = ctx.input(0);
  if (in.rank() < 1) ctx.fail("takes rank 1 or more");
  const AxisView view = in.rank() == 1 ? AxisView{in.dims()[0], 1, 1} : around_axis(in.dims(), 1);
  const auto channels = static_cast<std::size_t>(view.extent);
  for (std::size_t i = 1; i < 5; ++i) {
    if (ctx.input(i).size() != view.extent) ctx.fail("input " + std::to_string(i) + " does not have one element a channel");
  }
  auto x = to_doubles(in);
  const auto scale = to_doubles(ctx.input(1)), bias = to_doubles(ctx.input(2));
  auto mean = to_doubles(ctx.input(3)), variance = to_doubles(ctx.input(4));
  const double epsilon = ctx.attrs().get_float("epsilon", 1e-5f), momentum = ctx.attrs().get_float("momentum", 0.9f);
  const auto for_channel = [&](std::size_t c, auto&& visit) {
    for (std::int64_t o = 0; o < view.outer; ++o) {
      for (std::int64_t i = 0; i < view.inner; ++i) visit(x[static_cast<std::size_t>((o * view.extent + static_cast<std::int64_t>(c)) * view.inner + i)]);
    }
  };
  if (trains(ctx.node())) {
    const auto count = static_cast<double>(view.outer * view.inner);
    auto running_mean = mean, running_variance = variance;
    for (std::size_t c = 0; c < channels; ++c) {
      double sum = 0, squares = 0;
      for_channel(c, [&](double v) { sum += v; });
      mean[c] = sum / count;
      for_channel(c, [&](double v) { squares += (v - mean[c]) * (v - mean[c]); });
      variance[c] = squares / count;
      running_mean[c] = running_mean[c] * momentum + mean[c] * (1 - momentum);
      running_variance[c] = running_variance[c] * momentum + variance[c] * (1 - momentum);
    }
    const DType dtype = ctx.input(3).dtype();
    const std::vector<double>* extra[] = {&running_mean, &running_variance, &mean, &variance};  // the last two: versions below 14
    for (std::size_t i = 1; i < ctx.output_count() && i < 5; ++i) ctx.set_output(i, from_doubles(dtype, {view.extent}, *extra[i - 1]));
  } else if (ctx.output_count() > 1 && ctx.wants_output(1)) {
    ctx.fail("running statistics exist in training only");
  }
  for (std::size_t c = 0; c < channels; ++c) {
    const double factor = scale[c] / std::sqrt(variance[c] + epsilon);
    for_channel(c, [&](double& v) { v = (v - mean[c]) * factor + bias[c]; });
  }
  ctx.set_output(0, from_doubles(in.dtype(), in.dims(), x));
}

/// In training: mean and variance of each channel, which the running ones move towards.
bool training_lower(const Node& node, loops::RegionBuilder& builder) {
  if (node.output(3) || node.output(4)) {
    builder.decline("saved statistics of old versions");
    return false;
  }
  const Value* in = node.input(0);
  const Shape shape = in->shape();
  const bool rank_one = shape.size() == 1;
  const DType wide = compute_dtype(in->dtype()), kept = compute_dtype(node.input(3)->dtype());
  std::vector<std::int64_t> axes;
  for (std::size_t a = 0; a < shape.size(); ++a)
    if (rank_one || a != 1) axes.push_back(static_cast<std::int64_t>(a));
  const ReducedAxes reduced(shape.size(), axes, true);
  const auto x = [in, wide](loops::RegionBuilder& b, const auto& i) { return b.cast(b.read(in, i), wide); };
  const auto mean_of = [reduced, shape, wide](loops::RegionBuilder& b, const Value* sum, const auto& i) {
    return b.binary(ExprOp::kDiv, b.read(sum, reduced.kept_indices(b, i)), b.cast(b.dim(reduced.count(shape)), wide));
  };
  const Value* sum = reduce_to_temporary(builder, "sum", loops::Reduce::kSum, wide, shape, reduced, x);
  const auto centred = [=](loops::RegionBuilder& b, const auto& i) { return b.binary(ExprOp::kSub, x(b, i), mean_of(b, sum, i)); };
  const Value* squares = reduce_to_temporary(builder, "squares", loops::Reduce::kSum, wide, shape, reduced, [=](loops::RegionBuilder& b, const auto& i) {
    const auto c = centred(b, i);
    return b.binary(ExprOp::kMul, c, c);
  });
  const double epsilon = node.attrs.get_float("epsilon", 1e-5f), momentum = node.attrs.get_float("momentum", 0.9f);
  builder.define(node.output(), [=, &node](loops::RegionBuilder& b, const auto& i) {
    const auto per_channel = [&](std::size_t n) { return b.cast(b.read(node.input(n), {rank_one ? b.integer(0) : i[1]}), wide); };
    const auto deviation = b.unary(ExprOp::kRsqrt, b.binary(ExprOp::kAdd, mean_of(b, squares, i), b.constant(epsilon, wide)));
    const auto scaled = b.binary(ExprOp::kMul, centred(b, i), b.binary(ExprOp::kMul, per_channel(1), deviation));
    return b.cast(b.binary(ExprOp::kAdd, scaled, per_channel(2)), node.output()->dtype());
  });
  for (const std::size_t n : {std::size_t{1}, std::size_t{2}}) {
    const Value *out = node.output(n), *total = n == 1 ? sum : squares, *running = node.input(n + 2);
    if (!out) continue;
    builder.define(out, [=](loops::RegionBuilder& b, const auto& i) {
      loops::RegionBuilder::Indices at(shape.size(), b.integer(0));
      if (!rank_one) at[1] = i[0];
      const auto old = b.binary(ExprOp::kMul, b.cast(b.read(running, i), kept), b.constant(momentum, kept));
      const auto fresh = b.binary(ExprOp::kMul, b.cast(mean_of(b, total, at), kept), b.constant(1 - momentum, kept));
      return b.cast(b.binary(ExprOp::kAdd, old, fresh), out->dtype());
    });
  }
  return true;
}

bool batch_norm_lower(const Node& node, loops::RegionBuilder& builder) {
  const Value* in = node.input(0);
  if (!can_lower_real(in, builder)) return false;
  if (trains(node)) return training_lower(node, builder);
  const DType wide = compute_dtype(in->dtype());
  const double epsilon = node.attrs.get_float("epsilon", 1e-5f);
  const bool rank_one = in->shape().size() == 1;
  builder.define(node.output(), [&node, in, wide, epsilon, rank_one](loops::RegionBuilder& b, const auto& i) {
    const auto per_channel = [&](std::size_t n) { return b.cast(b.read(node.input(n), {rank_one ? b.integer(0) : i[1]}), wide); };
    const auto deviation = b.unary(ExprOp::kRsqrt, b.binary(ExprOp::kAdd, per_channel(4), b.constant(epsilon, wide)));
    const auto centred = b.binary(ExprOp::kSub, b.cast(b.read(in, i), wide), per_channel(3));
    const auto scaled = b.binary(ExprOp::kMul, centred, b.binary(ExprOp::kMul, per_channel(1), deviation));
    return b.cast(b.binary(ExprOp::kAdd, scaled, per_channel(2)), node.output()->dtype());
  });
  return true;
}

// Below version 14 the outputs tell training (7, 9) or is_test does (1, 6); spatial = 0 kept statistics per element.
void batch_norm_upgrade(UpgradeContext& ctx) {
  Node& node = ctx.node;
  if (ctx.from_version >= 14) return;
  if (node.attrs.get_int("spatial", 1) == 0) {
    throw Error(Code::kUnsupported, "spatial = 0 (statistics per element) is not supported")
        .at_node(node.name, node.op)
        .with_remedy("Export the model with opset 9 or newer.");
  }
  const bool more_outputs = node.output(1) || node.output(2) || node.output(3) || node.output(4);
  const bool training = ctx.from_version >= 7 ? more_outputs : node.attrs.get_int("is_test", 0) == 0;
  for (const auto* name : {"spatial", "is_test", "consumed_inputs"}) node.attrs.erase(name);
  if (training) node.attrs.set("training_mode", 1);
}

}  // namespace

OpDef batch_normalization() {
  constexpr std::string_view kOld = "X:T scale:T B:T mean:T var:T -> Y:T mean?:T var?:T saved_mean?:T saved_var?:T";
  constexpr std::string_view kNew = "epsilon:float=1e-5 momentum:float=0.9 training_mode:int=0";
  return {.name = "BatchNormalization",
          .versions = {{1, kOld, "consumed_inputs:ints epsilon:float=1e-5 momentum:float=0.9 is_test:int=0 spatial:int=1", "T: @float"},
                       {6, kOld, "epsilon:float=1e-5 momentum:float=0.9 is_test:int=0 spatial:int=1", "T: @float"},
                       {7, kOld, "epsilon:float=1e-5 momentum:float=0.9 spatial:int=1", "T: @float"},
                       {9, kOld, "epsilon:float=1e-5 momentum:float=0.9", "T: @float"},
                       {14, "X:T scale:T B:T input_mean:U input_var:U -> Y:T running_mean?:U running_var?:U", kNew, "T: @float13; U: @float13"},
                       {15, "X:T scale:T1 B:T1 input_mean:T2 input_var:T2 -> Y:T running_mean?:T2 running_var?:T2", kNew,
                        "T: @float13; T1: @float13; T2: @float13"}},
          .upgrade = batch_norm_upgrade,
          .infer = batch_norm_infer,
          .reference = batch_norm_reference,
          .tolerance = kNormTolerance,
          .lower = batch_norm_lower,
          .doc = "normalisation of each channel by stored or batch statistics"};
}

}  // namespace lathe::ops
