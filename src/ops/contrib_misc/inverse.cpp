// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Inverse of square matrices, by elimination with the largest pivot of each column. A singular matrix gives infinities and NaNs.
#include <cmath>
#include <utility>

#include "loops/builder.h"
#include "ops/contrib_misc/contrib_misc.h"
#include "ops/ref_util.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

void inverse_infer(InferContext& ctx) {
  if (const auto& x = ctx.shape(0)) {
    if (x->size() < 2) ctx.fail("takes matrices, got " + ir::to_string(*x));
    const auto a = x->back().constant(), b = (*x)[x->size() - 2].constant();
    if (a && b && *a != *b) ctx.fail(ir::to_string(*x) + " are no square matrices");
  }
  ctx.set_type(0, ctx.node().input(0)->type);
}

/// Row-major a, n x n, is destroyed.
void invert(double* a, double* result, std::int64_t n) {
  for (std::int64_t i = 0; i < n * n; ++i) result[i] = i % (n + 1) == 0 ? 1 : 0;
  for (std::int64_t column = 0; column < n; ++column) {
    std::int64_t pivot = column;
    for (std::int64_t row = column + 1; row < n; ++row)
      if (std::abs(a[row * n + column]) > std::abs(a[pivot * n + column])) pivot = row;
    for (std::int64_t k = 0; pivot != column && k < n; ++k) {
      std::swap(a[pivot * n + k], a[column * n + k]);
      std::swap(result[pivot * n + k], result[column * n + k]);
    }
    const double by = a[column * n + column];
    for (std::int64_t k = 0; k < n; ++k) {
      a[column * n + k] /= by;
      result[column * n + k] /= by;
    }
    for (std::int64_t row = 0; row < n; ++row) {
      if (row == column) continue;
      const double times = a[row * n + column];
      for (std::int64_t k = 0; k < n; ++k) {
        a[row * n + k] -= times * a[column * n + k];
        result[row * n + k] -= times * result[column * n + k];
      }
    }
  }
}

void inverse_reference(RefContext& ctx) {
  const Tensor& x = ctx.input(0);
  if (x.rank() < 2 || x.dims().back() != x.dims()[x.dims().size() - 2]) ctx.fail(lathe::to_string(x.dims()) + " are no square matrices");
  const std::int64_t n = x.dims().back();
  auto a = to_doubles(x);
  std::vector<double> result(a.size());
  for (std::size_t at = 0; at < a.size(); at += static_cast<std::size_t>(n * n)) invert(a.data() + at, result.data() + at, n);
  ctx.set_output(0, from_doubles(x.dtype(), x.dims(), result));
}

using loops::ExprId;
using loops::ExprOp;

constexpr std::int64_t kMostRows = 4;

/// The determinant of rows from `row` on, without the columns that stand in `columns`, of a matrix that `at` reads.
template <class At>
ExprId determinant(loops::RegionBuilder& b, const At& at, std::size_t row, const std::vector<std::size_t>& columns) {
  if (columns.empty()) return b.constant(1, DType::kFloat64);
  ExprId sum = -1;
  for (std::size_t k = 0; k < columns.size(); ++k) {
    auto rest = columns;
    rest.erase(rest.begin() + static_cast<std::ptrdiff_t>(k));
    const ExprId part = b.binary(ExprOp::kMul, at(row, columns[k]), determinant(b, at, row + 1, rest));
    sum = k == 0 ? part : b.binary(k % 2 ? ExprOp::kSub : ExprOp::kAdd, sum, part);
  }
  return sum;
}

/// Small matrices by their cofactors, in double precision: element (r, c) is the determinant without row c and column r, over that of all.
bool inverse_lower(const Node& node, loops::RegionBuilder& builder) {
  const Value* x = node.input(0);
  const std::size_t rank = x->has_shape() ? x->shape().size() : 0;
  const auto n = rank < 2 ? std::nullopt : x->shape().back().constant();
  if (!n || *n < 1 || *n > kMostRows || x->shape()[rank - 2] != Dim(*n)) {
    builder.decline("matrices that may have more than 4 rows");
    return false;
  }
  std::vector<std::size_t> all;
  for (std::int64_t i = 0; i < *n; ++i) all.push_back(static_cast<std::size_t>(i));
  const std::vector<std::size_t> fewer(all.begin(), all.end() - 1);
  const Value* whole = builder.temporary("determinant", DType::kFloat64, Shape(x->shape().begin(), x->shape().end() - 2));
  builder.define(whole, [=](loops::RegionBuilder& b, const auto& i) {
    const auto at = [&](std::size_t row, std::size_t column) {
      auto where = i;
      where.push_back(b.integer(static_cast<std::int64_t>(row)));
      where.push_back(b.integer(static_cast<std::int64_t>(column)));
      return b.cast(b.read(x, where), DType::kFloat64);
    };
    return determinant(b, at, 0, all);
  });
  builder.define(node.output(), [=](loops::RegionBuilder& b, const auto& i) {
    auto batch = i;
    const ExprId column = batch.back(), row = batch[rank - 2];
    batch.resize(rank - 2);
    const auto without = [&](std::size_t k, ExprId left_out) {
      const ExprId index = b.integer(static_cast<std::int64_t>(k));
      return b.binary(ExprOp::kAdd, index, b.select(b.binary(ExprOp::kLess, index, left_out), b.integer(0), b.integer(1)));
    };
    const auto at = [&](std::size_t r, std::size_t c) {
      auto where = batch;
      where.push_back(without(r, column));
      where.push_back(without(c, row));
      return b.cast(b.read(x, where), DType::kFloat64);
    };
    const ExprId minor = determinant(b, at, 0, fewer);
    const ExprId odd = b.binary(ExprOp::kEqual, b.binary(ExprOp::kMod, b.binary(ExprOp::kAdd, row, column), b.integer(2)), b.integer(1));
    return b.cast(b.binary(ExprOp::kDiv, b.select(odd, b.unary(ExprOp::kNeg, minor), minor), b.read(whole, batch)), x->dtype());
  });
  return true;
}

}  // namespace

std::vector<OpDef> inverse_ops() {
  return {
      {.domain = "com.microsoft",
       .name = "Inverse",
       .versions = {{1, "X:T -> Y:T", "", "T: @float"}},
       .infer = inverse_infer,
       .reference = inverse_reference,
       .tolerance = {.relative = 1e-4, .absolute = 1e-4},
       .lower = inverse_lower,
       .doc = "inverse of square matrices"},
  };
}

}  // namespace lathe::ops
