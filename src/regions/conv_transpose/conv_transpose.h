// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The pattern "conv_transpose": ConvTranspose with constant weights (+ bias) + activation and residual in either order. Proposal and
// matching; the candidate is in conv_transpose_candidates.cpp, the kernel in conv_transpose_cpu.cpp.

#include "regions/match.h"

namespace lathe::regions {

struct ConvTransposeBlock {
  const ir::Node* node = nullptr;
  ir::Value *x = nullptr, *weight = nullptr, *bias = nullptr;  ///< bias may be nullptr
  Tail tail;
};

std::vector<ops::Region> propose_conv_transpose(const ir::Node& node);
ConvTransposeBlock match_conv_transpose(const ops::Region& region);

}  // namespace lathe::regions
