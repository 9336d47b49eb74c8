// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss: what a classifier's scores miss of the target classes.
//
//   loss[n, d...] = -weight[target] * x[n, target, d...]        0 where the target is ignore_index; x: the input, or its LogSoftmax over axis 1
//   sum: over all; mean: the sum over the sum of weights (1 each without weights, 0 where ignored)
#include <algorithm>
#include <cmath>

#include "loops/builder.h"
#include "ops/lower_util.h"
#include "ops/ref_util.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"
#include "ops/softmax/softmax.h"

namespace lathe::ops {
namespace {

using loops::ExprId;
using loops::ExprOp;
using loops::Reduce;
using Indices = loops::RegionBuilder::Indices;

enum class Reduction : std::uint8_t { kNone, kSum, kMean };

std::optional<Reduction> reduction_of(const Attrs& attrs) {
  const std::string name = attrs.get_string("reduction", "mean");
  if (name == "none") return Reduction::kNone;
  if (name == "sum") return Reduction::kSum;
  if (name == "mean") return Reduction::kMean;
  return std::nullopt;
}

void loss_infer(InferContext& ctx) {
  const auto reduction = reduction_of(ctx.attrs());
  if (!reduction) ctx.fail("the reduction '" + ctx.attrs().get_string("reduction", "") + "' is none of none, sum, mean");
  const auto &x = ctx.shape(0), &target = ctx.shape(1);
  if (x && x->size() < 2) ctx.fail("takes scores of rank 2 or more, got " + ir::to_string(*x));
  if (x && target && target->size() + 1 != x->size()) ctx.fail("scores " + ir::to_string(*x) + " and targets " + ir::to_string(*target) + " do not fit");
  if (x && ctx.has_input(2) && ctx.shape(2) && (ctx.shape(2)->size() != 1))
    ctx.fail("weights " + ir::to_string(*ctx.shape(2)) + " are not one number per class");
  const DType dtype = ctx.dtype(0);
  if (*reduction != Reduction::kNone) ctx.set(0, dtype, {});
  else if (target) ctx.set(0, dtype, *target);
  else ctx.set_unknown(0, dtype);
  if (ctx.node().outputs.size() > 1 && ctx.node().outputs[1]) ctx.set_type(1, ctx.node().input(0)->type);
}

template <bool kSoftmax>
void loss_reference(RefContext& ctx) {
  const Tensor &x = ctx.input(0), &target = ctx.input(1);
  const auto reduction = reduction_of(ctx.attrs());
  Dims expected = x.dims();
  if (expected.size() >= 2) expected.erase(expected.begin() + 1);
  if (!reduction || x.rank() < 2 || target.dims() != expected)
    ctx.fail("scores " + lathe::to_string(x.dims()) + " and targets " + lathe::to_string(target.dims()) + " do not fit");
  const AxisView view = around_axis(x.dims(), 1);
  if (ctx.has_input(2) && ctx.input(2).size() != view.extent)
    ctx.fail("has " + std::to_string(ctx.input(2).size()) + " weights for " + std::to_string(view.extent) + " classes");
  const auto values = kSoftmax ? log_softmax(x, 1) : to_doubles(x);
  const bool ignores = ctx.attrs().has("ignore_index");
  const std::int64_t ignored = ctx.attrs().get_int("ignore_index", 0);
  std::vector<double> loss(static_cast<std::size_t>(target.size()), 0.0);
  double sum = 0, weights = 0;
  for (std::int64_t i = 0; i < target.size(); ++i) {
    const std::int64_t c = target.as_int64(i);
    if (ignores && c == ignored) continue;
    if (c < 0 || c >= view.extent) ctx.fail("target " + std::to_string(c) + " is none of " + std::to_string(view.extent) + " classes");
    const double weight = ctx.has_input(2) ? ctx.input(2).as_double(c) : 1.0;
    const double value = -weight * values[static_cast<std::size_t>((i / view.inner * view.extent + c) * view.inner + i % view.inner)];
    loss[static_cast<std::size_t>(i)] = value;
    sum += value;
    weights += weight;
  }
  if (*reduction == Reduction::kNone) ctx.set_output(0, from_doubles(x.dtype(), target.dims(), loss));
  else ctx.set_output(0, from_doubles(x.dtype(), {}, {*reduction == Reduction::kSum ? sum : sum / weights}));
  if (ctx.wants_output(1)) ctx.set_output(1, from_doubles(x.dtype(), x.dims(), values));
}

template <bool kSoftmax>
bool loss_lower(const Node& node, loops::RegionBuilder& builder) {
  const Value *x = node.input(0), *target = node.input(1), *weight = node.input(2), *out = node.output();
  const auto reduction = reduction_of(node.attrs);
  if (!reduction || !can_lower_real(x, builder) || !target->has_shape()) {
    builder.decline("unknown rank");
    return false;
  }
  if (weight && (!weight->has_shape() || weight->shape()[0] != x->shape()[1])) {
    builder.decline("weights whose number only a run tells");
    return false;
  }
  Shape places = x->shape();
  places.erase(places.begin() + 1);
  if (places != target->shape()) {
    builder.decline("targets whose extents only a run tells");
    return false;
  }
  const DType wide = compute_dtype(x->dtype());
  const Value* scores = x;
  if (kSoftmax) {
    const Value* log_prob = node.outputs.size() > 1 ? node.outputs[1] : nullptr;
    if (log_prob) define_log_softmax(builder, x, log_prob, 1);
    // The output serves the loss too, unless it was rounded to a narrower type.
    scores = log_prob && log_prob->dtype() == wide ? log_prob : builder.temporary("log_softmax", wide, x->shape());
    if (scores != log_prob) define_log_softmax(builder, x, scores, 1);
  }
  const bool ignores = node.attrs.has("ignore_index");
  const std::int64_t ignored = node.attrs.get_int("ignore_index", 0);
  // Targets that are no class count as ignored: a region cannot fail, and must not read elsewhere.
  const auto weight_at = [=](loops::RegionBuilder& b, const Indices& i) {
    const ExprId c = b.cast(b.read(target, i), DType::kInt64);
    const ExprId value = weight ? b.cast(b.read_or(weight, {c}, b.constant(0, weight->dtype())), wide) : b.constant(1, wide);
    return ignores ? b.select(b.binary(ExprOp::kEqual, c, b.integer(ignored)), b.constant(0, wide), value) : value;
  };
  const auto loss_at = [=](loops::RegionBuilder& b, const Indices& i) {
    Indices at = i;
    const ExprId c = b.cast(b.read(target, i), DType::kInt64);
    at.insert(at.begin() + 1, c);
    const ExprId value = b.cast(b.read_or(scores, at, b.constant(0, scores->dtype())), wide);
    ExprId loss = b.unary(ExprOp::kNeg, weight ? b.binary(ExprOp::kMul, weight_at(b, i), value) : value);
    if (ignores) loss = b.select(b.binary(ExprOp::kEqual, c, b.integer(ignored)), b.constant(0, wide), loss);
    return loss;
  };
  if (*reduction == Reduction::kNone) {
    builder.define(out, [=](loops::RegionBuilder& b, const auto& i) { return b.cast(loss_at(b, i), out->dtype()); });
    return true;
  }
  std::vector<std::int64_t> all;
  for (std::size_t a = 0; a < places.size(); ++a) all.push_back(static_cast<std::int64_t>(a));
  const ReducedAxes axes(places.size(), all, false);
  const Value* total = reduce_to_temporary(builder, "total", Reduce::kSum, wide, places, axes, loss_at);
  const Value* weights = *reduction == Reduction::kMean ? reduce_to_temporary(builder, "weights", Reduce::kSum, wide, places, axes, weight_at) : nullptr;
  builder.define(out, [=](loops::RegionBuilder& b, const auto&) {
    const ExprId sum = b.read(total, {});
    return b.cast(weights ? b.binary(ExprOp::kDiv, sum, b.read(weights, {})) : sum, out->dtype());
  });
  return true;
}

}  // namespace

std::span<const OpDef> ops_loss() {
  constexpr std::string_view kLikelihood = "input:T target:Tind weight?:T -> loss:T", kSoftmax = "scores:T labels:Tind weights?:T -> output:T log_prob?:T";
  constexpr std::string_view kAttrs = "ignore_index:int? reduction:string=mean";
  static const std::vector<OpDef> ops{
      {.name = "NegativeLogLikelihoodLoss",
       .versions = {{12, kLikelihood, kAttrs, "T: @float; Tind: int32 int64"},
                    {13, kLikelihood, kAttrs, "T: @float; Tind: int32 int64"},
                    {22, kLikelihood, kAttrs, "T: @float13; Tind: int32 int64"}},
       .infer = loss_infer,
       .reference = loss_reference<false>,
       .tolerance = {.relative = 1e-5, .absolute = 1e-5},
       .lower = loss_lower<false>,
       .doc = "weighted negative scores of the target classes"},
      {.name = "SoftmaxCrossEntropyLoss",
       .versions = {{12, kSoftmax, kAttrs, "T: @float; Tind: int32 int64"}, {13, kSoftmax, kAttrs, "T: @float13; Tind: int32 int64"}},
       .infer = loss_infer,
       .reference = loss_reference<true>,
       .tolerance = {.relative = 1e-5, .absolute = 1e-5},
       .lower = loss_lower<true>,
       .doc = "NegativeLogLikelihoodLoss of LogSoftmax"},
  };
  return ops;
}

}  // namespace lathe::ops
