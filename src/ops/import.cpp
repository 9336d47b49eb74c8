// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Validation and opset upgrade of a whole model.
#include "ops/import.h"

#include <algorithm>
#include <set>

#include "ops/registry.h"
#include "ops/training/gradient.h"
#include "ops/validate.h"

namespace lathe::ops {
namespace {

using Imports = std::map<std::string, std::int64_t>;
using FunctionKeys = std::set<std::pair<std::string, std::string>>;

std::int64_t opset_of(const Imports& imports, const std::string& domain) {
  if (const auto it = imports.find(domain); it != imports.end()) return it->second;
  if (domain.empty()) {
    if (const auto it = imports.find("ai.onnx"); it != imports.end()) return it->second;
  }
  return -1;
}

FunctionKeys function_keys(const ir::Model& model) {
  FunctionKeys keys;
  for (const auto& f : model.functions) keys.emplace(f.domain, f.name);
  return keys;
}

const OpDef* definition(const ir::Node& node, const FunctionKeys& functions) {
  if (functions.count({node.domain, node.op})) return nullptr;  // a local function shadows
  return find_op(node.domain, node.op);
}

void check_graph(const ir::Graph& graph, const Imports& imports, const FunctionKeys& functions, std::vector<Error>& defects) {
  ir::for_each_node_deep(graph, [&](ir::Node& node) {
    const OpDef* op = definition(node, functions);
    if (!op) return;
    const std::int64_t opset = opset_of(imports, node.domain == "ai.onnx" ? "" : node.domain);
    if (opset < 0) {
      defects.push_back(node_error(node, "the model imports no opset of domain '" + node.domain + "'"));
      return;
    }
    const VersionDef* version = version_at(*op, opset);
    if (!version) {
      auto error = node_error(
          node, node.op + " exists since opset " + std::to_string(op->versions.front().since) + "; the model imports opset " + std::to_string(opset));
      defects.push_back(error.with_remedy("Raise the model's opset import."));
      return;
    }
    const Schema& schema = schema_of(*op, *version);
    check_node_form(node, schema, defects);
    check_node_types(node, schema, true, defects);
  });
}

/// The version's defaults that the newest version states differently become explicit, so that later reads see what the file meant.
void keep_old_defaults(ir::Node& node, const Schema& from, const Schema& to) {
  for (const auto& old : from.attributes) {
    if (!old.default_value || node.attrs.has(old.name)) continue;
    const AttributeDef* now = to.attribute(old.name);
    if (now && (!now->default_value || now->default_value->value.index() != old.default_value->value.index() || [&] {
          const auto& a = now->default_value->value;
          const auto& b = old.default_value->value;
          if (const auto* x = std::get_if<std::int64_t>(&a)) return *x != std::get<std::int64_t>(b);
          if (const auto* x = std::get_if<float>(&a)) return *x != std::get<float>(b);
          if (const auto* x = std::get_if<std::string>(&a)) return *x != std::get<std::string>(b);
          if (const auto* x = std::get_if<std::vector<std::int64_t>>(&a)) return *x != std::get<std::vector<std::int64_t>>(b);
          return false;
        }())) {
      node.attrs.set(old.name, *old.default_value);
    }
  }
}

void upgrade_graph(const ir::Graph& graph, const Imports& imports, const FunctionKeys& functions) {
  std::vector<ir::Node*> nodes;  // collected first: upgrades insert nodes, which are canonical already
  ir::for_each_node_deep(graph, [&](ir::Node& node) { nodes.push_back(&node); });
  // Nodes with nested graphs come last, inner ones first: their upgrades may move those graphs.
  const auto with_graphs = std::stable_partition(nodes.begin(), nodes.end(), [](const ir::Node* node) { return ir::nested_graphs(*node).empty(); });
  std::reverse(with_graphs, nodes.end());
  for (ir::Node* node : nodes) {
    const OpDef* op = definition(*node, functions);
    if (!op) continue;
    if (node->domain == "ai.onnx") node->domain.clear();
    const VersionDef* version = version_at(*op, opset_of(imports, node->domain));
    // Left-out inputs at the end are as good as absent, and nobody should have to think of them.
    const std::size_t least = version ? least_inputs(schema_of(*op, *version)) : 0;
    std::vector<ir::Value*> given = node->inputs;
    while (given.size() > least && !given.back()) given.pop_back();
    if (given.size() < node->inputs.size()) node->graph->set_inputs(node, std::move(given));
    if (!version || version == &op->versions.back()) continue;
    if (op->upgrade) {
      for (const auto& [name, attribute] : node->attrs) {
        if (!attribute.ref_name.empty()) {
          throw node_error(*node, "cannot be upgraded while attribute '" + name + "' refers to a function's attribute", Code::kUnsupported)
              .with_remedy("Inline the model's functions first.");
        }
      }
    }
    const Schema& from = schema_of(*op, *version);
    keep_old_defaults(*node, from, newest_schema(*op));
    if (op->upgrade) {
      UpgradeContext context{*node->graph, *node, version->since};
      try {
        op->upgrade(context);
      } catch (const Error& error) {
        rethrow_at(*node, error);
      }
    }
  }
}

Imports canonical(Imports imports) {
  if (const auto it = imports.find("ai.onnx"); it != imports.end()) {
    imports[""] = std::max(imports.count("") ? imports[""] : 0, it->second);
    imports.erase(it);
  }
  if (auto it = imports.find(""); it != imports.end() && it->second < kCanonicalOpset) it->second = kCanonicalOpset;
  // Not to version 5, which withdrew two operators whose meaning no other has.
  constexpr std::int64_t kCanonicalMl = 4;
  if (auto it = imports.find("ai.onnx.ml"); it != imports.end() && it->second < kCanonicalMl) it->second = kCanonicalMl;
  return imports;
}

}  // namespace

Value* UpgradeContext::constant(std::string_view hint, Tensor tensor) { return graph.add_constant(graph.unique_name(hint), std::move(tensor)); }

std::vector<Error> find_node_defects(const ir::Model& model) {
  std::vector<Error> defects;
  const FunctionKeys functions = function_keys(model);
  if (model.graph) check_graph(*model.graph, model.opset_imports, functions, defects);
  for (const auto& f : model.functions) {
    if (f.body) check_graph(*f.body, f.opset_imports, functions, defects);
  }
  if (!model.source.empty()) {
    for (auto& d : defects) d.in_source(model.source);
  }
  return defects;
}

void upgrade_nodes(ir::Graph& graph, const Imports& opset_imports) { upgrade_graph(graph, opset_imports, {}); }

void canonicalise_opsets(ir::Model& model) {
  auto defects = find_node_defects(model);
  if (!defects.empty()) {
    Error first = defects.front();
    if (defects.size() > 1) {
      Error counted(first.code(), first.message() + " (and " + std::to_string(defects.size() - 1) + " more defects: run `lathe check`)");
      counted.at_node(first.node(), first.op());
      if (!first.tensor().empty()) counted.at_tensor(first.tensor());
      if (!first.source().empty()) counted.in_source(first.source());
      if (!first.remedy().empty()) counted.with_remedy(first.remedy());
      throw counted;
    }
    throw first;
  }
  const FunctionKeys functions = function_keys(model);
  if (model.graph) upgrade_graph(*model.graph, model.opset_imports, functions);
  for (auto& f : model.functions) {
    if (f.body) upgrade_graph(*f.body, f.opset_imports, functions);
    f.opset_imports = canonical(std::move(f.opset_imports));
  }
  model.opset_imports = canonical(std::move(model.opset_imports));
  if (model.graph && !functions.count({std::string(kTrainingDomain), "Gradient"}) && replace_gradients(*model.graph)) {
    model.opset_imports.emplace("", kCanonicalOpset);  // derivatives are made of its operators
  }
}

}  // namespace lathe::ops
