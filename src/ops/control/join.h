// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Tensors cut and joined along an axis, as loops, scans and sequences do it.

#include <vector>

#include "ops/op_def.h"

namespace lathe::ops {

/// Is a tensor on a device, and more than what the host fetches as quickly as the device is told to move it?
bool is_worth_keeping_remote(const Tensor& tensor);
/// The tensors next to each other along `axis`, as a tensor of `dims`. Preconditions: they fit, of one type, at least one.
Tensor joined(const std::vector<Tensor>& parts, std::int64_t axis, const Dims& dims);
/// The tensors next to each other along `axis` (in [0, rank)). Fails at the node where type or other extents differ, or there is none.
Tensor join_along(const RefContext& ctx, const std::vector<Tensor>& parts, std::int64_t axis);
/// The tensors along a new `axis` (in [0, rank]).
Tensor stack_along(const RefContext& ctx, const std::vector<Tensor>& parts, std::int64_t axis);
/// Elements [begin, begin + count) of an axis.
Tensor take_along(const Tensor& tensor, std::int64_t axis, std::int64_t begin, std::int64_t count);
/// The tensor's only element of an axis `count` times.
Tensor repeated_along(const Tensor& tensor, std::int64_t axis, std::int64_t count);
/// One element of an axis, without the axis.
Tensor take_one(const Tensor& tensor, std::int64_t axis, std::int64_t at);
/// What no trip at all stacks along `axis` as the node's output `output`: the other extents are those of `element`, the type of one part,
/// by the extents of the node's inputs; 0 where these do not tell.
Tensor stacked_nothing(const RefContext& ctx, const ir::Type& element, std::size_t output, std::int64_t axis);

}  // namespace lathe::ops
