// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Folding y = scale[c] * f(x) + shift[c] into the weights of f, for f a convolution, transposed convolution, Gemm or MatMul with
// constant weights. Used by the batch normalisation and the scale/bias passes. Computed in double, rounded once.

#include <optional>
#include <vector>

#include "ir/graph.h"

namespace lathe::passes {

struct ChannelAffine {
  std::vector<double> scale, shift;  ///< one per output channel; `shift` empty: none
};

/// Number of output channels of a node whose weights can take a per-channel affine map, else nullopt: a Conv, ConvTranspose or Gemm
/// with constant weights and bias that nothing else reads (small shared ones are copied), or a MatMul by a constant matrix.
std::optional<std::int64_t> foldable_channels(const ir::Node& node);

/// Applies the map. A MatMul takes no shift (precondition: shift is empty). False, and nothing changed, when a result would not be finite.
bool fold_affine(ir::Graph& graph, ir::Node& node, const ChannelAffine& affine);

/// True when `made` holds an infinity or NaN (an overflow of half precision, say) and `from`, which it was computed from, holds none.
bool adds_non_finite(const Tensor& made, const Tensor* from);

/// The elements of a constant as one per channel, when it broadcasts along `channel_axis` of an output of rank `rank` with `channels`
/// channels and along nothing else (a scalar counts). nullopt otherwise.
std::optional<std::vector<double>> per_channel(const ir::Value* constant, std::int64_t channel_axis, std::int64_t rank, std::int64_t channels);

}  // namespace lathe::passes
