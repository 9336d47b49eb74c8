// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the references of several op families share: movement of whole elements of any dtype, wide number vectors, axis handling.

#include <functional>
#include <vector>

#include "ops/op_def.h"

namespace lathe::ops {

/// Row-major strides in elements.
Dims strides_of(const Dims& dims);
/// `axis` in [0, rank), else fails at the node.
std::int64_t ref_axis(const RefContext& ctx, std::int64_t axis, std::int64_t rank);

/// A tensor around one axis: product of the extents before, the axis, product after.
struct AxisView {
  std::int64_t outer = 1, extent = 1, inner = 1;
};
AxisView around_axis(const Dims& dims, std::int64_t axis);

/// A tensor of `dims` whose element i is source[source_of(i)], for any dtype, strings and packed types included. A negative index
/// takes `fill` (one element of the same dtype), or zero without it.
Tensor remap(const Tensor& source, Dims dims, const std::function<std::int64_t(std::int64_t)>& source_of, const Tensor* fill = nullptr);
/// The same with the multi-index of the output's element.
Tensor remap_nd(const Tensor& source, Dims dims, const std::function<std::int64_t(const Dims& index)>& source_of, const Tensor* fill = nullptr);
/// The same where the source index is `offset` plus the sum of index times `steps` (0: repeated, negative: backwards): by runs of bytes.
Tensor strided(const Tensor& source, Dims dims, Dims steps, std::int64_t offset = 0);
/// dst[di] = src[si]; both of one dtype.
void copy_element(Tensor& dst, std::int64_t di, const Tensor& src, std::int64_t si);

/// Calls `visit` with every multi-index of `dims` in row-major order.
void for_each_index(const Dims& dims, const std::function<void(const Dims& index)>& visit);

std::vector<double> to_doubles(const Tensor& tensor);
Tensor from_doubles(DType dtype, Dims dims, const std::vector<double>& values);
std::vector<std::int64_t> to_int64s(const Tensor& tensor);  ///< uint64 as its bit pattern
Tensor from_int64s(DType dtype, Dims dims, const std::vector<std::int64_t>& values);
/// Rounds to the precision of a floating dtype (identity for double and integers).
double round_as(DType dtype, double value);
/// The type in which the format's functions compute for a stash_type attribute.
DType stash_dtype(const RefContext& ctx);

}  // namespace lathe::ops
