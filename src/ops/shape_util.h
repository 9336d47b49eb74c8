// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the shape rules of several op families share.

#include <functional>
#include <optional>
#include <vector>

#include "ops/op_def.h"

namespace lathe::ops {

/// `axis` in [0, rank); negative ones count from the end. Fails at the node when out of range.
std::int64_t infer_axis(InferContext& ctx, std::int64_t axis, std::int64_t rank);
/// Each normalised; fails on a repeated axis.
std::vector<std::int64_t> infer_axes(InferContext& ctx, const std::vector<std::int64_t>& axes, std::int64_t rank);
/// The elements of input `i` when all are known numbers.
std::optional<std::vector<std::int64_t>> constant_content(InferContext& ctx, std::size_t i);
/// The length of the 1-D input `i`, when known.
std::optional<std::int64_t> known_length(InferContext& ctx, std::size_t i);
/// Element `i` of an input's known contents, or a fresh symbol unless that is surely an extent.
Dim extent_of(InferContext& ctx, const std::optional<std::vector<Dim>>& content, std::size_t i);
/// The one element of input `i`; nullopt when it is left out, or not surely an extent.
std::optional<Dim> single_extent(InferContext& ctx, std::size_t i);
inline constexpr std::size_t kMostAxes = 1024;
/// `rank` fresh symbols; fails above kMostAxes.
Shape fresh_shape(InferContext& ctx, std::size_t rank);
bool is_one(const Dim& dim);
/// The common extent of two that broadcast, an expression that is right for every two that do: whoever computes the broadcast refuses others.
/// nullopt: two different numbers other than 1. `unknown` gives an extent where the expression would be too long; without it the larger one is taken,
/// as is right for extents of which none is 0.
std::optional<Dim> broadcast_extent(const Dim& a, const Dim& b, const std::function<Dim()>& unknown);
/// The same as a dimension of an op's result; fails where there is none.
Dim broadcast_dim(InferContext& ctx, const Dim& a, const Dim& b);
Shape broadcast_shape(InferContext& ctx, const Shape& a, const Shape& b);
/// The usual rule: output 0 has input 0's type, shape and content.
void infer_same_as_input(InferContext& ctx);
/// Output 0 has input 0's shape, with elements of another type.
void set_like_input(InferContext& ctx, DType dtype);
/// The element type that the format numbers so; kUndefined: none.
DType dtype_of_number(std::int64_t number);

/// Linear index of `indices` in a row-major tensor of `shape`, as stride expressions: product of the extents after each axis.
Shape row_major_strides(const Shape& shape);

/// Upgrades: the list attribute `name` (removed) becomes a constant int64 input at `index`; true when it was there.
bool attribute_to_input(UpgradeContext& ctx, std::string_view name, std::size_t index);

}  // namespace lathe::ops
