// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The verifier: checks every invariant that graph.h promises, in one walk over a graph and the graphs nested in it.

#include "ir/verify.h"

#include <algorithm>
#include <set>

#include "lathe/status.h"

namespace lathe::ir {
namespace {

class Verifier {
 public:
  std::vector<std::string> defects;

  void run(const Graph& root) {
    // What stands around `root` is taken as visible.
    for (const Graph* graph = root.parent(); graph; graph = graph->parent()) {
      for (const Value* value : graph->values()) {
        defined_.insert(value);
      }
    }
    visit(root);
    for (const Value* value : all_values_) check_uses(*value);
  }

 private:
  void report(std::string text) { defects.push_back(std::move(text)); }

  void visit(const Graph& graph) {
    std::vector<const Value*> scope;
    const auto define = [&](const Value* value) {
      defined_.insert(value);
      scope.push_back(value);
    };
    for (const Value* value : graph.values()) {
      all_values_.push_back(value);
      if (value->graph != &graph) report("value '" + value->name + "' lies in a graph that it does not name as its own");
      if (value->name.empty()) report("a value has no name");
      if (graph.find(value->name) != value) report("value '" + value->name + "' is not found by its name");
      for (const Graph* outer = graph.parent(); outer; outer = outer->parent()) {
        if (outer->find(value->name)) report("value '" + value->name + "' hides one of the same name in a graph around");
      }
      if (value->is_constant()) check_constant(*value);
      if (value->kind == ValueKind::kNodeOutput && !value->producer) report("value '" + value->name + "' has no producer");
      if (value->kind != ValueKind::kNodeOutput && value->producer) report("value '" + value->name + "' is no node output but has a producer");
      if (value->is_constant()) define(value);
      const auto listed = std::count(graph.outputs().begin(), graph.outputs().end(), value);
      if (listed != value->graph_output_count) report("value '" + value->name + "' counts its graph outputs wrongly");
    }
    for (const Value* input : graph.inputs()) {
      if (input->kind != ValueKind::kInput) report("graph input '" + input->name + "' has another kind");
      define(input);
    }
    for (const Node* node : graph.nodes()) visit_node(graph, *node, define);
    for (const Value* output : graph.outputs()) {
      if (output->graph != &graph) report("graph output '" + output->name + "' is a value of another graph");
      if (!defined_.contains(output)) report("graph output '" + output->name + "' is never defined");
    }
    for (const Value* value : scope) defined_.erase(value);
  }

  template <class Define>
  void visit_node(const Graph& graph, const Node& node, const Define& define) {
    if (node.graph != &graph) report(node.describe() + " lies in a graph that it does not name as its own");
    if (node.op.empty()) report("a node has no op type");
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      const Value* value = node.inputs[i];
      if (!value) continue;
      reads_.insert({value, {&node, static_cast<int>(i)}});
      if (!defined_.contains(value)) {
        report("input " + std::to_string(i) + " of " + node.describe() + " is used before it is defined, or lies in a graph that it cannot see");
      }
    }
    for (const Graph* nested : nested_graphs(node)) {
      if (nested->parent() != &graph) report("a graph nested in " + node.describe() + " names another graph as its parent");
      visit(*nested);
    }
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      const Value* value = node.outputs[i];
      if (!value) continue;
      if (value->producer != &node || value->producer_index != static_cast<int>(i)) {
        report("value '" + value->name + "' does not name " + node.describe() + " as its producer");
      }
      if (!defined_.insert(value).second) report("value '" + value->name + "' is defined twice");
      define(value);
    }
  }

  void check_constant(const Value& value) {
    if (!value.constant.defined()) {
      report("constant '" + value.name + "' has no data");
      return;
    }
    const auto dims = value.has_shape() ? constant_dims(value.shape()) : std::nullopt;
    if (value.dtype() != value.constant.dtype() || !dims || *dims != value.constant.dims()) {
      report("constant '" + value.name + "' has type " + value.type.to_string() + " but holds " + std::string(dtype_name(value.constant.dtype())) + " " +
             lathe::to_string(value.constant.dims()));
    }
  }

  void check_uses(const Value& value) {
    std::set<std::pair<const Node*, int>> seen;
    for (const Use& use : value.uses) {
      if (!seen.insert({use.node, use.index}).second) report("value '" + value.name + "' lists one use twice");
      if (!reads_.contains({&value, {use.node, use.index}})) report("value '" + value.name + "' lists a use that does not exist");
    }
    const auto first = reads_.lower_bound({&value, {nullptr, 0}});
    std::size_t reads = 0;
    for (auto it = first; it != reads_.end() && it->first == &value; ++it) ++reads;
    if (reads > seen.size()) report("value '" + value.name + "' misses a use");
  }

  std::set<const Value*> defined_;
  std::vector<const Value*> all_values_;
  std::set<std::pair<const Value*, std::pair<const Node*, int>>> reads_;
};

}  // namespace

std::vector<std::string> find_defects(const Graph& graph) {
  Verifier verifier;
  verifier.run(graph);
  return std::move(verifier.defects);
}

void verify(const Graph& graph, std::string_view after) {
  const auto defects = find_defects(graph);
  if (defects.empty()) return;
  std::string text = "the graph is unsound after " + std::string(after) + ':';
  for (std::size_t i = 0; i < defects.size() && i < 10; ++i) text += ' ' + defects[i] + ';';
  if (defects.size() > 10) text += " and " + std::to_string(defects.size() - 10) + " more;";
  text.pop_back();
  throw Error(Code::kInternal, text);
}

}  // namespace lathe::ir
