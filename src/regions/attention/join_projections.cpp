// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See join_projections.h.

#include "regions/attention/join_projections.h"

#include <algorithm>
#include <cstring>

#include "regions/attention/attention.h"

namespace lathe::regions {
namespace {

struct Projection {
  ir::Value* result = nullptr;
  ir::Node *product = nullptr, *add = nullptr;
  ir::Value *weight = nullptr, *bias = nullptr;
  std::int64_t columns = 0;
};

/// value = x W [+ b], W and b constant, read by nodes of the region alone.
std::optional<Projection> projection_of(ir::Value* value, const ops::Region& region) {
  if (!value->producer || value->is_graph_output() || !value->has_shape() || value->graph != region.nodes.front()->graph) return std::nullopt;
  for (const ir::Use& use : value->uses)
    if (std::find(region.nodes.begin(), region.nodes.end(), use.node) == region.nodes.end()) return std::nullopt;
  Projection p;
  p.result = value;
  ir::Node* node = value->producer;
  if (node->is("Add")) {
    const int constant = node->input(0)->is_constant() ? 0 : 1;
    p.add = node;
    p.bias = node->input(static_cast<std::size_t>(constant));
    const ir::Value* sum = node->input(static_cast<std::size_t>(1 - constant));
    if (!p.bias->is_constant() || p.bias->constant.rank() != 1 || !sum->producer || sum->uses.size() != 1 || sum->is_graph_output()) return std::nullopt;
    node = sum->producer;
  }
  if (!node->is("MatMul") || node->graph != value->graph || !node->input(1)->is_constant() || node->input(1)->constant.rank() != 2) return std::nullopt;
  p.product = node;
  p.weight = node->input(1);
  p.columns = p.weight->constant.dims()[1];
  if (p.bias && (p.bias->constant.dims()[0] != p.columns || p.bias->dtype() != p.weight->dtype())) return std::nullopt;
  return p;
}

/// Constants of one row count (1 for a vector) side by side.
Tensor side_by_side(const std::vector<const Tensor*>& parts, std::int64_t rows, Dims dims) {
  Tensor joined(parts.front()->dtype(), std::move(dims));
  std::byte* to = joined.mutable_raw();
  for (std::int64_t row = 0; row < rows; ++row)
    for (const Tensor* part : parts) {
      const std::size_t bytes = part->bytes() / static_cast<std::size_t>(rows);
      std::memcpy(to, part->raw() + static_cast<std::size_t>(row) * bytes, bytes);
      to += bytes;
    }
  return joined;
}

Tensor zeros(DType dtype, std::int64_t count) {
  Tensor tensor(dtype, {count});
  std::memset(tensor.mutable_raw(), 0, tensor.bytes());
  return tensor;
}

ir::Value* typed(ir::Value* value, DType dtype, ir::Shape shape) {
  value->type.dtype = dtype;
  value->type.shape = std::move(shape);
  return value;
}

void join(ir::Graph& graph, const std::vector<Projection>& parts, JoinedConstants& joined) {
  const Projection& first = parts.front();
  const std::int64_t depth = first.weight->constant.dims()[0];
  std::int64_t columns = 0;
  std::vector<std::int64_t> sizes;
  std::vector<const Tensor*> weights, biases;
  std::vector<Tensor> none(parts.size());  // where the others have a bias: zeros
  const bool biased = std::any_of(parts.begin(), parts.end(), [](const Projection& part) { return part.bias; });
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const Projection& part = parts[i];
    columns += part.columns;
    sizes.push_back(part.columns);
    weights.push_back(&part.weight->constant);
    if (!biased) continue;
    if (!part.bias) none[i] = zeros(part.weight->dtype(), part.columns);
    biases.push_back(part.bias ? &part.bias->constant : &none[i]);
  }
  // The first of them in the graph's order: what they read is there, what reads them comes later.
  ir::Node* before = nullptr;
  for (ir::Node* node : graph.nodes())
    if (!before && std::any_of(parts.begin(), parts.end(), [&](const Projection& part) { return part.product == node; })) before = node;
  const auto constant = [&](const std::string& base, Tensor tensor, const auto& member) {
    ir::Value* value = graph.add_constant(graph.unique_name(base), std::move(tensor));
    for (const Projection& part : parts)
      if (part.*member) joined[value].push_back(part.*member);
    return value;
  };
  ir::Shape shape = first.result->shape();
  shape.back() = columns;
  const DType dtype = first.result->dtype();
  const std::string base = first.result->name + ".joined";
  std::vector<std::string> sources;
  for (const Projection& part : parts)
    for (const ir::Node* node : {part.product, part.add})
      if (node) sources.insert(sources.end(), node->sources.begin(), node->sources.end());
  ir::Value* weight = constant(first.weight->name + ".joined", side_by_side(weights, depth, {depth, columns}), &Projection::weight);
  ir::Node* node = graph.add_node("", "MatMul", {first.product->input(0), weight}, {graph.unique_name(base)}, {}, before);
  node->sources = sources;
  ir::Value* value = typed(node->output(), dtype, shape);
  if (biased) {
    ir::Value* bias = constant(first.weight->name + ".joined.bias", side_by_side(biases, 1, {columns}), &Projection::bias);
    node = graph.add_node("", "Add", {value, bias}, {graph.unique_name(base + ".biased")}, {}, before);
    node->sources = sources;
    value = typed(node->output(), dtype, shape);
  }
  Tensor split(DType::kInt64, {static_cast<std::int64_t>(sizes.size())});
  std::copy(sizes.begin(), sizes.end(), reinterpret_cast<std::int64_t*>(split.mutable_raw()));
  std::vector<std::string> names;
  for (const Projection& part : parts) names.push_back(graph.unique_name(part.result->name + ".part"));
  ir::Attrs attrs;
  attrs.set("axis", std::int64_t{-1});
  node = graph.add_node("", "Split", {value, graph.add_constant(graph.unique_name(base + ".sizes"), std::move(split))}, names, std::move(attrs), before);
  node->sources = sources;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const Projection& part = parts[i];
    ir::Value* piece = typed(node->output(i), dtype, part.result->shape());
    const std::string name = part.result->name;
    graph.replace_all_uses(part.result, piece);
    if (part.add) graph.erase(part.add);
    graph.erase(part.product);
    if (graph.is_free(name)) graph.rename(piece, name);
  }
}

}  // namespace

JoinedConstants join_projections(ir::Graph& graph, std::int64_t most_depth) {
  JoinedConstants joined;
  for (const ir::Node* node : graph.nodes()) {
    if (!node->is("MatMul") || !node->input(0) || !node->input(0)->producer) continue;
    const auto regions = propose_attention(*node);
    if (regions.empty()) continue;
    const AttentionBlock block = match_attention(regions.front());
    if (block.depth > most_depth || block.value_depth > most_depth) continue;
    std::vector<Projection> parts;
    bool good = true;
    for (ir::Value* value : {block.q.value, block.k.value, block.v.value}) {
      if (std::any_of(parts.begin(), parts.end(), [&](const Projection& part) { return part.result == value; })) continue;
      const auto part = projection_of(value, regions.front());
      good = good && part &&
             (parts.empty() ||
              (part->product->input(0) == parts[0].product->input(0) && part->weight->dtype() == parts[0].weight->dtype() && part->weight != parts[0].weight));
      if (!good) break;
      parts.push_back(*part);
    }
    if (good && parts.size() > 1) join(graph, parts, joined);
  }
  return joined;
}

}  // namespace lathe::regions
