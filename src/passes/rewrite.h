// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What rewrites share: reading constants, bypassing and transmuting nodes, keeping source names. A rewrite prefers to turn the last
// node of its pattern into the new one in place: its output keeps name, type and uses, and what is no longer needed dies.

#include <optional>
#include <string_view>
#include <vector>

#include "ir/graph.h"

namespace lathe::passes {

// Reading ----------------------------------------------------------------------------------------------------------------------

/// Used exactly once, and no graph output.
bool single_use(const ir::Value* value);
/// The producer when it is this ai.onnx op, else nullptr.
ir::Node* producer_of(const ir::Value* value, std::string_view op);
/// As producer_of, but nullptr too when the value has other uses.
ir::Node* sole_producer(const ir::Value* value, std::string_view op);
/// A constant that is defined (graph inputs' defaults are not constants).
bool is_constant(const ir::Value* value);
/// The number that every element of a non-empty constant has (bit for bit), else nullopt.
std::optional<double> splat_of(const ir::Value* value);
bool is_splat(const ir::Value* value, double number);
/// Elements of an integer constant, else nullopt.
std::optional<std::vector<std::int64_t>> constant_ints(const ir::Value* value);
bool same_shape(const ir::Value* a, const ir::Value* b);  ///< both known and equal
bool same_type(const ir::Value* a, const ir::Value* b);   ///< dtype and shape known and equal
std::optional<std::int64_t> rank_of(const ir::Value* value);
std::optional<std::int64_t> element_count_of(const ir::Value* value);  ///< when constant
/// -rank..rank-1 to 0..rank-1; nullopt when out of range.
std::optional<std::int64_t> normalise_axis(std::int64_t axis, std::int64_t rank);
/// Axes from a constant input (`index`), normalised and sorted; `fallback_all` when the input is left out. nullopt: not constant.
std::optional<std::vector<std::int64_t>> axes_input(const ir::Node& node, std::size_t index, std::int64_t rank, bool fallback_all);
/// For a two-input node: the other operand of `value` (nullptr when value is not an operand).
ir::Value* other_operand(const ir::Node& node, const ir::Value* value);
/// True when no consumer and no producer can tell -0 from +0 in this value up to round-off (see rewrite.cpp for the list).
bool zero_sign_is_free(const ir::Value* value);
/// Computes each element from the elements of its inputs at that place, which broadcast.
bool is_pointwise(const ir::Node& node);
/// An element outside every nested graph boundary: true when both values live in one graph, or `outer` in one around.
bool visible_from(const ir::Value* outer, const ir::Graph* graph);

// Writing ----------------------------------------------------------------------------------------------------------------------

/// Adds the sources of `from` to `into`, once each.
void merge_sources(ir::Node& into, const ir::Node& from);
/// As above for the node that computes `value` or, when no node of `graph` does (an input, a constant, a value of a graph around), for
/// its `readers`.
void merge_sources(ir::Graph& graph, const ir::Value& value, const std::vector<ir::Use>& readers, const ir::Node& from);
ir::Value* add_constant(ir::Graph& graph, std::string_view hint, Tensor tensor);
ir::Value* add_ints(ir::Graph& graph, std::string_view hint, const std::vector<std::int64_t>& values);
/// A scalar of the given type.
ir::Value* add_scalar(ir::Graph& graph, std::string_view hint, DType dtype, double number);
/// Turns `node` into another op, keeping its outputs.
void transmute(ir::Node& node, std::string_view op, std::vector<ir::Value*> inputs, ir::Attrs attrs = {});
/// Makes every user of the node's first output read `value` instead, and erases the node. Where the interface's names forbid that, the
/// node becomes Identity(value); false is returned when it was that already.
bool bypass(ir::Node& node, ir::Value* value);
/// `results` take the place of the node's outputs; nullptr: nobody reads that one.
void take_over(ir::Graph& graph, ir::Node& node, const std::vector<ir::Value*>& results);
/// Replaces one output by a constant; erases the node when all outputs are gone. A graph output keeps the node as Identity(constant).
bool replace_by_constant(ir::Node& node, std::size_t output, Tensor tensor);
/// Erases the node when nothing uses its outputs, then its producers likewise.
void erase_dead(ir::Node* node);

/// Target for a Reshape from `from` to `to` with numbers, 0 (copied extents) and at most one -1; nullopt when `to` cannot be said so.
std::optional<std::vector<std::int64_t>> reshape_target(const ir::Shape& from, const ir::Shape& to);
/// True when the extent comes from data ("?N" inside).
bool depends_on_data(const ir::Dim& dim);

}  // namespace lathe::passes
