// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// From bytes to a ModelTree, and every check that needs no types: model, functions, graphs, names, nodes against their signatures, attributes, data.

#include <memory>
#include <unordered_set>

#include "check/tensors.h"
#include "check/tree.h"

namespace lathe::checker {

/// Reads what can be read; what is damaged is reported and left out. nullptr when nothing is an ONNX model here.
std::unique_ptr<ModelTree> read_tree(data_view bytes, Findings& findings);
/// Reads one graph's records; `where` names it.
void read_graph_tree(data_view bytes, GraphTree& graph, std::string where, Findings& findings, int depth);

/// Names that a graph may read, and those that it or a graph around it will make later.
struct Names {
  const Names* around = nullptr;
  std::unordered_set<std::string> here;
  std::unordered_set<std::string> later;

  bool visible(const std::string& name) const {
    for (const Names* n = this; n; n = n->around)
      if (n->here.contains(name)) return true;
    return false;
  }
  bool promised(const std::string& name) const {
    for (const Names* n = this; n; n = n->around)
      if (n->later.contains(name)) return true;
    return false;
  }
};

class StructureChecks {
 public:
  StructureChecks(ModelTree& model, Findings& findings, TensorChecks& tensors) : model_(model), findings_(findings), tensors_(tensors) {}
  void run();

 private:
  /// What surrounds a node: its opset imports, and whether it is the main graph's own.
  struct Place {
    const Opsets& opsets;
    bool main = true;
    const FunctionTree* function = nullptr;
  };
  void check_model();
  void check_opsets(const std::vector<onnx::OpsetRecord>& opsets, const FunctionTree* function);
  void check_training();
  void check_functions();
  void check_function(FunctionTree& function);
  void check_recursion();
  void check_graph(GraphTree& graph, const Place& place, const Names* around);
  void check_initializers(GraphTree& graph, const Place& place, Names& names);
  void check_cycles(const GraphTree& graph, const std::map<std::size_t, std::vector<std::string>>& unsorted);
  void check_value(const ValueTree& value, const GraphTree& graph, const char* what, bool main);
  void check_type(const onnx::TypeRecord& type, const ValueTree& value, const GraphTree& graph, const char* what, bool main);
  void note_type(std::int64_t dtype);
  /// nodes.cpp
  void check_node(NodeTree& node, GraphTree& graph, const Place& place, const Names& names);
  void check_signature(NodeTree& node, GraphTree& graph, const Place& place);
  void check_call(NodeTree& node, const FunctionTree& function, GraphTree& graph);
  void check_attribute(AttributeTree& attribute, NodeTree& node, GraphTree& graph, const Place& place, const Names& names);

  ModelTree& model_;
  Findings& findings_;
  TensorChecks& tensors_;
};

}  // namespace lathe::checker
