// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The pattern "conv_siblings": two convolutions of one tensor with the same window and the same activation, as one product whose columns go to two
// tensors (the two 1x1 convolutions at the head of a C3 or CSP block, the branches of an inception block). The tensor is read once, and there is one
// step less. A convolution that a residual is added to stays out: that sum is worth more. Candidates exist for GPUs.

#include <array>
#include <optional>
#include <vector>

#include "regions/match.h"

namespace lathe::regions {

/// One of the two: the convolution and what its kernel applies behind it.
struct Sibling {
  const ir::Node* conv = nullptr;
  ir::Value *weight = nullptr, *bias = nullptr;  ///< constants; bias may be nullptr
  Tail tail;
  std::int64_t channels() const { return weight->constant.dims()[0]; }
};

struct ConvSiblings {
  ir::Value* x = nullptr;
  std::array<Sibling, 2> each;  ///< the first has a multiple of cuda::kSiblingColumns channels
};

/// Regions of this convolution with another of the same tensor; empty for any other node.
std::vector<ops::Region> propose_conv_siblings(const ir::Node& node);
ConvSiblings match_conv_siblings(const ops::Region& region);

}  // namespace lathe::regions
