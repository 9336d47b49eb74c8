// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// plan_rows: see value_plan.h.

#include <algorithm>
#include <unordered_set>

#include "builder/proposals.h"
#include "builder/value_plan.h"
#include "regions/conv_block/conv_block.h"

namespace lathe::builder {

using ops::Layout;

namespace {

constexpr std::int64_t kPiece = 8;  // elements: of 16 bits, what one wide access moves

bool is_half(DType type) { return type == DType::kFloat16 || type == DType::kBFloat16; }
bool is_stored(DType type) { return type == DType::kFloat32 || is_half(type); }

bool is_product(const ir::Node& node) { return node.is("MatMul") || node.is("Gemm"); }
bool is_convolution(const ir::Node& node) { return node.is("Conv") || node.is("ConvTranspose"); }

/// Made by a node of this kind, or by the pointwise tail behind one.
template <class Kind>
bool ends(const ir::Value* value, Kind kind, int depth = 4) {
  const ir::Node* node = value->producer;
  if (!node || depth == 0 || node->outputs.size() != 1) return false;
  if (kind(*node)) return true;
  return std::any_of(node->inputs.begin(), node->inputs.end(), [&](const ir::Value* input) {
    return input && !input->is_constant() && input->has_shape() && input->shape() == value->shape() && ends(input, kind, depth - 1);
  });
}

/// Reads or writes rows of any stride: neither a view, nor put together from or cut into parts, nor a graph of its own.
bool takes_strides(const ir::Node& node) {
  static const std::unordered_set<std::string> others{"Concat", "Split", "If", "Loop", "Scan", "SequenceInsert", "SequenceConstruct"};
  return node.domain.empty() && !is_view(node) && others.count(node.op) == 0;
}

/// Rows that fill no piece and are long enough for the surplus to be small.
bool wants_padding(const ir::Dim& extent) {
  const auto known = extent.constant();
  return known ? *known > kPiece && *known % kPiece != 0 : !(ir::Dim::mod(extent, kPiece) == ir::Dim(0));
}

void plan_image(const ir::Value* input, ValuePlans& plans) {
  std::int64_t channels = 0;
  for (const ir::Use& use : input->uses) {
    if (!use.node || !use.node->is("Conv") || use.index != 0) continue;
    const std::int64_t wanted = regions::image_channels(*use.node, plans.storage(input));
    if (wanted == 0 || (channels != 0 && wanted != channels)) return;  // readers that differ
    channels = wanted;
  }
  if (channels != 0 && input->shape()[1].constant().value_or(channels) % channels != 0) plans[input].rows = RowPadding{Layout::kChannelsLast, channels};
}

}  // namespace

void plan_rows(const ir::Graph& graph, ValuePlans& plans) {
  std::unordered_set<const ir::Value*> whole;  // values that others live in
  for (const ir::Value* value : graph.values())
    if (const ValuePlan* plan = plans.find(value); plan && plan->slice) whole.insert(plan->slice->parent);
  for (const ir::Value* input : graph.inputs())
    if (input->has_shape() && input->shape().size() >= 3 && is_stored(plans.storage(input))) plan_image(input, plans);
  for (const ir::Node* node : graph.nodes()) {
    if (node->graph != &graph) continue;
    for (const ir::Value* value : node->outputs) {
      if (!value || !value->has_shape() || value->shape().size() < 2 || !is_stored(plans.storage(value)) || whole.count(value)) continue;
      if (const ValuePlan* plan = plans.find(value); plan && plan->slice) continue;
      const ir::Shape& shape = value->shape();
      if (shape.size() >= 3 && shape[1].is_constant() && wants_padding(shape[1]) && !layouts_coincide(shape) && ends(value, is_convolution)) {
        plans[value].rows = RowPadding{Layout::kChannelsLast, kPiece};
        continue;
      }
      if (!wants_padding(shape.back()) || value->is_graph_output() || !takes_strides(*node)) continue;
      const bool fit = std::all_of(value->uses.begin(), value->uses.end(), [](const ir::Use& use) { return use.node && takes_strides(*use.node); });
      const bool read =
          std::any_of(value->uses.begin(), value->uses.end(), [](const ir::Use& use) { return use.node && is_product(*use.node) && use.index < 2; });
      if (fit && (read || ends(value, is_product))) plans[value].rows = RowPadding{Layout::kRowMajor, kPiece};
    }
  }
}

}  // namespace lathe::builder
