// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See proposals.h: the list of anchored patterns, on one screen.

#include "builder/proposals.h"

#include "regions/conv_block/conv_block.h"

namespace lathe::builder {

std::vector<ops::Region> propose_anchored(const ir::Node& node) {
  constexpr std::vector<ops::Region> (*kPatterns[])(const ir::Node&) = {
      regions::propose_conv_block,
  };
  for (const auto propose : kPatterns)
    if (auto regions = propose(node); !regions.empty()) return regions;
  return {};
}

std::vector<ops::Region> propose_fused(const ir::Graph&, const NodeSet&) { return {}; }

ops::Region make_region(std::string pattern, std::vector<const ir::Node*> nodes) {
  return regions::make_region(std::move(pattern), std::move(nodes));
}

bool is_view(const ir::Node& node) {
  if (!node.domain.empty() || !node.output() || !node.input(0)) return false;
  if (node.input(0)->is_constant() || !node.input(0)->has_shape() || !node.output()->has_shape()) return false;
  return node.op == "Reshape" || node.op == "Flatten" || node.op == "Squeeze" || node.op == "Unsqueeze" || node.op == "Identity";
}

}  // namespace lathe::builder
