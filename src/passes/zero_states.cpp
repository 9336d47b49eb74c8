// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Initial states of recurrent layers that are zero, which is what a state left out means.
//
//   GRU(x, W, R, B, lens, Slice(ConstantOfShape(...) {value=0}))   ->  GRU(x, W, R, B, lens)
//   LSTM(..., h0 = 0, c0 = 0, P)                                   ->  LSTM(..., _, _, P)
//
// Zero is: a constant of zeros, ConstantOfShape of zero, and what only moves elements of such.

#include <algorithm>
#include <set>

#include "passes/pass.h"
#include "passes/rewrite.h"

namespace lathe::passes {
namespace {

using ir::Node;
using ir::Value;

bool is_zero(const Value* value, int depth = 0) {
  static const std::set<std::string_view> kMoves = {"Slice", "Reshape", "Expand",  "Transpose", "Squeeze", "Unsqueeze",
                                                    "Split", "Gather",  "Flatten", "Tile",      "Identity"};
  if (!value || depth > 8) return false;
  if (is_constant(value)) return is_splat(value, 0);
  const Node* node = value->producer;
  if (!node || !node->domain.empty()) return false;
  if (node->op == "ConstantOfShape") {
    const Tensor fill = node->attrs.get_tensor("value");
    return !fill.defined() || (fill.size() == 1 && fill.as_double(0) == 0);
  }
  if (node->op == "Concat") return std::all_of(node->inputs.begin(), node->inputs.end(), [&](const Value* v) { return is_zero(v, depth + 1); });
  return kMoves.contains(node->op) && is_zero(node->input(0), depth + 1);
}

}  // namespace

int zero_states(ir::Graph& graph, PassContext&) {
  int rewrites = 0;
  graph.for_each([&](Node& node) {
    const bool is_lstm = node.is("LSTM");
    if (!is_lstm && !node.is("GRU") && !node.is("RNN")) return;
    for (const std::size_t index : {std::size_t{5}, std::size_t{6}}) {
      Value* state = node.input(index);
      if ((index == 6 && !is_lstm) || !state || !is_zero(state)) continue;
      std::vector<Value*> inputs = node.inputs;
      inputs[index] = nullptr;
      while (!inputs.back()) inputs.pop_back();
      graph.set_inputs(&node, std::move(inputs));
      if (state->graph == &graph) erase_dead(state->producer);
      ++rewrites;
    }
  });
  return rewrites;
}

}  // namespace lathe::passes
