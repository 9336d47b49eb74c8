// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Slices of slices with constant bounds.
//
//   Slice(Slice(x, axes A), axes B), A and B disjoint     ->  one Slice over A and B
//   x[s1:e1][s2:e2] on one axis, steps 1, bounds >= 0      ->  x[s1+s2 : min(e1, s1+e2)]
//
// The inner slice must have no other user: else nothing is saved.

#include <algorithm>
#include <limits>
#include <map>

#include "passes/pass.h"
#include "passes/rewrite.h"

namespace lathe::passes {
namespace {

using ir::Node;
using ir::Value;

struct Cut {
  std::int64_t start, end, step;
};
using Cuts = std::map<std::int64_t, Cut>;  // by normalised axis

std::optional<Cuts> cuts_of(const Node& node) {
  const auto rank = rank_of(node.inputs[0]);
  const auto starts = constant_ints(node.input(1)), ends = constant_ints(node.input(2));
  if (!rank || !starts || !ends || starts->size() != ends->size()) return std::nullopt;
  std::vector<std::int64_t> axes, steps(starts->size(), 1);
  if (node.input(3)) {
    const auto given = constant_ints(node.input(3));
    if (!given) return std::nullopt;
    axes = *given;
  } else {
    for (std::size_t i = 0; i < starts->size(); ++i) axes.push_back(static_cast<std::int64_t>(i));
  }
  if (node.input(4)) {
    const auto given = constant_ints(node.input(4));
    if (!given) return std::nullopt;
    steps = *given;
  }
  if (axes.size() != starts->size() || steps.size() != starts->size()) return std::nullopt;
  Cuts cuts;
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const auto axis = normalise_axis(axes[i], *rank);
    if (!axis || !cuts.emplace(*axis, Cut{(*starts)[i], (*ends)[i], steps[i]}).second) return std::nullopt;
  }
  return cuts;
}

std::int64_t saturated_sum(std::int64_t a, std::int64_t b) {
  std::int64_t sum;
  return __builtin_add_overflow(a, b, &sum) ? std::numeric_limits<std::int64_t>::max() : sum;
}

bool compose(Cuts& cuts, const Cuts& outer) {
  for (const auto& [axis, cut] : outer) {
    const auto found = cuts.find(axis);
    if (found == cuts.end()) {
      cuts.emplace(axis, cut);
      continue;
    }
    Cut& inner = found->second;
    if (inner.step != 1 || cut.step != 1 || inner.start < 0 || inner.end < 0 || cut.start < 0 || cut.end < 0) return false;
    inner.end = std::min(inner.end, saturated_sum(inner.start, cut.end));
    inner.start = saturated_sum(inner.start, cut.start);
  }
  return true;
}

}  // namespace

int slice_chains(ir::Graph& graph, PassContext&) {
  int rewrites = 0;
  graph.for_each([&](Node& node) {
    if (!node.is("Slice")) return;
    Node* inner = sole_producer(node.inputs[0], "Slice");
    if (!inner || inner->graph != &graph) return;
    auto cuts = cuts_of(*inner);
    const auto outer = cuts_of(node);
    if (!cuts || !outer || !compose(*cuts, *outer)) return;
    std::vector<std::int64_t> starts, ends, axes, steps;
    for (const auto& [axis, cut] : *cuts) {
      axes.push_back(axis);
      starts.push_back(cut.start);
      ends.push_back(cut.end);
      steps.push_back(cut.step);
    }
    merge_sources(node, *inner);
    std::vector<Value*> inputs{inner->inputs[0], add_ints(graph, "starts", starts), add_ints(graph, "ends", ends), add_ints(graph, "axes", axes)};
    if (std::any_of(steps.begin(), steps.end(), [](std::int64_t s) { return s != 1; })) inputs.push_back(add_ints(graph, "steps", steps));
    graph.set_inputs(&node, std::move(inputs));
    erase_dead(inner);
    ++rewrites;
  });
  return rewrites;
}

}  // namespace lathe::passes
