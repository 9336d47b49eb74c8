// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The driver of shape inference: runs every node's shape rule in order over canonical nodes, nested graphs included, with value
// propagation (contents of small integer tensors as expressions), and merges what it finds with the types that the file declares.

#include <cstddef>
#include <string>
#include <vector>

#include "ir/graph.h"
#include "ops/op_def.h"

namespace lathe::ops {

struct InferOptions {
  /// Forget types and contents of node outputs first (after input shapes were changed). Declared types of nodes without a shape rule
  /// stay, since nothing else knows them.
  bool discard_previous = false;
  bool check_types = true;         ///< also hold every node's dtypes against its schema
  std::size_t content_limit = 64;  ///< largest tensor whose elements are propagated
};

struct InferReport {
  std::size_t nodes = 0;
  std::size_t unknown_shapes = 0;         ///< node outputs left without a rank
  std::size_t fresh_symbols = 0;          ///< "?N" symbols made: extents that only the data tells
  std::vector<std::string> without_rule;  ///< "Op 'node'" of every node that no shape rule knows
};

/// Throws Error(kInvalidModel) naming node, tensor and both shapes where rule and declaration disagree.
///
/// Merging: where both sides know a number they must agree. The rule's expression over input symbols wins over a declared number or
/// name, since files often declare the extents of the traced example; a declared extent wins over "?N", unless that is known to be the
/// extent of other tensors too and the declared one a name that no input binds.
InferReport infer_graph(ir::Graph& graph, const InferOptions& options = {});
InferReport infer_graph(ir::Model& model, const InferOptions& options = {});

/// Known elements of a value: its propagated content, or those of a small constant. Floating tensors count when every element is a
/// whole number. nullopt when unknown or larger than `limit`.
std::optional<std::vector<ir::Dim>> known_content(const ir::Value& value, std::size_t limit = 64);

/// The tensor of a constant, be it an initializer or a Constant node; undefined for others.
Tensor constant_of(const ir::Value& value);

/// The N of a fresh symbol "?N"; -1 for others.
std::int64_t fresh_number(const std::string& symbol);
/// Does the extent depend on one that only the data tells?
bool has_fresh(const ir::Dim& dim);

}  // namespace lathe::ops
