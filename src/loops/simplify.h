// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Hash-consed storage of expressions with the rewrites that hold for every shape: constant folding, identities, symbolic-extent
// arithmetic. RegionBuilder builds through it; rewrites that need concrete extents belong to the emitters.

#include <unordered_map>
#include <vector>

#include "loops/region.h"

namespace lathe::loops {

class ExprPool {
 public:
  const std::vector<Expr>& exprs() const { return exprs_; }
  const Expr& at(ExprId e) const { return exprs_[static_cast<std::size_t>(e)]; }

  ExprId constant(double value, DType type);
  ExprId integer(std::int64_t value, DType type = DType::kInt64);
  ExprId axis(int index);
  ExprId dim(const ir::Dim& dim);
  /// `fallback` < 0: a plain load, else a guarded one.
  ExprId load(int buffer, DType type, std::vector<ExprId> indices, ExprId fallback);
  ExprId unary(ExprOp op, ExprId a);
  ExprId binary(ExprOp op, ExprId a, ExprId b);
  ExprId select(ExprId condition, ExprId a, ExprId b);
  ExprId cast(ExprId a, DType type);

 private:
  ExprId add(Expr expr);
  ExprId fold(ExprOp op, DType operand, ExprId a, ExprId b);
  ExprId integer_identity(ExprOp op, ExprId a, ExprId b);
  ExprId real_identity(ExprOp op, ExprId a, ExprId b);
  bool is_const(ExprId e) const { return at(e).op == ExprOp::kConst; }
  bool is_integer_value(ExprId e, std::int64_t value) const { return is_const(e) && !is_float(at(e).type) && at(e).integer == value; }
  bool is_real_value(ExprId e, double value) const { return is_const(e) && is_float(at(e).type) && at(e).number == value; }

  std::vector<Expr> exprs_;
  std::unordered_multimap<std::uint64_t, ExprId> index_;
};

}  // namespace lathe::loops
