// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Cuts a graph that cannot be planned as a whole into what a dynamic program runs: nodes by their definitions (control flow, texts,
// sequences, extents that only the data tell), and islands between them, each a graph whose shapes follow from its inputs' shapes.
//
// An extent that an earlier value tells reaches an island as a symbol: bound by an input that has it on an axis, else by a *carrier*, an
// input of shape [symbol, 0].

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ir/graph.h"

namespace lathe::builder {

/// Where the value of a symbol can be read: the extent of an axis, or (-1 - k) element k.
struct SymbolSource {
  const ir::Value* value = nullptr;
  std::int64_t place = 0;
};

struct CutGraph;

/// One step of the dynamic program.
struct Piece {
  const ir::Node* node = nullptr;        ///< run by its definition; nullptr: an island
  std::vector<CutGraph> bodies;          ///< of its nested graphs, in the order of ir::nested_graphs()
  std::shared_ptr<ir::Graph> island;     ///< inputs: `inputs`, then one for each carrier; outputs: `outputs`
  std::vector<const ir::Value*> inputs;  ///< of an island, values of the graph around
  std::vector<SymbolSource> carriers;
  std::vector<const ir::Value*> outputs;
};

struct CutGraph {
  const ir::Graph* graph = nullptr;
  std::vector<const ir::Value*> captures;  ///< values of graphs around that it, or what it holds, reads
  std::vector<Piece> pieces;               ///< in the order of execution
};

/// Nodes that give other results at each run (random numbers) are run by their definitions, unless a GPU that is planned for has kernels for them.
enum class Draws : std::uint8_t { kAlone, kPlannedOnGpu };
/// Does the graph, or one nested in it, have such a node with kernels for a GPU? Else both ways are the same.
bool has_draws_for_gpu(const ir::Graph& graph);

/// Can every shape of the graph be told from its inputs' shapes, and every node be planned? Then it needs no cutting.
bool is_static(const ir::Graph& graph, Draws draws = Draws::kAlone);

/// The graph must be simplified, with types and contents inferred, and outlive the result.
CutGraph cut_graph(const ir::Graph& graph, Draws draws = Draws::kAlone);

}  // namespace lathe::builder
