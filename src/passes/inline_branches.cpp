// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Control flow that is decided already.
//
//   If(true)  {then_branch=G, else_branch=H}   ->  the nodes of G in place, its outputs for the If's
//   Loop(2, _, v) {body=B}                     ->  the nodes of B twice, the second reading what the first gives; stacked outputs by Concat
//
// The condition, and a loop's count, must be a constant, or a value whose propagated content is a number. A loop is written out up to
// kMostTrips and kMostNodes, and only where its body never ends it early. Values keep the names that they had in a graph that is there
// once.

#include "ops/control/types.h"
#include "passes/pass.h"
#include "passes/rewrite.h"

namespace lathe::passes {
namespace {

constexpr std::int64_t kMostTrips = 8;
constexpr std::int64_t kMostNodes = 200;

using ir::Graph;
using ir::Node;
using ir::Value;
using ops::known_flag;
using ops::known_number;

struct Spliced {
  std::vector<Value*> outputs;                        // stand for the branch's outputs
  std::vector<std::pair<Value*, std::string>> names;  // what the branch called its values
};

// What inference found in a loop's body holds for any trip of it; in one that is written out, other things do.
void forget_trips(Graph& body) {
  const auto forget = [](Value* value) {
    if (!value || value->is_constant()) return;
    value->content.reset();
    if (!value->type.shape) return;
    for (const ir::Dim& dim : *value->type.shape) {
      if (!depends_on_data(dim)) continue;
      value->type.shape.reset();
      return;
    }
  };
  for (Value* value : body.values()) forget(value);
  for (const Node* node : body.nodes()) {
    for (Graph* nested : ir::nested_graphs(*node)) forget_trips(*nested);
  }
}

// Moves a copy of what `branch` holds in front of `before`; `actuals` stand for its inputs.
Spliced splice(Graph& graph, const Graph& branch, Node* before, const Node& owner, const std::vector<Value*>& actuals = {}) {
  Spliced spliced;
  const ir::GraphPtr body = branch.clone(&graph);
  std::unordered_map<const Value*, Value*> map;
  if (owner.is("Loop")) forget_trips(*body);
  for (std::size_t i = 0; i < actuals.size(); ++i) map.emplace(body->inputs()[i], actuals[i]);
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

void take_names(Graph& graph, const Spliced& spliced) {
  for (const auto& [value, name] : spliced.names) {
    if (!value->is_graph_output() && graph.is_free(name)) graph.rename(value, name);
  }
}

bool inline_if(Graph& graph, Node& node) {
  const auto taken = known_flag(node.input(0));
  if (!taken) return false;
  ir::GraphPtr branch = node.attrs.get_graph(*taken ? "then_branch" : "else_branch");
  if (!branch || branch->outputs().size() != node.outputs.size()) return false;
  const Spliced spliced = splice(graph, *branch, &node, node);
  take_over(graph, node, spliced.outputs);
  erase_dead(&node);
  branch.reset();  // the names are free now
  take_names(graph, spliced);
  return true;
}

// How often the body runs, when that is surely so.
std::optional<std::int64_t> trips_of(const Node& node, const Graph& body) {
  const auto starts = node.input(1) ? known_flag(node.input(1)) : std::optional(true);
  if (starts == false) return 0;
  const auto count = known_number(node.input(0));
  if (!count || !starts) return std::nullopt;
  if (*count > 1 && known_flag(body.outputs()[0]) != true) return std::nullopt;
  return std::max<std::int64_t>(*count, 0);
}

// A scalar as the body's formal has it: some exporters declare a vector of one.
Tensor as_declared(const Value& formal, Tensor scalar) { return formal.has_shape() && formal.shape().size() == 1 ? scalar.reshaped({1}) : scalar; }

bool unroll(Graph& graph, Node& node) {
  ir::GraphPtr body = node.attrs.get_graph("body");
  if (!body || node.inputs.size() < 2) return false;
  const std::size_t carried = node.inputs.size() - 2;
  if (body->inputs().size() != carried + 2 || body->outputs().size() != node.outputs.size() + 1 || node.outputs.size() < carried) return false;
  const auto trips = trips_of(node, *body);
  if (!trips || *trips > kMostTrips) return false;
  std::int64_t nodes = 0;
  ir::for_each_node_deep(*body, [&](Node&) { ++nodes; });
  if (*trips > 1 && *trips * nodes > kMostNodes) return false;
  std::vector<Value*> state(node.inputs.begin() + 2, node.inputs.end());
  for (std::size_t i = carried; i < node.outputs.size(); ++i) {
    const Value* stacked = node.outputs[i];
    if (*trips == 0 && stacked && (!stacked->uses.empty() || stacked->is_graph_output())) return false;
  }
  std::vector<std::vector<Value*>> stacks(node.outputs.size() - carried);
  Spliced spliced;
  std::vector<Node*> conditions;  // that nobody asks any more
  for (std::int64_t trip = 0; trip < *trips; ++trip) {
    Tensor yes(DType::kBool, {});
    yes.set_from_int64(0, 1);
    const auto constant = [&](std::size_t formal, const char* hint, const Tensor& tensor) -> Value* {
      const Value& value = *body->inputs()[formal];
      return value.uses.empty() && !value.is_graph_output() ? nullptr : add_constant(graph, hint, as_declared(value, tensor));
    };
    std::vector<Value*> actuals{constant(0, "trip", Tensor::scalar(trip)), constant(1, "goes_on", yes)};
    actuals.insert(actuals.end(), state.begin(), state.end());
    spliced = splice(graph, *body, &node, node, actuals);
    conditions.push_back(spliced.outputs[0]->producer);
    for (std::size_t k = 0; k < carried; ++k) state[k] = spliced.outputs[k + 1];
    for (std::size_t s = 0; s < stacks.size(); ++s) {
      if (!node.outputs[carried + s]) continue;
      Node* one = graph.add_node("", "Unsqueeze", {spliced.outputs[carried + s + 1], add_ints(graph, "axes", {0})},
                                 {graph.unique_name(node.outputs[carried + s]->name + "_part")}, {}, &node);
      merge_sources(*one, node);
      stacks[s].push_back(one->outputs[0]);
    }
  }
  std::vector<Value*> results = state;
  for (const auto& stack : stacks) {
    if (stack.size() < 2) {
      results.push_back(stack.empty() ? nullptr : stack.front());
      continue;
    }
    ir::Attrs axis;
    axis.set("axis", 0);
    Node* joined = graph.add_node("", "Concat", stack, {graph.unique_name(stack.front()->name + "_joined")}, std::move(axis), &node);
    merge_sources(*joined, node);
    results.push_back(joined->outputs[0]);
  }
  take_over(graph, node, results);
  erase_dead(&node);
  for (Node* condition : conditions) {
    if (condition && condition->graph == &graph) erase_dead(condition);
  }
  body.reset();
  if (*trips == 1) take_names(graph, spliced);
  return true;
}

}  // namespace

int inline_branches(Graph& graph, PassContext&) {
  int rewrites = 0;
  graph.for_each([&](Node& node) {
    if ((node.is("If") && inline_if(graph, node)) || (node.is("Loop") && unroll(graph, node))) ++rewrites;
  });
  return rewrites;
}

}  // namespace lathe::passes
