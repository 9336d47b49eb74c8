// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// InstanceNormalization and GroupNormalization: statistics over the pixels of a channel, or of a group of channels, of one sample.
#include <cmath>

#include "ops/lower_util.h"
#include "ops/norm/norm_defs.h"
#include "ops/ref_util.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

using loops::ExprOp;
using loops::Reduce;

void group_norm_infer(InferContext& ctx) {
  const auto& in = ctx.shape(0);
  ctx.set_type(0, ctx.node().input(0)->type);
  const bool grouped = ctx.node().op == "GroupNormalization";
  const std::int64_t groups = ctx.attrs().get_int("num_groups", 1);
  if (grouped && groups < 1) ctx.fail("attribute 'num_groups' must be positive");
  if (!in) return;
  if (in->size() < 2) ctx.fail("takes rank 2 or more, got " + ir::to_string(*in));
  const Dim& channels = (*in)[1];
  if (grouped && channels.is_constant() && *channels.constant() % groups != 0) {
    ctx.fail(channels.to_string() + " channels do not split into " + std::to_string(groups) + " groups");
  }
  for (std::size_t i = 1; i < 3; ++i) {
    const auto& shape = ctx.shape(i);
    if (!shape) continue;
    if (shape->size() != 1 || (shape->front().is_constant() && channels.is_constant() && shape->front() != channels)) {
      ctx.fail("input " + std::to_string(i) + " has shape " + ir::to_string(*shape) + " for " + channels.to_string() + " channels");
    }
  }
}

void group_norm_reference(RefContext& ctx) {
  const Tensor& in = ctx.input(0);
  if (in.rank() < 2) ctx.fail("takes rank 2 or more");
  const std::int64_t batch = in.dims()[0], channels = in.dims()[1];
  const std::int64_t groups = ctx.node().op == "GroupNormalization" ? ctx.attrs().get_int("num_groups", 1) : channels;
  if (channels && (groups < 1 || channels % groups != 0))
    ctx.fail(std::to_string(channels) + " channels do not split into " + std::to_string(groups) + " groups");
  if (ctx.input(1).size() != channels || ctx.input(2).size() != channels) ctx.fail("scale and bias need one element a channel");
  const std::int64_t pixels = around_axis(in.dims(), 1).inner, per_group = channels ? channels / groups : 0, length = per_group * pixels;
  const double epsilon = ctx.attrs().get_float("epsilon", 1e-5f);
  auto x = to_doubles(in);
  const auto scale = to_doubles(ctx.input(1)), bias = to_doubles(ctx.input(2));
  for (std::int64_t g = 0; g < batch * groups && length; ++g) {
    double* part = x.data() + g * length;
    double sum = 0, squares = 0;
    for (std::int64_t k = 0; k < length; ++k) sum += part[k];
    const double mean = sum / static_cast<double>(length);
    for (std::int64_t k = 0; k < length; ++k) squares += (part[k] - mean) * (part[k] - mean);
    const double inverse = 1 / std::sqrt(squares / static_cast<double>(length) + epsilon);
    for (std::int64_t k = 0; k < length; ++k) {
      const auto c = static_cast<std::size_t>(g % groups * per_group + k / pixels);
      part[k] = (part[k] - mean) * inverse * scale[c] + bias[c];
    }
  }
  ctx.set_output(0, from_doubles(in.dtype(), in.dims(), x));
}

bool group_norm_lower(const Node& node, loops::RegionBuilder& builder) {
  const Value *in = node.input(0), *out = node.output();
  if (!can_lower_real(in, builder)) return false;
  const bool grouped = node.op == "GroupNormalization";
  const Shape shape = in->shape();
  const Dim groups = grouped ? Dim(node.attrs.get_int("num_groups", 1)) : shape[1];
  const Dim per_group = grouped ? Dim::floordiv(shape[1], groups) : Dim(1);
  const DType wide = compute_dtype(in->dtype());
  const double epsilon = node.attrs.get_float("epsilon", 1e-5f);
  const auto x = [in, wide](loops::RegionBuilder& b, const auto& i) { return b.cast(b.read(in, i), wide); };
  Shape space{per_group};
  space.insert(space.end(), shape.begin() + 2, shape.end());
  const Dim count = ir::product(space);
  // Statistics live at [sample, group]; channel = group * per_group + member.
  const auto statistic = [&](const char* name, const Element& element) {
    const Value* value = builder.temporary(name, wide, {shape[0], groups});
    builder.define_reduction(
        value, Reduce::kSum, space,
        [=](loops::RegionBuilder& b, const auto& kept, const auto& reduced) {
          auto at = reduced;
          at[0] = b.binary(ExprOp::kAdd, b.binary(ExprOp::kMul, kept[1], b.dim(per_group)), reduced[0]);
          at.insert(at.begin(), kept[0]);
          return element(b, at);
        },
        wide);
    return value;
  };
  const auto at_group = [=](loops::RegionBuilder& b, const auto& i) {
    return loops::RegionBuilder::Indices{i[0], grouped ? b.binary(ExprOp::kFloorDiv, i[1], b.dim(per_group)) : i[1]};
  };
  const auto mean_of = [=](loops::RegionBuilder& b, const Value* sum, const auto& i) {
    return b.binary(ExprOp::kDiv, b.read(sum, at_group(b, i)), b.cast(b.dim(count), wide));
  };
  const Value* sum = statistic("sum", x);
  const auto centred = [=](loops::RegionBuilder& b, const auto& i) { return b.binary(ExprOp::kSub, x(b, i), mean_of(b, sum, i)); };
  const Value* squares = statistic("squares", [=](loops::RegionBuilder& b, const auto& i) {
    const auto c = centred(b, i);
    return b.binary(ExprOp::kMul, c, c);
  });
  builder.define(out, [=, &node](loops::RegionBuilder& b, const auto& i) {
    const auto inverse = b.unary(ExprOp::kRsqrt, b.binary(ExprOp::kAdd, mean_of(b, squares, i), b.constant(epsilon, wide)));
    const auto scale = b.cast(b.read(node.input(1), {i[1]}), wide), bias = b.cast(b.read(node.input(2), {i[1]}), wide);
    const auto y = b.binary(ExprOp::kAdd, b.binary(ExprOp::kMul, b.binary(ExprOp::kMul, centred(b, i), inverse), scale), bias);
    return b.cast(y, out->dtype());
  });
  return true;
}

void instance_norm_upgrade(UpgradeContext& ctx) { ctx.node.attrs.erase("consumed_inputs"); }

// Version 18 had one scale and bias a group; version 21 wants one a channel:
//   scale' = Reshape(Expand(Unsqueeze(scale, 1), [1, C / groups]), [-1])
void group_norm_upgrade(UpgradeContext& ctx) {
  Node& node = ctx.node;
  if (ctx.from_version >= 21) return;
  ir::Graph& g = ctx.graph;
  const std::int64_t groups = node.attrs.get_int("num_groups", 1);
  const std::string base = node.output()->name;
  const auto insert = [&](std::string op, std::vector<Value*> inputs, const char* suffix, Attrs attrs = {}) {
    Node* added = g.add_node("", std::move(op), std::move(inputs), {g.unique_name(base + suffix)}, std::move(attrs), &node);
    added->sources = node.sources;
    return added->output();
  };
  Attrs second_axis;
  second_axis.set("start", 1);
  second_axis.set("end", 2);
  Value* channels = insert("Shape", {node.input(0)}, "_channels", second_axis);
  Value* per_group = insert("Div", {channels, ctx.constant(base + "_groups", Tensor::vector(std::vector<std::int64_t>{groups}))}, "_per_group");
  Attrs join;
  join.set("axis", 0);
  Value* one = ctx.constant(base + "_one", Tensor::vector(std::vector<std::int64_t>{1}));
  Value* target = insert("Concat", {one, per_group}, "_target", join);
  Value* all = ctx.constant(base + "_all", Tensor::vector(std::vector<std::int64_t>{-1}));
  for (std::size_t i = 1; i < 3; ++i) {
    Value* column = insert("Unsqueeze", {node.input(i), one}, i == 1 ? "_scale_column" : "_bias_column");
    Value* wide = insert("Expand", {column, target}, i == 1 ? "_scale_wide" : "_bias_wide");
    g.set_input(&node, i, insert("Reshape", {wide, all}, i == 1 ? "_scale" : "_bias"));
  }
}

}  // namespace

OpDef instance_normalization() {
  constexpr std::string_view kIo = "input:T scale:T B:T -> output:T";
  return {.name = "InstanceNormalization",
          .versions = {{1, kIo, "epsilon:float=1e-5 consumed_inputs:ints?", "T: @float"},
                       {6, kIo, "epsilon:float=1e-5", "T: @float"},
                       {22, kIo, "epsilon:float=1e-5", "T: @float13"}},
          .upgrade = instance_norm_upgrade,
          .infer = group_norm_infer,
          .reference = group_norm_reference,
          .tolerance = kNormTolerance,
          .lower = group_norm_lower,
          .doc = "normalisation of each channel of each sample"};
}

OpDef group_normalization() {
  constexpr std::string_view kIo = "X:T scale:T bias:T -> Y:T";
  return {.name = "GroupNormalization",
          .versions = {{18, kIo, "epsilon:float=1e-5 num_groups:int", "T: @float13", true},
                       {21, kIo, "epsilon:float=1e-5 num_groups:int stash_type:int=1", "T: @float13"}},
          .upgrade = group_norm_upgrade,
          .infer = group_norm_infer,
          .reference = group_norm_reference,
          .tolerance = kNormTolerance,
          .lower = group_norm_lower,
          .doc = "normalisation of each group of channels of each sample"};
}

}  // namespace lathe::ops
