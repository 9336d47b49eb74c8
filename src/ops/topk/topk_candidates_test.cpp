// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// cpu.topk from plan to run against a plain sort, over types, axes, ties, NaN, rows longer than its blocks, and outputs left out.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <span>

#include "regions/candidate_test_util.h"
#include "regions/match.h"

namespace lathe::ops {
std::span<const Candidate> candidates_topk();
}

namespace lathe::regions {
namespace {

using namespace testing;

struct Case {
  std::string type = "float";
  std::vector<std::int64_t> dims;
  std::int64_t axis, k;
  bool largest = true;
  DType storage = DType::kFloat32;
  std::int64_t extra = 0;
  std::string outputs = "v, i";
};

double rank_of(double x) { return std::isnan(x) ? std::numeric_limits<double>::infinity() : x; }

/// `x` has many equal elements, zeros of both signs and, where floating, NaN: see the test.
void expect_sorted_selection(const Case& c, const Dense& x, const RunResult& result) {
  const auto axis = static_cast<std::size_t>(c.axis < 0 ? c.axis + static_cast<std::int64_t>(c.dims.size()) : c.axis);
  std::int64_t inner = 1, outer = 1;
  for (std::size_t i = 0; i < c.dims.size(); ++i) (i < axis ? outer : inner) *= i == axis ? 1 : c.dims[i];
  const std::int64_t n = c.dims[axis];
  for (std::int64_t o = 0; o < outer; ++o)
    for (std::int64_t in = 0; in < inner; ++in) {
      const auto value = [&](std::int64_t place) { return x.values[static_cast<std::size_t>((o * n + place) * inner + in)]; };
      std::vector<std::int64_t> order(static_cast<std::size_t>(n));
      std::iota(order.begin(), order.end(), 0);
      // NaN above infinity: by rank first, then whether it is one.
      std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
        if (!c.largest) std::swap(a, b);
        const double p = rank_of(value(a)), q = rank_of(value(b));
        return p != q ? p > q : std::isnan(value(a)) && !std::isnan(value(b));
      });
      for (std::int64_t j = 0; j < c.k; ++j) {
        const auto at = static_cast<std::size_t>((o * c.k + j) * inner + in);
        const std::int64_t place = order[static_cast<std::size_t>(j)];
        if (result.outputs.count("i")) {
          ASSERT_EQ(result.outputs.at("i").values[at], static_cast<double>(place)) << "rank " << j;
        }
        if (result.outputs.count("v")) {
          const double got = result.outputs.at("v").values[at];
          ASSERT_TRUE(got == value(place) || (std::isnan(got) && std::isnan(value(place)))) << "rank " << j << ": " << got << ", not " << value(place);
        }
      }
    }
}

TEST(TopK, SelectsAsASortDoes) {
  const Case cases[] = {{"float", {1, 1000}, -1, 5},
                        {"float", {3, 7, 300}, 2, 300},
                        {"float", {2, 9, 5}, 1, 4, false},
                        {"float", {4}, 0, 1},
                        {"float", {2, 5000}, 1, 700},
                        {"float", {5, 400}, 1, 3, false, DType::kBFloat16, 3},
                        {"double", {2, 500}, 1, 100},
                        {"double", {3, 200}, 0, 2, false},
                        {"float16", {2, 400}, 1, 9},
                        {"float16", {2, 400}, 1, 9, false},
                        {"int64", {2, 600}, -1, 40},
                        {"int32", {3, 600}, 1, 2, false},
                        {"uint8", {2, 600}, 1, 300},
                        {"uint64", {600}, 0, 7},
                        {"int8", {2, 300, 2}, 1, 30, false},
                        {"uint32", {4, 4}, 0, 0},
                        {"int16", {0, 4}, 1, 2},
                        {"uint16", {300, 70}, 1, 1},
                        {"float", {2, 3000}, 1, 8, true, DType::kFloat32, 0, "i"},
                        {"float", {2, 3000}, 1, 8, true, DType::kFloat32, 2, "v"}};
  for (const Case& c : cases) {
    SCOPED_TRACE(fmt::format("{} [{}] axis {} k {} {} {}", c.type, fmt::join(c.dims, ", "), c.axis, c.k, c.largest ? "largest" : "smallest", c.outputs));
    auto out = c.dims;
    out[static_cast<std::size_t>(c.axis < 0 ? c.axis + static_cast<std::int64_t>(c.dims.size()) : c.axis)] = c.k;
    const auto graph = ir::parse_graph(
        fmt::format("graph g(x: {}[{}]) -> ({}) {{\n  k: int64[1] = const {{{}}}\n  v: {}[{}], i: int64[{}] = TopK(x, k) {{axis={}, largest={}}}\n}}\n", c.type,
                    fmt::join(c.dims, ", "), c.outputs, c.k, c.type, fmt::join(out, ", "), fmt::join(out, ", "), c.axis, c.largest ? 1 : 0));
    const auto region = make_region("TopK", {&find_node(*graph, "TopK")});
    RunOptions options;
    options.storage = c.storage;
    options.extra = c.extra;
    options.threads = 3;
    Tensor x(graph->inputs()[0]->dtype(), c.dims);
    std::uint64_t state = 7;
    for (std::int64_t i = 0; i < x.size(); ++i) {
      state = state * 6364136223846793005ull + 1442695040888963407ull;
      const auto draw = static_cast<std::int64_t>(state >> 33) % 97;
      if (is_float(x.dtype()))
        x.set_from_double(i, draw == 0   ? std::nan("")
                             : draw == 1 ? -0.0
                             : draw == 2 ? 0.0
                             : draw == 3 ? INFINITY
                             : draw == 4 ? -INFINITY
                                         : 0.25 * static_cast<double>(draw - 40));
      else x.set_from_int64(i, draw - (is_signed_integer(x.dtype()) ? 50 : 0));
    }
    options.given["x"] = x;
    CandidateRunner runner(region, find_candidate(ops::candidates_topk(), "cpu.topk"), options);
    ASSERT_TRUE(runner.verdict().yes) << runner.verdict().reason;
    const auto results = runner.run();
    ASSERT_EQ(results.size(), 1u);
    expect_sorted_selection(c, runner.input("x"), results[0]);
  }
}

/// The kernel's integers order as the numbers do, up to the ends of the range.
TEST(TopK, OrdersTheEndsOfTheRange) {
  const std::uint64_t x[] = {5, ~0ull, 0, 1ull << 63};
  const std::int64_t y[] = {-1, std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::max(), 0};
  const Dims four{4};
  const plan::TensorDesc unsigned_desc = plan::TensorDesc::row_major(DType::kUint64, four), signed_desc = plan::TensorDesc::row_major(DType::kInt64, four);
  const auto places = [&](const plan::TensorDesc& in, const void* data) {
    std::vector<std::int64_t> found(4), scratch(1024);
    const plan::TensorDesc outs[] = {plan::TensorDesc(), signed_desc};
    const ir::Attrs params;
    const ir::Bindings bindings;
    const auto kernel = plan::find_kernel("cpu.topk")->bind({params, std::span(&in, 1), outs, {}, {}, bindings, 1});
    EXPECT_LE(kernel->scratch_bytes(), scratch.size() * sizeof(std::int64_t));
    ThreadPool pool(1);
    void* out[] = {nullptr, found.data()};
    EXPECT_TRUE(kernel->run({&data, out, scratch.data(), &pool}));
    return found;
  };
  EXPECT_EQ(places(unsigned_desc, x), (std::vector<std::int64_t>{1, 3, 0, 2}));
  EXPECT_EQ(places(signed_desc, y), (std::vector<std::int64_t>{2, 3, 0, 1}));
}

}  // namespace
}  // namespace lathe::regions
