// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See oracle_gemm.h. The inner tile is 4 rows by two vector registers of doubles; the width of a register is chosen at run time and does
// not change any element's order of additions. The library is compiled without contraction: products are rounded before they are added.

#include "ops/oracle_gemm.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/thread_pool.h"

namespace lathe::ops {
namespace {

constexpr std::int64_t kRows = 4, kColumns = 16, kBlockRows = 32, kBlockColumns = 128, kDepth = 256;

/// c[4][16] += sum over k of a[r][k] * b[k][16], in passes of as many columns as two vectors of kLanes doubles hold.
template <int kLanes>
[[gnu::always_inline]] inline void tile_of(std::int64_t k, const double* a, std::int64_t lda, const double* b, double* c, std::int64_t ldc) {
  typedef double Vector __attribute__((vector_size(kLanes * sizeof(double))));
  Vector sums[4][2], b0, b1;  // registers: every index is a constant once the loops are unrolled
  for (std::int64_t column = 0; column < kColumns; column += 2 * kLanes) {
    for (int r = 0; r < 4; ++r) std::memcpy(sums[r], c + r * ldc + column, sizeof sums[r]);
    for (std::int64_t i = 0; i < k; ++i) {
      const double* row = b + i * kColumns + column;
      std::memcpy(&b0, row, sizeof b0);
      std::memcpy(&b1, row + kLanes, sizeof b1);
      for (int r = 0; r < 4; ++r) {
        sums[r][0] += a[r * lda + i] * b0;
        sums[r][1] += a[r * lda + i] * b1;
      }
    }
    for (int r = 0; r < 4; ++r) std::memcpy(c + r * ldc + column, sums[r], sizeof sums[r]);
  }
}

using Tile = void (*)(std::int64_t k, const double* a, std::int64_t lda, const double* b, double* c, std::int64_t ldc);

void tile_plain(std::int64_t k, const double* a, std::int64_t lda, const double* b, double* c, std::int64_t ldc) { tile_of<2>(k, a, lda, b, c, ldc); }
#if defined(__x86_64__)
[[gnu::target("avx2")]] void tile_avx2(std::int64_t k, const double* a, std::int64_t lda, const double* b, double* c, std::int64_t ldc) {
  tile_of<4>(k, a, lda, b, c, ldc);
}
[[gnu::target("avx512f")]] void tile_avx512(std::int64_t k, const double* a, std::int64_t lda, const double* b, double* c, std::int64_t ldc) {
  tile_of<8>(k, a, lda, b, c, ldc);
}
#endif

Tile widest_tile() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return tile_avx512;
  if (__builtin_cpu_supports("avx2")) return tile_avx2;
#endif
  return tile_plain;
}

}  // namespace

void oracle_product(std::int64_t m, std::int64_t n, std::int64_t k, const FillRows& fill_a, const FillColumns& fill_b, const TakeBlock& take) {
  if (m <= 0 || n <= 0) return;
  static const Tile tile = widest_tile();
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
    // Few rows: the panels are shared out as well.
    const std::int64_t row_blocks = (m + kBlockRows - 1) / kBlockRows, groups = row_blocks >= 2 * pool.size() ? 1 : std::min<std::int64_t>(panels, 4);
    pool.parallel_for(row_blocks * groups, [&](std::int64_t task, int) {
      const std::int64_t row = task / groups * kBlockRows, rows = std::min(kBlockRows, m - row), padded = (rows + kRows - 1) / kRows * kRows;
      const std::int64_t first = panels * (task % groups) / groups, last = panels * (task % groups + 1) / groups, width = (last - first) * kColumns;
      std::vector<double> a(static_cast<std::size_t>(padded * std::max<std::int64_t>(k, 1)), 0.0), c(static_cast<std::size_t>(padded * width), 0.0);
      fill_a(row, rows, a.data());
      for (std::int64_t k0 = 0; k0 < k; k0 += kDepth)
        for (std::int64_t panel = first; panel < last; ++panel)
          for (std::int64_t r = 0; r < rows; r += kRows)
            tile(std::min(kDepth, k - k0), a.data() + r * k + k0, k, b.data() + (panel * k + k0) * kColumns, c.data() + r * width + (panel - first) * kColumns,
                 width);
      // The last panel may be narrower than its tiles.
      const std::int64_t kept = std::min(width, columns - first * kColumns);
      for (std::int64_t i = 1; i < rows && kept < width; ++i) std::copy_n(c.data() + i * width, kept, c.data() + i * kept);
      take(row, rows, n0 + first * kColumns, kept, c.data());
    });
  }
}

}  // namespace lathe::ops
