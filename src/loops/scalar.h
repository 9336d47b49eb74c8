// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The meaning of every scalar operator of the region language, on one element: floating types in double, integers and bool in
// int64 wrapped to their width. Constant folding, the interpreter and the pointwise references share it, so there is one truth.

#include <cstdint>

#include "lathe/dtype.h"
#include "loops/region.h"

namespace lathe::loops {

/// One element: `real` for floating types, `whole` for integers and bool (uint64 as its bit pattern).
struct Scalar {
  double real = 0;
  std::int64_t whole = 0;
  static Scalar of(double value) { return {value, 0}; }
  static Scalar of(std::int64_t value) { return {0, value}; }
};

/// Keeps the low bits that `type` stores, sign- or zero-extended; bool becomes 0 or 1.
std::int64_t wrap_integer(std::int64_t value, DType type) noexcept;
/// Rounds to the precision of a floating `type`.
double round_to(double value, DType type) noexcept;
Scalar cast_scalar(Scalar a, DType from, DType to) noexcept;

/// Unary operators but kCast. `type` is the operand's.
Scalar apply_unary(ExprOp op, DType type, Scalar a) noexcept;
/// `type` is the operands' common type. Integer division by zero gives 0.
Scalar apply_binary(ExprOp op, DType type, Scalar a, Scalar b) noexcept;

/// The identity of a reduction over `type` (kArg* and kNone: unused).
Scalar reduce_identity(Reduce reduce, DType type) noexcept;
Scalar reduce_step(Reduce reduce, DType type, Scalar running, Scalar next) noexcept;

}  // namespace lathe::loops
