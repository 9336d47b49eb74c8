// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Transposes that merge, cancel across pointwise work, or move only extents of 1.
//
//   Transpose(Transpose(x, p), q)               ->  Transpose(x, p after q), or x
//   x -> T(p) -> pointwise ... -> T(q), q after p = id  ->  x -> pointwise ...         constants on the way are transposed
//   Transpose that keeps the order of all extents but 1s  ->  Reshape                  (a view)
//
// The second rule fires only when every tensor that enters the pointwise tree is such a Transpose, a scalar or a constant, and each
// node of the tree has no other user; so at least the last Transpose goes, and nothing is added.

#include <algorithm>
#include <set>

#include "ops/evaluate.h"
#include "passes/pass.h"
#include "passes/rewrite.h"

namespace lathe::passes {
namespace {

using ir::Graph;
using ir::Node;
using ir::Value;
using Permutation = std::vector<std::int64_t>;

std::optional<Permutation> permutation_of(const Node& node) {
  const auto rank = rank_of(node.inputs[0]);
  Permutation perm = node.attrs.get_ints("perm");
  if (perm.empty()) {
    if (!rank) return std::nullopt;
    for (std::int64_t i = *rank; i-- > 0;) perm.push_back(i);
  }
  return perm;
}

// First `inner`, then `outer`.
Permutation compose(const Permutation& inner, const Permutation& outer) {
  Permutation result;
  for (const std::int64_t axis : outer) result.push_back(inner[static_cast<std::size_t>(axis)]);
  return result;
}

bool is_identity(const Permutation& perm) {
  for (std::size_t i = 0; i < perm.size(); ++i) {
    if (perm[i] != static_cast<std::int64_t>(i)) return false;
  }
  return true;
}

// Plans Transpose(value, perm) without a Transpose: collects the reads to redirect.
struct Plan {
  std::vector<Node*> nodes;                           // pointwise nodes, users before producers
  std::vector<std::pair<ir::Use, Value*>> direct;     // read this value instead
  std::vector<std::pair<ir::Use, Value*>> constants;  // read a transposed copy of this constant
};

bool absorb(Graph& graph, Node& node, const Permutation& perm, Plan& plan, int depth) {
  if (depth > 12 || !is_pointwise(node)) return false;
  plan.nodes.push_back(&node);
  const auto rank = static_cast<std::int64_t>(perm.size());
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    Value* input = node.inputs[i];
    if (!input) continue;
    const ir::Use use{&node, static_cast<int>(i)};
    const auto input_rank = rank_of(input);
    if (!input_rank) return false;
    if (*input_rank == 0) continue;
    if (is_constant(input)) {
      if (input->constant.size() != 1) plan.constants.emplace_back(use, input);
      else if (*input_rank > rank) return false;
      continue;
    }
    if (*input_rank != rank) return false;
    Node* producer = input->producer;
    if (!producer || producer->graph != &graph) return false;
    if (producer->is("Transpose")) {
      const auto inner = permutation_of(*producer);
      if (!inner || !is_identity(compose(*inner, perm))) return false;
      plan.direct.emplace_back(use, producer->inputs[0]);
      continue;
    }
    if (!single_use(input) || !absorb(graph, *producer, perm, plan, depth + 1)) return false;
  }
  return true;
}

Value* transposed_constant(Graph& graph, const Value* constant, const Permutation& perm) {
  const Tensor& tensor = constant->constant;
  Dims dims(perm.size() - static_cast<std::size_t>(tensor.rank()), 1);  // broadcasting aligns to the right
  dims.insert(dims.end(), tensor.dims().begin(), tensor.dims().end());
  Graph scratch;
  Value* source = scratch.add_constant("x", tensor.reshaped(dims));
  ir::Attrs attrs;
  attrs.set("perm", perm);
  Node* node = scratch.add_node("", "Transpose", {source}, {"y"}, std::move(attrs));
  std::vector<Tensor> results = ops::evaluate_node(*node, std::vector<Tensor>{source->constant});
  return add_constant(graph, constant->name + "_transposed", std::move(results[0]));
}

bool cancel_across_pointwise(Graph& graph, Node& node) {
  Value* input = node.inputs[0];
  Node* root = input->producer;
  if (!root || root->graph != &graph || !single_use(input) || root->is("Transpose")) return false;
  const auto perm = permutation_of(node);
  if (!perm || rank_of(input) != static_cast<std::int64_t>(perm->size())) return false;
  Plan plan;
  if (!absorb(graph, *root, *perm, plan, 0) || plan.direct.empty()) return false;
  for (const auto& [use, constant] : plan.constants) {
    if (constant->constant.rank() > static_cast<int>(perm->size())) return false;
  }
  std::vector<Node*> transposes;
  for (const auto& [use, value] : plan.direct) {
    transposes.push_back(use.node->inputs[static_cast<std::size_t>(use.index)]->producer);
    graph.set_input(use.node, static_cast<std::size_t>(use.index), value);
  }
  for (const auto& [use, constant] : plan.constants) {
    graph.set_input(use.node, static_cast<std::size_t>(use.index), transposed_constant(graph, constant, *perm));
  }
  // Names: the inner values are other tensors now.
  for (Node* inner : plan.nodes) {
    Value* value = inner->outputs[0];
    if (value->has_shape() && value->shape().size() == perm->size()) {
      ir::Shape shape;
      for (const std::int64_t axis : *perm) shape.push_back(value->shape()[static_cast<std::size_t>(axis)]);
      value->type.shape = std::move(shape);
    }
    value->content.reset();
    graph.rename(value, graph.unique_name(value->name + "_transposed"));
  }
  const std::string name = node.outputs[0]->name;
  merge_sources(*root, node);
  Value* result = root->outputs[0];
  graph.replace_all_uses(node.outputs[0], result);
  erase_dead(&node);
  if (result->name != name) graph.rename(result, name);
  for (std::size_t i = 0; i < transposes.size(); ++i) {
    // One Transpose may have fed several places.
    if (std::find(transposes.begin(), transposes.begin() + static_cast<std::ptrdiff_t>(i), transposes[i]) ==
        transposes.begin() + static_cast<std::ptrdiff_t>(i)) {
      merge_sources(*root, *transposes[i]);
      erase_dead(transposes[i]);
    }
  }
  return true;
}

bool merge_pair(Graph& graph, Node& node) {
  Node* inner = producer_of(node.inputs[0], "Transpose");
  if (!inner || inner->graph != &graph) return false;
  const auto first = permutation_of(*inner), second = permutation_of(node);
  if (!first || !second || first->size() != second->size()) return false;
  const Permutation both = compose(*first, *second);
  merge_sources(node, *inner);
  if (is_identity(both)) return bypass(node, inner->inputs[0]);
  node.attrs.set("perm", both);
  graph.set_input(&node, 0, inner->inputs[0]);
  erase_dead(inner);
  return true;
}

bool moves_only_ones(Graph& graph, Node& node) {
  const Value* x = node.inputs[0];
  const auto perm = permutation_of(node);
  if (!perm || !x->has_shape() || !node.outputs[0]->has_shape() || is_identity(*perm)) return false;
  std::int64_t last = -1;
  for (const std::int64_t axis : *perm) {
    if (x->shape()[static_cast<std::size_t>(axis)] == ir::Dim(1)) continue;
    if (axis < last) return false;
    last = axis;
  }
  const auto target = reshape_target(x->shape(), node.outputs[0]->shape());
  if (!target) return false;
  transmute(node, "Reshape", {node.inputs[0], add_ints(graph, node.outputs[0]->name + "_shape", *target)});
  return true;
}

}  // namespace

int transpose_chains(Graph& graph, PassContext&) {
  int rewrites = 0;
  graph.for_each([&](Node& node) {
    if (!node.is("Transpose") || !node.inputs[0]) return;
    if (merge_pair(graph, node) || cancel_across_pointwise(graph, node)) ++rewrites;
  });
  // Last, since a Reshape in a pointwise tree would keep its Transposes from cancelling.
  graph.for_each([&](Node& node) {
    if (node.is("Transpose") && node.inputs[0] && moves_only_ones(graph, node)) ++rewrites;
  });
  return rewrites;
}

}  // namespace lathe::passes
