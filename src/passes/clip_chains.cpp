// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Chains of Clip and Relu with constant bounds become one of them.
//
//   Clip(Clip(x, a, b), c, d)  -> Clip(x, max(a, c), min(b, d))      when the ranges overlap
//   Relu(Clip(x, a, b))        -> Clip(x, max(a, 0), b)              b >= 0
//   Clip(Relu(x), c, d)        -> Clip(x, max(0, c), d)              d >= 0
//   Clip(x, +0, none)          -> Relu(x)                            (floating)
//   Clip(x)                    -> x
//
// Disjoint ranges are left alone (the outer clip then gives a constant, but NaN passes through both), and so are inner values with other
// readers: the chain would get no shorter, and its input would be read twice.

#include <algorithm>
#include <cmath>
#include <limits>

#include "passes/pass.h"
#include "passes/rewrite.h"

namespace lathe::passes {
namespace {

using ir::Graph;
using ir::Node;
using ir::Value;

struct Range {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
};

bool is_plus_zero(double number) { return number == 0 && !std::signbit(number); }

// nullopt: bounds that are not constant, or NaN, or integers too large for a double.
std::optional<Range> range_of(const Node& node) {
  if (node.is("Relu")) return Range{0, std::numeric_limits<double>::infinity()};
  if (!node.is("Clip")) return std::nullopt;
  Range range;
  for (std::size_t i = 1; i < node.inputs.size() && i < 3; ++i) {
    if (!node.inputs[i]) continue;
    const auto bound = splat_of(node.inputs[i]);
    if (!bound || *bound != *bound) return std::nullopt;
    if (!is_float(node.inputs[i]->dtype()) && std::max(*bound, -*bound) > 9e15) return std::nullopt;
    (i == 1 ? range.low : range.high) = *bound;
  }
  if (range.low > range.high) return std::nullopt;
  return range;
}

void write_range(Graph& graph, Node& node, Value* x, const Range& range) {
  const double infinity = std::numeric_limits<double>::infinity();
  const DType dtype = x->dtype();
  if (is_plus_zero(range.low) && range.high == infinity && is_float(dtype)) {
    transmute(node, "Relu", {x});
    return;
  }
  std::vector<Value*> inputs{x};
  inputs.push_back(range.low == -infinity ? nullptr : add_scalar(graph, "clip_min", dtype, range.low));
  inputs.push_back(range.high == infinity ? nullptr : add_scalar(graph, "clip_max", dtype, range.high));
  while (!inputs.back()) inputs.pop_back();
  transmute(node, "Clip", std::move(inputs));
}

}  // namespace

int clip_chains(Graph& graph, PassContext&) {
  const double infinity = std::numeric_limits<double>::infinity();
  int rewrites = 0;
  graph.for_each([&](Node& node) {
    const auto outer = range_of(node);
    if (!outer) return;
    if (node.is("Clip") && outer->low == -infinity && outer->high == infinity) {
      rewrites += bypass(node, node.inputs[0]) ? 1 : 0;
      return;
    }
    if (node.is("Clip") && is_plus_zero(outer->low) && outer->high == infinity && is_float(node.inputs[0]->dtype())) {
      transmute(node, "Relu", {node.inputs[0]});
      ++rewrites;
      return;
    }
    Node* inner = node.inputs[0]->producer;
    if (!inner || inner->graph != &graph || !single_use(node.inputs[0]) || node.inputs[0]->dtype() == DType::kUndefined) return;
    if (node.is("Relu") && inner->is("Relu")) return;  // identities
    const auto within = range_of(*inner);
    if (!within) return;
    const Range merged{std::max(within->low, outer->low), std::min(within->high, outer->high)};
    if (merged.low > merged.high) return;
    merge_sources(node, *inner);
    write_range(graph, node, inner->inputs[0], merged);
    erase_dead(inner);
    ++rewrites;
  });
  return rewrites;
}

}  // namespace lathe::passes
