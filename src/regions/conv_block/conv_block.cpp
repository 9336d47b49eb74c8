// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See conv_block.h.

#include "regions/conv_block/conv_block.h"

#include <algorithm>

namespace lathe::regions {

std::vector<ops::Region> propose_conv_block(const ir::Node& node) {
  std::vector<ops::Region> regions;
  if (!node.is("Conv") || !node.input(1) || !node.input(1)->is_constant()) return regions;
  if (node.input(2) && !node.input(2)->is_constant()) return regions;
  for (const Tail& tail : tails_behind(node.output())) {
    std::vector<const ir::Node*> nodes{&node};
    nodes.insert(nodes.end(), tail.nodes.begin(), tail.nodes.end());
    regions.push_back(make_region("conv_block", std::move(nodes)));
  }
  return regions;
}

ConvBlock match_conv_block(const ops::Region& region) {
  ConvBlock block;
  const auto conv = std::find_if(region.nodes.begin(), region.nodes.end(), [](const ir::Node* node) { return node->is("Conv"); });
  if (conv == region.nodes.end()) throw Error(Code::kInternal, "a conv_block region without a Conv");
  block.conv = *conv;
  block.x = block.conv->input(0);
  block.weight = block.conv->input(1);
  block.bias = block.conv->input(2);
  const auto tail = match_tail(region, *block.conv);
  if (!tail) throw Error(Code::kInternal, "a conv_block region that no tail explains").at_node(block.conv->name, block.conv->op);
  block.tail = *tail;
  return block;
}

}  // namespace lathe::regions
