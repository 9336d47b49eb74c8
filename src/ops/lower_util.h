// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the region lowerings of several op families share: reductions, normalisations, indices.

#include <optional>
#include <vector>

#include "loops/builder.h"
#include "ops/window.h"

namespace lathe::ops {

/// The type in which a region computes on values of `dtype`: float32 for narrower floats, int64 for integers and bool.
DType compute_dtype(DType dtype);

/// Axes of a value that a reduction runs over.
struct ReducedAxes {
  std::vector<bool> reduced;  ///< per axis of the input
  bool keep = true;           ///< reduced axes stay as extents of 1 in the result

  ReducedAxes(std::size_t rank, const std::vector<std::int64_t>& axes, bool keep_axes);
  ir::Shape kept_shape(const ir::Shape& in) const;
  ir::Shape reduction_space(const ir::Shape& in) const;
  ir::Dim count(const ir::Shape& in) const;
  /// Indices into the input from those of the result and of the reduction space.
  loops::RegionBuilder::Indices input_indices(const loops::RegionBuilder::Indices& kept, const loops::RegionBuilder::Indices& reduced) const;
  /// Indices into the result for an element of the input.
  loops::RegionBuilder::Indices kept_indices(loops::RegionBuilder& builder, const loops::RegionBuilder::Indices& input) const;
};

using Element = std::function<loops::ExprId(loops::RegionBuilder&, const loops::RegionBuilder::Indices&)>;

/// A temporary that holds the reduction of `element` (a function of the input's indices, in type `accumulate`).
const ir::Value* reduce_to_temporary(loops::RegionBuilder& builder, const char* name, loops::Reduce reduce, DType accumulate, const ir::Shape& in,
                                     const ReducedAxes& axes, Element element);

/// An index, as int64, that counts from the end when negative.
loops::ExprId from_end(loops::RegionBuilder& builder, loops::ExprId index, const ir::Dim& extent);

/// The node's window over its first input, with concrete pads; `kernel` where the op takes it from the weight. nullopt with a reason in the builder
/// where SAME pads hang on extents that only a run tells.
std::optional<Window> known_window(const ir::Node& node, loops::RegionBuilder& builder, const std::vector<std::int64_t>& kernel = {});

/// False, with a reason in the builder, unless the value is a tensor of real numbers of known rank.
bool can_lower_real(const ir::Value* value, loops::RegionBuilder& builder);

}  // namespace lathe::ops
