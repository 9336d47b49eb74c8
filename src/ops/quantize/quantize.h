// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Rounding to quantised integers, shared by the operators that produce them.

#include <cstdint>
#include <utility>

#include "lathe/dtype.h"
#include "ops/op_def.h"

namespace lathe::ops {

/// Least and greatest number of an integer dtype of at most 32 bits.
std::pair<std::int64_t, std::int64_t> integer_range(DType dtype);
/// `ratio` rounded half to even, plus the zero point, saturated. NaN stays NaN.
double quantised_integer(double ratio, double zero_point, DType dtype);

// integer_lower.cpp
bool matmul_integer_lower(const Node& node, loops::RegionBuilder& builder);
bool conv_integer_lower(const Node& node, loops::RegionBuilder& builder);

}  // namespace lathe::ops
