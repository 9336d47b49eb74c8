// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// cpu.pool from proposal to run against plain loops over windows.

#include <fmt/format.h>

#include <limits>
#include <span>

#include "regions/candidate_test_util.h"
#include "regions/pool/pool.h"

namespace lathe::ops {
std::span<const Candidate> candidates_pool();
}

namespace lathe::regions {
namespace {

using namespace testing;

constexpr DType kF32 = DType::kFloat32, kBF16 = DType::kBFloat16;

struct Axis {
  std::int64_t kernel, stride, dilation, begin, end;
};

double pool(const Dense& x, bool maximum, bool include, const Axis& v, const Axis& h, std::int64_t n, std::int64_t c, std::int64_t oy, std::int64_t ox) {
  const std::int64_t height = x.dims[2], width = x.dims[3];
  double sum = 0, best = -std::numeric_limits<double>::infinity();
  std::int64_t inside = 0, padded = 0;
  for (std::int64_t ky = 0; ky < v.kernel; ++ky)
    for (std::int64_t kx = 0; kx < h.kernel; ++kx) {
      const std::int64_t iy = oy * v.stride - v.begin + ky * v.dilation, ix = ox * h.stride - h.begin + kx * h.dilation;
      padded += iy < height + v.end && ix < width + h.end;
      if (iy < 0 || iy >= height || ix < 0 || ix >= width) continue;
      ++inside;
      sum += x({n, c, iy, ix});
      best = std::max(best, x({n, c, iy, ix}));
    }
  return maximum ? best : sum / static_cast<double>(include ? padded : inside);
}

void check(const std::string& node, const Dims& in, const Dims& out, bool maximum, bool include, const Axis& v, const Axis& h, DType type, std::int64_t extra) {
  const auto graph =
      ir::parse_graph(fmt::format("graph g(x: float[{}]) -> (y) {{\n  y: float[{}] = {}\n}}\n", fmt::join(in, ", "), fmt::join(out, ", "), node));
  const auto regions = propose_pool(*graph->nodes().front());
  ASSERT_EQ(regions.size(), 1u);
  RunOptions options;
  options.storage = type;
  options.extra = extra;
  CandidateRunner runner(regions[0], find_candidate(ops::candidates_pool(), "cpu.pool"), options);
  ASSERT_TRUE(runner.verdict().yes) << runner.verdict().reason;
  Dense x = runner.input("x");
  if (in.size() == 3) x.dims = {in[0], in[1], 1, in[2]};
  const std::int64_t oh = out.size() == 4 ? out[2] : 1, ow = out.size() >= 3 ? out.back() : 1;
  for (const RunResult& result : runner.run()) {
    const Dense& y = result.outputs.at("y");
    for (std::size_t i = 0; i < y.values.size(); ++i) {
      const auto at = static_cast<std::int64_t>(i);
      const double want = pool(x, maximum, include, v, h, at / ow / oh / in[1], at / ow / oh % in[1], at / ow % oh, at % ow);
      ASSERT_NEAR(y.values[i], want, 2e-6 + (type == kBF16 && !maximum ? std::fabs(want) / 200 : 0)) << node << " element " << i;
    }
  }
}

TEST(PoolRegion, WindowsAttributesAndTypes) {
  for (const DType type : {kF32, kBF16})
    for (const std::int64_t extra : {0, 5})
      for (const std::int64_t c : {1, 19, 80}) {
        const Axis k3{3, 2, 1, 1, 1}, k2{2, 2, 1, 0, 0}, k2r{2, 2, 1, 0, 1};
        check("MaxPool(x) {kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]}", {2, c, 9, 8}, {2, c, 5, 4}, true, false, k3, k3, type, extra);
        check("MaxPool(x) {kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1}", {1, c, 5, 7}, {1, c, 3, 4}, true, false, k2, k2, type, extra);
        check("AveragePool(x) {kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]}", {2, c, 9, 8}, {2, c, 5, 4}, false, false, k3, k3, type, extra);
        check("AveragePool(x) {kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1}", {2, c, 9, 8}, {2, c, 5, 4}, false, true, k3, k3,
              type, extra);
        check("AveragePool(x) {kernel_shape=[2, 2], strides=[2, 2], auto_pad=\"SAME_UPPER\"}", {1, c, 4, 5}, {1, c, 2, 3}, false, false, k2, k2r, type, extra);
        check("MaxPool(x) {kernel_shape=[3], strides=[1], dilations=[2]}", {2, c, 11}, {2, c, 7}, true, false, {1, 1, 1, 0, 0}, {3, 1, 2, 0, 0}, type, extra);
        if (HasFatalFailure()) return;
      }
}

TEST(PoolRegion, GlobalOnesAndReductionsOverPixels) {
  for (const DType type : {kF32, kBF16})
    for (const std::int64_t extra : {0, 3})
      for (const std::int64_t c : {1, 30, 200}) {
        const Axis v{4, 1, 1, 0, 0}, h{6, 1, 1, 0, 0};
        check("GlobalAveragePool(x)", {3, c, 4, 6}, {3, c, 1, 1}, false, false, v, h, type, extra);
        check("GlobalMaxPool(x)", {3, c, 4, 6}, {3, c, 1, 1}, true, false, v, h, type, extra);
        check("ReduceMean(x) {axes=[2, 3], keepdims=1}", {3, c, 4, 6}, {3, c, 1, 1}, false, false, v, h, type, extra);
        check("ReduceMean(x) {axes=[-1, -2], keepdims=0}", {3, c, 4, 6}, {3, c}, false, false, v, h, type, extra);
        check("ReduceMax(x) {axes=[2], keepdims=1}", {3, c, 6}, {3, c, 1}, true, false, {1, 1, 1, 0, 0}, h, type, extra);
        if (HasFatalFailure()) return;
      }
}

TEST(PoolRegion, DeclinesWhatItCannotDo) {
  const auto propose = [](const std::string& text) {
    const auto graph = ir::parse_graph(text);
    return propose_pool(*graph->nodes().front()).size();
  };
  EXPECT_EQ(
      propose(
          "graph g(x: float[1, 2, 4, 4]) -> (y, i) {\n  y: float[1, 2, 2, 2], i: int64[1, 2, 2, 2] = MaxPool(x) {kernel_shape=[2, 2], strides=[2, 2]}\n}\n"),
      0u);
  EXPECT_EQ(propose("graph g(x: float[1, 2, 4, 4]) -> (y) {\n  y: float[1, 2, 4, 1] = ReduceMean(x) {axes=[3], keepdims=1}\n}\n"), 0u);
  EXPECT_EQ(propose("graph g(x: float[1, 2, 4, 4]) -> (y) {\n  y: float[1, 1, 4, 4] = ReduceMean(x) {axes=[1, 2], keepdims=1}\n}\n"), 0u);
  const auto graph =
      ir::parse_graph("graph g(x: float[1, 2, 4, 4, 4]) -> (y) {\n  y: float[1, 2, 2, 2, 2] = MaxPool(x) {kernel_shape=[2, 2, 2], strides=[2, 2, 2]}\n}\n");
  const auto regions = propose_pool(*graph->nodes().front());
  ASSERT_EQ(regions.size(), 1u);
  CandidateRunner runner(regions[0], find_candidate(ops::candidates_pool(), "cpu.pool"), {});
  EXPECT_FALSE(runner.verdict().yes);
  EXPECT_NE(runner.verdict().reason, "");
}

}  // namespace
}  // namespace lathe::regions
