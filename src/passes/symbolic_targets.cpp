// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Shapes given by computed tensors, where inference knows them as expressions: write them down as constants that hold for every size,
// so that the Shape / Gather / Concat chain behind them dies.
//
//   Reshape(x: [b, s, 768], [b, s, 12, 64])     ->  Reshape(x, {0, 0, 12, 64})          one -1 at most
//   Expand(x: [b, 1, 4], [b, 7, 4])             ->  Expand(x, {1, 7, 1})                1 keeps x's extent
//   Slice(x: [b, s], ends=[s - 1], axes={1})    ->  Slice(x, ends={-1})                 an end at or past the extent: INT64_MAX
//   Resize(x: [b, c, h, w], sizes=[b, c, 2*h, 2*w])  ->  Resize(x, scales={1, 1, 2, 2}) whole-number ratios only (exact in float)
//   Tile, Pad with symbolic amounts stay.

#include <algorithm>
#include <limits>

#include "passes/pass.h"
#include "passes/rewrite.h"

namespace lathe::passes {
namespace {

using ir::Dim;
using ir::Graph;
using ir::Node;
using ir::Value;

constexpr std::int64_t kEnd = std::numeric_limits<std::int64_t>::max();

bool is_computed(const Value* value) { return value && !is_constant(value); }

bool reshape(Graph& graph, Node& node) {
  if (!is_computed(node.input(1)) || !node.outputs[0]->has_shape()) return false;
  const Value* x = node.inputs[0];
  const auto target = reshape_target(x->has_shape() ? x->shape() : ir::Shape{}, node.outputs[0]->shape());
  if (!target) return false;
  transmute(node, "Reshape", {node.inputs[0], add_ints(graph, node.inputs[1]->name + "_known", *target)});
  return true;
}

bool expand(Graph& graph, Node& node) {
  const Value* x = node.inputs[0];
  if (!is_computed(node.input(1)) || !node.outputs[0]->has_shape() || !x->has_shape()) return false;
  const ir::Shape& from = x->shape();
  const ir::Shape& to = node.outputs[0]->shape();
  if (to.size() < from.size()) return false;
  std::vector<std::int64_t> target;
  for (std::size_t i = 0; i < to.size(); ++i) {
    const std::size_t lead = to.size() - from.size();
    if (i >= lead && from[i - lead] == to[i]) {
      target.push_back(1);
    } else if (const auto number = to[i].constant()) {
      target.push_back(*number);
    } else {
      return false;
    }
  }
  graph.set_input(&node, 1, add_ints(graph, node.inputs[1]->name + "_known", target));
  return true;
}

// A start or end relative to the extent, as a number that means the same for every size; nullopt when there is none.
std::optional<std::int64_t> relative(const Dim& position, const Dim& extent) {
  if (const auto number = position.constant()) return number;
  const auto difference = (position - extent).constant();
  if (!difference) return std::nullopt;
  if (*difference >= 0) return kEnd;
  // A position below zero would count from the end instead.
  if (position.lower_bound().value_or(-1) < 0) return std::nullopt;
  return *difference;
}

bool slice(Graph& graph, Node& node) {
  const Value* x = node.inputs[0];
  if (!x->has_shape() || !(is_computed(node.input(1)) || is_computed(node.input(2)))) return false;
  const auto content = [&](std::size_t i) -> std::optional<std::vector<Dim>> {
    const Value* value = node.input(i);
    if (!value) return std::nullopt;
    if (const auto numbers = constant_ints(value)) return std::vector<Dim>(numbers->begin(), numbers->end());
    return value->content;
  };
  const auto starts = content(1), ends = content(2);
  if (!starts || !ends || starts->size() != ends->size()) return false;
  std::vector<std::int64_t> axes;
  if (node.input(3)) {
    const auto given = constant_ints(node.input(3));
    if (!given) return false;
    axes = *given;
  } else {
    for (std::size_t i = 0; i < starts->size(); ++i) axes.push_back(static_cast<std::int64_t>(i));
  }
  if (node.input(4)) {
    const auto steps = constant_ints(node.input(4));
    if (!steps || std::any_of(steps->begin(), steps->end(), [](std::int64_t s) { return s < 1; })) return false;
  }
  if (axes.size() != starts->size()) return false;
  std::vector<std::int64_t> new_starts, new_ends;
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const auto axis = normalise_axis(axes[i], static_cast<std::int64_t>(x->shape().size()));
    if (!axis) return false;
    const Dim& extent = x->shape()[static_cast<std::size_t>(*axis)];
    const auto start = relative((*starts)[i], extent), end = relative((*ends)[i], extent);
    if (!start || !end) return false;
    new_starts.push_back(*start);
    new_ends.push_back(*end);
  }
  std::vector<Value*> inputs{node.inputs[0], add_ints(graph, "starts", new_starts), add_ints(graph, "ends", new_ends), add_ints(graph, "axes", axes)};
  if (node.input(4)) inputs.push_back(add_ints(graph, "steps", *constant_ints(node.inputs[4])));
  graph.set_inputs(&node, std::move(inputs));
  return true;
}

bool resize(Graph& graph, Node& node) {
  const Value* x = node.inputs[0];
  const Value* sizes = node.input(3);
  if (!is_computed(sizes) || !x->has_shape() || !node.outputs[0]->has_shape() || node.attrs.has("axes")) return false;
  if (node.attrs.get_string("keep_aspect_ratio_policy", "stretch") != "stretch") return false;
  const ir::Shape& from = x->shape();
  const ir::Shape& to = node.outputs[0]->shape();
  if (from.size() != to.size()) return false;
  Tensor scales(DType::kFloat32, {static_cast<std::int64_t>(from.size())});
  for (std::size_t i = 0; i < from.size(); ++i) {
    const auto ratio = Dim::exact_div(to[i], from[i]);
    const auto number = ratio ? ratio->constant() : std::nullopt;
    if (!number || *number < 1 || *number > 4096) return false;
    scales.set_from_double(static_cast<std::int64_t>(i), static_cast<double>(*number));
  }
  graph.set_inputs(&node, {node.inputs[0], node.input(1), add_constant(graph, sizes->name + "_scales", std::move(scales))});
  return true;
}

}  // namespace

int symbolic_targets(Graph& graph, PassContext&) {
  int rewrites = 0;
  graph.for_each([&](Node& node) {
    if (!node.domain.empty() || !node.input(0) || node.outputs.size() != 1 || !node.outputs[0]) return;
    const std::vector<Value*> before = node.inputs;
    bool changed = false;
    if (node.op == "Reshape") {
      changed = reshape(graph, node);
    } else if (node.op == "Expand") {
      changed = expand(graph, node);
    } else if (node.op == "Slice") {
      changed = slice(graph, node);
    } else if (node.op == "Resize") {
      changed = resize(graph, node);
    }
    if (!changed) return;
    ++rewrites;
    for (const Value* input : before) {
      if (input && input->graph == &graph) erase_dead(input->producer);
    }
  });
  return rewrites;
}

}  // namespace lathe::passes
