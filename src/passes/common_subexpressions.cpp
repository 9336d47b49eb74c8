// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Common subexpressions: equal constants (by content), then equal nodes.
//
//   a = Op(x, k1) {p=1}
//   b = Op(x, k2) {p=1}     k1 == k2    ->   b's users read a
//
// Nodes are equal when op, attributes (tensors by content, nested graphs by their text and the very values they capture), inputs and
// the presence of outputs agree. Ops that are not deterministic are never merged. A constant in a graph around may serve.

#include <algorithm>
#include <bit>
#include <map>
#include <unordered_map>

#include "ir/text.h"
#include "ops/registry.h"
#include "passes/pass.h"
#include "passes/rewrite.h"

namespace lathe::passes {
namespace {

using ir::Graph;
using ir::Node;
using ir::Value;

std::string pointer_text(const void* pointer) { return std::to_string(reinterpret_cast<std::uintptr_t>(pointer)); }

class KeyWriter {
 public:
  std::string key;

  void operator()(std::monostate) { key += "none"; }
  void operator()(float value) { add("f", std::to_string(std::bit_cast<std::uint32_t>(value))); }
  void operator()(std::int64_t value) { add("i", std::to_string(value)); }
  void operator()(const std::string& value) { add("s", std::to_string(value.size()) + ":" + value); }
  void operator()(const Tensor& value) { add("t", value.defined() ? std::to_string(value.content_hash()) + lathe::to_string(value.dims()) : "none"); }
  void operator()(const ir::GraphPtr& value) {
    if (!value) return add("g", "none");
    ir::PrintOptions options;
    options.sources = false;
    add("g", ir::print(*value, options));
    for (const Value* captured : ir::captured_values(*value)) add("c", pointer_text(captured));
  }
  void operator()(const ir::SparseTensor& value) {
    (*this)(value.values);
    (*this)(value.indices);
    (*this)(value.dims);
  }
  void operator()(const ir::Type& value) { add("y", value.to_string()); }
  template <class T>
  void operator()(const std::vector<T>& list) {
    add("l", std::to_string(list.size()));
    for (const T& item : list) (*this)(item);
  }

 private:
  void add(const char* tag, const std::string& text) {
    key += tag;
    key += text;
    key += ';';
  }
};

std::string node_key(const Node& node) {
  KeyWriter writer;
  writer(node.domain);
  writer(node.op);
  writer(node.overload);
  for (const Value* input : node.inputs) writer.key += pointer_text(input) + ',';
  for (const Value* output : node.outputs) writer.key += output ? 'o' : '_';
  for (const auto& [name, attribute] : node.attrs) {
    writer(name);
    if (!attribute.ref_name.empty()) writer(attribute.ref_name);
    std::visit(writer, attribute.value);
  }
  return writer.key;
}

bool is_deterministic(const Node& node) {
  bool deterministic = true;
  const auto check = [&](const Node& n) {
    const ops::OpDef* op = ops::find_op(n.domain, n.op);
    deterministic = deterministic && op && op->deterministic;
  };
  check(node);
  for (const Graph* nested : ir::nested_graphs(node)) ir::for_each_node_deep(*nested, check);
  return deterministic;
}

// Cheap to compute for big weights: type and both ends. Candidates are then compared in full.
std::string constant_key(const Value& value) {
  std::string key = value.type.to_string();
  const Tensor& tensor = value.constant;
  if (tensor.dtype() == DType::kString) return key;
  const std::size_t edge = std::min<std::size_t>(tensor.bytes(), 128);
  const auto* raw = reinterpret_cast<const char*>(tensor.raw());
  key.append(raw, edge);
  key.append(raw + tensor.bytes() - edge, edge);
  return key;
}

int merge_constants(Graph& graph) {
  std::unordered_map<std::string, std::vector<Value*>> groups;
  for (const Graph* around = graph.parent(); around; around = around->parent()) {
    for (Value* value : around->values()) {
      if (is_constant(value)) groups[constant_key(*value)].push_back(value);
    }
  }
  int merged = 0;
  for (Value* value : graph.values()) {
    if (!is_constant(value) || value->is_graph_output()) continue;
    auto& group = groups[constant_key(*value)];
    bool replaced = false;
    for (Value* earlier : group) {
      if (!earlier->constant.same_bytes(value->constant)) continue;
      if (!value->uses.empty()) {
        graph.replace_all_uses(value, earlier);
        ++merged;
      }
      replaced = true;
      break;
    }
    if (!replaced) group.push_back(value);
  }
  if (merged > 0) graph.erase_unused_constants();
  return merged;
}

}  // namespace

int common_subexpressions(Graph& graph, PassContext&) {
  int rewrites = merge_constants(graph);
  std::map<std::string, Node*> first;
  graph.for_each([&](Node& node) {
    if (node.outputs.empty() || !is_deterministic(node)) return;
    const auto [found, added] = first.emplace(node_key(node), &node);
    if (added) return;
    Node& earlier = *found->second;
    bool changed = false;
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      Value* value = node.outputs[i];
      if (!value || (value->uses.empty() && !value->is_graph_output())) continue;
      if (graph.replace_all_uses(value, earlier.outputs[i])) {
        changed = true;
      } else {
        // Both are graph outputs: the later becomes a copy of the earlier. Only single-output nodes, so that nothing is lost.
        if (node.outputs.size() != 1 || node.is("Identity")) continue;
        transmute(node, "Identity", {earlier.outputs[i]});
        changed = true;
      }
    }
    if (!changed) return;
    merge_sources(earlier, node);
    erase_dead(&node);
    ++rewrites;
  });
  return rewrites;
}

}  // namespace lathe::passes
