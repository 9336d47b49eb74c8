// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Widening in front of ops that broadcast by themselves.
//
//   Add(x: [b, 3, 80, 80], Expand(c: [3, 1, 1]))    ->  Add(x, c)
//   Add(x: [4, 8, 8], k: [4, 8, 8] all 0.5)         ->  Add(x, 0.5)
//   Add(x, Where(all true, a, b))                   ->  Add(x, a)
//
// Fires only when the other operands alone give the node its shape, which must be known. The last rule is for masks that turn out to
// hide nothing; where only the sign of zero could tell, identities decides later.

#include <cstring>
#include <set>

#include "passes/pass.h"
#include "passes/rewrite.h"

namespace lathe::passes {
namespace {

using ir::Dim;
using ir::Graph;
using ir::Node;
using ir::Value;

bool broadcasts_operands(const Node& node) {
  static const std::set<std::string_view> kOps = {"Add",   "Sub",      "Mul",        "Div",       "Pow",         "Mod",
                                                  "Min",   "Max",      "Mean",       "Sum",       "And",         "Or",
                                                  "Xor",   "Equal",    "Less",       "Greater",   "LessOrEqual", "GreaterOrEqual",
                                                  "Where", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor"};
  return node.domain.empty() && node.outputs.size() == 1 && node.outputs[0] && kOps.contains(node.op);
}

// The narrower value that `wide` repeats, or nullptr.
Value* narrow_source(const Value* wide) {
  if (Node* expand = producer_of(wide, "Expand")) return expand->inputs[0];
  Node* where = producer_of(wide, "Where");
  if (!where) return nullptr;
  const auto condition = splat_of(where->inputs[0]);
  return condition ? where->inputs[*condition != 0 ? 1 : 2] : nullptr;
}

// The node's shape with `narrow` in place of operand `index` is what it is now.
bool keeps_shape(const Node& node, std::size_t index, const ir::Shape& narrow) {
  const Value* out = node.outputs[0];
  if (!out->has_shape()) return false;
  const ir::Shape& shape = out->shape();
  if (narrow.size() > shape.size()) return false;
  for (std::size_t from_end = 1; from_end <= shape.size(); ++from_end) {
    const Dim& want = shape[shape.size() - from_end];
    const auto gives = [&](const ir::Shape& s) { return from_end <= s.size() && s[s.size() - from_end] == want; };
    bool found = gives(narrow);
    bool reached = from_end <= narrow.size();
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      if (i == index) continue;
      if (!node.inputs[i] || !node.inputs[i]->has_shape()) return false;
      found = found || gives(node.inputs[i]->shape());
      reached = reached || from_end <= node.inputs[i]->shape().size();
    }
    // An extent of 1 needs nobody to give it, but somebody to reach it.
    if (!found && !(want == Dim(1) && reached)) return false;
  }
  return true;
}

bool narrow_operand(Graph& graph, Node& node, std::size_t index) {
  Value* wide = node.inputs[index];
  if (!wide || wide->dtype() == DType::kUndefined) return false;
  if (const auto number = splat_of(wide)) {
    if (wide->constant.size() == 1 || !keeps_shape(node, index, {})) return false;
    // Bit for bit: the first element, whatever its type and sign.
    const Tensor& tensor = wide->constant;
    Tensor scalar(tensor.dtype(), {});
    std::memcpy(scalar.mutable_raw(), tensor.raw(), scalar.bytes());
    graph.set_input(&node, index, add_constant(graph, wide->name + "_scalar", std::move(scalar)));
    return true;
  }
  Value* source = narrow_source(wide);
  if (!source || !source->has_shape() || source->dtype() != wide->dtype() || !keeps_shape(node, index, source->shape())) return false;
  Node* producer = wide->producer;
  merge_sources(node, *producer);
  graph.set_input(&node, index, source);
  if (producer->graph == &graph) erase_dead(producer);
  return true;
}

}  // namespace

int broadcasts(Graph& graph, PassContext&) {
  int rewrites = 0;
  graph.for_each([&](Node& node) {
    if (!broadcasts_operands(node)) return;
    for (std::size_t i = 0; i < node.inputs.size(); ++i) rewrites += narrow_operand(graph, node, i) ? 1 : 0;
  });
  return rewrites;
}

}  // namespace lathe::passes
