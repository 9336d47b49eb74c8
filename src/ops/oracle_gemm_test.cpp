// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The blocked product against three plain loops: not close but equal, at every tail of its tiles, panels and blocks.
#include "ops/oracle_gemm.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <vector>

#include "base/thread_pool.h"

namespace lathe::ops {
namespace {

std::vector<double> numbers(std::int64_t count, unsigned seed) {
  std::vector<double> v(static_cast<std::size_t>(count));
  unsigned x = seed * 2654435761u + 12345u;
  for (double& value : v) {
    x = x * 1664525u + 1013904223u;
    value = std::ldexp(static_cast<double>(x >> 8) / (1 << 23) - 1.0, static_cast<int>(x % 13) - 6);  // sums round, and in each order differently
  }
  return v;
}

struct Problem {
  std::int64_t m, n, k;
  std::vector<double> a = numbers(m * k, 1), b = numbers(k * n, 2);

  /// `volatile` keeps the compiler from fusing product and sum.
  std::vector<double> plain() const {
    std::vector<double> c(static_cast<std::size_t>(m * n), 0.0);
    for (std::int64_t i = 0; i < m; ++i)
      for (std::int64_t j = 0; j < n; ++j)
        for (std::int64_t p = 0; p < k; ++p) {
          const volatile double term = a[static_cast<std::size_t>(i * k + p)] * b[static_cast<std::size_t>(p * n + j)];
          c[static_cast<std::size_t>(i * n + j)] += term;
        }
    return c;
  }

  /// The blocked product; counts how often each element is handed over.
  std::vector<double> blocked(std::vector<std::atomic<int>>* taken = nullptr) const {
    std::vector<double> c(static_cast<std::size_t>(m * n), std::numeric_limits<double>::quiet_NaN());
    oracle_product(
        m, n, k, [&](std::int64_t row, std::int64_t rows, double* to) { std::copy_n(a.data() + row * k, rows * k, to); },
        [&](std::int64_t column, std::int64_t columns, double* to) {
          for (std::int64_t p = 0; p < k; ++p) std::copy_n(b.data() + p * n + column, columns, to + p * columns);
        },
        [&](std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns, const double* block) {
          for (std::int64_t i = 0; i < rows; ++i)
            for (std::int64_t j = 0; j < columns; ++j) {
              c[static_cast<std::size_t>((row + i) * n + column + j)] = block[i * columns + j];
              if (taken) ++(*taken)[static_cast<std::size_t>((row + i) * n + column + j)];
            }
        });
    return c;
  }
};

TEST(OracleGemm, EqualsPlainLoopsAtEveryTail) {
  for (const std::int64_t m : {1, 3, 4, 5, 31, 32, 33, 67})
    for (const std::int64_t n : {1, 7, 8, 9, 15, 16, 17, 127, 128, 129, 200, 257})
      for (const std::int64_t k : {0, 1, 2, 5, 64}) {
        const Problem problem{m, n, k};
        std::vector<std::atomic<int>> taken(static_cast<std::size_t>(m * n));
        ASSERT_EQ(problem.blocked(&taken), problem.plain()) << m << " x " << n << " x " << k;
        ASSERT_TRUE(std::all_of(taken.begin(), taken.end(), [](const auto& count) { return count == 1; })) << m << " x " << n << " x " << k;
      }
}

TEST(OracleGemm, LongSumsKeepTheirOrder) {
  const Problem problem{6, 19, 9000};
  EXPECT_EQ(problem.blocked(), problem.plain());
}

TEST(OracleGemm, OneThreadMakesTheSameBytes) {
  const Problem problem{150, 300, 70};
  const auto parallel = problem.blocked();
  std::vector<double> serial;
  // A call from inside a task runs in its caller alone.
  default_pool().parallel_for(1, [&](std::int64_t, int) { serial = problem.blocked(); });
  EXPECT_EQ(parallel, serial);
}

TEST(OracleGemm, NonFiniteOperandsStayInTheirRowAndColumn) {
  Problem problem{5, 18, 4};
  problem.a[static_cast<std::size_t>(2 * 4 + 1)] = std::numeric_limits<double>::infinity();
  problem.b[static_cast<std::size_t>(3 * 18 + 17)] = std::numeric_limits<double>::quiet_NaN();
  const auto c = problem.blocked();
  for (std::int64_t i = 0; i < 5; ++i)
    for (std::int64_t j = 0; j < 18; ++j) EXPECT_EQ(std::isfinite(c[static_cast<std::size_t>(i * 18 + j)]), i != 2 && j != 17) << i << ", " << j;
}

TEST(OracleGemm, NothingToDoCallsNothing) {
  for (const auto& [m, n] : {std::pair<std::int64_t, std::int64_t>{0, 5}, {5, 0}})
    oracle_product(
        m, n, 3, [](auto...) { FAIL(); }, [](auto...) { FAIL(); }, [](auto...) { FAIL(); });
}

}  // namespace
}  // namespace lathe::ops
