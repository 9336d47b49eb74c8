// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Runs one canonical node on concrete tensors by its op's reference, or by what it expands to: what constant folding and the tests call.

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <vector>

#include "base/tensor.h"
#include "ir/graph.h"
#include "ops/op_def.h"

namespace lathe::ops {

/// Runs nested graphs for control flow.
using SubgraphRunner = std::function<std::vector<Tensor>(const ir::Graph& graph, std::span<const Tensor> inputs)>;

/// What the knob LATHE_MAX_TRIPS says; no limit at all where it says 0.
std::int64_t most_trips_wanted();

struct EvaluateOptions {
  bool oracle = false;                            ///< the blocked oracle where the op has one
  SubgraphRunner run_subgraph;                    ///< empty: nested graphs may use their inputs and constants only
  std::int64_t most_trips = most_trips_wanted();  ///< loops that would take more fail
  std::shared_ptr<const void>* kept = nullptr;    ///< RefContext::kept's place: one per node, of one thread, at unchanging input types
};

/// `inputs` match node.inputs (undefined Tensor = left out); the result matches node.outputs (undefined = left out). Throws
/// Error(kUnsupported) for an op without reference, Error(kInvalidModel) at the node when the data break the op's rules.
std::vector<Tensor> evaluate_node(const ir::Node& node, std::span<const Tensor> inputs, const EvaluateOptions& options = {});

/// True when evaluate_node() can run it.
bool can_evaluate(const ir::Node& node);
bool can_evaluate(const OpDef* op);  ///< nullptr: false

}  // namespace lathe::ops
