// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See conv_siblings.h.

#include "regions/conv_siblings/conv_siblings.h"

#include <algorithm>

#include "backend/cuda/kernels/gemm_plan.h"

namespace lathe::regions {
namespace {

std::optional<Sibling> sibling_of(const ir::Node& node) {
  if (!node.is("Conv") || node.attrs.get_int("group", 1) != 1 || !node.input(0) || node.input(0)->is_constant()) return std::nullopt;
  Sibling half;
  half.conv = &node;
  half.weight = node.input(1);
  half.bias = node.input(2);
  if (!half.weight || !half.weight->is_constant() || half.weight->constant.dims().size() < 3 || half.channels() < 1) return std::nullopt;
  if (half.bias && !half.bias->is_constant()) return std::nullopt;
  half.tail = tails_behind(node.output()).front();
  return half.tail.residual ? std::nullopt : std::optional(std::move(half));
}

/// Window and activation. Attributes that are left out have the defaults that canonical nodes need not state.
bool same_work(const Sibling& a, const Sibling& b) {
  const Dims &x = a.weight->constant.dims(), &y = b.weight->constant.dims();
  const ir::Attrs &p = a.conv->attrs, &q = b.conv->attrs;
  for (const char* list : {"strides", "pads", "dilations"})
    if (p.get_ints(list) != q.get_ints(list)) return false;
  return std::equal(x.begin() + 1, x.end(), y.begin() + 1, y.end()) && p.get_string("auto_pad", "NOTSET") == q.get_string("auto_pad", "NOTSET") &&
         a.tail.activation == b.tail.activation && a.tail.alpha == b.tail.alpha && a.tail.beta == b.tail.beta;
}

bool splits(const Sibling& first) { return first.channels() % cuda::kSiblingColumns == 0; }

void take_nodes(const Sibling& half, std::vector<const ir::Node*>& nodes) {
  nodes.push_back(half.conv);
  nodes.insert(nodes.end(), half.tail.nodes.begin(), half.tail.nodes.end());
}

}  // namespace

std::vector<ops::Region> propose_conv_siblings(const ir::Node& node) {
  std::vector<ops::Region> regions;
  const auto own = sibling_of(node);
  if (!own) return regions;
  for (const ir::Use& use : node.input(0)->uses) {
    if (use.node == &node || use.node->graph != node.graph || use.node->input(0) != node.input(0)) continue;
    const auto other = sibling_of(*use.node);
    if (!other || !same_work(*own, *other) || (!splits(*own) && !splits(*other))) continue;
    std::vector<const ir::Node*> nodes;
    take_nodes(*other, nodes);
    take_nodes(*own, nodes);
    regions.push_back(make_region("conv_siblings", std::move(nodes)));
  }
  return regions;
}

ConvSiblings match_conv_siblings(const ops::Region& region) {
  ConvSiblings match;
  std::size_t found = 0;
  std::vector<const ir::Node*> nodes;
  for (const ir::Node* node : region.nodes)
    if (auto half = node->is("Conv") ? sibling_of(*node) : std::nullopt; half && found < 2) {
      take_nodes(*half, nodes);
      match.each[found++] = std::move(*half);
    }
  if (found != 2 || nodes != region.nodes || !same_work(match.each[0], match.each[1]))
    throw Error(Code::kInternal, "a conv_siblings region that is not two convolutions of one tensor");
  match.x = match.each[0].conv->input(0);
  if (!splits(match.each[0])) std::swap(match.each[0], match.each[1]);
  return match;
}

}  // namespace lathe::regions
