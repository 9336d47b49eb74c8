// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Reverse-mode differentiation: Gradient nodes become ordinary nodes that compute the derivatives, as a step of canonicalisation. What is
// left is a graph like any other: it is simplified, fused, held against the oracle, and can be differentiated again.

#include <vector>

#include "ir/graph.h"
#include "ops/expand_util.h"

namespace lathe::ops {

inline constexpr std::string_view kTrainingDomain = "ai.onnx.preview.training";
bool is_gradient(const ir::Node& node);

/// Replaces every Gradient of a canonical graph and its nested graphs; infers its shapes for that. False when there is none. Throws at the
/// node that cannot be differentiated, or at the Gradient that asks for what there is not.
bool replace_gradients(ir::Graph& graph);

/// The derivative of one node on the way back from y.
struct BackwardNode {
  Parts& parts;
  const ir::Node& node;
  std::vector<Value*> gradients;  ///< of y by the node's outputs; nullptr where y does not depend on one
  std::vector<bool> wanted;       ///< per input: what is differentiated by reaches it
  std::vector<Value*> results;    ///< of y by the node's inputs: what the rule gives
  std::vector<bool> given;        ///< per input: the rule knows it

  [[noreturn]] void fail(const std::string& why) const;
  void give(std::size_t input, Value* gradient);
};

/// How to differentiate through a node of an op, or nullptr.
using GradientRule = void (*)(BackwardNode& node);
GradientRule find_gradient_rule(const ir::Node& node);

/// True for ops whose floating results do not change with their inputs but in steps (Floor), or take no more than a shape from them.
bool is_locally_constant(const ir::Node& node);

/// `value` (a number of its type) at every element of a tensor of the shape of `like`.
Value* filled_like(Parts& parts, Value* like, double value);

}  // namespace lathe::ops
