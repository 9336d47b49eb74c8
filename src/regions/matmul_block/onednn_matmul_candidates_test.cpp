// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// cpu.matmul.onednn from plan to run against the plain loop, and what it declines.

#include <fmt/format.h>

#include <span>

#include "backend/cpu/onednn.h"
#include "regions/candidate_test_util.h"
#include "regions/matmul_block/matmul_block.h"

namespace lathe::ops {
std::span<const Candidate> candidates_onednn_matmul();
}

namespace lathe::regions {
namespace {

using namespace testing;

constexpr DType kF32 = DType::kFloat32, kBF16 = DType::kBFloat16;

class OneDnnMatMul : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string why;
    if (!cpu::onednn::Library::find(&why)) GTEST_SKIP() << why;
  }
};

const ops::Candidate& candidate() { return ops::candidates_onednn_matmul().front(); }

double gelu(double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); }

struct Case {
  Dims rows;  ///< of the left operand, all but its last axis
  std::int64_t k, n;
};

/// x w + b, gelu, + r
void check(const Case& c, DType type, std::int64_t extra, int threads, bool gemm) {
  Dims x = c.rows, y = c.rows;
  x.push_back(c.k);
  y.push_back(c.n);
  const std::string out = fmt::format("float[{}]", fmt::join(y, ", "));
  const std::string product = gemm ? "Gemm(x, w, b) {transB=1}" : "MatMul(x, w)";
  std::string body = gemm ? fmt::format("  w: float[{}, {}] = const random(3)\n", c.n, c.k) : fmt::format("  w: float[{}, {}] = const random(3)\n", c.k, c.n);
  body += fmt::format("  b: float[{}] = const random(4)\n  t: {} = {}\n", c.n, out, product);
  if (!gemm) body += fmt::format("  a: {} = Add(t, b)\n", out);
  body += fmt::format("  u: {0} = Gelu({1})\n  v: {0} = Add(u, r)\n", out, gemm ? "t" : "a");
  const auto graph = ir::parse_graph(fmt::format("graph g(x: float[{}], r: {}) -> (v) {{\n{}}}\n", fmt::join(x, ", "), out, body));
  const auto regions = propose_matmul_block(find_node(*graph, gemm ? "Gemm" : "MatMul"));
  ASSERT_FALSE(regions.empty());
  RunOptions options;
  options.storage = type;
  options.extra = extra;
  options.threads = threads;
  CandidateRunner runner(regions.front(), candidate(), options);
  ASSERT_TRUE(runner.verdict().yes) << runner.verdict().reason;
  const Dense &in = runner.input("x"), &w = runner.input("w"), &b = runner.input("b"), &r = runner.input("r");
  const auto results = runner.run();
  ASSERT_FALSE(results.empty());
  const std::size_t m = r.values.size() / static_cast<std::size_t>(c.n);
  for (std::size_t i = 0; i < m; ++i)
    for (std::int64_t j = 0; j < c.n; ++j) {
      double sum = b.values[static_cast<std::size_t>(j)], mass = 1;
      for (std::int64_t k = 0; k < c.k; ++k) {
        const double p =
            in.values[i * static_cast<std::size_t>(c.k) + static_cast<std::size_t>(k)] * w.values[static_cast<std::size_t>(gemm ? j * c.k + k : k * c.n + j)];
        sum += p;
        mass += std::fabs(p);
      }
      const std::size_t at = i * static_cast<std::size_t>(c.n) + static_cast<std::size_t>(j);
      const double want = gelu(sum) + r.values[at];
      for (const RunResult& run : results)
        ASSERT_LE(std::fabs(run.outputs.at("v").values[at] - want), bound(c.k, mass, want, type == kBF16, type))
            << run.variant << " row " << i << " column " << j << ": " << run.outputs.at("v").values[at] << " instead of " << want;
    }
}

TEST_F(OneDnnMatMul, ShapesTypesSlicesAndThreads) {
  const bool bf16 = cpu::onednn::Library::get().multiplies_bf16();
  for (const Case& c : {Case{{7}, 33, 40}, Case{{2, 5}, 64, 96}, Case{{1}, 100, 130}, Case{{1, 3, 4}, 48, 17}, Case{{65}, 128, 256}})
    for (const DType type : {kF32, kBF16})
      for (const int threads : {1, 2, 3}) {
        if (type == kBF16 && !bf16) continue;
        check(c, type, 0, threads, c.rows.size() == 1);
        // Rows of a batch that are further apart than a row is long are no more rows: only a plain matrix may be a slice.
        if (c.rows.size() == 1) check(c, type, 16, threads, true);
        if (HasFatalFailure()) return;
      }
}

TEST_F(OneDnnMatMul, ServesAnyBatchOfFixedRows) {
  const auto graph = ir::parse_graph(
      "graph g(x: float[n, 6, 32], r: float[n, 6, 48]) -> (y) {\n  w: float[32, 48] = const random(1)\n  t: float[n, 6, 48] = MatMul(x, w)\n"
      "  y: float[n, 6, 48] = Add(t, r)\n}\n");
  const auto regions = propose_matmul_block(find_node(*graph, "MatMul"));
  RunOptions options;
  options.bindings["n"] = 2;
  for (const std::int64_t n : {0, 1, 2, 5}) {
    options.run_bindings = {{"n", n}};
    CandidateRunner runner(regions.front(), candidate(), options);
    ASSERT_TRUE(runner.verdict().yes) << runner.verdict().reason;
    const Dense &x = runner.input("x"), &w = runner.input("w"), &r = runner.input("r");
    const auto results = runner.run();
    ASSERT_FALSE(results.empty());
    for (const RunResult& run : results)
      for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t row = 0; row < 6; ++row)
          for (std::int64_t j = 0; j < 48; ++j) {
            double sum = r({i, row, j});
            for (std::int64_t k = 0; k < 32; ++k) sum += x({i, row, k}) * w({k, j});
            ASSERT_NEAR(run.outputs.at("y")({i, row, j}), sum, 1e-4) << run.variant << " batch " << n;
          }
  }
}

std::string reason(const std::string& text, const RunOptions& options) {
  const auto graph = ir::parse_graph(text);
  const auto regions = propose_matmul_block(find_node(*graph, "MatMul"));
  const ops::Verdict verdict = CandidateRunner(regions.front(), candidate(), options).verdict();
  EXPECT_FALSE(verdict.yes);
  return verdict.reason;
}

TEST_F(OneDnnMatMul, DeclinesWithReasons) {
  RunOptions options;
  options.bindings["n"] = 3;
  EXPECT_NE(reason("graph g(x: float[n, 8]) -> (y) {\n  w: float[8, 16] = const random(1)\n  y: float[n, 16] = MatMul(x, w)\n}\n", options).find("not fixed"),
            std::string::npos);
  EXPECT_NE(reason("graph g(x: float[3, 8], w: float[8, 16]) -> (y) {\n  y: float[3, 16] = MatMul(x, w)\n}\n", options).find("not a constant"),
            std::string::npos);
  EXPECT_NE(reason("graph g(x: float[3, 8]) -> (y) {\n  w: float[8, 16] = const random(1)\n  s: float[] = const {2.0}\n  t: float[3, 16] = MatMul(x, w)\n  y: "
                   "float[3, 16] = Mul(t, s)\n}\n",
                   options)
                .find("factor"),
            std::string::npos);
}

}  // namespace
}  // namespace lathe::regions
