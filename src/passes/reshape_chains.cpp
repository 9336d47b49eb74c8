// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Chains of Reshape, Flatten, Squeeze and Unsqueeze: elements keep their order, so only the last shape matters.
//
//   x -> Reshape -> Unsqueeze -> Flatten -> y     ->     y = Reshape(x, target), or x itself when the shapes are equal
//
// The target is written with numbers, 0 for extents copied from x, and at most one -1 (reshape_target). Where the shapes do not say it
// so, a last Reshape whose own target holds no 0 (a 0 would copy from the middle) is simply moved up.

#include <algorithm>

#include "passes/pass.h"
#include "passes/rewrite.h"

namespace lathe::passes {
namespace {

using ir::Node;
using ir::Value;

bool keeps_order(const Node* node) { return node && (node->is("Reshape") || node->is("Flatten") || node->is("Squeeze") || node->is("Unsqueeze")); }

// Reads no extent of its data: every element of the target is a positive number or -1.
bool target_stands_alone(const Node& node) {
  if (!node.is("Reshape")) return false;
  if (const auto numbers = constant_ints(node.inputs[1])) {
    return std::none_of(numbers->begin(), numbers->end(), [](std::int64_t n) { return n == 0; });
  }
  const auto& content = node.inputs[1]->content;
  return content && std::all_of(content->begin(), content->end(), [](const ir::Dim& d) { return d.lower_bound().value_or(0) >= 1 || d == ir::Dim(-1); });
}

}  // namespace

int reshape_chains(ir::Graph& graph, PassContext&) {
  int rewrites = 0;
  graph.for_each([&](Node& node) {
    if (!keeps_order(&node) || !node.inputs[0]) return;
    Node* inner = node.inputs[0]->producer;
    if (!keeps_order(inner) || inner->graph != &graph) return;
    Value* x = inner->inputs[0];
    std::vector<const Node*> chain{inner};
    for (Node* up = x->producer; keeps_order(up) && up->graph == &graph; up = x->producer) {
      chain.push_back(up);
      x = up->inputs[0];
    }
    const Value* y = node.outputs[0];
    std::optional<std::vector<std::int64_t>> target;
    if (y->has_shape()) target = reshape_target(x->has_shape() ? x->shape() : ir::Shape{}, y->shape());
    if (!same_type(x, y) && !target && !target_stands_alone(node)) return;
    for (const Node* part : chain) merge_sources(node, *part);
    if (same_type(x, y)) {
      rewrites += bypass(node, x) ? 1 : 0;
      return;
    }
    if (target) {
      transmute(node, "Reshape", {x, add_ints(graph, y->name + "_shape", *target)});
    } else {
      graph.set_input(&node, 0, x);
    }
    erase_dead(inner);
    ++rewrites;
  });
  return rewrites;
}

}  // namespace lathe::passes
