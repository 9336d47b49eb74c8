// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Ops that are compositions (OpDef::expand) become their parts, so that the other passes and the kernels see ops that they know:
//
//   com.microsoft::BiasGelu(a, b)   ->   Gelu(Add(a, b))
//
// An instance whose expansion needs more than is known (a rank, a constant) stays, and may go in a later round. Some become parts only where the
// graph is made for a GPU (SimplifyOptions::for_gpu).

#include "ops/expansion.h"
#include "passes/pass.h"

namespace lathe::passes {

int expand_compositions(ir::Graph& graph, PassContext& context) {
  int rewrites = 0;
  if (!context.options.for_running) return 0;  // a model that is written keeps its operators
  graph.for_each([&](ir::Node& node) {
    if (ops::expand_node(node) || (context.options.for_gpu && ops::expand_node_for_gpu(node))) ++rewrites;
  });
  return rewrites;
}

}  // namespace lathe::passes
