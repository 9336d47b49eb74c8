// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Control flow that is decided already.
//
//   If(true)  {then_branch=G, else_branch=H}   ->  the nodes of G in place, its outputs for the If's
//
// The condition must be a constant, or a value whose propagated content is a number. Values keep the names that they had in the branch.

#include "passes/pass.h"
#include "passes/rewrite.h"

namespace lathe::passes {
namespace {

using ir::Graph;
using ir::Node;
using ir::Value;

std::optional<bool> decided(const Value* condition) {
  if (!condition) return std::nullopt;
  if (is_constant(condition) && condition->constant.size() == 1) return condition->constant.as_int64(0) != 0;
  if (condition->content && condition->content->size() == 1) {
    if (const auto number = (*condition->content)[0].constant()) return *number != 0;
  }
  return std::nullopt;
}

struct Spliced {
  std::vector<Value*> outputs;                        // stand for the branch's outputs
  std::vector<std::pair<Value*, std::string>> names;  // what the branch called its values
};

// Moves a copy of what `branch` holds in front of `before`.
Spliced splice(Graph& graph, const Graph& branch, Node* before, const Node& owner) {
  Spliced spliced;
  const ir::GraphPtr body = branch.clone(&graph);
  std::unordered_map<const Value*, Value*> map;
  const auto moved = [&](Value* value) {
    const auto found = map.find(value);
    return found == map.end() ? value : found->second;
  };
  for (Value* value : body->values()) {
    if (!value->is_constant()) continue;
    Value* constant = add_constant(graph, value->name + "_inlined", value->constant);
    constant->metadata = value->metadata;
    map.emplace(value, constant);
    spliced.names.emplace_back(constant, value->name);
  }
  for (Node* node : body->nodes()) {
    std::vector<Value*> inputs;
    for (Value* input : node->inputs) inputs.push_back(moved(input));
    std::vector<std::string> names;
    for (const Value* output : node->outputs) names.push_back(output ? graph.unique_name(output->name + "_inlined") : std::string());
    // Graphs nested deeper are cloned under their new parent, and then what they captured from the branch is redirected.
    ir::Attrs attrs;
    for (const auto& [key, attribute] : node->attrs) {
      ir::Attribute attr = attribute;
      if (auto* nested = std::get_if<ir::GraphPtr>(&attr.value)) *nested = (*nested)->clone(&graph);
      if (auto* list = std::get_if<std::vector<ir::GraphPtr>>(&attr.value)) {
        for (ir::GraphPtr& item : *list) item = item->clone(&graph);
      }
      attrs.set(key, std::move(attr));
    }
    Node* copy = graph.add_node(node->domain, node->op, std::move(inputs), std::move(names), std::move(attrs), before);
    for (const Graph* nested : ir::nested_graphs(*copy)) {
      ir::for_each_node_deep(*nested, [&](Node& inner) {
        for (std::size_t i = 0; i < inner.inputs.size(); ++i) {
          if (inner.inputs[i]) inner.graph->set_input(&inner, i, moved(inner.inputs[i]));
        }
      });
    }
    copy->name = node->name;
    copy->overload = node->overload;
    copy->doc = node->doc;
    copy->metadata = node->metadata;
    copy->unread = node->unread;
    copy->sources = node->sources;
    merge_sources(*copy, owner);
    for (std::size_t i = 0; i < node->outputs.size(); ++i) {
      if (!node->outputs[i]) continue;
      copy->outputs[i]->type = node->outputs[i]->type;
      copy->outputs[i]->content = node->outputs[i]->content;
      copy->outputs[i]->doc = node->outputs[i]->doc;
      map.emplace(node->outputs[i], copy->outputs[i]);
      spliced.names.emplace_back(copy->outputs[i], node->outputs[i]->name);
    }
  }
  for (Value* output : body->outputs()) spliced.outputs.push_back(moved(output));
  return spliced;
}

}  // namespace

int inline_branches(Graph& graph, PassContext&) {
  int rewrites = 0;
  graph.for_each([&](Node& node) {
    if (!node.is("If")) return;
    const auto taken = decided(node.input(0));
    if (!taken) return;
    ir::GraphPtr branch = node.attrs.get_graph(*taken ? "then_branch" : "else_branch");
    if (!branch || branch->outputs().size() != node.outputs.size()) return;
    const Spliced spliced = splice(graph, *branch, &node, node);
    for (std::size_t i = 0; i < spliced.outputs.size(); ++i) {
      Value* output = node.outputs[i];
      if (!output || graph.replace_all_uses(output, spliced.outputs[i])) continue;
      Node* identity = graph.add_node("", "Identity", {spliced.outputs[i]}, {graph.unique_name(output->name + "_result")}, {}, &node);
      identity->outputs[0]->type = output->type;
      merge_sources(*identity, node);
      graph.replace_all_uses(output, identity->outputs[0]);
    }
    erase_dead(&node);
    branch.reset();  // the names are free now
    for (const auto& [value, name] : spliced.names) {
      if (!value->is_graph_output() && graph.is_free(name)) graph.rename(value, name);
    }
    ++rewrites;
  });
  return rewrites;
}

}  // namespace lathe::passes
