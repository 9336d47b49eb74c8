// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// LayerNormalization from its decomposition:
//
//   x --+--------------------------------- Sub -- d --+-------------- Div --- Mul(gamma) --- Add(beta) --- y
//       +- ReduceMean(axes, keepdims) ------+         +- d*d - ReduceMean - Add(eps) - Sqrt --+
//
//   ->  LayerNormalization(x, gamma, beta) {axis, epsilon}
//
// d*d is Pow(d, 2) or Mul(d, d); the division may be a Mul by a Reciprocal. The axes must be the last ones. gamma and beta are constants
// of exactly the normalised extents; where there is no Mul (or Add) after the division, gamma is ones and beta is left out.
// No inner value may have users outside the pattern. Not in double precision: LayerNormalization's statistics are float.

#include <algorithm>

#include "passes/pass.h"
#include "passes/rewrite.h"

namespace lathe::passes {
namespace {

using ir::Graph;
using ir::Node;
using ir::Value;

// The mean of `value`'s producer over its last k axes; returns k, and the mean's operand.
std::optional<std::int64_t> mean_over_last(const Node* mean, const Value* operand) {
  if (!mean || mean->inputs[0] != operand || mean->attrs.get_int("keepdims", 1) != 1) return std::nullopt;
  const auto rank = rank_of(operand);
  if (!rank) return std::nullopt;
  if (!mean->input(1) && mean->attrs.get_int("noop_with_empty_axes", 0) != 0) return std::nullopt;
  const auto axes = axes_input(*mean, 1, *rank, true);
  if (!axes || axes->empty()) return std::nullopt;
  for (std::size_t i = 0; i < axes->size(); ++i) {
    if ((*axes)[i] != *rank - static_cast<std::int64_t>(axes->size()) + static_cast<std::int64_t>(i)) return std::nullopt;
  }
  return static_cast<std::int64_t>(axes->size());
}

struct Normalised {
  Value* x = nullptr;
  std::int64_t axes = 0;  // how many last axes
  float epsilon = 0;
  std::vector<Node*> nodes;
};

// `node` is the division.
std::optional<Normalised> match(Node& node) {
  Value* d = nullptr;
  Value* deviation = nullptr;
  Normalised result;
  if (node.is("Div")) {
    d = node.inputs[0];
    deviation = node.inputs[1];
  } else if (node.is("Mul")) {
    for (std::size_t i = 0; i < 2 && !d; ++i) {
      if (Node* reciprocal = sole_producer(node.inputs[i], "Reciprocal")) {
        d = node.inputs[1 - i];
        deviation = reciprocal->inputs[0];
        result.nodes.push_back(reciprocal);
      }
    }
  }
  if (!d) return std::nullopt;
  Node* root = sole_producer(deviation, "Sqrt");
  Node* shifted = root ? sole_producer(root->inputs[0], "Add") : nullptr;
  if (!shifted || splat_of(shifted->inputs[1]).value_or(-1) < 0 || element_count_of(shifted->inputs[1]) != 1) return std::nullopt;
  Node* variance = sole_producer(shifted->inputs[0], "ReduceMean");
  Value* squared = variance ? variance->inputs[0] : nullptr;
  Node* square = squared ? sole_producer(squared, "Pow") : nullptr;
  if (square) {
    if (square->inputs[0] != d || !is_splat(square->inputs[1], 2) || element_count_of(square->inputs[1]) != 1) return std::nullopt;
  } else {
    square = squared ? sole_producer(squared, "Mul") : nullptr;
    if (!square || square->inputs[0] != d || square->inputs[1] != d) return std::nullopt;
  }
  Node* difference = producer_of(d, "Sub");
  if (!difference || d->is_graph_output()) return std::nullopt;
  // d feeds the square (once for Pow, twice for Mul) and the division, nothing else.
  if (d->uses.size() != (square->is("Pow") ? 2u : 3u)) return std::nullopt;
  Value* x = difference->inputs[0];
  Node* mean = sole_producer(difference->inputs[1], "ReduceMean");
  const auto axes = mean_over_last(mean, x), variance_axes = mean_over_last(variance, squared);
  if (!axes || axes != variance_axes || !same_type(x, d) || !is_float(x->dtype()) || x->dtype() == DType::kFloat64) return std::nullopt;
  result.x = x;
  result.axes = *axes;
  result.epsilon = static_cast<float>(*splat_of(shifted->inputs[1]));
  for (Node* part : {root, shifted, variance, square, difference, mean}) result.nodes.push_back(part);
  return result;
}

// A constant of exactly the normalised extents.
bool is_parameter(const Value* value, const Normalised& norm, DType dtype) {
  if (!is_constant(value) || value->dtype() != dtype || value->constant.rank() != static_cast<int>(norm.axes)) return false;
  const ir::Shape& shape = norm.x->shape();
  return std::equal(value->shape().begin(), value->shape().end(), shape.end() - static_cast<std::ptrdiff_t>(norm.axes));
}

Value* ones(Graph& graph, const Normalised& norm) {
  const ir::Shape& shape = norm.x->shape();
  const auto dims = ir::constant_dims(ir::Shape(shape.end() - static_cast<std::ptrdiff_t>(norm.axes), shape.end()));
  if (!dims) return nullptr;
  Tensor tensor(norm.x->dtype(), *dims);
  for (std::int64_t i = 0; i < tensor.size(); ++i) tensor.set_from_double(i, 1);
  return add_constant(graph, "layer_norm_ones", std::move(tensor));
}

bool fuse(Graph& graph, Node& division) {
  const auto norm = match(division);
  if (!norm) return false;
  const DType dtype = norm->x->dtype();
  Node* last = &division;
  const auto next = [&](std::string_view op) -> Node* {
    if (!single_use(last->outputs[0])) return nullptr;
    Node* user = last->outputs[0]->uses[0].node;
    return user->is(op) && user->graph == &graph ? user : nullptr;
  };
  std::vector<Node*> tail;
  Value *gamma = nullptr, *beta = nullptr;
  if (Node* mul = next("Mul"); mul && is_parameter(other_operand(*mul, last->outputs[0]), *norm, dtype)) {
    gamma = other_operand(*mul, last->outputs[0]);
    tail.push_back(last);
    last = mul;
    if (Node* add = next("Add"); add && is_parameter(other_operand(*add, last->outputs[0]), *norm, dtype)) {
      beta = other_operand(*add, last->outputs[0]);
      tail.push_back(last);
      last = add;
    }
  }
  if (!gamma) gamma = ones(graph, *norm);
  if (!gamma) return false;
  for (const Node* node : norm->nodes) merge_sources(*last, *node);
  for (const Node* node : tail) merge_sources(*last, *node);
  ir::Attrs attrs;
  attrs.set("axis", -norm->axes);
  attrs.set("epsilon", norm->epsilon);
  std::vector<Value*> inputs{norm->x, gamma};
  if (beta) inputs.push_back(beta);
  const std::vector<Value*> old = last->inputs;
  transmute(*last, "LayerNormalization", std::move(inputs), std::move(attrs));
  for (Value* input : old) {
    if (input && input->graph == &graph) erase_dead(input->producer);
  }
  return true;
}

}  // namespace

int fuse_layer_norm(Graph& graph, PassContext&) {
  int rewrites = 0;
  graph.for_each([&](Node& node) {
    if (node.is("Div") || node.is("Mul")) rewrites += fuse(graph, node) ? 1 : 0;
  });
  return rewrites;
}

}  // namespace lathe::passes
