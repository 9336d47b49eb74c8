// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a pass is: a named function that rewrites one graph and says how often. The pipeline calls it for the main graph and for every
// nested graph. A pass sees canonical nodes with inferred types; it leaves the graph sound (verify.h), but types of new values may be
// open until the pipeline infers again.

#include <span>
#include <string_view>

#include "ir/graph.h"
#include "passes/simplify.h"

namespace lathe::passes {

struct PassContext {
  ir::Model& model;
  const SimplifyOptions& options;
  std::size_t original_constant_bytes = 0;  ///< when the simplifier began
};

struct Pass {
  std::string_view name;                               ///< "fold"; what --dump-after takes
  std::string_view doc;                                ///< one line
  int (*run)(ir::Graph& graph, PassContext& context);  ///< number of rewrites
};

/// The passes in the order of a round (pipeline.cpp).
std::span<const Pass> pipeline();

// One function per pass file, in pipeline order.
int canonicalise(ir::Graph& graph, PassContext& context);
int expand_compositions(ir::Graph& graph, PassContext& context);
int quantised_products(ir::Graph& graph, PassContext& context);
int half_in_float(ir::Graph& graph, PassContext& context);
int inline_branches(ir::Graph& graph, PassContext& context);
int hoist_invariants(ir::Graph& graph, PassContext& context);
int growing_states(ir::Graph& graph, PassContext& context);
int batch_scans(ir::Graph& graph, PassContext& context);
int known_contents(ir::Graph& graph, PassContext& context);
int fold(ir::Graph& graph, PassContext& context);
int zero_states(ir::Graph& graph, PassContext& context);
int broadcasts(ir::Graph& graph, PassContext& context);
int identities(ir::Graph& graph, PassContext& context);
int no_op_moves(ir::Graph& graph, PassContext& context);
int clip_chains(ir::Graph& graph, PassContext& context);
int common_subexpressions(ir::Graph& graph, PassContext& context);
int equal_contents(ir::Graph& graph, PassContext& context);
int symbolic_targets(ir::Graph& graph, PassContext& context);
int cast_chains(ir::Graph& graph, PassContext& context);
int reshape_chains(ir::Graph& graph, PassContext& context);
int transpose_chains(ir::Graph& graph, PassContext& context);
int reshape_transpose(ir::Graph& graph, PassContext& context);
int slice_chains(ir::Graph& graph, PassContext& context);
int split_concat(ir::Graph& graph, PassContext& context);
int fold_pad(ir::Graph& graph, PassContext& context);
int fold_batch_norm(ir::Graph& graph, PassContext& context);
int fold_scale_bias(ir::Graph& graph, PassContext& context);
int fuse_gelu(ir::Graph& graph, PassContext& context);
int fuse_hard_swish(ir::Graph& graph, PassContext& context);
int fuse_layer_norm(ir::Graph& graph, PassContext& context);
int dead_code(ir::Graph& graph, PassContext& context);

}  // namespace lathe::passes
