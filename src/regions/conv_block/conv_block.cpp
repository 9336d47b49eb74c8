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

bool pairs_image(const ir::Node& conv, DType storage) {
  if (storage != DType::kFloat16 && storage != DType::kBFloat16) return false;
  const ir::Shape& shape = conv.input(0)->shape();
  const auto strides = conv.attrs.get_ints("strides"), dilations = conv.attrs.get_ints("dilations");
  const bool even_stride = !strides.empty() && strides.back() % 2 == 0, dilated = !dilations.empty() && dilations.back() != 1;
  // SAME_* pads follow from the extent, and the packed weights from the pads.
  const bool fixed_pads = !conv.attrs.get_string("auto_pad", "NOTSET").starts_with("SAME");
  return even_stride && !dilated && fixed_pads && ir::Dim::mod(shape.back(), 2) == ir::Dim(0);
}

std::int64_t image_channels(const ir::Node& conv, DType storage) {
  if (!conv.is("Conv") || conv.attrs.get_int("group", 1) != 1 || !conv.input(1) || !conv.input(1)->is_constant()) return 0;
  const ir::Shape& shape = conv.input(0)->shape();
  if (shape.size() < 3 || shape.size() > 4 || conv.input(1)->constant.dims().size() != shape.size()) return 0;
  const std::int64_t channels = conv.input(1)->constant.dims()[1];
  if (channels > 4 || pairs_image(conv, storage)) return channels > 4 ? 0 : 4;
  return storage == DType::kFloat16 || storage == DType::kBFloat16 ? 8 : 4;  // whole 16-byte pieces
}

}  // namespace lathe::regions
