// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Older forms of pointwise ops: attribute bounds of Clip, the broadcast attributes of opsets 1 to 6, PRelu's channel slope, defaults
// that changed (Selu).
#include <numeric>

#include "ops/pointwise/row.h"

namespace lathe::ops::pointwise {
namespace {

Tensor filled(DType dtype, double value) {
  Tensor t(dtype, {});
  t.set_from_double(0, value);
  return t;
}

/// Opsets 1 to 6: B, of any rank, starts at dimension `axis` of A. Appends extents of 1 so that NumPy's rule does the same.
void upgrade_broadcast(UpgradeContext& context) {
  Node& node = context.node;
  const bool aligned = node.attrs.get_int("broadcast", 0) != 0 && node.attrs.has("axis");
  std::int64_t axis = node.attrs.get_int("axis", 0);
  node.attrs.erase("axis");
  node.attrs.erase("broadcast");
  if (!aligned) return;
  const ir::Value *a = node.input(0), *b = node.input(1);
  if (!a || !b || !a->has_shape() || !b->has_shape()) {
    throw Error(Code::kUnsupported, "the old form with broadcast and axis needs inputs of known rank")
        .at_node(node.name, node.op)
        .with_remedy("Convert the model to opset 7 or later.");
  }
  const auto rank_a = static_cast<std::int64_t>(a->shape().size()), rank_b = static_cast<std::int64_t>(b->shape().size());
  if (axis < 0) axis += rank_a;
  const std::int64_t missing = rank_a - axis - rank_b;
  if (missing < 0) throw Error(Code::kInvalidModel, "axis puts the second input beyond the first's rank").at_node(node.name, node.op);
  if (missing == 0) return;
  std::vector<std::int64_t> axes(static_cast<std::size_t>(missing));
  std::iota(axes.begin(), axes.end(), rank_b);
  Value* list = context.constant(node.name + "_axes", Tensor::vector(axes));
  Node* unsqueeze = context.graph.add_node("", "Unsqueeze", {node.inputs[1], list}, {context.graph.unique_name(b->name + "_aligned")}, {}, &node);
  unsqueeze->sources = node.sources;
  Shape shape = b->shape();
  shape.resize(static_cast<std::size_t>(rank_b + missing), Dim(1));
  unsqueeze->outputs[0]->type = ir::Type::tensor(b->dtype(), shape);
  context.graph.set_input(&node, 1, unsqueeze->outputs[0]);
}

void upgrade_clip(UpgradeContext& context) {
  Node& node = context.node;
  if (context.from_version >= 11) return;
  const DType dtype = node.input(0) && node.input(0)->dtype() != DType::kUndefined ? node.input(0)->dtype() : DType::kFloat32;
  // Bounds at the float limits mean none: they are the old defaults, and infinities must pass as they did.
  const auto bound = [&](std::string_view name, std::size_t index) {
    if (!node.attrs.has(name)) return;
    const float value = node.attrs.get_float(name, 0);
    context.graph.set_input(&node, index, context.constant(node.name + "_" + std::string(name), filled(dtype, value)));
  };
  bound("min", 1);
  bound("max", 2);
  node.attrs.erase("min");
  node.attrs.erase("max");
}

void upgrade_prelu(UpgradeContext& context) {
  Node& node = context.node;
  if (context.from_version >= 7) return;
  const ir::Value *x = node.input(0), *slope = node.input(1);
  if (!x || !slope || !x->has_shape() || !slope->has_shape() || slope->shape().size() != 1 || x->shape().size() <= 2) return;
  if (slope->shape()[0] == Dim(1)) return;
  node.attrs.set("axis", 1);
  node.attrs.set("broadcast", 1);
  upgrade_broadcast(context);
}

}  // namespace

void upgrade_row(UpgradeContext& context) {
  Node& node = context.node;
  node.attrs.erase("consumed_inputs");
  if (node.op == "Clip") return upgrade_clip(context);
  if (node.op == "PRelu") return upgrade_prelu(context);
  if (node.op == "Selu" && context.from_version < 6) {
    if (!node.attrs.has("alpha")) node.attrs.set("alpha", 1.6732f);
    if (!node.attrs.has("gamma")) node.attrs.set("gamma", 1.0507f);
    return;
  }
  if (node.attrs.has("broadcast") || node.attrs.has("axis")) upgrade_broadcast(context);
}

}  // namespace lathe::ops::pointwise
