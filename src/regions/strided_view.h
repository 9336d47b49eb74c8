// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a chain of nodes that only move elements (Transpose, Reshape, Split, Slice, Gather of one index, ...) comes to: each axis of its result
// as places along the axes of its source. A kernel that takes strides then reads the source itself, and the chain costs nothing.

#include <cstdint>
#include <optional>
#include <vector>

#include "ir/graph.h"

namespace lathe::regions {

/// `extent` places, `step` apart, along one axis of the source.
struct SubAxis {
  ir::Dim extent;
  int axis = 0;
  std::int64_t step = 1;
  friend bool operator==(const SubAxis&, const SubAxis&) = default;
};

struct StridedView {
  ir::Value* source = nullptr;
  std::vector<std::vector<SubAxis>> axes;  ///< of the viewed value, outermost first; empty: extent 1
  std::vector<std::int64_t> offset;        ///< by axis of the source: where index 0 is
};

/// The value itself. Precondition: it has a shape.
StridedView whole_view(ir::Value* value);
/// True for the nodes that follow() knows.
bool moves_elements(const ir::Node& node);
/// From a view of the node's input 0 to one of its output `index`; false (and `view` is spoilt) when that has no strides.
bool follow(const ir::Node& node, std::size_t index, StridedView& view);
/// Cuts `axis` into pieces of these extents, outermost first; nullopt where they do not divide it.
std::optional<std::vector<SubAxis>> cut(const SubAxis& axis, const std::vector<ir::Dim>& extents);

}  // namespace lathe::regions
