// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The graph that everything before the Program works on: nodes in topological order, values with types, constants and known
// contents, nested graphs as attributes. Pointers to Node and Value stay valid until the element is removed.
//
// Names: a Value keeps the ONNX tensor name that it equals numerically (through every rewrite); a Node keeps in `sources` the names
// of all ONNX nodes that it stands for. Those lists feed errors, reports and profiles.

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "ir/attribute.h"
#include "ir/type.h"

namespace lathe::ir {

struct Node;
class Graph;
struct NameTable;

enum class ValueKind : std::uint8_t { kInput, kConstant, kNodeOutput };

struct Use {
  Node* node;  ///< the consumer, possibly inside a nested graph
  int index;   ///< which of its inputs
  bool operator==(const Use&) const = default;
};

struct Value {
  std::string name;  ///< unique in its graph and all graphs around it
  Type type;
  ValueKind kind = ValueKind::kNodeOutput;
  Tensor constant;  ///< defined for kConstant; also set for an input with a default (initializer of the same name)
  /// Value propagation: the elements (row-major) of a small integer tensor as expressions; nullopt = unknown as a whole. An element
  /// that is unknown is a fresh symbol named "?N" that no Bindings can bind.
  std::optional<std::vector<Dim>> content;
  Node* producer = nullptr;  ///< kNodeOutput only
  int producer_index = 0;
  std::vector<Use> uses;       ///< kept by Graph
  int graph_output_count = 0;  ///< how often it is an output of its graph
  Graph* graph = nullptr;
  std::string doc;
  std::map<std::string, std::string> metadata;  ///< metadata_props of the ValueInfo or initializer, for the writer
  UnreadFields unread;                          ///< of the ValueInfo or initializer

  DType dtype() const noexcept { return type.dtype; }
  bool has_shape() const noexcept { return type.shape.has_value(); }
  const Shape& shape() const { return *type.shape; }  ///< precondition: has_shape()
  bool is_constant() const noexcept { return kind == ValueKind::kConstant; }
  bool is_graph_output() const noexcept { return graph_output_count > 0; }

 private:
  friend class Graph;
  std::list<std::unique_ptr<Value>>::iterator position_;
};

struct Node {
  std::string domain;                ///< "" is ai.onnx
  std::string op;                    ///< ONNX op type
  std::string name;                  ///< ONNX node name; may be empty
  std::vector<std::string> sources;  ///< ONNX nodes that this one stands for ("#12:Conv" when the file gave no name)
  std::vector<Value*> inputs;        ///< nullptr = optional input left out. Change only through Graph.
  std::vector<Value*> outputs;       ///< nullptr = optional output left out
  Attrs attrs;
  std::string overload;  ///< function overload id (IR version 10)
  std::string doc;
  std::map<std::string, std::string> metadata;
  UnreadFields unread;  ///< device configurations and what newer formats may add
  Graph* graph = nullptr;

  Value* input(std::size_t i) const { return i < inputs.size() ? inputs[i] : nullptr; }
  Value* output(std::size_t i = 0) const { return i < outputs.size() ? outputs[i] : nullptr; }
  bool is(std::string_view op_type) const { return domain.empty() && op == op_type; }
  /// "Conv '/model.0/conv/Conv'" for messages.
  std::string describe() const;

 private:
  friend class Graph;
  std::list<std::unique_ptr<Node>>::iterator position_;
};

class Graph {
 public:
  explicit Graph(Graph* parent = nullptr);
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  std::string name, doc;
  std::map<std::string, std::string> metadata;
  UnreadFields unread;                                ///< quantization annotations, ...
  Graph* parent() const noexcept { return parent_; }  ///< graph around a nested one

  // Values -----------------------------------------------------------------------------------------------------------
  Value* add_input(std::string name, Type type);
  /// A constant; the type comes from the tensor.
  Value* add_constant(std::string name, Tensor tensor);
  /// A name like `base` that no value here, around or nested has, or ever had: names mean tensors.
  std::string unique_name(std::string_view base) const;
  bool is_free(const std::string& name) const;     ///< no value here, around or nested has it now
  Value* find(std::string_view name) const;        ///< here only, nullptr if none
  Value* find_outer(std::string_view name) const;  ///< here, then the graphs around
  void rename(Value* value, std::string name);
  /// A value of a graph around this one, or a constant, is passed through an Identity: a graph's outputs are inputs or node outputs of its own.
  void add_output(Value* value);
  void set_output(std::size_t index, Value* value);
  void remove_input(std::size_t index);   ///< precondition: unused
  void remove_output(std::size_t index);  ///< the value stays
  const std::vector<Value*>& inputs() const noexcept { return inputs_; }
  const std::vector<Value*>& outputs() const noexcept { return outputs_; }
  /// All values of this graph in a stable order (creation).
  std::vector<Value*> values() const;

  // Nodes ------------------------------------------------------------------------------------------------------------
  /// Inserts before `before` (nullptr: at the end). Creates output values named `output_names` ("" = absent).
  Node* add_node(std::string domain, std::string op, std::vector<Value*> inputs, std::vector<std::string> output_names, Attrs attrs = {},
                 Node* before = nullptr);
  void set_input(Node* node, std::size_t index, Value* value);  ///< grows the list when needed
  void set_inputs(Node* node, std::vector<Value*> inputs);
  Value* add_node_output(Node* node, std::string name);
  void remove_node_output(Node* node, std::size_t index);  ///< precondition: unused; trailing absences are trimmed
  void set_attr(Node* node, std::string name, Attribute attribute) { node->attrs.set(std::move(name), std::move(attribute)); }
  /// Every use of `from` (graph outputs and nested graphs included) becomes a use of `to`. When `from` is a graph output its name
  /// moves to `to` if that keeps the interface's names; returns false (and changes nothing) when that is impossible
  /// (to is a graph input, a constant, another graph output or a value of a graph around); the caller then keeps an Identity.
  bool replace_all_uses(Value* from, Value* to);
  void erase(Node* node);  ///< precondition: outputs unused; removes its output values too
  void erase_unused_constants();
  void move_before(Node* node, Node* before);
  void sort_topologically();  ///< stable; throws Error(kInvalidModel) naming a node of a cycle
  std::size_t node_count() const noexcept { return nodes_.size(); }

  /// Iteration in order over the nodes present at the start. Inside for_each any node may be erased (it is then not visited) and
  /// nodes may be added (not visited either); erased nodes and values stay readable until the outermost for_each ends.
  void for_each(const std::function<void(Node&)>& visit);
  void for_each(const std::function<void(const Node&)>& visit) const;
  std::vector<Node*> nodes() const;

  GraphPtr clone(Graph* parent = nullptr) const;  ///< deep, constants shared

 private:
  Graph* parent_;
  std::list<std::unique_ptr<Node>> nodes_;
  std::list<std::unique_ptr<Value>> values_;
  std::unordered_map<std::string, Value*> by_name_;
  std::vector<Value*> inputs_, outputs_;
  std::shared_ptr<NameTable> names_;  // of the whole tree of nested graphs
  mutable int iterating_ = 0;
  std::vector<std::unique_ptr<Node>> erased_nodes_;  // kept while iterating_ > 0
  std::vector<std::unique_ptr<Value>> erased_values_;

  Value* new_value(std::string name, ValueKind kind);
  void erase_value(Value* value);
  Value* own_output(Value* value);
  void add_use(Value* value, Node* node, std::size_t index);
  void drop_use(Value* value, Node* node, std::size_t index);
  void forget_outer();
  void sweep();
  void copy_into(Graph& target, std::unordered_map<const Value*, Value*>& map) const;
};

/// A model-local function (ONNX FunctionProto).
struct Function {
  std::string domain, name, overload, doc;
  std::vector<std::string> attributes;  ///< required attribute names
  Attrs attribute_defaults;
  std::map<std::string, std::int64_t> opset_imports;
  std::shared_ptr<Graph> body;
  std::map<std::string, std::string> metadata;
  UnreadFields unread;
};

/// A whole model as read: what the oracle runs and the writer writes.
struct Model {
  std::int64_t ir_version = 0;
  std::string producer_name, producer_version, domain, doc;
  std::int64_t model_version = 0;
  std::map<std::string, std::int64_t> opset_imports;  ///< domain ("" = ai.onnx) -> version
  std::map<std::string, std::string> metadata;
  std::vector<Function> functions;
  std::shared_ptr<Graph> graph;
  /// Symbols whose name in the file is no identifier: the file's text; "" for extents that the file leaves unnamed.
  std::map<std::string, std::string> dim_params;
  UnreadFields unread;                  ///< training information, device configurations, ...
  std::string source;                   ///< file path, for errors
  std::shared_ptr<const void> storage;  ///< keeps the mapping alive

  std::int64_t opset() const;  ///< of ai.onnx
  std::shared_ptr<Model> clone() const;
};

/// Calls `visit` for every node of `graph` and of all graphs nested in it (a node before its nested graphs).
void for_each_node_deep(const Graph& graph, const std::function<void(Node&)>& visit);
/// The graphs held by a node's attributes.
std::vector<Graph*> nested_graphs(const Node& node);
/// Every use outside `graph` of values in graphs around it: what a nested graph captures, each value once, in first-use order.
std::vector<Value*> captured_values(const Graph& graph);

}  // namespace lathe::ir
