// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// A Pad of zeros in front of a convolution or an average pool becomes that op's own padding.
//
//   Conv(Pad(x, p), pads=q)                              ->  Conv(x, pads=p+q)
//   AveragePool(Pad(x, p), pads=q, count_include_pad)    ->  AveragePool(x, pads=p+q, count_include_pad=1)
//
// Conditions: mode constant, value 0, amounts constant, >= 0 and on spatial axes only, auto_pad NOTSET. An average pool must count its
// padding already (or have none of its own) and not use ceil_mode, and its pads must stay below its kernel. Max pools never: they
// ignore their padding, while zeros of a Pad take part. Quantised convolutions never: their zero is the zero point. Weights are taken
// to be finite (zero times infinity would be NaN).

#include <algorithm>

#include "passes/pass.h"
#include "passes/rewrite.h"

namespace lathe::passes {
namespace {

using ir::Node;

struct SpatialPads {
  std::vector<std::int64_t> begin, end;
};

std::optional<SpatialPads> zero_pads(const Node& pad) {
  if (pad.attrs.get_string("mode", "constant") != "constant") return std::nullopt;
  if (pad.input(2) && !is_splat(pad.input(2), 0)) return std::nullopt;
  const auto rank = rank_of(pad.inputs[0]);
  const auto amounts = constant_ints(pad.input(1));
  if (!rank || *rank < 3 || !amounts) return std::nullopt;
  std::vector<std::int64_t> axes;
  if (pad.input(3)) {
    const auto given = constant_ints(pad.input(3));
    if (!given) return std::nullopt;
    for (const std::int64_t axis : *given) {
      const auto normal = normalise_axis(axis, *rank);
      if (!normal) return std::nullopt;
      axes.push_back(*normal);
    }
  } else {
    for (std::int64_t i = 0; i < *rank; ++i) axes.push_back(i);
  }
  if (amounts->size() != 2 * axes.size()) return std::nullopt;
  const auto spatial = static_cast<std::size_t>(*rank - 2);
  SpatialPads pads{std::vector<std::int64_t>(spatial, 0), std::vector<std::int64_t>(spatial, 0)};
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const std::int64_t begin = (*amounts)[i], end = (*amounts)[i + axes.size()];
    if (begin < 0 || end < 0) return std::nullopt;
    if (axes[i] < 2) {
      if (begin != 0 || end != 0) return std::nullopt;
      continue;
    }
    pads.begin[static_cast<std::size_t>(axes[i] - 2)] = begin;
    pads.end[static_cast<std::size_t>(axes[i] - 2)] = end;
  }
  return pads;
}

bool fold_into(ir::Graph& graph, Node& node) {
  const bool is_pool = node.is("AveragePool");
  if (!is_pool && !node.is("Conv")) return false;
  Node* pad = producer_of(node.inputs[0], "Pad");
  if (!pad || node.attrs.get_string("auto_pad", "NOTSET") != "NOTSET") return false;
  const auto outer = zero_pads(*pad);
  if (!outer) return false;
  const std::size_t spatial = outer->begin.size();
  std::vector<std::int64_t> pads = node.attrs.get_ints("pads", std::vector<std::int64_t>(2 * spatial, 0));
  if (pads.size() != 2 * spatial) return false;
  if (is_pool) {
    const bool counts = node.attrs.get_int("count_include_pad", 0) != 0;
    const bool has_own = std::any_of(pads.begin(), pads.end(), [](std::int64_t p) { return p != 0; });
    if ((has_own && !counts) || node.attrs.get_int("ceil_mode", 0) != 0) return false;
  }
  for (std::size_t i = 0; i < spatial; ++i) {
    pads[i] += outer->begin[i];
    pads[i + spatial] += outer->end[i];
  }
  if (is_pool) {
    const auto kernel = node.attrs.get_ints("kernel_shape");
    if (kernel.size() != spatial) return false;
    for (std::size_t i = 0; i < spatial; ++i) {
      if (pads[i] >= kernel[i] || pads[i + spatial] >= kernel[i]) return false;
    }
    node.attrs.set("count_include_pad", 1);
  }
  node.attrs.set("pads", pads);
  merge_sources(node, *pad);
  graph.set_input(&node, 0, pad->inputs[0]);
  erase_dead(pad);
  return true;
}

}  // namespace

int fold_pad(ir::Graph& graph, PassContext&) {
  int rewrites = 0;
  graph.for_each([&](Node& node) { rewrites += fold_into(graph, node) ? 1 : 0; });
  return rewrites;
}

}  // namespace lathe::passes
