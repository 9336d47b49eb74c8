// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Evaluation of single nodes.
#include "ops/evaluate.h"

#include "base/knobs.h"
#include "ops/expansion.h"
#include "ops/reference_runner.h"
#include "ops/registry.h"
#include "ops/validate.h"

namespace lathe::ops {

std::int64_t most_trips_wanted() {
  const std::int64_t most = knob_int("LATHE_MAX_TRIPS");
  return most > 0 ? most : std::numeric_limits<std::int64_t>::max();
}
namespace {

class Context final : public RefContext {
 public:
  Context(const Node& node, std::span<const Tensor> inputs, const EvaluateOptions& options)
      : node_(node), inputs_(inputs), options_(options), outputs_(node.outputs.size()) {}

  const Node& node() const override { return node_; }
  std::size_t input_count() const override { return inputs_.size(); }
  bool has_input(std::size_t i) const override { return i < inputs_.size() && inputs_[i].defined(); }
  const Tensor& input(std::size_t i) const override {
    if (!has_input(i)) fail("input " + std::to_string(i) + " is left out");
    return inputs_[i];
  }
  std::size_t output_count() const override { return outputs_.size(); }
  bool wants_output(std::size_t i) const override { return node_.output(i) != nullptr; }
  void set_output(std::size_t i, Tensor tensor) override {
    if (wants_output(i)) outputs_[i] = std::move(tensor);
  }
  std::vector<Tensor> run_subgraph(const ir::Graph& graph, std::span<const Tensor> inputs) override {
    if (options_.run_subgraph) return options_.run_subgraph(graph, inputs);
    return ReferenceRunner(graph, {.oracle = options_.oracle, .observe = {}, .skip = {}, .most_trips = options_.most_trips}).run(inputs);
  }
  std::int64_t most_trips() const override { return options_.most_trips; }
  [[noreturn]] void fail(std::string message) const override { throw node_error(node_, std::move(message)); }

  std::vector<Tensor> take() {
    for (std::size_t i = 0; i < outputs_.size(); ++i) {
      if (wants_output(i) && !outputs_[i].defined()) {
        throw node_error(node_, "its reference left output " + std::to_string(i) + " unset", Code::kInternal);
      }
    }
    return std::move(outputs_);
  }

 protected:
  std::shared_ptr<const void>* kept_place() override { return options_.kept; }

 private:
  const Node& node_;
  std::span<const Tensor> inputs_;
  const EvaluateOptions& options_;
  std::vector<Tensor> outputs_;
};

}  // namespace

bool can_evaluate(const OpDef* op) { return op && (op->reference || op->oracle || op->expand); }
bool can_evaluate(const ir::Node& node) { return can_evaluate(find_op(node.domain, node.op)); }

std::vector<Tensor> evaluate_node(const ir::Node& node, std::span<const Tensor> inputs, const EvaluateOptions& options) {
  const OpDef* op = find_op(node.domain, node.op);
  if (!can_evaluate(op)) {
    throw node_error(node, op ? "the op has no reference" : "the op is unknown", Code::kUnsupported).with_remedy("`lathe ops` lists the supported ones.");
  }
  if (inputs.size() != node.inputs.size()) {
    throw node_error(node, "evaluated with " + std::to_string(inputs.size()) + " tensors for " + std::to_string(node.inputs.size()) + " inputs",
                     Code::kInvalidArgument);
  }
  if (!op->reference && !op->oracle) return evaluate_expanded(node, inputs, options);
  Context context(node, inputs, options);
  const auto run = options.oracle && op->oracle ? op->oracle : op->reference ? op->reference : op->oracle;
  try {
    run(context);
  } catch (Error& error) {
    if (error.node().empty()) error.at_node(node_name(node), node.op);
    throw;
  }
  return context.take();
}

}  // namespace lathe::ops
