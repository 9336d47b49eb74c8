// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Runs a whole graph by its ops' references or oracles: the truth that engines are held against. One thread, fixed order.

#include <functional>
#include <map>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/tensor.h"
#include "ir/graph.h"
#include "ops/evaluate.h"

namespace lathe::ops {

struct RunnerOptions {
  bool oracle = false;  ///< blocked oracles where they exist
  /// Sees every tensor as it is made, inputs and constants included, and may replace it (rounding to a storage type for the noise
  /// floor). Constants are shown once per run, at their first use.
  std::function<void(const ir::Value& value, Tensor& tensor)> observe = {};
  /// Nodes of the outermost graph that are not evaluated (sampled verification). Their outputs are shown to `observe` undefined, which
  /// may fill them in; what reads an undefined tensor is left out as well.
  std::function<bool(const ir::Node& node)> skip = {};
  std::int64_t most_trips = most_trips_wanted();  ///< loops that would take more fail
};

/// Nodes (nested ones too) that no reference can run.
std::vector<const ir::Node*> unsupported_nodes(const ir::Graph& graph);

class ReferenceRunner {
 public:
  /// The graph must be canonical (see canonicalise_opsets) and outlive the runner. Throws Error(kUnsupported) that lists every node
  /// it cannot run.
  explicit ReferenceRunner(const ir::Graph& graph, RunnerOptions options = {});
  /// A model in any opset: works on a canonical copy. Local functions must have been inlined.
  explicit ReferenceRunner(const ir::Model& model, RunnerOptions options = {});
  ~ReferenceRunner();
  ReferenceRunner(const ReferenceRunner&) = delete;
  ReferenceRunner& operator=(const ReferenceRunner&) = delete;

  /// In the order of the graph's inputs; an undefined Tensor takes the input's default (an initializer of the same name). Checks
  /// kind (a sequence for a sequence; an optional takes nothing or its element), dtype, rank and constant extents, and that one symbol
  /// has one value. Throws Error(kInvalidArgument).
  std::vector<Tensor> run(std::span<const Tensor> inputs);
  /// By name; inputs left out take their defaults.
  std::map<std::string, Tensor> run(const std::map<std::string, Tensor>& inputs);

  const ir::Graph& graph() const noexcept { return *graph_; }

 private:
  using Environment = std::unordered_map<const ir::Value*, Tensor>;
  struct Plan;  // per graph: which values die after which node
  const Plan& plan_of(const ir::Graph& graph);
  std::vector<Tensor> run_graph(const ir::Graph& graph, std::span<const Tensor> inputs);
  Tensor lookup(const ir::Value& value);
  void bind_inputs(const ir::Graph& graph, std::span<const Tensor> inputs);

  RunnerOptions options_;
  std::shared_ptr<ir::Model> model_;  // the canonical copy, when made from a model
  const ir::Graph* graph_;
  std::unordered_map<const ir::Graph*, std::unique_ptr<Plan>> plans_;
  Environment values_;
};

}  // namespace lathe::ops
