// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Sequences and optionals, one file a kind; sequence.cpp lists them.

#include <optional>
#include <vector>

#include "ops/op_def.h"

namespace lathe::ops {

OpDef split_to_sequence();     // split.cpp
OpDef concat_from_sequence();  // split.cpp
OpDef optional_op();           // optional.cpp
OpDef optional_get_element();  // optional.cpp
OpDef optional_has_element();  // optional.cpp

/// The types of a sequence's elements, one by one, where the nodes that made it tell how many there are.
std::optional<std::vector<ir::Type>> known_items(const Value* sequence);
/// The axis that SplitToSequence cuts; nullopt where its input's rank does not tell.
std::optional<std::size_t> split_axis(const Node& split);
/// Extents of the parts that it makes of the axis; nullopt where they are not known.
std::optional<std::vector<Dim>> known_parts(const Node& split);
/// Without lengths every part has one element, and its axis may go.
bool drops_axis(const Node& split);
/// Input 0 must be a sequence, or of an unknown type. Fails for others.
void need_sequence(InferContext& ctx);
/// The elements of input 0. Fails where that is no sequence.
const std::vector<Tensor>& sequence_input(const RefContext& ctx);
/// `position` of a sequence of `count` elements, counted from the end where negative; nullopt outside [0, limit).
std::optional<std::size_t> position_in(std::int64_t position, std::size_t count, std::size_t limit);

}  // namespace lathe::ops
