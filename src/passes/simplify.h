// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The simplifier's interface: runs the passes of pipeline.cpp over a model to a fixed point. Used by `lathe simplify`, by the builder
// and by the Python package. It changes the model in place; whoever needs the model as read clones it first.

#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/tensor.h"
#include "ir/graph.h"

namespace lathe::passes {

struct SimplifyOptions {
  /// Constant folding keeps a result only when it takes at most `growth_limit` times the bytes of the node's inputs, or at most
  /// `always_fold_bytes`, or when all constants together stay within the model's own plus `growth_budget` of them, `growth_budget_bytes`
  /// at most (anchor grids, masks). `fold_everything` lifts the limits (never for DequantizeLinear and what follows from it).
  double growth_limit = 2.0;
  std::size_t always_fold_bytes = 1024;
  double growth_budget = 1.0 / 16;
  std::size_t growth_budget_bytes = std::size_t{4} << 20;
  bool fold_everything = false;
  /// Graph inputs that have an initializer of the same name: in IR versions below 4 every initializer is also an input, so there they
  /// are constants. From IR version 4 on they are defaults that a caller may override; true treats them as constants all the same.
  bool defaults_are_constants = false;
  /// A BatchNormalization that no convolution takes becomes Mul + Add: one node more, for consumers that know only pointwise ops.
  bool expand_batch_norm = false;
  bool verify = false;                ///< run the verifier after every pass (always on in debug builds)
  std::string dump_after;             ///< pass name or "all"; empty: the knob LATHE_DUMP_AFTER
  std::vector<std::string> disabled;  ///< passes to leave out, by name
  int max_rounds = 30;
  std::function<void()> before_pass;  ///< may throw, to stop: the model is then between two passes
  /// The graph is made to be run by kernels of float32, not to be written: products of quantised integers become exact products of
  /// float32, constants are dequantised (they take up to eight times the space then, at most 2 GiB in all), and ops with a definition of their
  /// own become compositions that kernels know, where there are such (Conv over three axes).
  bool for_running = false;
  /// As `for_running`, where whole numbers of at most 8 bits are multiplied faster than others (in bfloat16, exactly): products of dequantised
  /// operands become scaled products of whole numbers.
  bool fast_whole_products = false;
  bool half_in_float = false;  ///< nodes of float16 compute in float32: to be run on a CPU
  bool for_gpu = false;        ///< as `for_running`, on a GPU: ops that only there gain from it become compositions as well
};

struct PassCount {
  std::string pass;
  std::int64_t rewrites = 0;
  double seconds = 0;
};

struct SimplifyReport {
  std::size_t nodes_before = 0, nodes_after = 0;                   ///< nested graphs included
  std::map<std::string, std::pair<std::size_t, std::size_t>> ops;  ///< op -> count before, after ("domain::Op" outside ai.onnx)
  std::vector<PassCount> passes;                                   ///< in pipeline order
  int rounds = 0;
  bool converged = true;  ///< false: stopped at max_rounds
  double seconds = 0;
};

/// Bytes of all constants of the graph and of the graphs nested in it.
std::size_t constant_bytes(const ir::Graph& graph);

/// Canonicalises the opset (ops::canonicalise_opsets), infers shapes, then simplifies. Local functions must have been inlined.
SimplifyReport simplify(ir::Model& model, const SimplifyOptions& options = {});

/// Fixes the shapes of inputs: a symbol that such an extent bears is replaced everywhere in the model (two inputs that share "batch"
/// get one value), and shapes are inferred anew. Throws Error(kInvalidArgument) when a name, a rank or a fixed extent disagrees, or when
/// a symbol would get two values.
void set_input_shapes(ir::Model& model, const std::map<std::string, Dims>& shapes);

struct PassInfo {
  std::string name, doc;
};
/// The pipeline, for `--dump-after` and documentation.
std::vector<PassInfo> pass_list();

}  // namespace lathe::passes
