// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// A Scan whose trips do not depend on each other becomes its body, run once on all slices together:
//
//   s', y = Scan(s, x) { s = s; y = body(s, x[t]) }   ->   s' = s, y = body'(s, x)
//
// Every value that differs from trip to trip gets the scanned axis in front; what is the same in all of them broadcasts. It fires where
// states pass through unchanged, slices lie along the first axis, forward, and what differs is pointwise work, reductions over known
// axes and products of matrices. Converters of classical models write the distances between rows so.

#include <algorithm>
#include <unordered_map>

#include "passes/pass.h"
#include "passes/rewrite.h"

namespace lathe::passes {
namespace {

using ir::Graph;
using ir::Node;
using ir::Value;

const Value* behind_identities(const Value* value, const Graph& body) {
  while (value->producer && value->graph == &body && value->producer->is("Identity")) value = value->producer->input(0);
  return value;
}

bool is_reduction(const Node& node) { return node.domain.empty() && node.op.starts_with("Reduce") && node.outputs.size() == 1; }

class Batch {
 public:
  Batch(Graph& graph, Node& scan, Graph& body) : graph_(graph), scan_(scan), body_(body) {}

  bool fits() {
    const std::int64_t scanned = scan_.attrs.get_int("num_scan_inputs", 0);
    if (scanned < 1 || scanned > static_cast<std::int64_t>(scan_.inputs.size()) || body_.inputs().size() != scan_.inputs.size()) return false;
    states_ = scan_.inputs.size() - static_cast<std::size_t>(scanned);
    if (body_.outputs().size() < std::max(scan_.outputs.size(), states_)) return false;
    for (const char* list : {"scan_input_axes", "scan_output_axes", "scan_input_directions", "scan_output_directions"})
      for (const std::int64_t v : scan_.attrs.get_ints(list))
        if (v != 0) return false;
    for (std::size_t i = 0; i < scan_.inputs.size(); ++i) {
      if (!scan_.inputs[i] || !rank_of(scan_.inputs[i])) return false;
      if (i >= states_) differs_.emplace(body_.inputs()[i], nullptr);
      else if (behind_identities(body_.outputs()[i], body_) != body_.inputs()[i]) return false;
    }
    bool fit = true;
    body_.for_each([&](Node& node) { fit = fit && node_fits(node); });
    for (std::size_t i = states_; fit && i < scan_.outputs.size(); ++i) fit = !scan_.outputs[i] || differs_.contains(body_.outputs()[i]);
    return fit;
  }

  void run() {
    for (std::size_t i = 0; i < scan_.inputs.size(); ++i) (i < states_ ? same_ : differs_)[body_.inputs()[i]] = scan_.inputs[i];
    body_.for_each([&](Node& node) { copy(node); });
    std::vector<Value*> results;
    for (std::size_t i = 0; i < scan_.outputs.size(); ++i) results.push_back(i < states_ ? scan_.inputs[i] : differs_.at(body_.outputs()[i]));
    take_over(graph_, scan_, results);
    erase_dead(&scan_);
  }

 private:
  bool node_differs(const Node& node) const {
    return std::any_of(node.inputs.begin(), node.inputs.end(), [&](const Value* v) { return v && differs_.contains(v); });
  }

  bool node_fits(const Node& node) {
    if (!ir::nested_graphs(node).empty() || node.outputs.size() != 1 || !node.outputs[0]) return false;
    if (!node_differs(node)) return true;  // the same in every trip
    for (const Value* input : node.inputs)
      if (input && !rank_of(input)) return false;
    if (!rank_of(node.outputs[0])) return false;
    if (is_reduction(node)) {
      const Value* axes = node.input(1);
      if (!differs_.contains(node.inputs[0]) || (axes && !constant_ints(axes))) return false;
      if ((!axes || constant_ints(axes)->empty()) && node.attrs.get_int("noop_with_empty_axes", 0) != 0) return false;
    } else if (node.is("MatMul")) {
      if (rank_of(node.inputs[0]) < 2 || rank_of(node.inputs[1]) < 2) return false;
    } else if (!is_pointwise(node)) {
      return false;
    } else if (node.is("Clip") && std::any_of(node.inputs.begin() + 1, node.inputs.end(), [&](const Value* v) { return v && differs_.contains(v); })) {
      return false;  // its bounds are scalars
    }
    differs_.emplace(node.outputs[0], nullptr);
    return true;
  }

  /// The value for all trips with `rank` axes behind the scanned one; what is the same in all of them as it is.
  Value* all_trips(Value* value, std::int64_t rank) {
    if (!differs_.contains(value)) return outside(value);
    Value* all = differs_.at(value);
    std::vector<std::int64_t> axes;
    for (std::int64_t a = *rank_of(value); a < rank; ++a) axes.push_back(static_cast<std::int64_t>(axes.size()) + 1);
    if (axes.empty()) return all;
    Node* wider =
        graph_.add_node("", "Unsqueeze", {all, add_ints(graph_, value->name + "_axes", axes)}, {graph_.unique_name(value->name + "_wider")}, {}, &scan_);
    merge_sources(*wider, scan_);
    ir::Type type = value->type;
    type.shape->insert(type.shape->begin(), static_cast<std::size_t>(rank - *rank_of(value)), ir::Dim(1));
    type.shape->insert(type.shape->begin(), trips());
    wider->outputs[0]->type = std::move(type);
    return wider->outputs[0];
  }

  Value* outside(Value* value) {
    if (value->graph != &body_) return value;
    if (const auto known = same_.find(value); known != same_.end()) return known->second;
    Value* constant = add_constant(graph_, value->name + "_batched", value->constant);  // all else of the body has been copied
    same_.emplace(value, constant);
    return constant;
  }

  ir::Dim trips() const { return scan_.inputs[states_]->shape()[0]; }

  void copy(Node& node) {
    const bool differs = node_differs(node);
    if (node.is("Identity")) {
      (differs ? differs_ : same_)[node.outputs[0]] = differs ? differs_.at(node.inputs[0]) : outside(node.inputs[0]);
      return;
    }
    std::vector<Value*> inputs;
    for (Value* input : node.inputs) {
      if (!input) inputs.push_back(nullptr);
      else if (!differs) inputs.push_back(outside(input));
      else if (is_reduction(node)) inputs.push_back(input == node.inputs[0] ? differs_.at(input) : nullptr);
      else inputs.push_back(all_trips(input, *rank_of(node.outputs[0])));
    }
    if (differs && is_reduction(node)) {
      const std::int64_t rank = *rank_of(node.inputs[0]);
      std::vector<std::int64_t> axes;
      if (node.input(1)) axes = constant_ints(node.input(1)).value();
      for (std::int64_t& axis : axes) axis = (axis < 0 ? axis + rank : axis) + 1;
      if (axes.empty()) {
        for (std::int64_t axis = 1; axis <= rank; ++axis) axes.push_back(axis);
      }
      inputs.resize(2);
      inputs[1] = add_ints(graph_, node.outputs[0]->name + "_axes", axes);
    }
    const Value* output = node.outputs[0];
    Node* made = graph_.add_node(node.domain, node.op, std::move(inputs), {graph_.unique_name(output->name + "_batched")}, node.attrs, &scan_);
    made->name = node.name;
    made->sources = node.sources;
    merge_sources(*made, scan_);
    made->outputs[0]->type = output->type;
    if (differs) made->outputs[0]->type.shape->insert(made->outputs[0]->type.shape->begin(), trips());
    (differs ? differs_ : same_)[output] = made->outputs[0];
  }

  Graph& graph_;
  Node& scan_;
  Graph& body_;
  std::size_t states_ = 0;
  std::unordered_map<const Value*, Value*> same_, differs_;  // values of the body, and what they are outside
};

}  // namespace

int batch_scans(Graph& graph, PassContext&) {
  int rewrites = 0;
  graph.for_each([&](Node& node) {
    if (!node.is("Scan")) return;
    const ir::GraphPtr body = node.attrs.get_graph("body");
    if (!body) return;
    Batch batch(graph, node, *body);
    if (!batch.fits()) return;
    batch.run();
    ++rewrites;
  });
  return rewrites;
}

}  // namespace lathe::passes
