// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Det: determinants of square matrices, by elimination with row pivots in double precision.
#include <cmath>

#include "loops/builder.h"
#include "ops/ref_util.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

void det_infer(InferContext& ctx) {
  const auto& x = ctx.shape(0);
  if (!x) return ctx.set_unknown(0, ctx.dtype(0));
  if (x->size() < 2) ctx.fail("takes matrices, got " + ir::to_string(*x));
  const auto rows = (*x)[x->size() - 2].constant(), columns = x->back().constant();
  if (rows && columns && *rows != *columns) ctx.fail("takes square matrices, got " + ir::to_string(*x));
  ctx.set(0, ctx.dtype(0), Shape(x->begin(), x->end() - 2));
}

double determinant(std::vector<double> m, std::size_t n) {
  double result = 1;
  for (std::size_t k = 0; k < n; ++k) {
    std::size_t pivot = k;
    for (std::size_t r = k + 1; r < n; ++r)
      if (std::fabs(m[r * n + k]) > std::fabs(m[pivot * n + k])) pivot = r;
    const double p = m[pivot * n + k];
    if (p == 0) return 0;
    if (pivot != k) {
      for (std::size_t c = 0; c < n; ++c) std::swap(m[k * n + c], m[pivot * n + c]);
      result = -result;
    }
    result *= p;
    for (std::size_t r = k + 1; r < n; ++r) {
      const double factor = m[r * n + k] / p;
      for (std::size_t c = k; c < n; ++c) m[r * n + c] -= factor * m[k * n + c];
    }
  }
  return result;
}

void det_reference(RefContext& ctx) {
  const Tensor& x = ctx.input(0);
  if (x.rank() < 2 || x.dims().back() != x.dims()[x.dims().size() - 2]) ctx.fail("takes square matrices, got " + lathe::to_string(x.dims()));
  const auto n = static_cast<std::size_t>(x.dims().back());
  const Dims batch(x.dims().begin(), x.dims().end() - 2);
  const auto values = to_doubles(x);
  std::vector<double> result;
  for (std::int64_t i = 0; i < element_count(batch); ++i) {
    const auto from = values.begin() + i * static_cast<std::int64_t>(n * n);
    result.push_back(determinant({from, from + static_cast<std::int64_t>(n * n)}, n));
  }
  ctx.set_output(0, from_doubles(x.dtype(), batch, result));
}

using loops::ExprId;
using loops::ExprOp;

/// The determinant of the last rows and the columns in `columns` of a matrix of expressions, along its first such row.
ExprId expansion(loops::RegionBuilder& b, const std::vector<std::vector<ExprId>>& m, const std::vector<std::size_t>& columns) {
  if (columns.empty()) return b.constant(1, DType::kFloat64);
  const auto& row = m[m.size() - columns.size()];
  if (columns.size() == 1) return row[columns[0]];
  ExprId sum = -1;
  for (std::size_t k = 0; k < columns.size(); ++k) {
    auto rest = columns;
    rest.erase(rest.begin() + static_cast<std::ptrdiff_t>(k));
    const ExprId part = b.binary(ExprOp::kMul, row[columns[k]], expansion(b, m, rest));
    sum = k == 0 ? part : b.binary(k % 2 ? ExprOp::kSub : ExprOp::kAdd, sum, part);
  }
  return sum;
}

/// Small matrices by their expansion, in double precision like the reference: what cancels then is far below the result's last bit.
bool det_lower(const Node& node, loops::RegionBuilder& builder) {
  const Value* x = node.input(0);
  const std::size_t rank = x->has_shape() ? x->shape().size() : 0;
  const auto rows = rank < 2 ? std::nullopt : x->shape()[rank - 2].constant(), columns = rank < 2 ? std::nullopt : x->shape()[rank - 1].constant();
  if (!rows || rows != columns || *rows > 4) {
    builder.decline("matrices that may have more than 4 rows");
    return false;
  }
  builder.define(node.output(), [x, n = *rows](loops::RegionBuilder& b, const auto& i) {
    std::vector<std::vector<ExprId>> m;
    std::vector<std::size_t> all;
    for (std::int64_t r = 0; r < n; ++r) {
      all.push_back(static_cast<std::size_t>(r));
      m.emplace_back();
      for (std::int64_t c = 0; c < n; ++c) {
        auto at = i;
        at.push_back(b.integer(r));
        at.push_back(b.integer(c));
        m.back().push_back(b.cast(b.read(x, at), DType::kFloat64));
      }
    }
    return b.cast(expansion(b, m, all), x->dtype());
  });
  return true;
}

}  // namespace

std::span<const OpDef> ops_linalg() {
  static const std::vector<OpDef> ops{
      {.name = "Det",
       .versions = {{11, "X:T -> Y:T", "", "T: @float"}, {22, "X:T -> Y:T", "", "T: @float13"}},
       .infer = det_infer,
       .reference = det_reference,
       .lower = det_lower,
       .doc = "determinants of square matrices"},
  };
  return ops;
}

}  // namespace lathe::ops
