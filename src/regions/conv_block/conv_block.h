// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The pattern "conv_block": Conv (+ bias) + activation and residual in either order. Proposal and matching; the candidates are in
// conv_block_candidates.cpp, the kernels in conv_block_cpu.cpp.

#include "regions/match.h"

namespace lathe::regions {

struct ConvBlock {
  const ir::Node* conv = nullptr;
  ir::Value *x = nullptr, *weight = nullptr, *bias = nullptr;  ///< weight and bias (may be nullptr) are constants
  Tail tail;
};

/// Alternatives for a Conv with constant weights, widest first; empty for any other node.
std::vector<ops::Region> propose_conv_block(const ir::Node& node);
ConvBlock match_conv_block(const ops::Region& region);

/// Channels a pixel (the surplus ones zero) with which a GPU best stores a network's image of few channels that this Conv reads, given its storage
/// type; 0: as many as it has.
std::int64_t image_channels(const ir::Node& conv, DType storage);
/// The convolution of such an image is one of pairs of pixels, 4 channels each.
bool pairs_image(const ir::Node& conv, DType storage);

}  // namespace lathe::regions
