// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Builds LoopRegions from graph nodes. An op's `lower` asks for its inputs as *functions of an index* and defines its outputs the same
// way; chains of pointwise and data-movement ops thus compose into one expression without temporaries. Reductions, concatenations
// and expensive values that would be computed more than once become temporaries (stages).
//
// Bodies are called in finish(), several times, so they must be pure: capture values and attributes by value, change nothing.

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ir/graph.h"
#include "loops/region.h"

namespace lathe::loops {

class RegionBuilder {
 public:
  using Indices = std::vector<ExprId>;  ///< one int64 expression per dimension
  using Body = std::function<ExprId(RegionBuilder&, const Indices&)>;

  // Expressions (hash-consed, constant-folded, identities removed) -------------------------------------------------------
  ExprId constant(double value, DType type);
  ExprId integer(std::int64_t value);  ///< int64
  ExprId dim(const ir::Dim& dim);      ///< int64
  ExprId unary(ExprOp op, ExprId a);
  ExprId binary(ExprOp op, ExprId a, ExprId b);  ///< both of one type
  ExprId select(ExprId condition, ExprId a, ExprId b);
  ExprId cast(ExprId a, DType type);
  DType type_of(ExprId e) const;

  // Values ---------------------------------------------------------------------------------------------------------------
  /// The element of `value` at `indices` (a load of an input buffer, or the defining expression when computed in this region).
  ExprId read(const ir::Value* value, const Indices& indices);
  /// As read(), but `fallback` where any index is out of bounds (Pad).
  ExprId read_or(const ir::Value* value, const Indices& indices, ExprId fallback);
  /// NumPy broadcasting: reads `value` for an output of shape `out` at `indices`.
  ExprId read_broadcast(const ir::Value* value, const ir::Shape& out, const Indices& indices);

  /// Defines `value` pointwise: its element at any index.
  void define(const ir::Value* value, Body body);
  /// Defines `value` as a reduction: `axes` are the extents of the reduction space; body gets (kept indices, reduction indices).
  using ReduceBody = std::function<ExprId(RegionBuilder&, const Indices& kept, const Indices& reduced)>;
  void define_reduction(const ir::Value* value, Reduce reduce, ir::Shape reduction_space, ReduceBody body, DType accumulate);
  /// A temporary of this region that is no graph value (the mean inside LayerNormalization).
  const ir::Value* temporary(std::string name, DType dtype, ir::Shape shape);
  /// Two extents of `value`'s definition that are equal or the run is refused.
  void require_equal(const ir::Value* value, const ir::Dim& a, const ir::Dim& b);
  /// Defines `value` piecewise along one axis (Concat): stores each part into its slice.
  void define_parts(const ir::Value* value, int axis, std::vector<std::pair<ir::Dim, Body>> parts);

  /// Names the ONNX node that a defined value came from, for reports. lower_nodes() does it for node outputs.
  void set_source(const ir::Value* value, std::string source);
  bool is_defined(const ir::Value* value) const;

  /// Why lowering was refused, for --explain.
  void decline(std::string reason);
  const std::string& declined() const;

  RegionBuilder();
  ~RegionBuilder();
  RegionBuilder(const RegionBuilder&) = delete;
  RegionBuilder& operator=(const RegionBuilder&) = delete;

  /// Finishes: materialises `outputs` (and temporaries that must be), prunes. `inputs` fixes the buffer order.
  /// `body` of a value must give the value's dtype. Declines (and returns an empty region) when a shape is unknown.
  LoopRegion finish(std::span<const ir::Value* const> inputs, std::span<const ir::Value* const> outputs);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Implemented in src/ops/pointwise/lower_nodes.cpp, since it needs the op registry.
/// Lowers a topologically ordered set of nodes to one region; false with `reason` when an op has no lowering.
bool lower_nodes(std::span<const ir::Node* const> nodes, std::span<const ir::Value* const> inputs, std::span<const ir::Value* const> outputs,
                 LoopRegion& region, std::string& reason);

}  // namespace lathe::loops
