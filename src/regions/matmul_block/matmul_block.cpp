// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See matmul_block.h.

#include "regions/matmul_block/matmul_block.h"

#include <algorithm>
#include <unordered_map>

namespace lathe::regions {
namespace {

std::vector<std::int64_t> permutation(const ir::Node& transpose) {
  std::vector<std::int64_t> perm = transpose.attrs.get_ints("perm");
  if (perm.empty() && transpose.output()->has_shape()) {
    for (std::size_t i = transpose.output()->shape().size(); i-- > 0;) perm.push_back(static_cast<std::int64_t>(i));
  }
  return perm;
}

/// One step up from an operand that only the block reads: nullptr when there is nothing to take along.
const ir::Node* prologue_step(const ir::Value* value, const ir::Graph* graph) {
  const ir::Node* node = value ? value->producer : nullptr;
  if (!node || node->graph != graph || !read_once(value)) return nullptr;
  ir::Value* operand = nullptr;
  if (node->is("Transpose") && node->input(0)->has_shape() && !node->input(0)->is_constant()) return node;
  return scaling(*node, operand) ? node : nullptr;
}

/// Nodes above an operand, nearest first, and what they come to.
struct Prologue {
  std::vector<const ir::Node*> nodes;
  ir::Value* source = nullptr;
  std::vector<std::int64_t> perm;
  float scale = 1;
};

/// `within` empty: as far as it goes; else only its members.
Prologue prologue_of(ir::Value* value, const ir::Graph* graph, const std::vector<const ir::Node*>* within) {
  Prologue p;
  p.source = value;
  while (p.nodes.size() < 4) {
    const ir::Node* node = prologue_step(p.source, graph);
    if (!node || (within && !contains(*within, node))) break;
    p.nodes.push_back(node);
    if (node->is("Transpose")) {
      const auto perm = permutation(*node);
      if (p.perm.empty()) p.perm = perm;
      else
        for (std::int64_t& axis : p.perm) axis = perm[static_cast<std::size_t>(axis)];
      p.source = node->input(0);
    } else {
      ir::Value* operand = nullptr;
      p.scale *= *scaling(*node, operand);
      p.source = operand;
    }
  }
  return p;
}

/// The scaling that alone reads the product, or nullptr.
const ir::Node* scale_behind(const ir::Value* value, const ir::Graph* graph) {
  if (!read_once(value)) return nullptr;
  const ir::Node* node = value->uses.front().node;
  ir::Value* operand = nullptr;
  return node->graph == graph && scaling(*node, operand) ? node : nullptr;
}

const ir::Node* transpose_behind(const ir::Value* value, const ir::Graph* graph) {
  if (!read_once(value) || !value->has_shape()) return nullptr;
  const ir::Node* node = value->uses.front().node;
  return node->graph == graph && node->is("Transpose") ? node : nullptr;
}

/// False where the columns would be contiguous only while a symbol is 1, as it may be at the hint.
bool keeps_columns(const ir::Node& transpose) {
  const auto perm = permutation(transpose);
  const ir::Shape& shape = transpose.input(0)->shape();
  const auto last = static_cast<std::int64_t>(perm.size()) - 1;
  const auto at = std::find(perm.begin(), perm.end(), last);
  if (at == perm.end() || shape.back() == ir::Dim(1)) return true;
  if (at - perm.begin() == 1 && perm.size() >= 3 && !transpose.output()->is_graph_output()) return true;  // stored channels-last
  return std::all_of(at + 1, perm.end(), [&](std::int64_t axis) { return shape[static_cast<std::size_t>(axis)].is_constant(); });
}

/// A matrix' two axes exchanged once more.
void swap_rows_columns(std::vector<std::int64_t>& perm) {
  if (perm.empty()) perm = {1, 0};
  else std::swap(perm[0], perm[1]);
}

/// A third input of Gemm that counts as bias: constant, one value per column or a single one.
bool is_bias(const ir::Node& gemm) {
  const ir::Value* c = gemm.input(2);
  return c && gemm.output()->has_shape() && is_per_channel(c, gemm.output()->shape(), -1);
}

}  // namespace

std::vector<ops::Region> propose_matmul_block(const ir::Node& node) {
  std::vector<ops::Region> regions;
  if (!node.is("MatMul") && !node.is("Gemm")) return regions;
  if (!node.input(0) || !node.input(1) || !node.output() || !node.output()->has_shape()) return regions;
  std::vector<const ir::Node*> before;
  // One product of a value with itself would read its operand twice.
  if (node.input(0) != node.input(1)) {
    for (std::size_t i : {std::size_t{0}, std::size_t{1}}) {
      const Prologue p = prologue_of(node.input(i), node.graph, nullptr);
      before.insert(before.end(), p.nodes.rbegin(), p.nodes.rend());
    }
  }
  // Gemm's own third input takes the residual's place when it is no bias.
  const bool residual_taken = node.is("Gemm") && node.input(2) && !is_bias(node);
  const auto offer = [&](const std::vector<const ir::Node*>& behind) {
    for (const bool with_prologue : {true, false}) {
      if (with_prologue && before.empty()) continue;
      std::vector<const ir::Node*> nodes = with_prologue ? before : std::vector<const ir::Node*>{};
      nodes.push_back(&node);
      nodes.insert(nodes.end(), behind.begin(), behind.end());
      regions.push_back(make_region("matmul_block", std::move(nodes)));
    }
  };
  std::vector<const ir::Node*> scale;
  const ir::Value* start = node.output();
  if (const ir::Node* behind = scale_behind(start, node.graph)) {
    scale.push_back(behind);
    start = behind->output();
  }
  for (const Tail& tail : tails_behind(start, -1)) {
    if (tail.residual && residual_taken) continue;
    std::vector<const ir::Node*> nodes = scale;
    nodes.insert(nodes.end(), tail.nodes.begin(), tail.nodes.end());
    if (const ir::Node* transpose = tail.residual ? nullptr : transpose_behind(tail.output, node.graph); transpose && keeps_columns(*transpose)) {
      nodes.push_back(transpose);
      offer(nodes);
      nodes.pop_back();
    }
    offer(nodes);
  }
  // Without anything around: what the generic kernel takes.
  if (!scale.empty()) offer({});
  return regions;
}

MatMulBlock match_matmul_block(const ops::Region& region) {
  MatMulBlock block;
  const auto found = std::find_if(region.nodes.begin(), region.nodes.end(), [](const ir::Node* n) { return n->is("MatMul") || n->is("Gemm"); });
  if (found == region.nodes.end()) throw Error(Code::kInternal, "a matmul_block region without a MatMul or Gemm");
  const ir::Node& node = **found;
  block.node = &node;
  std::size_t explained = 1;
  const auto operand = [&](std::size_t i, ir::Value*& value, std::vector<std::int64_t>& perm) {
    const Prologue p = prologue_of(node.input(i), node.graph, &region.nodes);
    value = p.source;
    perm = p.perm;
    block.scale *= p.scale;
    explained += p.nodes.size();
  };
  operand(0, block.a, block.perm_a);
  operand(1, block.b, block.perm_b);
  if (node.is("Gemm")) {
    if (node.attrs.get_int("transA", 0) != 0) swap_rows_columns(block.perm_a);
    block.trans_b = node.attrs.get_int("transB", 0) != 0;
    block.scale *= node.attrs.get_float("alpha", 1.0F);
    block.c = node.input(2);
    block.c_scale = node.attrs.get_float("beta", 1.0F);
  }
  const ir::Value* start = node.output();
  if (const ir::Node* behind = scale_behind(start, node.graph); behind && contains(region.nodes, behind)) {
    ir::Value* ignored = nullptr;
    const float factor = *scaling(*behind, ignored);
    block.scale *= factor;
    block.c_scale *= factor;
    start = behind->output();
    ++explained;
  }
  for (Tail& tail : tails_behind(start, -1)) {
    if (!std::all_of(tail.nodes.begin(), tail.nodes.end(), [&](const ir::Node* n) { return contains(region.nodes, n); })) continue;
    block.tail = std::move(tail);
    break;
  }
  explained += block.tail.nodes.size();
  if (const ir::Node* transpose = transpose_behind(block.tail.output, node.graph); transpose && contains(region.nodes, transpose)) {
    block.perm_out = permutation(*transpose);
    ++explained;
  }
  if (explained != region.nodes.size()) throw Error(Code::kInternal, "a matmul_block region with nodes that no match explains").at_node(node.name, node.op);
  return block;
}

int compute_wide_operands(ir::Graph& graph) {
  const auto behind_views = [](const ir::Value* value) {
    while (value->producer && !value->is_graph_output() && value->producer->domain.empty() &&
           (value->producer->is("Reshape") || value->producer->is("Unsqueeze") || value->producer->is("Squeeze") || value->producer->is("Flatten")))
      value = value->producer->input(0);
    return value;
  };
  std::unordered_map<const ir::Value*, ir::Value*> computed;
  int found = 0;
  graph.for_each([&](ir::Node& node) {
    if (!node.is("MatMul") || node.input(1)->is_constant()) return;
    for (std::size_t i = 0; i < 2; ++i) {
      ir::Value* operand = node.input(i);
      if (operand->dtype() != DType::kFloat32 || !(operand->is_constant() || behind_views(operand)->is_graph_output())) continue;
      ir::Value*& known = computed[operand];
      if (!known) {
        ir::Node* identity = graph.add_node("", "Identity", {operand}, {graph.unique_name(operand->name + "_operand")}, {}, &node);
        identity->sources = node.sources;
        identity->output()->type = operand->type;
        known = identity->output();
      }
      graph.set_input(&node, i, known);
      ++found;
    }
  });
  return found;
}

}  // namespace lathe::regions
