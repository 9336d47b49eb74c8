// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// A Transpose between two Reshapes that only merge axes and split them again.
//
//   x: [1, 4, 197, 32] -> Reshape [4, 197, 32] -> Transpose(0, 2, 1) -> Reshape [1, 4, 32, 197]     ->     Transpose(x, 0, 1, 3, 2)
//
// Each axis in the middle must be a run of x's axes, so that the Transpose moves whole runs; the last shape must be x's axes in that
// order. Nothing else may read the values in between.

#include <algorithm>

#include "passes/pass.h"
#include "passes/rewrite.h"

namespace lathe::passes {
namespace {

using ir::Dim;
using ir::Graph;
using ir::Node;
using ir::Shape;
using ir::Value;

bool reshapes(const Node* node) { return node && (node->is("Reshape") || node->is("Flatten") || node->is("Squeeze") || node->is("Unsqueeze")); }

// For each axis of `middle` the run of axes of `from` that it merges, as [begin, end); empty when an axis is split.
std::vector<std::pair<std::size_t, std::size_t>> runs_of(const Shape& from, const Shape& middle) {
  std::vector<std::pair<std::size_t, std::size_t>> runs;
  std::size_t at = 0;
  for (const Dim& axis : middle) {
    const std::size_t begin = at;
    Dim product(1);
    while (product != axis || at == begin) {
      if (at == from.size()) return {};
      product = product * from[at++];
    }
    runs.emplace_back(begin, at);
  }
  if (runs.empty()) return {};
  while (at < from.size() && from[at] == Dim(1)) ++at;
  runs.back().second = at;
  return at == from.size() ? runs : std::vector<std::pair<std::size_t, std::size_t>>{};
}

bool merge(Graph& graph, Node& last) {
  if (!reshapes(&last) || !last.outputs[0]->has_shape()) return false;
  Node* transpose = sole_producer(last.inputs[0], "Transpose");
  if (!transpose || transpose->graph != &graph || !single_use(transpose->inputs[0])) return false;
  Node* first = transpose->inputs[0]->producer;
  if (!reshapes(first) || first->graph != &graph) return false;
  Value* x = first->inputs[0];
  if (!x->has_shape() || !transpose->inputs[0]->has_shape()) return false;
  const auto runs = runs_of(x->shape(), transpose->inputs[0]->shape());
  std::vector<std::int64_t> axes = transpose->attrs.get_ints("perm");
  if (axes.empty()) {
    for (std::size_t i = runs.size(); i-- > 0;) axes.push_back(static_cast<std::int64_t>(i));
  }
  if (runs.empty() || axes.size() != runs.size()) return false;
  std::vector<std::int64_t> perm;
  Shape shape;
  for (const std::int64_t axis : axes) {
    for (std::size_t i = runs[static_cast<std::size_t>(axis)].first; i < runs[static_cast<std::size_t>(axis)].second; ++i) {
      perm.push_back(static_cast<std::int64_t>(i));
      shape.push_back(x->shape()[i]);
    }
  }
  if (shape != last.outputs[0]->shape()) return false;
  merge_sources(last, *transpose);
  merge_sources(last, *first);
  ir::Attrs attrs;
  attrs.set("perm", std::move(perm));
  transmute(last, "Transpose", {x}, std::move(attrs));
  erase_dead(transpose);
  return true;
}

}  // namespace

int reshape_transpose(Graph& graph, PassContext&) {
  int rewrites = 0;
  graph.for_each([&](Node& node) { rewrites += merge(graph, node) ? 1 : 0; });
  return rewrites;
}

}  // namespace lathe::passes
