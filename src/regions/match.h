// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Matching helpers shared by the anchored patterns: making a region of nodes, and the tail behind a contraction (bias, activation,
// residual) that its kernels apply to the result before storing it.

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "ops/candidate.h"

namespace lathe::regions {

/// A region of exactly these nodes (topological order): inputs in first-use order, outputs = values used outside.
ops::Region make_region(std::string pattern, std::vector<const ir::Node*> nodes);

inline bool contains(const std::vector<const ir::Node*>& nodes, const ir::Node* node) { return std::find(nodes.begin(), nodes.end(), node) != nodes.end(); }
/// By one node, and no output of its graph.
inline bool read_once(const ir::Value* value) { return value->uses.size() == 1 && !value->is_graph_output(); }
/// The description of one of the region's inputs. Throws Error(kInternal) for any other value.
const plan::TensorDesc& input_desc(const ops::PlanRequest& request, const ir::Value* value);

/// The factor by which a Mul or Div multiplies its other operand (returned in `operand`), when that keeps the shape.
std::optional<float> scaling(const ir::Node& node, ir::Value*& operand);

/// result = act(x + bias [+ residual]) [+ residual]
struct Tail {
  std::vector<const ir::Node*> nodes;  ///< in order; empty = nothing behind the anchor
  const ir::Value* bias = nullptr;     ///< constant, one value per channel
  std::string activation;              ///< "" or a name that cpu::find_activation knows: "relu", "silu", ...
  float alpha = 0, beta = 0;
  const ir::Value* residual = nullptr;  ///< same shape as the result
  bool residual_after = false;          ///< added after the activation
  const ir::Value* output = nullptr;    ///< the value that the region makes
};

/// Tails behind `value` whose inner values nobody else reads, longest first; the last is the empty one. `channel_axis` (negative: from
/// the end) is the axis along which an added constant may vary to count as a bias; kNoBias: none is taken.
inline constexpr int kNoBias = 1000;
std::vector<Tail> tails_behind(const ir::Value* value, int channel_axis = kNoBias);
/// The tail that `region` (made from one of tails_behind(anchor's output)) holds.
std::optional<Tail> match_tail(const ops::Region& region, const ir::Node& anchor, int channel_axis = kNoBias);
/// activation, alpha, beta, residual_after as step parameters.
void write_tail(const Tail& tail, ir::Attrs& params);
/// True when the constant has one value per index of `channel_axis` of a tensor of this shape, or a single one.
bool is_per_channel(const ir::Value* constant, const ir::Shape& shape, int channel_axis);

}  // namespace lathe::regions
