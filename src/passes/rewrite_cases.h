// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Test cases of rewrites as text, one file per pass beside it (src/passes/<pass>_cases.txt), and what each case must survive. Used by
// the tests of this folder only.
//
//   # fires: what the case is about
//   #: option value ...
//   graph g(x: float[2, 3]) -> (y) { ... }
//   =>
//   graph g(x: float[2, 3]) -> (y) { ... }
//
//   # must not fire: the condition that forbids it
//   graph g(x: float[2, 3]) -> (y) { ... }
//
// The pass runs alone, to its fixed point. Constants of the result are compared by content, all other values by name. A node without a
// source ("@name") gets the name of its first output as one. Options:
//
//   gone a b             sources that no node has afterwards: those of nodes that became constants, or that nothing reads any more. All
//                        other sources must survive.
//   sizes h=6 w=4 | h=1  values of symbols, one run for each group; otherwise symbol i is 3 + i, then every symbol is 1
//   range x 0 2          integers drawn for an input (-4..4 otherwise)
//   tolerance 2e-6       share of a tensor's scale by which numbers may differ; otherwise bits must agree (NaNs are equal to each other)
//   zero signs free      -0 counts as +0
//   finite               no NaNs and infinities among the inputs
//   not run              the graph cannot be run; nothing numeric is checked
//   rewrites 2           how often the pass says that it fired (default: at least once)
//   model ir_version 3   ir_version of the model
//   set fold_everything 1    a field of SimplifyOptions

#include <map>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "ir/graph.h"
#include "passes/simplify.h"

namespace lathe::passes {

struct RewriteCase {
  std::string pass, title, file;
  int line = 0;
  bool fires = false;
  std::string before, after;  ///< graph texts; `after` is empty when the pass must not fire
  std::string defect;         ///< why the file could not be read here ("": it could)
  // Options.
  std::vector<std::string> gone;
  std::vector<ir::Bindings> sizes;
  std::map<std::string, std::pair<std::int64_t, std::int64_t>> ranges;
  double tolerance = 0;
  bool zero_signs_free = false, finite = false, run = true;
  std::optional<std::int64_t> rewrites;
  std::int64_t ir_version = 10;
  SimplifyOptions options;

  friend void PrintTo(const RewriteCase& test, std::ostream* out) { *out << test.title; }  ///< for gtest's messages
};

/// Cases of every pass of the pipeline. A file that is missing or wrong yields a case with a defect.
std::vector<RewriteCase> all_rewrite_cases();
/// Adds the operators that cases need and the registry lacks: control flow, quantisation, a random op. Each is defined in full.
void register_test_ops();

std::shared_ptr<ir::Model> model_of(std::shared_ptr<ir::Graph> graph, std::int64_t ir_version);
/// The graph's text with constants named by their order of use and without sources.
std::string comparable_text(const ir::Graph& graph);

/// How two runs are compared.
struct Comparison {
  double tolerance = 0;    ///< share of the tensor's scale (its largest finite magnitude)
  double least_scale = 0;  ///< where the tensor's is smaller
  bool zero_signs_free = false;
};
/// "" when equal, else what differs.
std::string difference(const Tensor& a, const Tensor& b, const Comparison& comparison);

/// One seeded set of inputs of a graph; nullopt for types that cannot be drawn. `special` mixes in NaNs (unless `finite`), infinities,
/// zeros of both signs and the like.
std::optional<std::vector<Tensor>> draw_inputs(const ir::Graph& graph, const RewriteCase& test, const ir::Bindings& sizes, unsigned seed, bool special);
/// Everything that a run computes: tensors by value name (the last one for values inside loops), and the outputs.
struct RunResult {
  std::map<std::string, Tensor> values;
  std::vector<Tensor> outputs;
  std::string mistyped;    ///< what inference said wrongly about a tensor's type
  bool any_empty = false;  ///< some tensor has no elements
};
/// Runs by the references; every tensor's dtype and extents are held against its value's type.
RunResult run_graph(const ir::Graph& graph, const std::vector<Tensor>& inputs, const ir::Bindings& sizes);

}  // namespace lathe::passes
