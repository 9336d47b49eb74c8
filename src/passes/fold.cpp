// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Constant folding: a node whose inputs are all constants is run by its reference and becomes constants.
//
// Not folded:
//   - ops that are not deterministic, control flow whose branches capture values that are no constants, ops without a reference
//   - loops of more than kMostTrips trips, and loops in loops in loops: building must not take as long as running
//   - anything that is no tensor: sequences and optionals are no constants
//   - DequantizeLinear, hence nothing that follows from it: quantised weights stay quantised, but for a graph that is made to be run
//   - a node whose results take more than growth_limit (2) times the bytes of its distinct inputs and more than always_fold_bytes
//     (1 KiB) in all, and with which all constants would exceed the model's own by more than 1/16 (4 MiB at most): a big
//     ConstantOfShape, Expand or Tile is cheaper to make than to store. `fold_everything` lifts this, and so does a graph that is made
//     to be run for a table that an op without a kernel makes out of few numbers (MelWeightMatrix, anchors), up to kMostTable bytes.

#include <algorithm>
#include <set>

#include "lathe/status.h"
#include "base/log.h"
#include "ops/evaluate.h"
#include "ops/registry.h"
#include "passes/fold.h"
#include "passes/pass.h"
#include "passes/rewrite.h"

namespace lathe::passes {
namespace {

using ir::Graph;
using ir::Node;
using ir::Value;

constexpr std::int64_t kMostTrips = 256;
constexpr std::size_t kMostTable = std::size_t{16} << 20, kFewNumbers = 1024;  // bytes
constexpr int kMostLoops = 2;                                                  // within each other

/// How many loops stand within each other, `node` included.
int loops_within(const Node& node) {
  int deepest = 0;
  for (const Graph* nested : ir::nested_graphs(node)) {
    for (const Node* inner : nested->nodes()) deepest = std::max(deepest, loops_within(*inner));
  }
  return deepest + (is_loop(node) ? 1 : 0);
}

bool captures_are_constants(const Node& node) {
  for (const Graph* nested : ir::nested_graphs(node)) {
    for (const Value* value : ir::captured_values(*nested)) {
      if (!is_constant(value)) return false;
    }
  }
  return true;
}

std::size_t bytes_of(const Value& value) {
  if (!value.type.is_tensor() || !value.has_shape()) return SIZE_MAX;
  const auto dims = ir::constant_dims(value.shape());
  return dims ? dtype_bytes(value.dtype(), element_count(*dims)) : SIZE_MAX;
}

bool may_fold(const Node& node, const SimplifyOptions& options) {
  if (node.outputs.empty() || (node.is("DequantizeLinear") && !options.for_running)) return false;
  for (const Value* input : node.inputs) {
    if (input && !is_constant(input)) return false;
  }
  for (const Value* output : node.outputs) {
    if (output && output->type.kind != ir::TypeKind::kTensor && output->type.kind != ir::TypeKind::kUnknown) return false;
  }
  const ops::OpDef* op = ops::find_op(node.domain, node.op);
  if (!op || !op->deterministic || !ops::can_evaluate(node) || !captures_are_constants(node)) return false;
  bool random_inside = false;
  for (const Graph* nested : ir::nested_graphs(node)) {
    ir::for_each_node_deep(*nested, [&](Node& inner) {
      const ops::OpDef* def = ops::find_op(inner.domain, inner.op);
      random_inside = random_inside || !def || !def->deterministic || (inner.is("DequantizeLinear") && !options.for_running);
    });
  }
  return !random_inside && loops_within(node) <= kMostLoops;
}

/// Constants in use, nested graphs included, kept up to date while a pass folds.
class Budget {
 public:
  Budget(const ir::Model& model, const PassContext& context) {
    const auto extra = static_cast<std::size_t>(context.options.growth_budget * static_cast<double>(context.original_constant_bytes));
    ceiling_ = context.original_constant_bytes + std::min(extra, context.options.growth_budget_bytes);
    count(*model.graph);
  }
  bool allows(std::size_t bytes) const { return in_use_ + bytes <= ceiling_; }
  bool allows_dequantised(std::size_t bytes) const { return in_use_ + bytes <= std::max(ceiling_, kMostDequantised); }
  void add(std::size_t bytes) { in_use_ += bytes; }
  void raise(std::size_t bytes) { ceiling_ += bytes; }
  void remove(std::size_t bytes) { in_use_ -= std::min(bytes, in_use_); }

 private:
  void count(const Graph& graph) {
    for (const Value* value : graph.values()) {
      if (value->is_constant() && !value->uses.empty()) in_use_ += value->constant.bytes();
    }
    for (const Node* node : graph.nodes()) {
      for (const Graph* nested : ir::nested_graphs(*node)) count(*nested);
    }
  }
  std::size_t in_use_ = 0, ceiling_ = 0;
};

class GrowthRule {
 public:
  GrowthRule(const Node& node, const SimplifyOptions& options, const Budget& budget)
      : options_(options), budget_(budget), dequantises_(options.for_running && node.is("DequantizeLinear")) {
    std::set<const Value*> distinct;
    for (const Value* input : node.inputs) {
      if (input && distinct.insert(input).second) input_bytes_ += input->constant.bytes();
    }
    const ops::OpDef* op = ops::find_op(node.domain, node.op);
    table_ = options.for_running && op && !op->lower && !op->expand && input_bytes_ <= kFewNumbers && ir::nested_graphs(node).empty();
  }
  /// Stored whatever the model's own constants take.
  bool is_extra(std::size_t bytes) const { return dequantises_ || (table_ && bytes <= kMostTable); }
  bool allows(std::size_t bytes) const {
    if (options_.fold_everything || bytes <= options_.always_fold_bytes) return true;
    if (is_extra(bytes)) return budget_.allows_dequantised(bytes);
    return static_cast<double>(bytes) <= options_.growth_limit * static_cast<double>(input_bytes_) || budget_.allows(bytes);
  }

 private:
  const SimplifyOptions& options_;
  const Budget& budget_;
  bool dequantises_, table_ = false;
  std::size_t input_bytes_ = 0;
};

bool is_live(const Value* value) { return value && (!value->uses.empty() || value->is_graph_output()); }

bool fold_node(Graph& graph, Node& node, PassContext& context, Budget& budget) {
  const SimplifyOptions& options = context.options;
  if (!may_fold(node, options)) return false;
  if (node.is("Identity")) return false;  // canonicalise removes it; where it stands for a graph output it stays
  const GrowthRule rule(node, options, budget);
  std::size_t expected = 0;
  for (const Value* output : node.outputs) {
    if (!is_live(output)) continue;
    const std::size_t bytes = bytes_of(*output);
    if (bytes == SIZE_MAX) {
      expected = SIZE_MAX;
      break;
    }
    expected += bytes;
  }
  if (expected != SIZE_MAX && !rule.allows(expected)) return false;  // known beforehand: not even run
  std::vector<Tensor> inputs;
  for (const Value* input : node.inputs) inputs.push_back(input ? input->constant : Tensor());
  std::vector<Tensor> results;
  try {
    ops::EvaluateOptions evaluation;
    evaluation.most_trips = kMostTrips;
    results = ops::evaluate_node(node, inputs, evaluation);
  } catch (const Error& error) {
    // The node fails on its constants. That is the model's own matter at run time (it may stand in a branch that is never taken).
    log(LogLevel::kDebug, "fold: {} was not folded: {}", node.describe(), error.what());
    return false;
  }
  std::size_t total = 0;
  for (const Tensor& result : results) {
    if (result.defined() && !result.is_tensor()) return false;
  }
  for (std::size_t i = 0; i < results.size(); ++i) {
    if (is_live(node.output(i))) total += results[i].bytes();
  }
  if (!rule.allows(total)) return false;
  std::set<const Value*> read;
  for (const Value* input : node.inputs) {
    if (input) read.insert(input);
  }
  bool folded = false;
  for (std::size_t i = 0; i < results.size() && node.graph == &graph; ++i) {
    if (node.output(i) && results[i].defined()) folded = replace_by_constant(node, i, std::move(results[i])) || folded;
  }
  if (!folded) return false;
  budget.add(total);
  if (rule.is_extra(total)) {  // what other constants may take stays what it was
    budget.raise(total);
    context.original_constant_bytes += total;
  }
  for (const Value* input : read) {
    if (input->uses.empty()) budget.remove(input->constant.bytes());
  }
  return true;
}

}  // namespace

int fold(Graph& graph, PassContext& context) {
  int rewrites = 0;
  Budget budget(context.model, context);
  graph.for_each([&](Node& node) { rewrites += fold_node(graph, node, context, budget) ? 1 : 0; });
  return rewrites;
}

}  // namespace lathe::passes
