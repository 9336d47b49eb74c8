// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Hard sigmoid and hard swish from their decompositions:
//
//   clip(x + 3, 0, 6) / 6                        ->  HardSigmoid(x) {alpha=1/6, beta=0.5}
//   x * clip(x + 3, 0, 6) / 6, any bracketing    ->  HardSwish(x)
//   x * HardSigmoid(x) {alpha=1/6, beta=0.5}     ->  HardSwish(x)
//
// Inner values may have no other user.

#include "passes/pass.h"
#include "passes/pattern.h"
#include "passes/rewrite.h"

namespace lathe::passes {
namespace {

using ir::Graph;
using ir::Node;
using ir::Value;

// value = clip(x + 3, 0, 6)
Value* clipped_argument(Value* value) {
  Node* clip = sole_producer(value, "Clip");
  if (!clip || !is_splat(clip->input(1), 0) || !is_splat(clip->input(2), 6)) return nullptr;
  Value* sum = clip->inputs[0];
  return single_use(sum) ? without_offset(sum, 3) : nullptr;
}

Value* hard_sigmoid_argument(Value* value) {
  Node* node = sole_producer(value, "HardSigmoid");
  if (!node) return nullptr;
  const bool matches = close_to(node->attrs.get_float("alpha", 0.2f), 1.0 / 6, DType::kFloat32) && node->attrs.get_float("beta", 0.5f) == 0.5f;
  return matches ? node->inputs[0] : nullptr;
}

void become(Node& root, const Product& product, Value* gate, std::string_view op, Value* x, ir::Attrs attrs) {
  for (const Node* node : product.nodes) merge_sources(root, *node);
  merge_sources(root, *gate->producer);
  if (Value* inner = gate->producer->inputs[0]; inner->producer && inner != x) merge_sources(root, *inner->producer);
  const std::vector<Value*> old = root.inputs;
  transmute(root, op, {x}, std::move(attrs));
  for (Value* input : old) {
    if (input && input->graph == root.graph) erase_dead(input->producer);
  }
}

bool fuse(Node& root) {
  if ((!root.is("Mul") && !root.is("Div")) || !is_float(root.outputs[0]->dtype())) return false;
  const DType dtype = root.outputs[0]->dtype();
  const Product product = product_of(root);
  if (product.terms.size() == 1 && close_to(product.factor, 1.0 / 6, dtype)) {
    Value* gate = product.terms[0];
    Value* x = clipped_argument(gate);
    if (!x || !same_type(root.outputs[0], x)) return false;
    ir::Attrs attrs;
    attrs.set("alpha", 1.0f / 6);
    attrs.set("beta", 0.5f);
    become(root, product, gate, "HardSigmoid", x, std::move(attrs));
    return true;
  }
  if (product.terms.size() != 2) return false;
  for (std::size_t i = 0; i < 2; ++i) {
    Value* x = product.terms[i];
    Value* gate = product.terms[1 - i];
    if (!same_type(root.outputs[0], x)) continue;
    const bool clipped = close_to(product.factor, 1.0 / 6, dtype) && clipped_argument(gate) == x;
    const bool gated = close_to(product.factor, 1, dtype) && hard_sigmoid_argument(gate) == x;
    if (!clipped && !gated) continue;
    become(root, product, gate, "HardSwish", x, {});
    return true;
  }
  return false;
}

}  // namespace

int fuse_hard_swish(Graph& graph, PassContext&) {
  int rewrites = 0;
  graph.for_each([&](Node& node) { rewrites += fuse(node) ? 1 : 0; });
  return rewrites;
}

}  // namespace lathe::passes
