// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Expansion of model-local functions: each call becomes the function's nodes with the caller's inputs, attributes and names.

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "lathe/status.h"
#include "onnx/reader.h"

namespace lathe::onnx {
namespace {

using ir::Graph;
using ir::Node;
using ir::Value;

constexpr int kMaxDepth = 200;                  // of functions that call functions
constexpr int kMaxNesting = 128;                // of graphs in graphs that expansions make
constexpr std::int64_t kMaxNodes = 10'000'000;  // that all expansions together may make

class Inliner {
 public:
  explicit Inliner(ir::Model& model) {
    for (const ir::Function& function : model.functions) {
      if (!functions_.emplace(key(function.domain, function.name, function.overload), &function).second)
        throw Error(Code::kInvalidModel, fmt::format("two local functions are named {}", id_of(function)));
    }
  }

  void expand_graph(Graph& graph) {
    for (Node* node : graph.nodes()) expand_node(graph, *node);
  }

 private:
  using Key = std::tuple<std::string, std::string, std::string>;
  static Key key(const std::string& domain, const std::string& name, const std::string& overload) {
    return {domain == "ai.onnx" ? "" : domain, name, overload};
  }
  static std::string id_of(const ir::Function& function) {
    return fmt::format("'{}::{}{}{}'", function.domain, function.name, function.overload.empty() ? "" : ":", function.overload);
  }

  const ir::Function* find(const Node& node) const {
    const auto found = functions_.find(key(node.domain, node.op, node.overload));
    return found == functions_.end() ? nullptr : found->second;
  }

  void expand_node(Graph& graph, Node& node) {
    for (Graph* nested : ir::nested_graphs(node)) expand_graph(*nested);
    if (const ir::Function* function = find(node)) expand_call(graph, node, *function);
  }

  /// How many nodes a call becomes, calls inside expanded; throws on recursion. At most kMaxNodes is counted.
  std::int64_t size_of(const ir::Function& function, int depth) {
    const auto [at, added] = sizes_.emplace(&function, -1);
    if (!added) {
      if (at->second < 0) throw Error(Code::kInvalidModel, fmt::format("the local function {} calls itself", id_of(function)));
      return at->second;
    }
    if (depth > kMaxDepth) throw Error(Code::kInvalidModel, "local functions call each other more than 200 deep");
    std::int64_t size = 0;
    ir::for_each_node_deep(*function.body, [&](Node& node) {
      const ir::Function* inner = find(node);
      size = std::min(kMaxNodes + 1, size + (inner ? size_of(*inner, depth + 1) : 1));
    });
    sizes_[&function] = size;
    return size;
  }

  void expand_call(Graph& graph, Node& call, const ir::Function& function) {
    const std::string id = id_of(function);
    try {
      made_ += size_of(function, 0);
    } catch (Error& error) {
      throw error.at_node(call.name, call.op);
    }
    if (made_ > kMaxNodes) throw Error(Code::kInvalidModel, "the local functions expand to more than 10 million nodes").at_node(call.name, call.op);
    if (call.inputs.size() > function.body->inputs().size())
      throw Error(Code::kInvalidModel, fmt::format("the function {} takes {} inputs, {} are given", id, function.body->inputs().size(), call.inputs.size()))
          .at_node(call.name, call.op);
    std::map<const Value*, Value*> values;
    const auto& formals = function.body->inputs();
    for (std::size_t i = 0; i < formals.size(); ++i) values[formals[i]] = call.input(i);
    const std::string prefix = call.name.empty() ? function.name : call.name;
    const std::vector<Node*> copies = copy_nodes(*function.body, graph, &call, values, call, function, prefix);
    for (std::size_t i = 0; i < call.outputs.size(); ++i) {
      Value* old = call.outputs[i];
      if (!old) continue;
      if (i >= function.body->outputs().size())
        throw Error(Code::kInvalidModel, fmt::format("the function {} has no output {}", id, i)).at_node(call.name, call.op);
      Value* made = values.at(function.body->outputs()[i]);
      if (!made)
        throw Error(Code::kInvalidModel, fmt::format("the function {} returns an input that the call leaves out", id))
            .at_node(call.name, call.op)
            .at_tensor(old->name);
      const std::string name = old->name;
      const ir::Type type = old->type;
      if (made->kind != ir::ValueKind::kNodeOutput || made->graph != &graph || !graph.replace_all_uses(old, made)) {
        Node* identity = graph.add_node("", "Identity", {made}, {graph.unique_name(name)}, {}, &call);
        identity->sources = call.sources;
        made = identity->outputs[0];
        graph.replace_all_uses(old, made);
      }
      if (made->type.kind == ir::TypeKind::kUnknown) made->type = type;
      pending_names_.emplace_back(made, name);
    }
    graph.erase(&call);
    for (auto& [value, name] : pending_names_)
      if (value->name != name && !graph.find(name)) graph.rename(value, name);
    pending_names_.clear();
    for (Node* copy : copies) expand_node(graph, *copy);
  }

  std::vector<Node*> copy_nodes(const Graph& body, Graph& target, Node* before, std::map<const Value*, Value*>& values, const Node& call,
                                const ir::Function& function, const std::string& prefix) {
    std::vector<Node*> copies;
    for (const Node* node : body.nodes()) {
      // It names tensors of the function's body, which get other names where it is expanded.
      if (node->op == "Gradient" && node->domain == "ai.onnx.preview.training")
        throw Error(Code::kUnsupported, fmt::format("a Gradient inside the local function {} is not supported", function.name)).at_node(call.name, call.op);
      std::vector<Value*> inputs;
      for (const Value* input : node->inputs) inputs.push_back(input ? values.at(input) : nullptr);
      while (!inputs.empty() && !inputs.back()) inputs.pop_back();
      std::vector<std::string> names;
      for (const Value* output : node->outputs) names.push_back(output ? target.unique_name(prefix + "/" + output->name) : "");
      Node* copy = target.add_node(node->domain, node->op, std::move(inputs), names, {}, before);
      copy->name = prefix + "/" + (node->name.empty() ? node->op : node->name);
      copy->overload = node->overload;
      copy->doc = node->doc;
      copy->metadata = node->metadata;
      copy->unread = node->unread;
      copy->sources = call.sources;
      for (std::size_t i = 0; i < node->outputs.size(); ++i)
        if (node->outputs[i]) {
          values[node->outputs[i]] = copy->outputs[i];
          copy->outputs[i]->type = node->outputs[i]->type;
        }
      for (const auto& [name, attribute] : node->attrs) {
        if (attribute.ref_name.empty()) {
          copy->attrs.set(name, copy_attribute(attribute, target, values, call, function, prefix));
          continue;
        }
        const ir::Attribute* given = call.attrs.find(attribute.ref_name);
        if (!given) given = function.attribute_defaults.find(attribute.ref_name);
        if (given) copy->attrs.set(name, *given);  // absent and without default: the inner op's own default
      }
      copies.push_back(copy);
    }
    return copies;
  }

  ir::Attribute copy_attribute(const ir::Attribute& attribute, Graph& target, std::map<const Value*, Value*>& values, const Node& call,
                               const ir::Function& function, const std::string& prefix) {
    int nesting = 0;
    for (const Graph* g = &target; g; g = g->parent()) ++nesting;
    if (nesting > kMaxNesting) throw Error(Code::kInvalidModel, "the local functions expand to graphs nested too deeply").at_node(call.name, call.op);
    const auto copy_graph = [&](const ir::GraphPtr& inner) {
      auto copy = std::make_shared<Graph>(&target);
      copy->name = inner->name;
      for (Value* input : inner->inputs()) values[input] = copy->add_input(copy->unique_name(prefix + "/" + input->name), input->type);
      for (Value* value : inner->values())
        if (value->is_constant()) values[value] = copy->add_constant(copy->unique_name(prefix + "/" + value->name), value->constant);
      copy_nodes(*inner, *copy, nullptr, values, call, function, prefix);
      for (Value* output : inner->outputs()) copy->add_output(values.at(output));
      return copy;
    };
    ir::Attribute result = attribute;
    if (const auto* inner = std::get_if<ir::GraphPtr>(&attribute.value)) result.value = ir::GraphPtr(copy_graph(*inner));
    if (const auto* list = std::get_if<std::vector<ir::GraphPtr>>(&attribute.value)) {
      std::vector<ir::GraphPtr> copies;
      for (const auto& inner : *list) copies.push_back(copy_graph(inner));
      result.value = std::move(copies);
    }
    return result;
  }

  std::map<Key, const ir::Function*> functions_;
  std::map<const ir::Function*, std::int64_t> sizes_;  // -1: being counted
  std::int64_t made_ = 0;
  std::vector<std::pair<Value*, std::string>> pending_names_;
};

}  // namespace

void inline_functions(ir::Model& model) {
  if (model.functions.empty()) return;
  Inliner(model).expand_graph(*model.graph);
  // Operator sets that only function bodies import are still needed by the expanded nodes.
  for (const ir::Function& function : model.functions)
    for (const auto& [domain, version] : function.opset_imports) {
      const auto [at, added] = model.opset_imports.emplace(domain, version);
      if (!added && at->second != version && domain.empty())
        throw Error(Code::kUnsupported, fmt::format("the function '{}' uses opset {}, the model opset {}", function.name, version, at->second))
            .with_remedy("Convert the model to one opset with onnx.version_converter.");
    }
  model.functions.clear();
}

}  // namespace lathe::onnx
