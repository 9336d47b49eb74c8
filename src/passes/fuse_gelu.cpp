// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The Gelu activation, put together again from its decompositions, whatever their bracketing:
//
//   x * 0.5 * (1 + erf(x / sqrt(2)))                                        ->  Gelu(x)
//   x * 0.5 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))               ->  Gelu(x) {approximate="tanh"}
//
// Inner values may have no other user (they would have to be computed anyway), x may. x * sigmoid(1.702 * x) is another function and
// stays.

#include <numbers>

#include "passes/pass.h"
#include "passes/pattern.h"
#include "passes/rewrite.h"

namespace lathe::passes {
namespace {

using ir::Graph;
using ir::Node;
using ir::Value;

// value = 1 + op(argument), used once throughout; returns the argument.
Value* argument_of(Value* value, std::string_view op) {
  if (!single_use(value)) return nullptr;
  Value* inner = without_offset(value, 1);
  Node* node = sole_producer(inner, op);
  return node ? node->inputs[0] : nullptr;
}

// x^3 as Pow(x, 3), x * (x * x) or (x * x) * x.
bool is_cube(Value* value, const Value* x) {
  if (Node* pow = producer_of(value, "Pow")) return pow->inputs[0] == x && is_splat(pow->inputs[1], 3);
  Node* mul = producer_of(value, "Mul");
  if (!mul) return false;
  const Product product = product_of(*mul);
  if (product.factor != 1) return false;
  int power = 0;
  for (const Value* term : product.terms) {
    if (term == x) {
      ++power;
    } else if (const Node* square = producer_of(term, "Pow"); square && square->inputs[0] == x && is_splat(square->inputs[1], 2)) {
      power += 2;
    } else if (const Node* square2 = producer_of(term, "Mul"); square2 && square2->inputs[0] == x && square2->inputs[1] == x) {
      power += 2;
    } else {
      return false;
    }
  }
  return power == 3;
}

// argument = sqrt(2 / pi) * (x + 0.044715 * x^3), the sum perhaps written x * (1 + 0.044715 * x^2).
bool is_tanh_argument(Value* argument, const Value* x) {
  constexpr double kScale = 0.7978845608028654;
  constexpr double kCubic = 0.044715;
  if (!single_use(argument) || !argument->producer) return false;
  const DType dtype = argument->dtype();
  if (Value* sum = unscaled(argument, kScale)) {
    Node* add = sole_producer(sum, "Add");
    if (add) {
      Value* cubic = other_operand(*add, x);
      if (cubic && single_use(cubic) && cubic->producer) {
        if (Value* cube = unscaled(cubic, kCubic)) return is_cube(cube, x);
        // 0.044715 * x * x * x in one product
        if (!producer_of(cubic, "Mul")) return false;
        const Product product = product_of(*cubic->producer);
        bool all_x = product.terms.size() == 3;
        for (const Value* term : product.terms) all_x = all_x && term == x;
        return all_x && close_to(product.factor, kCubic, dtype);
      }
    }
  }
  // sqrt(2 / pi) * x * (1 + 0.044715 * x * x)
  const Product product = product_of(*argument->producer);
  if (product.terms.size() != 2 || !close_to(product.factor, kScale, dtype)) return false;
  Value* polynomial = product.terms[0] == x ? product.terms[1] : product.terms[1] == x ? product.terms[0] : nullptr;
  Value* quadratic = polynomial ? without_offset(polynomial, 1) : nullptr;
  if (!quadratic || !producer_of(quadratic, "Mul")) return false;
  const Product square = product_of(*quadratic->producer);
  if (!close_to(square.factor, kCubic, dtype)) return false;
  if (square.terms.size() == 2) return square.terms[0] == x && square.terms[1] == x;
  const Node* pow = square.terms.size() == 1 ? producer_of(square.terms[0], "Pow") : nullptr;
  return pow && pow->inputs[0] == x && is_splat(pow->inputs[1], 2);
}

bool fuse(Node& root) {
  if (!root.is("Mul") && !root.is("Div")) return false;
  const DType dtype = root.outputs[0]->dtype();
  if (!is_float(dtype)) return false;
  const Product product = product_of(root);
  if (product.terms.size() != 2 || !close_to(product.factor, 0.5, dtype)) return false;
  for (std::size_t i = 0; i < 2; ++i) {
    Value* x = product.terms[i];
    Value* gate = product.terms[1 - i];
    if (!same_type(root.outputs[0], x)) continue;
    std::string_view approximate = "none";
    Value* argument = argument_of(gate, "Erf");
    if (argument) {
      if (!single_use(argument) || unscaled(argument, 1 / std::numbers::sqrt2) != x) continue;
    } else {
      argument = argument_of(gate, "Tanh");
      if (!argument || !is_tanh_argument(argument, x)) continue;
      approximate = "tanh";
    }
    for (const Node* node : product.nodes) merge_sources(root, *node);
    // Everything between x and the root dies with the rewrite; its sources live on in the Gelu.
    std::vector<Node*> inner{gate->producer};
    for (std::size_t k = 0; k < inner.size() && inner.size() < 32; ++k) {
      merge_sources(root, *inner[k]);
      for (Value* input : inner[k]->inputs) {
        if (input && input != x && input->producer && input->graph == root.graph) inner.push_back(input->producer);
      }
    }
    const std::vector<Value*> old = root.inputs;
    ir::Attrs attrs;
    if (approximate != "none") attrs.set("approximate", std::string(approximate));
    transmute(root, "Gelu", {x}, std::move(attrs));
    for (Value* input : old) {
      if (input && input->graph == root.graph) erase_dead(input->producer);
    }
    return true;
  }
  return false;
}

}  // namespace

int fuse_gelu(Graph& graph, PassContext&) {
  int rewrites = 0;
  graph.for_each([&](Node& node) { rewrites += fuse(node) ? 1 : 0; });
  return rewrites;
}

}  // namespace lathe::passes
