// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Shape, Size, Identity, Dropout: what tells about a tensor, and what passes it through.
#include <algorithm>

#include "loops/builder.h"
#include "ops/random/stream.h"
#include "ops/ref_util.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

/// The half-open part of the axes that start and end select.
std::pair<std::int64_t, std::int64_t> shape_window(const Attrs& attrs, std::int64_t rank) {
  const auto clamp = [rank](std::int64_t v) { return std::clamp<std::int64_t>(v < 0 ? v + rank : v, 0, rank); };
  const std::int64_t start = clamp(attrs.get_int("start", 0)), end = clamp(attrs.get_int("end", rank));
  return {start, std::max(start, end)};
}

void shape_infer(InferContext& ctx) {
  const auto& shape = ctx.shape(0);
  if (!shape) return ctx.set(0, DType::kInt64, {ctx.fresh_symbol()});
  const auto [start, end] = shape_window(ctx.attrs(), static_cast<std::int64_t>(shape->size()));
  ctx.set(0, DType::kInt64, {Dim(end - start)});
  ctx.set_content(0, {shape->begin() + start, shape->begin() + end});
}

void shape_reference(RefContext& ctx) {
  const Dims& dims = ctx.input(0).dims();
  const auto [start, end] = shape_window(ctx.attrs(), static_cast<std::int64_t>(dims.size()));
  ctx.set_output(0, Tensor::vector(std::vector<std::int64_t>(dims.begin() + start, dims.begin() + end)));
}

/// The extents are known when a step is bound: an expression of the element's index picks one.
bool shape_lower(const Node& node, loops::RegionBuilder& builder) {
  const Value* data = node.input(0);
  if (!data->has_shape()) {
    builder.decline("the rank is not known");
    return false;
  }
  const auto [start, end] = shape_window(node.attrs, static_cast<std::int64_t>(data->shape().size()));
  const ir::Shape extents(data->shape().begin() + start, data->shape().begin() + end);
  builder.define(node.output(), [extents](loops::RegionBuilder& b, const auto& i) {
    loops::ExprId value = extents.empty() ? b.integer(0) : b.dim(extents.back());
    for (std::size_t at = extents.size(); at-- > 1;)
      value = b.select(b.binary(loops::ExprOp::kLess, i[0], b.integer(static_cast<std::int64_t>(at))), b.dim(extents[at - 1]), value);
    return value;
  });
  return true;
}

void size_infer(InferContext& ctx) {
  ctx.set(0, DType::kInt64, {});
  if (const auto& shape = ctx.shape(0)) ctx.set_content(0, {ir::product(*shape)});
}

void size_reference(RefContext& ctx) { ctx.set_output(0, Tensor::scalar(ctx.input(0).size())); }

bool size_lower(const Node& node, loops::RegionBuilder& builder) {
  const Value* data = node.input(0);
  if (!data->has_shape()) {
    builder.decline("the rank is not known");
    return false;
  }
  builder.define(node.output(), [elements = ir::product(data->shape())](loops::RegionBuilder& b, const auto&) { return b.dim(elements); });
  return true;
}

void identity_reference(RefContext& ctx) { ctx.set_output(0, ctx.input(0)); }

bool identity_lower(const Node& node, loops::RegionBuilder& builder) {
  if (!node.output()->type.is_tensor() || node.output()->dtype() == DType::kString) {
    builder.decline("not a tensor of numbers");
    return false;
  }
  builder.define(node.output(), [&node](loops::RegionBuilder& b, const auto& i) { return b.read(node.input(0), i); });
  return true;
}

void dropout_infer(InferContext& ctx) {
  infer_same_as_input(ctx);
  const auto& shape = ctx.shape(0);
  if (shape) {
    ctx.set(1, DType::kBool, *shape);
  } else {
    ctx.set_unknown(1, DType::kBool);
  }
}

bool dropout_trains(const Node& node) {
  const Value* training = node.input(2);
  if (!training) return false;
  return !training->is_constant() || training->constant.as_int64(0) != 0;
}

void dropout_reference(RefContext& ctx) {
  const Tensor& in = ctx.input(0);
  const bool training = ctx.has_input(2) && ctx.input(2).as_int64(0) != 0;
  const double ratio = ctx.has_input(1) ? ctx.input(1).as_double(0) : 0.5;
  Tensor mask(DType::kBool, in.dims());
  if (!training || ratio == 0) {
    for (std::int64_t i = 0; i < mask.size(); ++i) mask.set_from_int64(i, 1);
    ctx.set_output(0, in);
    ctx.set_output(1, std::move(mask));
    return;
  }
  if (!(ratio >= 0 && ratio < 1)) ctx.fail("ratio " + std::to_string(ratio) + " is not in [0, 1)");
  RandomStream stream = ctx.attrs().has("seed") ? RandomStream(static_cast<std::uint32_t>(ctx.attrs().get_int("seed", 0))) : RandomStream::fresh();
  auto values = to_doubles(in);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const bool kept = stream.uniform() >= ratio;
    mask.set_from_int64(static_cast<std::int64_t>(i), kept);
    values[i] = kept ? values[i] / (1 - ratio) : 0;
  }
  ctx.set_output(0, from_doubles(in.dtype(), in.dims(), values));
  ctx.set_output(1, std::move(mask));
}

bool dropout_lower(const Node& node, loops::RegionBuilder& builder) {
  if (dropout_trains(node) || node.output(1)) {
    builder.decline("Dropout in training, or with its mask used");
    return false;
  }
  return identity_lower(node, builder);
}

/// Outside of training the mask keeps everything.
bool dropout_expand(ExpandContext& ctx) {
  if (dropout_trains(ctx.node) || !ctx.node.output(1)) return false;
  Value* x = ctx.node.input(0);
  Tensor all(DType::kBool, {});
  all.set_from_int64(0, 1);
  ctx.replace(1, ctx.add("Expand", {ctx.constant("kept", std::move(all)), ctx.add("Shape", {x})}));
  if (ctx.node.output(0)) ctx.replace(0, ctx.add("Identity", {x}));
  return true;
}

// Before version 12 the ratio is an attribute and is_test tells inference; versions 7 and 10 always infer.
void dropout_upgrade(UpgradeContext& ctx) {
  Node& node = ctx.node;
  if (ctx.from_version >= 12) return;
  if (ctx.from_version <= 6 && node.attrs.get_int("is_test", 0) == 0) {
    Tensor training(DType::kBool, {});
    training.set_from_int64(0, 1);
    ctx.graph.set_input(&node, 2, ctx.constant("training_mode", std::move(training)));
  }
  ctx.graph.set_input(&node, 1, ctx.constant("ratio", from_doubles(DType::kFloat32, {}, {node.attrs.get_float("ratio", 0.5f)})));
  for (const auto* name : {"ratio", "is_test", "consumed_inputs"}) node.attrs.erase(name);
  // The old mask had the data's type; nobody reads it outside training.
  if (Value* mask = node.output(1); mask && ctx.from_version <= 7) {
    if (!mask->uses.empty() || mask->is_graph_output()) {
      throw Error(Code::kUnsupported, "the mask of an old Dropout is used").at_node(node.name, node.op).with_remedy("Export the model with opset 13 or newer.");
    }
    mask->type.dtype = DType::kBool;
  }
}

}  // namespace

std::span<const OpDef> ops_shape() {
  constexpr std::string_view kShape = "data:T -> shape:T1", kSize = "data:T -> size:T1", kWindow = "start:int=0 end:int?";
  constexpr std::string_view kT[] = {"T: @all; T1: int64",   "T: @all13; T1: int64", "T: @all19; T1: int64", "T: @all21; T1: int64",
                                     "T: @all23; T1: int64", "T: @all24; T1: int64", "T: @all25; T1: int64"};
  constexpr std::string_view kId = "input:T -> output:T", kIdV = "input:V -> output:V";
  constexpr std::string_view kDrop = "data:T -> output:T mask?:T", kDrop12 = "data:T ratio?:T1 training_mode?:T2 -> output:T mask?:T2";
  static const std::vector<OpDef> ops{
      {.name = "Shape",
       .versions = {{1, kShape, "", kT[0]},
                    {13, kShape, "", kT[1]},
                    {15, kShape, kWindow, kT[1]},
                    {19, kShape, kWindow, kT[2]},
                    {21, kShape, kWindow, kT[3]},
                    {23, kShape, kWindow, kT[4]},
                    {24, kShape, kWindow, kT[5]},
                    {25, kShape, kWindow, kT[6]}},
       .infer = shape_infer,
       .reference = shape_reference,
       .lower = shape_lower,
       .doc = "the extents of a tensor"},
      {.name = "Size",
       .versions = {{1, kSize, "", kT[0]},
                    {13, kSize, "", kT[1]},
                    {19, kSize, "", kT[2]},
                    {21, kSize, "", kT[3]},
                    {23, kSize, "", kT[4]},
                    {24, kSize, "", kT[5]},
                    {25, kSize, "", kT[6]}},
       .infer = size_infer,
       .reference = size_reference,
       .lower = size_lower,
       .doc = "the number of elements"},
      {.name = "Identity",
       .versions = {{1, kId, "", "T: @all"},
                    {13, kId, "", "T: @all13"},
                    {14, kIdV, "", "V: @all13 seq(@all)"},
                    {16, kIdV, "", "V: @all13 seq(@all) optional(@all) optional(seq(@all))"},
                    {19, kIdV, "", "V: @all19 seq(@all) optional(@all) optional(seq(@all))"},
                    {21, kIdV, "", "V: @all21 seq(@all) optional(@all) optional(seq(@all))"},
                    {23, kIdV, "", "V: @all23 seq(@all) optional(@all) optional(seq(@all))"},
                    {24, kIdV, "", "V: @all24 seq(@all) optional(@all) optional(seq(@all))"},
                    {25, kIdV, "", "V: @all25 seq(@all) optional(@all) optional(seq(@all))"}},
       .infer = infer_same_as_input,
       .reference = identity_reference,
       .lower = identity_lower,
       .doc = "its input"},
      {.name = "Dropout",
       .versions = {{1, kDrop, "is_test:int=0 consumed_inputs:ints? ratio:float=0.5", "T: @float"},
                    {6, kDrop, "is_test:int=0 ratio:float=0.5", "T: @float"},
                    {7, kDrop, "ratio:float=0.5", "T: @float"},
                    {10, "data:T -> output:T mask?:T1", "ratio:float=0.5", "T: @float; T1: bool"},
                    {12, kDrop12, "seed:int?", "T: @float; T1: @float; T2: bool"},
                    {13, kDrop12, "seed:int?", "T: @float13; T1: @float; T2: bool"},
                    {22, kDrop12, "seed:int?",
                     "T: @float13 float8e4m3fn float8e4m3fnuz float8e5m2 float8e5m2fnuz; "
                     "T1: @float13 float8e4m3fn float8e4m3fnuz float8e5m2 float8e5m2fnuz; T2: bool"}},
       .upgrade = dropout_upgrade,
       .infer = dropout_infer,
       .reference = dropout_reference,
       .lower = dropout_lower,
       .expand = dropout_expand,
       .deterministic = false,
       .doc = "its input, or in training a random part of it"},
  };
  return ops;
}

}  // namespace lathe::ops
