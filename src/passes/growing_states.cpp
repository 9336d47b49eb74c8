// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// A state of a Loop that only grows, from nothing, becomes a scan output:
//
//   r = Loop(n, go, empty) {body(i, c, s): s' = Concat(s, part)}   ->   parts = Loop(n, go, empty) {s' = s; Concat(empty, part)}; r = Reshape(parts, [-1, ...])
//
// Exporters write lists of tensors so, and each trip then copies all that were before. It fires where the state starts with no element along the first axis,
// its other extents are numbers, every part has as many elements along it, and nothing else reads the state. The Concat stays: it refuses a part that would
// not have fitted.

#include <algorithm>

#include "passes/pass.h"
#include "passes/rewrite.h"

namespace lathe::passes {
namespace {

using ir::Graph;
using ir::Node;
using ir::Value;

/// Extents behind the first, of a tensor without an element along it; nothing where they are not all positive numbers.
std::optional<std::vector<std::int64_t>> rows_of_nothing(const Value* value) {
  if (!value || !value->type.is_tensor() || !value->has_shape() || value->shape().empty() || value->shape()[0].constant() != 0) return std::nullopt;
  std::vector<std::int64_t> extents;
  for (std::size_t axis = 1; axis < value->shape().size(); ++axis) {
    const auto extent = value->shape()[axis].constant();
    if (!extent || *extent < 1) return std::nullopt;
    extents.push_back(*extent);
  }
  return extents;
}

/// The Concat that appends to the state, where that is all that happens to it.
Node* appending(const Graph& body, std::size_t state) {
  const Value *before = body.inputs()[2 + state], *after = body.outputs()[1 + state];
  Node* concat = after->producer;
  if (!concat || after->graph != &body || !concat->is("Concat") || concat->inputs.size() != 2 || concat->attrs.get_int("axis", -1) != 0) return nullptr;
  if (concat->input(0) != before || concat->input(1) == before || before->uses.size() != 1 || before->is_graph_output()) return nullptr;
  if (!after->uses.empty() || std::count(body.outputs().begin(), body.outputs().end(), after) != 1) return nullptr;
  const Value* part = concat->input(1);
  const auto rows = part->has_shape() && !part->shape().empty() ? part->shape()[0].constant() : std::nullopt;
  return rows && *rows > 0 ? concat : nullptr;
}

bool rewrite(Graph& graph, Node& loop, Graph& body, std::size_t state) {
  const auto extents = rows_of_nothing(loop.input(2 + state));
  if (!extents || !loop.outputs[state]) return false;
  Node* concat = appending(body, state);
  if (!concat) return false;
  Value *empty = loop.inputs[2 + state], *all = loop.outputs[state];
  Value *before = body.inputs()[2 + state], *part = concat->outputs[0];
  body.set_output(1 + state, before);
  body.set_input(concat, 0, empty);
  body.add_output(part);
  // Other tensors than they were: other names.
  body.rename(before, body.unique_name(before->name + "_empty"));
  body.rename(part, body.unique_name(part->name + "_part"));
  Value* parts = graph.add_node_output(&loop, graph.unique_name(all->name + "_parts"));
  parts->type.dtype = all->type.dtype;
  std::vector<std::int64_t> target{-1};
  target.insert(target.end(), extents->begin(), extents->end());
  Value* shape = add_constant(graph, all->name + "_shape", Tensor::vector(target));
  Node* joined = graph.add_node("", "Reshape", {parts, shape}, {graph.unique_name(all->name + "_joined")});
  joined->name = loop.name;
  joined->sources = loop.sources;
  joined->outputs[0]->type = all->type;
  const std::string name = all->name;
  graph.replace_all_uses(all, joined->outputs[0]);
  if (joined->outputs[0]->name != name) {  // what was an output has its name already
    graph.rename(all, graph.unique_name(name + "_empty"));
    graph.rename(joined->outputs[0], name);
  }
  return true;
}

}  // namespace

int growing_states(Graph& graph, PassContext&) {
  int rewrites = 0;
  for (Node* node : graph.nodes()) {
    if (!node->is("Loop") || node->inputs.size() < 3) continue;
    const auto bodies = ir::nested_graphs(*node);
    const std::size_t states = node->inputs.size() - 2;
    // A scan output goes behind all others: each must have its place.
    if (bodies.size() != 1 || bodies[0]->inputs().size() != states + 2 || bodies[0]->outputs().size() != node->outputs.size() + 1) continue;
    for (std::size_t state = 0; state < states; ++state) rewrites += rewrite(graph, *node, *bodies[0], state);
  }
  if (rewrites > 0) graph.sort_topologically();
  return rewrites;
}

}  // namespace lathe::passes
