// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See conv_transpose.h.

#include "regions/conv_transpose/conv_transpose.h"

#include <algorithm>

namespace lathe::regions {

std::vector<ops::Region> propose_conv_transpose(const ir::Node& node) {
  std::vector<ops::Region> regions;
  if (!node.is("ConvTranspose") || !node.input(0) || !node.input(1) || !node.input(1)->is_constant()) return regions;
  if (node.input(2) && !node.input(2)->is_constant()) return regions;
  if (!node.output() || !node.output()->has_shape()) return regions;
  for (const Tail& tail : tails_behind(node.output())) {
    std::vector<const ir::Node*> nodes{&node};
    nodes.insert(nodes.end(), tail.nodes.begin(), tail.nodes.end());
    regions.push_back(make_region("conv_transpose", std::move(nodes)));
  }
  return regions;
}

ConvTransposeBlock match_conv_transpose(const ops::Region& region) {
  const auto found = std::find_if(region.nodes.begin(), region.nodes.end(), [](const ir::Node* node) { return node->is("ConvTranspose"); });
  if (found == region.nodes.end()) throw Error(Code::kInternal, "a conv_transpose region without a ConvTranspose");
  ConvTransposeBlock block;
  block.node = *found;
  block.x = block.node->input(0);
  block.weight = block.node->input(1);
  block.bias = block.node->input(2);
  auto tail = match_tail(region, *block.node);
  if (!tail) throw Error(Code::kInternal, "a conv_transpose region that no tail explains").at_node(block.node->name, block.node->op);
  block.tail = std::move(*tail);
  return block;
}

}  // namespace lathe::regions
