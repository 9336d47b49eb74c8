// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Bracketing-independent matching of products and sums.

#include "passes/pattern.h"

#include <cmath>

#include "passes/rewrite.h"

namespace lathe::passes {

using ir::Node;
using ir::Value;

namespace {

bool opens(const Node& node) { return node.is("Mul") || (node.is("Div") && splat_of(node.input(1)).value_or(0) != 0); }

// A number that leaves the shape of the node's other operand alone.
std::optional<double> number(const Node& node, std::size_t index) {
  const auto value = splat_of(node.input(index));
  if (!value) return std::nullopt;
  const Value* other = node.input(1 - index);
  if (rank_of(node.inputs[index]) == 0 || same_shape(node.outputs[0], other)) return value;
  return std::nullopt;
}

void open(Node& node, Product& product, int depth) {
  product.nodes.push_back(&node);
  for (std::size_t i = 0; i < 2; ++i) {
    Value* operand = node.inputs[i];
    if (const auto value = number(node, i)) {
      product.factor *= node.is("Div") && i == 1 ? 1 / *value : *value;
      continue;
    }
    Node* inner = single_use(operand) ? operand->producer : nullptr;
    if (depth < 6 && inner && inner->graph == node.graph && opens(*inner) && same_shape(operand, node.outputs[0])) {
      open(*inner, product, depth + 1);
    } else {
      product.terms.push_back(operand);
    }
  }
}

}  // namespace

Product product_of(Node& root) {
  Product product;
  if (opens(root)) open(root, product, 0);
  return product;
}

bool close_to(double a, double b, DType dtype) {
  // The short types: half a step and a little, so that a neighbour of the rounded constant does not pass.
  const double tolerance = dtype == DType::kFloat16 ? 6e-4 : dtype == DType::kBFloat16 ? 5e-3 : 2e-6;
  return std::abs(a - b) <= tolerance * std::abs(b);
}

Value* unscaled(Value* value, double k) {
  Node* node = value->producer;
  if (!node) return nullptr;
  if (node->is("Div")) {
    const auto divisor = number(*node, 1);
    return divisor && *divisor != 0 && close_to(1 / *divisor, k, value->dtype()) ? node->inputs[0] : nullptr;
  }
  if (!node->is("Mul")) return nullptr;
  for (std::size_t i = 0; i < 2; ++i) {
    const auto factor = number(*node, i);
    if (factor && close_to(*factor, k, value->dtype())) return node->inputs[1 - i];
  }
  return nullptr;
}

Value* without_offset(Value* value, double c) {
  Node* node = producer_of(value, "Add");
  if (!node) return nullptr;
  for (std::size_t i = 0; i < 2; ++i) {
    const auto offset = number(*node, i);
    if (offset && close_to(*offset, c, value->dtype())) return node->inputs[1 - i];
  }
  return nullptr;
}

}  // namespace lathe::passes
