// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Types and shapes of a whole file, node by node: each op's own rule (ops/) on what is known of its inputs, held against the
// operator's type constraints and against what the file declares. A defect ends one node's rule, not the walk.

#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <unordered_map>

#include "check/schema_table.h"
#include "check/tree.h"
#include "ir/graph.h"
#include "onnx/tensor_reader.h"

namespace lathe::checker {

class Inference {
 public:
  Inference(const ModelTree& model, Findings& findings, std::filesystem::path base_dir);
  void run();

 private:
  using Bound = std::map<std::string, const onnx::AttributeRecord*>;  ///< attributes of the function that is called
  /// What is known while a graph is walked.
  struct Scope {
    const Scope* around = nullptr;
    const Opsets* opsets = nullptr;
    const Bound* bound = nullptr;
    const GraphTree* graph = nullptr;
    std::unordered_map<std::string, ir::Type> types;
    std::unordered_map<std::string, Tensor> constants;
    std::unordered_map<std::string, const InitializerTree*> initializers;
    std::set<std::string> lost;      ///< results of nodes that were not understood: what depends on their types says nothing new
    std::set<std::string> untyped;   ///< results of calls of functions that hold operators which nobody here knows
    std::set<std::string> absent;    ///< inputs of a function that its call leaves out
    std::set<std::string> external;  ///< Constant nodes whose data are in another file
    bool foreign = false;            ///< an operator was met that nobody here knows: what follows may be known in part only

    const ir::Type* type(const std::string& name) const;
    bool is_lost(const std::string& name) const;
  };

  void walk_graph(const GraphTree& graph, Scope& scope);
  void walk_nodes(const GraphTree& graph, Scope& scope);
  bool walk_node(const NodeTree& node, Scope& scope);
  std::optional<std::int64_t> opset_of(const NodeTree& node, const Scope& scope) const;
  /// Types of the outputs; nullopt after a defect.
  std::optional<std::vector<ir::Type>> by_rule(const NodeTree& node, const SchemaVersion& version, Scope& scope, std::int64_t opset);
  std::optional<std::vector<ir::Type>> by_call(const NodeTree& node, const FunctionTree& function, Scope& scope);
  void check_types(const NodeTree& node, const SchemaVersion& version, std::vector<ir::Type>& outputs, Scope& scope);
  void set_type(const NodeTree* node, const std::string& name, const ir::Type& found, Scope& scope);
  /// The tensor of a small constant, or an undefined one.
  Tensor constant(const std::string& name, const Scope& scope);
  bool is_external(const std::string& name, const Scope& scope) const;
  /// The node's attributes as they are for this call.
  std::vector<onnx::AttributeRecord> attributes(const NodeTree& node, const Scope& scope) const;

  // control_flow.cpp
  std::optional<std::vector<ir::Type>> if_outputs(const NodeTree& node, Scope& scope);
  std::optional<std::vector<ir::Type>> loop_outputs(const NodeTree& node, Scope& scope);
  std::optional<std::vector<ir::Type>> scan_outputs(const NodeTree& node, Scope& scope, std::int64_t opset);
  /// Walks a nested graph with these types of its inputs (kUnknown: nothing known).
  std::optional<std::vector<ir::Type>> nested(const NodeTree& node, const char* attribute, const std::vector<ir::Type>& inputs, Scope& scope);

  /// Merges as the format's own inference does; "" or what clashes: "type" or "shape".
  std::string merge(const ir::Type& found, ir::Type& existing) const;
  std::string clash(const ir::Type& found, const ir::Type& existing) const;
  std::string text(const ir::Type& type) const;
  ir::Type declared(const ValueTree& value);
  ir::Dim fresh();
  ir::Type renamed(const ir::Type& type, std::map<std::string, ir::Dim>& names);

  const ModelTree& model_;
  Findings& findings_;
  onnx::ReadState state_;
  std::int64_t next_symbol_ = 0;
  std::set<const FunctionTree*> active_;
  std::int64_t visits_left_ = 300'000;  ///< of nodes in functions and nested graphs, which calls may multiply
};

/// Rules of old versions that the newest forms (to which nodes are brought before inference) do not show: "" or what is broken.
std::string old_rule(const ops::Schema& schema, const ir::Node& node);
/// An op whose shapes are those of another on some of its inputs.
struct Proxy {
  std::string_view op, as;
  std::vector<std::size_t> inputs;
  std::size_t dtype_of;  ///< input whose element type the output has; npos: int32
};
const Proxy* proxy_of(std::string_view op);
/// True for an input whose elements decide shapes.
bool decides_shapes(std::string_view op, std::size_t input);

/// Outputs of whose types the format's own package infers something else than the operator's definition says, as it does.
void as_the_package_infers(std::string_view domain, std::string_view op, const ir::Attrs& attrs, std::vector<ir::Type>& types);

}  // namespace lathe::checker
