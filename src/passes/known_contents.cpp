// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Values whose elements shape inference knows.
//
//   known_contents:  any chain of Shape / Gather / Concat / arithmetic whose content is all numbers  ->  a constant
//   equal_contents:  two such values with the same symbolic content, [batch, 12*seq]                  ->  the earlier one
//
// Content is known in two ways: Value::content (value propagation by the shape rules), and by what a Shape or Size reads.

#include <map>

#include "passes/pass.h"
#include "passes/rewrite.h"

namespace lathe::passes {
namespace {

using ir::Dim;
using ir::Graph;
using ir::Node;
using ir::Value;

bool holds_integers(const Value& value) { return value.type.is_tensor() && value.has_shape() && (is_integer(value.dtype()) || value.dtype() == DType::kBool); }

std::optional<Tensor> constant_content(const Value& value) {
  if (!holds_integers(value) || !value.content) return std::nullopt;
  const auto dims = ir::constant_dims(value.shape());
  if (!dims || element_count(*dims) != static_cast<std::int64_t>(value.content->size())) return std::nullopt;
  Tensor tensor(value.dtype(), *dims);
  for (std::size_t i = 0; i < value.content->size(); ++i) {
    const auto number = (*value.content)[i].constant();
    if (!number) return std::nullopt;
    tensor.set_from_int64(static_cast<std::int64_t>(i), *number);
  }
  return tensor;
}

std::optional<std::string> content_key(const Value& value) {
  if (!holds_integers(value) || !value.content || value.content->empty()) return std::nullopt;
  bool symbolic = false;
  for (const Dim& dim : *value.content) {
    if (depends_on_data(dim)) return std::nullopt;
    symbolic = symbolic || !dim.is_constant();
  }
  if (!symbolic) return std::nullopt;  // known_contents makes a constant of it
  return value.type.to_string() + ir::to_string(*value.content);
}

}  // namespace

int known_contents(Graph& graph, PassContext&) {
  int rewrites = 0;
  graph.for_each([&](Node& node) {
    for (std::size_t i = 0; i < node.outputs.size() && node.graph; ++i) {
      if (!node.outputs[i] || node.is("Identity") || node.is("Constant")) continue;
      const auto tensor = constant_content(*node.outputs[i]);
      if (tensor && replace_by_constant(node, i, *tensor)) ++rewrites;
    }
  });
  return rewrites;
}

int equal_contents(Graph& graph, PassContext&) {
  int rewrites = 0;
  std::map<std::string, Value*> first;
  graph.for_each([&](Node& node) {
    bool replaced = false;
    for (Value* output : node.outputs) {
      const auto key = output ? content_key(*output) : std::nullopt;
      if (!key) continue;
      const auto [found, added] = first.emplace(*key, output);
      if (added || output->uses.empty() || output->is_graph_output()) continue;
      Value* earlier = found->second;
      // The earlier one may have died meanwhile, with a chain that only it fed.
      if (!earlier->producer || !earlier->producer->graph) {
        found->second = output;
        continue;
      }
      graph.replace_all_uses(output, earlier);
      merge_sources(*earlier->producer, node);
      replaced = true;
      ++rewrites;
    }
    if (replaced) erase_dead(&node);
  });
  return rewrites;
}

}  // namespace lathe::passes
