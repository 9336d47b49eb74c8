// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Fixing the shapes of graph inputs: the symbols that the given extents stand for are replaced in the whole model.

#include <algorithm>

#include "lathe/status.h"
#include "ops/import.h"
#include "ops/infer.h"
#include "passes/simplify.h"

namespace lathe::passes {
namespace {

using ir::Dim;
using ir::Graph;
using ir::Value;

Error bad_shape(const Value& input, const Dims& dims, const std::string& why) {
  return Error(Code::kInvalidArgument,
               "the shape " + to_string(dims) + " does not fit input '" + input.name + "' of type " + input.type.to_string() + ": " + why)
      .at_tensor(input.name);
}

void substitute(Graph& graph, const std::unordered_map<std::string, Dim>& bound) {
  for (Value* value : graph.values()) {
    if (value->type.shape) {
      for (Dim& dim : *value->type.shape) dim = dim.substitute(bound);
    }
    if (value->content) {
      for (Dim& dim : *value->content) dim = dim.substitute(bound);
    }
  }
  for (const ir::Node* node : graph.nodes()) {
    for (Graph* nested : ir::nested_graphs(*node)) substitute(*nested, bound);
  }
}

Value* input_named(const Graph& graph, const std::string& name) {
  for (Value* input : graph.inputs()) {
    if (input->name == name) return input;
  }
  std::string names;
  for (const Value* input : graph.inputs()) names += (names.empty() ? "" : ", ") + input->name;
  throw Error(Code::kInvalidArgument, "the model has no input '" + name + "'").at_tensor(name).with_remedy("Its inputs are: " + names + ".");
}

}  // namespace

void set_input_shapes(ir::Model& model, const std::map<std::string, Dims>& shapes) {
  ops::canonicalise_opsets(model);
  ops::infer_graph(model);  // names the extents that the file leaves open
  Graph& graph = *model.graph;
  std::unordered_map<std::string, Dim> bound;
  std::map<std::string, std::string> bound_by;
  for (const auto& [name, dims] : shapes) {
    Value* input = input_named(graph, name);
    if (!input->type.is_tensor()) throw bad_shape(*input, dims, "only tensors have shapes");
    if (std::any_of(dims.begin(), dims.end(), [](std::int64_t d) { return d < 0; })) throw bad_shape(*input, dims, "an extent is negative");
    if (!input->has_shape()) {
      input->type.shape = ir::Shape(dims.begin(), dims.end());
      continue;
    }
    if (input->shape().size() != dims.size()) throw bad_shape(*input, dims, "the ranks differ");
    for (std::size_t i = 0; i < dims.size(); ++i) {
      const Dim& dim = input->shape()[i];
      if (!dim.is_symbol()) continue;
      const std::string symbol = dim.symbol_name();
      const auto [found, added] = bound.emplace(symbol, Dim(dims[i]));
      if (added) {
        bound_by[symbol] = name;
      } else if (found->second != Dim(dims[i])) {
        throw bad_shape(*input, dims, "'" + symbol + "' is " + found->second.to_string() + " in '" + bound_by[symbol] + "'");
      }
    }
  }
  // Extents that are numbers or expressions of bound symbols must agree.
  for (const auto& [name, dims] : shapes) {
    const Value* input = input_named(graph, name);
    for (std::size_t i = 0; i < dims.size(); ++i) {
      const Dim fixed = input->shape()[i].substitute(bound);
      if (fixed == Dim(dims[i])) continue;
      throw bad_shape(*input, dims, "extent " + std::to_string(i) + " is " + fixed.to_string());
    }
  }
  substitute(graph, bound);
  ops::InferOptions options;
  options.discard_previous = true;
  ops::infer_graph(model, options);
}

}  // namespace lathe::passes
