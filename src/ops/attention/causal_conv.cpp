// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// CausalConvWithState: each channel's own filter over a sequence that past_state continues.
#include <cmath>

#include "loops/builder.h"
#include "ops/attention/attention.h"
#include "ops/lower_util.h"
#include "ops/ref_util.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

using loops::ExprId;
using loops::ExprOp;

bool known_activation(const std::string& name) { return name == "none" || name == "silu" || name == "swish"; }

void causal_infer(InferContext& ctx) {
  const std::string activation = ctx.attrs().get_string("activation", "none");
  if (!known_activation(activation)) ctx.fail("the activation '" + activation + "' is none of none, silu, swish");
  const auto &x = ctx.shape(0), &w = ctx.shape(1);
  if (x && x->size() != 3) ctx.fail("takes [batch, channels, length], got " + ir::to_string(*x));
  if (w && w->size() != 3) ctx.fail("the weight is [channels, 1, taps], got " + ir::to_string(*w));
  ctx.set_type(0, ctx.node().input(0)->type);
  if (ctx.node().outputs.size() < 2 || !ctx.node().outputs[1]) return;
  ctx.set(1, ctx.dtype(0), {x ? (*x)[0] : ctx.fresh_symbol(), x ? (*x)[1] : ctx.fresh_symbol(), w ? (*w)[2] - Dim(1) : ctx.fresh_symbol()});
}

void causal_reference(RefContext& ctx) {
  const Tensor &x = ctx.input(0), &w = ctx.input(1);
  const bool fits = x.rank() == 3 && w.rank() == 3 && w.dims()[0] == x.dims()[1] && w.dims()[1] == 1 && w.dims()[2] > 0;
  if (!fits) ctx.fail("the input " + lathe::to_string(x.dims()) + " and the weight " + lathe::to_string(w.dims()) + " do not fit");
  const std::int64_t batch = x.dims()[0], channels = x.dims()[1], length = x.dims()[2], taps = w.dims()[2], past = taps - 1;
  const Dims state_dims{batch, channels, past};
  if (ctx.has_input(3) && ctx.input(3).dims() != state_dims)
    ctx.fail("past_state " + lathe::to_string(ctx.input(3).dims()) + " should be " + lathe::to_string(state_dims));
  const auto xs = to_doubles(x), ws = to_doubles(w);
  const auto old = ctx.has_input(3) ? to_doubles(ctx.input(3)) : std::vector<double>(static_cast<std::size_t>(batch * channels * past), 0.0);
  const auto bias = ctx.has_input(2) ? to_doubles(ctx.input(2)) : std::vector<double>(static_cast<std::size_t>(channels), 0.0);
  if (static_cast<std::int64_t>(bias.size()) != channels)
    ctx.fail("the bias has " + std::to_string(bias.size()) + " elements for " + std::to_string(channels) + " channels");
  const bool swish = ctx.attrs().get_string("activation", "none") != "none";
  std::vector<double> y, state;
  for (std::int64_t p = 0; p < batch * channels; ++p) {
    const auto at = [&](std::int64_t i) {
      return i < past ? old[static_cast<std::size_t>(p * past + i)] : xs[static_cast<std::size_t>(p * length + i - past)];
    };
    const std::int64_t c = p % channels;
    for (std::int64_t t = 0; t < length; ++t) {
      double sum = bias[static_cast<std::size_t>(c)];
      for (std::int64_t i = 0; i < taps; ++i) sum += at(t + i) * ws[static_cast<std::size_t>(c * taps + i)];
      sum = round_as(x.dtype(), sum);
      y.push_back(swish ? sum / (1 + std::exp(-sum)) : sum);
    }
    for (std::int64_t i = 0; i < past; ++i) state.push_back(at(length + i));
  }
  ctx.set_output(0, from_doubles(x.dtype(), x.dims(), y));
  if (ctx.wants_output(1)) ctx.set_output(1, from_doubles(x.dtype(), state_dims, state));
}

bool causal_lower(const Node& node, loops::RegionBuilder& builder) {
  const Value *x = node.input(0), *w = node.input(1), *bias = node.input(2), *past = node.input(3), *out = node.output();
  const auto taps = w->has_shape() ? w->shape()[2].constant() : std::nullopt;
  const bool fits = x->has_shape() && taps && *taps > 0 && w->shape()[0] == x->shape()[1] &&
                    (!bias || (bias->has_shape() && bias->shape()[0] == x->shape()[1])) &&
                    (!past || (past->has_shape() && past->shape() == Shape{x->shape()[0], x->shape()[1], Dim(*taps - 1)}));
  if (!fits) {
    builder.decline("extents known at run time only");
    return false;
  }
  const bool swish = node.attrs.get_string("activation", "none") != "none";
  const DType wide = compute_dtype(x->dtype());
  /// Element t of the past followed by the input.
  const auto at = [=](loops::RegionBuilder& b, const auto& i, ExprId t) {
    const ExprId old = past ? b.read_or(past, {i[0], i[1], t}, b.constant(0, x->dtype())) : b.constant(0, x->dtype());
    return b.read_or(x, {i[0], i[1], b.binary(ExprOp::kSub, t, b.integer(*taps - 1))}, old);
  };
  builder.define(out, [=](loops::RegionBuilder& b, const auto& i) {
    ExprId sum = bias ? b.cast(b.read(bias, {i[1]}), wide) : b.constant(0, wide);
    for (std::int64_t k = 0; k < *taps; ++k) {
      const ExprId weight = b.cast(b.read(w, {i[1], b.integer(0), b.integer(k)}), wide);
      const ExprId value = b.cast(at(b, i, b.binary(ExprOp::kAdd, i[2], b.integer(k))), wide);
      sum = b.binary(ExprOp::kAdd, sum, b.binary(ExprOp::kMul, value, weight));
    }
    sum = b.cast(b.cast(sum, out->dtype()), wide);
    return b.cast(swish ? b.binary(ExprOp::kMul, sum, b.unary(ExprOp::kSigmoid, sum)) : sum, out->dtype());
  });
  if (const Value* state = node.outputs.size() > 1 ? node.outputs[1] : nullptr)
    builder.define(state, [=](loops::RegionBuilder& b, const auto& i) { return at(b, i, b.binary(ExprOp::kAdd, i[2], b.dim(x->shape()[2]))); });
  return true;
}

}  // namespace

std::vector<OpDef> causal_conv_ops() {
  return {
      {.name = "CausalConvWithState",
       .versions = {{27, "input:T weight:T bias?:T past_state?:T -> output:T present_state:T", "activation:string=none", "T: float float16 bfloat16"}},
       .infer = causal_infer,
       .reference = causal_reference,
       .tolerance = {.relative = 1e-5, .absolute = 1e-6},
       .lower = causal_lower,
       .doc = "each channel's own filter over a sequence that a state continues"},
  };
}

}  // namespace lathe::ops
