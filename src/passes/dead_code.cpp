// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Removes nodes whose outputs nothing reads, and unused constants. Every operator is free of side effects; a node without any output
// (a custom op that prints, say) is kept. Graph inputs stay: they are the interface.

#include "passes/pass.h"
#include "passes/rewrite.h"

namespace lathe::passes {

int dead_code(ir::Graph& graph, PassContext&) {
  const std::size_t before = graph.node_count();
  std::vector<ir::Node*> nodes = graph.nodes();
  for (std::size_t i = nodes.size(); i-- > 0;) {
    ir::Node* node = nodes[i];
    bool used = node->outputs.empty();
    for (const ir::Value* value : node->outputs) used = used || (value && (!value->uses.empty() || value->is_graph_output()));
    if (!used) graph.erase(node);  // backwards: consumers went before
  }
  graph.erase_unused_constants();
  return static_cast<int>(before - graph.node_count());
}

}  // namespace lathe::passes
