// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the shape rules of nested graphs and of sequences share: the type that holds for several values, and types that leave the graph
// in which they were found.
//
// A symbol "?N" in the element type of a sequence stands for an extent that may differ from element to element.

#include <optional>
#include <set>
#include <string>

#include "ops/op_def.h"

namespace lathe::ops {

/// Tells the fresh symbols that came after it was made: those of a nested graph's inference mean another extent in each of its runs.
class LaterSymbols {
 public:
  explicit LaterSymbols(InferContext& ctx);
  bool has(const Dim& dim) const;
  /// `type` outside the nested graph: such an extent becomes a symbol of its own.
  ir::Type outside(const ir::Type& type) const;
  Shape outside(const Shape& shape) const;

 private:
  InferContext& ctx_;
  std::int64_t first_;
};

/// The type of values of either type. Extents that differ become fresh symbols, which stay in later joins of the same object; differing
/// ranks an unknown rank; a type that is not known at all takes the other's kind. An optional of a type joins with the type.
class TypeJoin {
 public:
  explicit TypeJoin(InferContext& ctx) : ctx_(ctx) {}
  /// nullopt: no value can have both types.
  std::optional<ir::Type> operator()(const ir::Type& a, const ir::Type& b);

 private:
  Dim dim(const Dim& a, const Dim& b, bool in_sequence);
  std::optional<ir::Type> join(const ir::Type& a, const ir::Type& b, bool in_sequence);
  InferContext& ctx_;
  std::set<std::string> open_;  // symbols of earlier joins
};

/// The type without extents and ranks.
ir::Type without_shape(const ir::Type& type);

ir::Type sequence_type(ir::Type element);
ir::Type optional_type(ir::Type element);
/// A sequence without elements, so that joins take the element's shape from elsewhere.
ir::Type empty_sequence_type(DType dtype);
bool is_empty_sequence(const ir::Type& type);
/// The type of one element that is taken out of a sequence of this type.
ir::Type element_type(InferContext& ctx, const ir::Type& sequence);

/// A nested graph of the node, for its shape rule or its reference; fails where the attribute is missing.
template <class Context>
ir::GraphPtr nested_graph(Context& ctx, std::string_view name) {
  ir::GraphPtr graph = ctx.attrs().get_graph(name);
  if (!graph) ctx.fail("lacks the graph '" + std::string(name) + "'");
  return graph;
}

/// The element of a tensor that has one, where that is known to be this whole number.
std::optional<std::int64_t> known_number(const Value* value);
/// The same of a bool, or of a number that is used as one.
std::optional<bool> known_flag(const Value* value);

}  // namespace lathe::ops
