// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Pointwise work with per-channel constants into the weights in front of it:
//
//   f(x) * c, f(x) / c                      f: Conv, ConvTranspose, Gemm, MatMul       ->  weights and bias scaled
//   f(x) + c, f(x) - c, c - f(x)            f: Conv, ConvTranspose, Gemm               ->  bias shifted
//   (MatMul(x, W) + b) * c                                                             ->  MatMul(x, W * c) + b * c
//
// c must broadcast along the channel axis only (or be a single number) and not change the shape; f(x) must have no other user.
// Canonical choice: MatMul + Add stays MatMul + Add (the Add is a free epilogue, and MatMul has batches), Gemm stays Gemm.

#include <cmath>

#include "passes/channel_fold.h"
#include "passes/pass.h"
#include "passes/rewrite.h"

namespace lathe::passes {
namespace {

using ir::Graph;
using ir::Node;
using ir::Value;

std::int64_t channel_axis(const Node& f, std::int64_t rank) { return f.is("Conv") || f.is("ConvTranspose") ? 1 : rank - 1; }

// y = scale * f + shift for this node, with f = its non-constant operand.
std::optional<ChannelAffine> affine_of(const Node& node, const Value* operand, const Node& f, std::int64_t channels) {
  const auto rank = rank_of(operand);
  const Value* constant = other_operand(node, operand);
  if (!rank || !constant) return std::nullopt;
  const auto values = per_channel(constant, channel_axis(f, *rank), *rank, channels);
  if (!values) return std::nullopt;
  const bool constant_first = node.inputs[0] == constant;
  ChannelAffine affine;
  for (const double c : *values) {
    if (!std::isfinite(c)) return std::nullopt;
    if (node.op == "Mul") {
      affine.scale.push_back(c);
    } else if (node.op == "Div") {
      if (constant_first || c == 0 || !std::isfinite(1 / c)) return std::nullopt;
      affine.scale.push_back(1 / c);
    } else if (node.op == "Add") {
      affine.scale.push_back(1);
      affine.shift.push_back(c);
    } else if (node.op == "Sub") {
      affine.scale.push_back(constant_first ? -1 : 1);
      affine.shift.push_back(constant_first ? c : -c);
    } else {
      return std::nullopt;
    }
  }
  return affine;
}

void take_over(Graph& graph, Node& node, Node& f) {
  const std::string name = node.outputs[0]->name;
  merge_sources(f, node);
  Value* result = f.outputs[0];
  graph.replace_all_uses(node.outputs[0], result);
  erase_dead(&node);
  if (result->name != name) graph.rename(result, name);
}

bool into_weights(Graph& graph, Node& node) {
  for (Value* operand : node.inputs) {
    if (!operand || !single_use(operand) || !operand->producer || operand->graph != &graph) continue;
    Node& f = *operand->producer;
    const auto channels = foldable_channels(f);
    if (!channels || !same_type(node.outputs[0], operand)) continue;
    const auto affine = affine_of(node, operand, f, *channels);
    if (!affine || (f.is("MatMul") && !affine->shift.empty())) continue;
    if (!fold_affine(graph, f, *affine)) continue;
    take_over(graph, node, f);
    return true;
  }
  return false;
}

// (MatMul(x, W) + b) * c
bool across_matmul_bias(Graph& graph, Node& node) {
  if (!node.is("Mul") && !node.is("Div")) return false;
  Value* sum = node.inputs[0];
  Node* add = sole_producer(sum, "Add");
  if (!add || add->graph != &graph || !same_type(node.outputs[0], sum)) return false;
  Value* operand = add->inputs[0];
  Node* matmul = sole_producer(operand, "MatMul");
  if (!matmul || matmul->graph != &graph || !same_type(sum, operand)) return false;
  const auto channels = foldable_channels(*matmul);
  const auto rank = rank_of(operand);
  if (!channels || !rank) return false;
  const auto bias = per_channel(add->inputs[1], *rank - 1, *rank, *channels);
  const auto affine = affine_of(node, sum, *matmul, *channels);
  if (!bias || !affine) return false;
  Tensor scaled(add->inputs[1]->dtype(), {*channels});
  for (std::int64_t c = 0; c < *channels; ++c) {
    scaled.set_from_double(c, (*bias)[static_cast<std::size_t>(c)] * affine->scale[static_cast<std::size_t>(c)]);
  }
  if (adds_non_finite(scaled, &add->inputs[1]->constant) || !fold_affine(graph, *matmul, *affine)) return false;
  graph.set_input(add, 1, add_constant(graph, add->inputs[1]->name, std::move(scaled)));
  graph.rename(operand, graph.unique_name(operand->name + "_scaled"));
  take_over(graph, node, *add);
  return true;
}

}  // namespace

int fold_scale_bias(Graph& graph, PassContext&) {
  int rewrites = 0;
  graph.for_each([&](Node& node) {
    if (!(node.is("Mul") || node.is("Div") || node.is("Add") || node.is("Sub")) || node.inputs.size() != 2) return;
    if (into_weights(graph, node) || across_matmul_bias(graph, node)) ++rewrites;
  });
  return rewrites;
}

}  // namespace lathe::passes
