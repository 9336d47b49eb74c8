// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The logarithm of a softmax, for LogSoftmax itself and the losses made of it.

#include <vector>

#include "loops/builder.h"
#include "ops/op_def.h"

namespace lathe::ops {

/// `in`, normalised along `axis`, in double precision.
std::vector<double> log_softmax(const Tensor& in, std::int64_t axis);
/// Defines `out` as the logarithm of the softmax of `in` along `axis`, computed in compute_dtype() of `in`.
void define_log_softmax(loops::RegionBuilder& builder, const Value* in, const Value* out, std::int64_t axis);

}  // namespace lathe::ops
