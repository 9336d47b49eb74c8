// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// What every trip of a loop would compute again is computed once, in front of it.
//
//   Loop {body: y = MatMul(x, Transpose(w))}   ->   wt = Transpose(w); Loop {body: y = MatMul(x, wt)}      where w is of the graph around
//
// A loop may take no trip at all, so only nodes move that cannot fail: shapes are known, no index or divisor comes from data. Branches of
// an If stay as they are: the one that is not taken must not run.

#include <algorithm>

#include "ops/registry.h"
#include "passes/fold.h"
#include "passes/pass.h"
#include "passes/rewrite.h"

namespace lathe::passes {
namespace {

using ir::Graph;
using ir::Node;
using ir::Value;

bool is_known(const Value* value) {
  return value->type.is_tensor() && value->type.shape && value->dtype() != DType::kUndefined && value->dtype() != DType::kString;
}

/// With inputs of the inferred shapes it always gives an output of the inferred shape.
bool cannot_fail(const Node& node) {
  const ops::OpDef* op = ops::find_op(node.domain, node.op);
  if (!op || !op->deterministic || !ir::nested_graphs(node).empty()) return false;
  if (!op->lower && !node.is("MatMul") && !node.is("Gemm") && !node.is("Conv")) return false;
  for (const char* by_data :
       {"Gather", "GatherND", "GatherElements", "ScatterND", "ScatterElements", "OneHot", "Reshape", "Expand", "Slice", "Tile", "Pad", "Resize"})
    if (node.is(by_data))
      for (std::size_t i = 1; i < node.inputs.size(); ++i)
        if (node.inputs[i] && !is_constant(node.inputs[i])) return false;
  if ((node.is("Div") || node.is("Mod")) && !is_float(node.outputs[0]->dtype())) return false;
  const auto known = [](const Value* value) { return !value || is_known(value); };
  return std::all_of(node.inputs.begin(), node.inputs.end(), known) && std::all_of(node.outputs.begin(), node.outputs.end(), known);
}

bool is_around(const Value* value, const Graph& body) { return value->graph != &body; }

int hoist(Graph& graph, Node& loop, Graph& body) {
  int moved = 0;
  body.for_each([&](Node& node) {
    if (!cannot_fail(node)) return;
    bool reads_around = false;
    for (const Value* input : node.inputs) {
      if (!input || input->is_constant()) continue;
      if (!is_around(input, body)) return;
      reads_around = true;
    }
    if (!reads_around) return;  // all constants: folding's
    for (const Value* output : node.outputs)
      if (output && output->is_graph_output()) return;
    std::vector<Value*> inputs;
    for (Value* input : node.inputs) {
      if (!input || is_around(input, body)) inputs.push_back(input);
      else inputs.push_back(add_constant(graph, input->name + "_invariant", input->constant));
    }
    std::vector<std::string> names;
    for (const Value* output : node.outputs) names.push_back(output ? graph.unique_name(output->name + "_invariant") : std::string());
    Node* copy = graph.add_node(node.domain, node.op, std::move(inputs), std::move(names), node.attrs, &loop);
    copy->name = node.name;
    copy->sources = node.sources;
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      if (!node.outputs[i]) continue;
      copy->outputs[i]->type = node.outputs[i]->type;
      copy->outputs[i]->content = node.outputs[i]->content;
      body.replace_all_uses(node.outputs[i], copy->outputs[i]);
    }
    erase_dead(&node);
    ++moved;
  });
  return moved;
}

}  // namespace

int hoist_invariants(Graph& graph, PassContext&) {
  int rewrites = 0;
  graph.for_each([&](Node& node) {
    if (!is_loop(node)) return;
    for (Graph* body : ir::nested_graphs(node)) rewrites += hoist(graph, node, *body);
  });
  return rewrites;
}

}  // namespace lathe::passes
