// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See oracle_gemm.h. The inner tile is 4 x 16 doubles in vector registers; the vector width is chosen at run time (target clones) and
// does not change any element's order of additions. No contraction: products are rounded before they are added.
#pragma GCC optimize("fp-contract=off")

#include "ops/oracle_gemm.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/thread_pool.h"

namespace lathe::ops {
namespace {

constexpr std::int64_t kRows = 4, kColumns = 16, kBlockRows = 32, kBlockColumns = 128;

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define LATHE_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define LATHE_CLONES
#endif

typedef double Vector __attribute__((vector_size(64), aligned(8), may_alias));

/// c[4][16] = sum over k of a[r][k] * b[k][16].
LATHE_CLONES void tile(std::int64_t k, const double* a, std::int64_t lda, const double* b, double* c) {
  Vector c00 = {}, c01 = {}, c10 = {}, c11 = {}, c20 = {}, c21 = {}, c30 = {}, c31 = {};
  for (std::int64_t i = 0; i < k; ++i) {
    const Vector b0 = *reinterpret_cast<const Vector*>(b + i * kColumns), b1 = *reinterpret_cast<const Vector*>(b + i * kColumns + 8);
    const double a0 = a[i], a1 = a[lda + i], a2 = a[2 * lda + i], a3 = a[3 * lda + i];
    c00 += a0 * b0; c01 += a0 * b1;
    c10 += a1 * b0; c11 += a1 * b1;
    c20 += a2 * b0; c21 += a2 * b1;
    c30 += a3 * b0; c31 += a3 * b1;
  }
  const Vector all[] = {c00, c01, c10, c11, c20, c21, c30, c31};
  std::memcpy(c, all, sizeof all);
}

}  // namespace

void oracle_product(std::int64_t m, std::int64_t n, std::int64_t k, const FillRows& fill_a, const FillColumns& fill_b, const TakeBlock& take) {
  if (m <= 0 || n <= 0) return;
  ThreadPool& pool = default_pool();
  std::vector<double> b(static_cast<std::size_t>(kBlockColumns * std::max<std::int64_t>(k, 1)));
  for (std::int64_t n0 = 0; n0 < n; n0 += kBlockColumns) {
    const std::int64_t columns = std::min(kBlockColumns, n - n0), panels = (columns + kColumns - 1) / kColumns;
    pool.parallel_for(panels, [&](std::int64_t panel, int) {
      double* packed = b.data() + panel * kColumns * k;
      const std::int64_t width = std::min(kColumns, columns - panel * kColumns);
      if (width == kColumns) {
        fill_b(n0 + panel * kColumns, kColumns, packed);
        return;
      }
      std::vector<double> narrow(static_cast<std::size_t>(width * k));
      fill_b(n0 + panel * kColumns, width, narrow.data());
      for (std::int64_t i = 0; i < k; ++i) {
        std::copy_n(narrow.data() + i * width, width, packed + i * kColumns);
        std::fill_n(packed + i * kColumns + width, kColumns - width, 0.0);
      }
    });
    pool.parallel_for((m + kBlockRows - 1) / kBlockRows, [&](std::int64_t block, int) {
      const std::int64_t row = block * kBlockRows, rows = std::min(kBlockRows, m - row), padded = (rows + kRows - 1) / kRows * kRows;
      std::vector<double> a(static_cast<std::size_t>(padded * std::max<std::int64_t>(k, 1)), 0.0);
      std::vector<double> c(static_cast<std::size_t>(rows * columns));
      fill_a(row, rows, a.data());
      double part[kRows * kColumns];
      for (std::int64_t panel = 0; panel < panels; ++panel)
        for (std::int64_t r = 0; r < rows; r += kRows) {
          tile(k, a.data() + r * k, k, b.data() + panel * kColumns * k, part);
          const std::int64_t width = std::min(kColumns, columns - panel * kColumns);
          for (std::int64_t i = 0; i < std::min(kRows, rows - r); ++i)
            std::copy_n(part + i * kColumns, width, c.data() + (r + i) * columns + panel * kColumns);
        }
      take(row, rows, n0, columns, c.data());
    });
  }
}

}  // namespace lathe::ops
