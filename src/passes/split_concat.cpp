// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Split and Concat that undo each other, and Concats of Concats.
//
//   Concat(Split(x))            ->  x              all parts, in order, same axis
//   Split(Concat(a, b, c))      ->  a, b, c        same axis, equal extents
//   Concat(Concat(a, b), c)     ->  Concat(a, b, c)    same axis, the inner one has no other user
//   Concat(a, empty, b)         ->  Concat(a, b)   an operand whose extent along the axis is the number 0
//   Slice(Concat(a, b, c))      ->  b              exactly one operand is cut out, step 1

#include <algorithm>

#include "passes/pass.h"
#include "passes/rewrite.h"

namespace lathe::passes {
namespace {

using ir::Dim;
using ir::Graph;
using ir::Node;
using ir::Value;

std::optional<std::int64_t> axis_of(const Node& node, std::int64_t fallback) {
  const auto rank = rank_of(node.inputs[0]);
  return rank ? normalise_axis(node.attrs.get_int("axis", fallback), *rank) : std::nullopt;
}

std::optional<Dim> extent(const Value* value, std::int64_t axis) {
  if (!value || !value->has_shape() || axis >= static_cast<std::int64_t>(value->shape().size())) return std::nullopt;
  return value->shape()[static_cast<std::size_t>(axis)];
}

bool concat_of_split(Node& concat) {
  Node* split = producer_of(concat.inputs[0], "Split");
  if (!split || split->outputs.size() != concat.inputs.size()) return false;
  const auto axis = axis_of(concat, 0);
  if (!axis || axis != axis_of(*split, 0)) return false;
  for (std::size_t i = 0; i < concat.inputs.size(); ++i) {
    if (concat.inputs[i] != split->outputs[i]) return false;
  }
  if (split->graph == concat.graph) merge_sources(concat, *split);
  return bypass(concat, split->inputs[0]);
}

bool split_of_concat(Graph& graph, Node& split) {
  Node* concat = producer_of(split.inputs[0], "Concat");
  if (!concat || concat->inputs.size() != split.outputs.size()) return false;
  const auto axis = axis_of(split, 0);
  if (!axis || axis != axis_of(*concat, 0)) return false;
  for (std::size_t i = 0; i < split.outputs.size(); ++i) {
    if (!split.outputs[i]) continue;
    const auto part = extent(split.outputs[i], *axis), operand = extent(concat->inputs[i], *axis);
    if (!part || !operand || *part != *operand || split.outputs[i]->is_graph_output()) return false;
  }
  for (std::size_t i = 0; i < split.outputs.size(); ++i) {
    if (!split.outputs[i]) continue;
    const std::vector<ir::Use> readers = split.outputs[i]->uses;
    graph.replace_all_uses(split.outputs[i], concat->inputs[i]);
    merge_sources(graph, *concat->inputs[i], readers, split);
    if (concat->graph == &graph) merge_sources(graph, *concat->inputs[i], readers, *concat);
  }
  erase_dead(&split);
  return true;
}

bool flatten_concat(Graph& graph, Node& concat) {
  const auto axis = axis_of(concat, 0);
  if (!axis) return false;
  std::vector<Value*> inputs;
  std::vector<Node*> absorbed;
  bool changed = false;
  for (Value* input : concat.inputs) {
    Node* inner = sole_producer(input, "Concat");
    if (inner && inner->graph == &graph && axis_of(*inner, 0) == axis) {
      inputs.insert(inputs.end(), inner->inputs.begin(), inner->inputs.end());
      absorbed.push_back(inner);
      changed = true;
    } else if (extent(input, *axis) == Dim(0) && concat.inputs.size() > 1) {
      changed = true;  // nothing of it arrives
    } else {
      inputs.push_back(input);
    }
  }
  if (!changed || inputs.empty()) return false;
  graph.set_inputs(&concat, std::move(inputs));
  for (Node* inner : absorbed) {
    merge_sources(concat, *inner);
    erase_dead(inner);
  }
  return true;
}

bool slice_of_concat(Node& slice) {
  Node* concat = producer_of(slice.inputs[0], "Concat");
  if (!concat) return false;
  const auto axis = axis_of(*concat, 0);
  const auto starts = constant_ints(slice.input(1)), ends = constant_ints(slice.input(2)), axes = constant_ints(slice.input(3));
  if (!axis || !starts || !ends || !axes || starts->size() != 1 || ends->size() != 1 || axes->size() != 1) return false;
  if (slice.input(4) && !is_splat(slice.input(4), 1)) return false;
  const auto rank = rank_of(slice.inputs[0]);
  if (!rank || normalise_axis((*axes)[0], *rank) != axis) return false;
  const auto whole = extent(slice.inputs[0], *axis);
  const auto total = whole ? whole->constant() : std::nullopt;
  if (!total) return false;
  const auto clamp = [&](std::int64_t p) { return std::clamp<std::int64_t>(p < 0 ? p + *total : p, 0, *total); };
  const std::int64_t start = clamp((*starts)[0]), end = clamp((*ends)[0]);
  std::int64_t at = 0;
  for (Value* operand : concat->inputs) {
    const auto part = extent(operand, *axis);
    const auto length = part ? part->constant() : std::nullopt;
    if (!length) return false;
    if (at == start && at + *length == end && *length > 0) {
      if (concat->graph == slice.graph) merge_sources(slice, *concat);
      return bypass(slice, operand);
    }
    at += *length;
  }
  return false;
}

}  // namespace

int split_concat(Graph& graph, PassContext&) {
  int rewrites = 0;
  graph.for_each([&](Node& node) {
    bool changed = false;
    if (node.is("Concat")) {
      changed = concat_of_split(node);
      if (!changed) changed = flatten_concat(graph, node);
    } else if (node.is("Split")) {
      changed = split_of_concat(graph, node);
    } else if (node.is("Slice")) {
      changed = slice_of_concat(node);
    }
    rewrites += changed ? 1 : 0;
  });
  return rewrites;
}

}  // namespace lathe::passes
