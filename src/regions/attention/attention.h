// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The pattern "attention": MatMul, [a constant factor], [Add of a mask], Softmax along the keys, [NaN to zero],
// MatMul, with the transpositions, splits and
// reshapes around them that only move elements: queries, keys and values are read where the projections left them (three slices of one
// buffer, say), and the result is written as the next projection reads it. Proposal and matching; the kernels are in attention.cuh.

#include <array>

#include "regions/strided_view.h"
#include "regions/match.h"

namespace lathe::regions {

/// `step` places along an axis of the operand's value for each index; axis -1: stands still.
struct Place {
  int axis = -1;
  std::int64_t step = 0;
  friend bool operator==(const Place&, const Place&) = default;
};

struct AttentionOperand {
  ir::Value* value = nullptr;
  std::vector<Place> batch;  ///< one per entry of AttentionBlock::batch
  Place row, column;
  std::vector<std::int64_t> offset;  ///< by axis of the value
};

struct AttentionBlock {
  AttentionOperand q, k, v, out;  ///< rows x columns: queries x depth, keys x depth, keys x value depth, queries x value depth
  AttentionOperand mask;          ///< value nullptr: none; queries x keys, added to the scaled scores
  std::vector<ir::Dim> batch;     ///< at most two
  ir::Dim queries, keys;
  std::int64_t depth = 0, value_depth = 0;
  float scale = 1;
  bool zeroes = false;  ///< the weights of a query without a key (all masked by -inf, or NaN) are zero instead of NaN
};

/// Alternatives for the second product of an attention, widest first; empty for any other node.
std::vector<ops::Region> propose_attention(const ir::Node& node);
AttentionBlock match_attention(const ops::Region& region);

}  // namespace lathe::regions
