// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Graph and Model: deep copies and topological order. Both must see through nested graphs: what a branch or loop body captures is an
// edge like any other.

#include <algorithm>
#include <queue>

#include "ir/graph.h"
#include "lathe/status.h"

namespace lathe::ir {
namespace {

// The nodes of `graph` whose values `node` or its nested graphs read, repeated per read.
void collect_producers(const Graph& graph, const Node& node, std::vector<Node*>& producers) {
  for (const Value* value : node.inputs) {
    if (value && value->graph == &graph && value->producer) producers.push_back(value->producer);
  }
  for (const Graph* nested : nested_graphs(node)) {
    for (const Node* inner : nested->nodes()) collect_producers(graph, *inner, producers);
  }
}

}  // namespace

void Graph::sort_topologically() {
  const std::vector<Node*> order = nodes();
  std::unordered_map<const Node*, std::size_t> index;
  for (std::size_t i = 0; i < order.size(); ++i) index.emplace(order[i], i);
  std::vector<std::vector<std::size_t>> consumers(order.size());
  std::vector<std::size_t> waiting(order.size(), 0);
  bool sorted = true;
  for (std::size_t i = 0; i < order.size(); ++i) {
    std::vector<Node*> producers;
    collect_producers(*this, *order[i], producers);
    for (const Node* producer : producers) {
      const std::size_t p = index.at(producer);
      consumers[p].push_back(i);
      ++waiting[i];
      sorted = sorted && p < i;
    }
  }
  if (sorted) return;
  // The ready node that stood first goes first: stable.
  std::priority_queue<std::size_t, std::vector<std::size_t>, std::greater<>> ready;
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (waiting[i] == 0) ready.push(i);
  }
  std::size_t placed = 0;
  while (!ready.empty()) {
    const std::size_t i = ready.top();
    ready.pop();
    move_before(order[i], nullptr);
    ++placed;
    for (const std::size_t c : consumers[i]) {
      if (--waiting[c] == 0) ready.push(c);
    }
  }
  if (placed == order.size()) return;
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (waiting[i] == 0) continue;
    throw Error(Code::kInvalidModel, "the graph has a cycle through " + order[i]->describe()).at_node(order[i]->name, order[i]->op);
  }
}

void Graph::copy_into(Graph& target, std::unordered_map<const Value*, Value*>& map) const {
  target.name = name;
  target.doc = doc;
  target.metadata = metadata;
  target.unread = unread;
  const auto copy_facts = [](const Value& source, Value& copy) {
    copy.type = source.type;
    copy.constant = source.constant;
    copy.content = source.content;
    copy.doc = source.doc;
    copy.metadata = source.metadata;
    copy.unread = source.unread;
  };
  for (const Value* input : inputs_) {
    Value* copy = target.add_input(input->name, input->type);
    copy_facts(*input, *copy);
    map.emplace(input, copy);
  }
  for (const auto& value : values_) {
    if (!value->is_constant()) continue;
    Value* copy = target.add_constant(value->name, value->constant);
    copy_facts(*value, *copy);
    map.emplace(value.get(), copy);
  }
  for (const auto& node : nodes_) {
    std::vector<Value*> node_inputs;
    node_inputs.reserve(node->inputs.size());
    for (Value* value : node->inputs) {
      const auto found = map.find(value);
      node_inputs.push_back(found == map.end() ? value : found->second);  // not in the map: captured from around
    }
    std::vector<std::string> output_names;
    for (const Value* value : node->outputs) output_names.push_back(value ? value->name : std::string());
    Node* copy = target.add_node(node->domain, node->op, std::move(node_inputs), std::move(output_names));
    copy->name = node->name;
    copy->sources = node->sources;
    copy->overload = node->overload;
    copy->doc = node->doc;
    copy->metadata = node->metadata;
    copy->unread = node->unread;
    for (std::size_t i = 0; i < node->outputs.size(); ++i) {
      if (!node->outputs[i]) continue;
      copy_facts(*node->outputs[i], *copy->outputs[i]);
      map.emplace(node->outputs[i], copy->outputs[i]);
    }
    const auto copy_graph = [&](const GraphPtr& graph) -> GraphPtr {
      if (!graph) return nullptr;
      auto nested = std::make_shared<Graph>(&target);
      graph->copy_into(*nested, map);
      return nested;
    };
    for (const auto& [key, attribute] : node->attrs) {
      Attribute attr = attribute;
      if (auto* graph = std::get_if<GraphPtr>(&attr.value)) {
        *graph = copy_graph(*graph);
      } else if (auto* graphs = std::get_if<std::vector<GraphPtr>>(&attr.value)) {
        for (GraphPtr& item : *graphs) item = copy_graph(item);
      }
      copy->attrs.set(key, std::move(attr));
    }
  }
  for (Value* output : outputs_) target.add_output(map.at(output));
}

GraphPtr Graph::clone(Graph* parent) const {
  auto copy = std::make_shared<Graph>(parent);
  std::unordered_map<const Value*, Value*> map;
  copy_into(*copy, map);
  return copy;
}

std::int64_t Model::opset() const {
  for (const char* key : {"", "ai.onnx"}) {
    const auto found = opset_imports.find(key);
    if (found != opset_imports.end()) return found->second;
  }
  return 1;
}

std::shared_ptr<Model> Model::clone() const {
  auto copy = std::make_shared<Model>(*this);
  if (graph) copy->graph = graph->clone();
  for (Function& function : copy->functions) {
    if (function.body) function.body = function.body->clone();
  }
  return copy;
}

}  // namespace lathe::ir
