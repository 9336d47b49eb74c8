// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Graph: values, nodes, uses and names. Uses are kept exact across nested graphs: a nested node that reads a value of a graph around
// it is listed in that value's uses, and leaves the list when its graph dies. Cloning and sorting lie in graph_order.cpp.

#include "ir/graph.h"

#include <algorithm>

#include "lathe/status.h"

namespace lathe::ir {

/// How often each name occurs in a tree of nested graphs (sibling branches may repeat names). Names that were given up stay, with 0: a
/// new value must not take the name of a tensor that it is not.
struct NameTable {
  std::unordered_map<std::string, int> count;
  std::unordered_map<std::string, std::int64_t> next;  ///< suffix to try first, by base name
  void add(const std::string& name) { ++count[name]; }
  void remove(const std::string& name) {
    const auto found = count.find(name);
    if (found != count.end()) --found->second;
  }
};

std::string Node::describe() const {
  std::string text = domain.empty() ? op : domain + "::" + op;
  const std::string& label = !name.empty() ? name : !sources.empty() ? sources[0] : name;
  if (!label.empty()) return text + " '" + label + "'";
  for (const Value* value : outputs) {
    if (value) return text + " (output '" + value->name + "')";
  }
  return text;
}

std::vector<Graph*> nested_graphs(const Node& node) {
  std::vector<Graph*> graphs;
  for (const auto& [name, attribute] : node.attrs) {
    if (const auto* graph = std::get_if<GraphPtr>(&attribute.value)) {
      if (*graph) graphs.push_back(graph->get());
    } else if (const auto* list = std::get_if<std::vector<GraphPtr>>(&attribute.value)) {
      for (const GraphPtr& item : *list) {
        if (item) graphs.push_back(item.get());
      }
    }
  }
  return graphs;
}

void for_each_node_deep(const Graph& graph, const std::function<void(Node&)>& visit) {
  for (Node* node : graph.nodes()) {
    visit(*node);
    for (const Graph* nested : nested_graphs(*node)) for_each_node_deep(*nested, visit);
  }
}

std::vector<Value*> captured_values(const Graph& graph) {
  std::vector<const Graph*> around;
  for (const Graph* g = graph.parent(); g; g = g->parent()) around.push_back(g);
  std::vector<Value*> captured;
  for_each_node_deep(graph, [&](Node& node) {
    for (Value* value : node.inputs) {
      if (!value || std::find(around.begin(), around.end(), value->graph) == around.end()) continue;
      if (std::find(captured.begin(), captured.end(), value) == captured.end()) captured.push_back(value);
    }
  });
  return captured;
}

Graph::Graph(Graph* parent) : parent_(parent), names_(parent ? parent->names_ : std::make_shared<NameTable>()) {}

Graph::~Graph() {
  // Nodes of other graphs let go of our values: nested graphs may outlive this one in someone's hand, and a graph that is not sound (a
  // value used in a sibling branch) must still come apart.
  for (const auto& value : values_)
    for (const Use& use : value->uses)
      if (use.node->graph != this && use.node->inputs[static_cast<std::size_t>(use.index)] == value.get())
        use.node->inputs[static_cast<std::size_t>(use.index)] = nullptr;
  forget_outer();
  nodes_.clear();
  for (const auto& [name, value] : by_name_) names_->remove(name);
}

/// Takes this graph's nodes out of the uses of values around it.
void Graph::forget_outer() {
  for (const auto& node : nodes_) {
    for (std::size_t i = 0; i < node->inputs.size(); ++i) {
      Value*& value = node->inputs[i];
      if (value && value->graph != this) {
        drop_use(value, node.get(), i);
        value = nullptr;
      }
    }
  }
}

// Values ---------------------------------------------------------------------------------------------------------------------

Value* Graph::new_value(std::string name, ValueKind kind) {
  if (name.empty()) throw Error(Code::kInvalidModel, "a value needs a name").with_remedy("Name every input, initializer and node output.");
  if (by_name_.contains(name)) {
    throw Error(Code::kInvalidModel, "the name '" + name + "' is defined twice in one graph").at_tensor(name);
  }
  auto value = std::make_unique<Value>();
  value->name = std::move(name);
  value->kind = kind;
  value->graph = this;
  Value* raw = value.get();
  raw->position_ = values_.insert(values_.end(), std::move(value));
  by_name_.emplace(raw->name, raw);
  names_->add(raw->name);
  return raw;
}

void Graph::erase_value(Value* value) {
  by_name_.erase(value->name);
  names_->remove(value->name);
  if (iterating_ > 0) {
    value->graph = nullptr;
    erased_values_.push_back(std::move(*value->position_));
  }
  values_.erase(value->position_);
}

Value* Graph::add_input(std::string name, Type type) {
  Value* value = new_value(std::move(name), ValueKind::kInput);
  value->type = std::move(type);
  inputs_.push_back(value);
  return value;
}

Value* Graph::add_constant(std::string name, Tensor tensor) {
  Value* value = new_value(std::move(name), ValueKind::kConstant);
  Shape shape(tensor.dims().begin(), tensor.dims().end());
  value->type = Type::tensor(tensor.dtype(), std::move(shape));
  value->constant = std::move(tensor);
  return value;
}

bool Graph::is_free(const std::string& name) const {
  const auto found = names_->count.find(name);
  return found == names_->count.end() || found->second == 0;
}

std::string Graph::unique_name(std::string_view base) const {
  std::string name = base.empty() ? std::string("v") : std::string(base);
  if (!names_->count.contains(name)) return name;
  std::int64_t& next = names_->next[name];
  for (;; ++next) {
    std::string candidate = name + '_' + std::to_string(next);
    if (!names_->count.contains(candidate)) return candidate;
  }
}

Value* Graph::find(std::string_view name) const {
  const auto found = by_name_.find(std::string(name));
  return found == by_name_.end() ? nullptr : found->second;
}

Value* Graph::find_outer(std::string_view name) const {
  for (const Graph* graph = this; graph; graph = graph->parent_) {
    if (Value* value = graph->find(name)) return value;
  }
  return nullptr;
}

void Graph::rename(Value* value, std::string name) {
  if (value->name == name) return;
  if (by_name_.contains(name)) {
    throw Error(Code::kInternal, "cannot rename '" + value->name + "': the name '" + name + "' is taken").at_tensor(name);
  }
  by_name_.erase(value->name);
  names_->remove(value->name);
  value->name = std::move(name);
  by_name_.emplace(value->name, value);
  names_->add(value->name);
}

Value* Graph::own_output(Value* value) {
  if (value->graph == this && !value->is_constant()) return value;
  Node* identity = add_node("", "Identity", {value}, {unique_name(value->name + "_out")});
  identity->outputs[0]->type = value->type;
  identity->outputs[0]->content = value->content;
  return identity->outputs[0];
}

void Graph::add_output(Value* value) {
  value = own_output(value);
  outputs_.push_back(value);
  ++value->graph_output_count;
}

void Graph::set_output(std::size_t index, Value* value) {
  value = own_output(value);
  --outputs_.at(index)->graph_output_count;
  outputs_[index] = value;
  ++value->graph_output_count;
}

void Graph::remove_input(std::size_t index) {
  Value* value = inputs_.at(index);
  if (!value->uses.empty() || value->is_graph_output()) {
    throw Error(Code::kInternal, "cannot remove the graph input '" + value->name + "': it is used").at_tensor(value->name);
  }
  inputs_.erase(inputs_.begin() + static_cast<std::ptrdiff_t>(index));
  erase_value(value);
}

void Graph::remove_output(std::size_t index) {
  --outputs_.at(index)->graph_output_count;
  outputs_.erase(outputs_.begin() + static_cast<std::ptrdiff_t>(index));
}

std::vector<Value*> Graph::values() const {
  std::vector<Value*> all;
  all.reserve(values_.size());
  for (const auto& value : values_) all.push_back(value.get());
  return all;
}

// Nodes ----------------------------------------------------------------------------------------------------------------------

void Graph::add_use(Value* value, Node* node, std::size_t index) { value->uses.push_back({node, static_cast<int>(index)}); }

void Graph::drop_use(Value* value, Node* node, std::size_t index) {
  // Searched from the back: the latest use is the likeliest to go.
  for (std::size_t i = value->uses.size(); i-- > 0;) {
    if (value->uses[i] == Use{node, static_cast<int>(index)}) {
      value->uses.erase(value->uses.begin() + static_cast<std::ptrdiff_t>(i));
      return;
    }
  }
}

Node* Graph::add_node(std::string domain, std::string op, std::vector<Value*> inputs, std::vector<std::string> output_names, Attrs attrs, Node* before) {
  auto owned = std::make_unique<Node>();
  Node* node = owned.get();
  node->domain = domain == "ai.onnx" ? std::string() : std::move(domain);
  node->op = std::move(op);
  node->attrs = std::move(attrs);
  node->graph = this;
  for (std::size_t i = 0; i < output_names.size(); ++i) {
    if (output_names[i].empty()) {
      node->outputs.push_back(nullptr);
      continue;
    }
    Value* value;
    try {
      value = new_value(std::move(output_names[i]), ValueKind::kNodeOutput);
    } catch (Error& error) {
      for (Value* made : node->outputs) {
        if (made) erase_value(made);
      }
      error.at_node(node->name, node->op);
      throw;
    }
    value->producer = node;
    value->producer_index = static_cast<int>(i);
    node->outputs.push_back(value);
  }
  node->position_ = nodes_.insert(before ? before->position_ : nodes_.end(), std::move(owned));
  set_inputs(node, std::move(inputs));
  return node;
}

void Graph::set_input(Node* node, std::size_t index, Value* value) {
  if (index >= node->inputs.size()) node->inputs.resize(index + 1, nullptr);
  Value*& slot = node->inputs[index];
  if (slot == value) return;
  if (slot) drop_use(slot, node, index);
  slot = value;
  if (value) add_use(value, node, index);
}

void Graph::set_inputs(Node* node, std::vector<Value*> inputs) {
  for (std::size_t i = 0; i < node->inputs.size(); ++i) {
    if (node->inputs[i]) drop_use(node->inputs[i], node, i);
  }
  node->inputs = std::move(inputs);
  for (std::size_t i = 0; i < node->inputs.size(); ++i) {
    if (node->inputs[i]) add_use(node->inputs[i], node, i);
  }
}

Value* Graph::add_node_output(Node* node, std::string name) {
  if (name.empty()) {
    node->outputs.push_back(nullptr);
    return nullptr;
  }
  Value* value = new_value(std::move(name), ValueKind::kNodeOutput);
  value->producer = node;
  value->producer_index = static_cast<int>(node->outputs.size());
  node->outputs.push_back(value);
  return value;
}

void Graph::remove_node_output(Node* node, std::size_t index) {
  Value* value = node->output(index);
  if (value) {
    if (!value->uses.empty() || value->is_graph_output()) {
      throw Error(Code::kInternal, "cannot remove the output '" + value->name + "': it is used").at_tensor(value->name);
    }
    node->outputs[index] = nullptr;
    erase_value(value);
  }
  while (!node->outputs.empty() && !node->outputs.back()) node->outputs.pop_back();
}

bool Graph::replace_all_uses(Value* from, Value* to) {
  if (from == to) return true;
  if (from->is_graph_output() && (to->graph != from->graph || to->kind != ValueKind::kNodeOutput || to->is_graph_output())) return false;
  std::vector<Use> uses = std::move(from->uses);
  from->uses.clear();
  for (const Use& use : uses) {
    use.node->inputs[static_cast<std::size_t>(use.index)] = to;
    to->uses.push_back(use);
  }
  if (from->is_graph_output()) {
    Graph& graph = *from->graph;
    for (Value*& output : graph.outputs_) {
      if (output == from) output = to;
    }
    to->graph_output_count = from->graph_output_count;
    from->graph_output_count = 0;
    std::string name = from->name;
    graph.rename(from, graph.unique_name(name + "_replaced"));
    graph.rename(to, std::move(name));
    if (to->doc.empty()) to->doc = from->doc;
    if (to->metadata.empty()) to->metadata = from->metadata;
    to->type.denotation = from->type.denotation;
  }
  // What was known about `from` holds for `to`.
  if (to->type.kind == TypeKind::kUnknown) {
    to->type = from->type;
  } else if (to->type.is_tensor() && !to->has_shape() && from->type.is_tensor() && from->dtype() == to->dtype()) {
    to->type.shape = from->type.shape;
  }
  if (!to->content) to->content = from->content;
  return true;
}

void Graph::erase(Node* node) {
  for (const Value* value : node->outputs) {
    if (value && (!value->uses.empty() || value->is_graph_output())) {
      throw Error(Code::kInternal, "cannot erase " + node->describe() + ": its output '" + value->name + "' is used").at_tensor(value->name);
    }
  }
  const std::vector<Value*> inputs = node->inputs;
  set_inputs(node, {});
  for (Value* value : node->outputs) {
    if (value) erase_value(value);
  }
  if (!nested_graphs(*node).empty()) node->attrs = {};  // nested graphs let go of what they captured
  node->graph = nullptr;
  if (iterating_ > 0) {
    node->inputs = inputs;  // still readable by the visitor; the uses are gone
    erased_nodes_.push_back(std::move(*node->position_));
  }
  nodes_.erase(node->position_);
}

void Graph::erase_unused_constants() {
  for (auto it = values_.begin(); it != values_.end();) {
    Value* value = (it++)->get();
    if (value->is_constant() && value->uses.empty() && !value->is_graph_output()) erase_value(value);
  }
  for (const auto& node : nodes_) {
    for (Graph* nested : nested_graphs(*node)) nested->erase_unused_constants();
  }
}

void Graph::move_before(Node* node, Node* before) {
  if (node == before) return;
  nodes_.splice(before ? before->position_ : nodes_.end(), nodes_, node->position_);
}

std::vector<Node*> Graph::nodes() const {
  std::vector<Node*> all;
  all.reserve(nodes_.size());
  for (const auto& node : nodes_) all.push_back(node.get());
  return all;
}

void Graph::sweep() {
  if (iterating_ > 0) return;
  // Taken out first: a node's nested graphs reach back into this graph while they die.
  const auto nodes = std::move(erased_nodes_);
  const auto values = std::move(erased_values_);
  erased_nodes_.clear();
  erased_values_.clear();
}

void Graph::for_each(const std::function<void(Node&)>& visit) {
  struct Guard {
    Graph& graph;
    explicit Guard(Graph& g) : graph(g) { ++graph.iterating_; }
    ~Guard() {
      --graph.iterating_;
      graph.sweep();
    }
  } guard(*this);
  for (Node* node : nodes()) {
    if (node->graph == this) visit(*node);
  }
}

void Graph::for_each(const std::function<void(const Node&)>& visit) const {
  for (const Node* node : nodes()) visit(*node);
}

}  // namespace lathe::ir
