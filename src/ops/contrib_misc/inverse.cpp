// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Inverse of square matrices, by elimination with the largest pivot of each column. A singular matrix gives infinities and NaNs.
#include <cmath>
#include <utility>

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

}  // namespace

std::vector<OpDef> inverse_ops() {
  return {
      {.domain = "com.microsoft",
       .name = "Inverse",
       .versions = {{1, "X:T -> Y:T", "", "T: @float"}},
       .infer = inverse_infer,
       .reference = inverse_reference,
       .tolerance = {.relative = 1e-4, .absolute = 1e-4},
       .doc = "inverse of square matrices"},
  };
}

}  // namespace lathe::ops
