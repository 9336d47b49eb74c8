// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// conv_transpose from proposal to run against the scattering definition.

#include <fmt/format.h>

#include <span>

#include "regions/candidate_test_util.h"
#include "regions/conv_transpose/conv_transpose.h"

namespace lathe::ops {
std::span<const Candidate> candidates_conv_transpose();
}

namespace lathe::regions {
namespace {

using namespace testing;

constexpr DType kF32 = DType::kFloat32, kBF16 = DType::kBFloat16;

struct Case {
  Dims in, weight, out;
  std::string attrs;
  std::int64_t stride = 1, dilation = 1, begin_h = 0, begin_w = 0, groups = 1;
  bool bias = false;
};

void check(const Case& c, DType type, std::int64_t extra, bool tail) {
  const std::string y = fmt::format("float[{}]", fmt::join(c.out, ", "));
  std::string body = fmt::format("  w: float[{}] = const random(3)\n", fmt::join(c.weight, ", "));
  if (c.bias) body += fmt::format("  b: float[{}] = const random(4)\n", c.out[1]);
  body += fmt::format("  t: {} = ConvTranspose(x, w{}) {{{}}}\n", y, c.bias ? ", b" : "", c.attrs);
  if (tail) body += fmt::format("  u: {0} = LeakyRelu(t) {{alpha=0.1}}\n  v: {0} = Add(u, r)\n", y);
  const std::string result = tail ? "v" : "t";
  const auto graph = ir::parse_graph(fmt::format("graph g(x: float[{}], r: {}) -> ({}) {{\n{}}}\n", fmt::join(c.in, ", "), y, result, body));
  const auto regions = propose_conv_transpose(find_node(*graph, "ConvTranspose"));
  ASSERT_EQ(regions.size(), tail ? 3u : 1u);
  for (const cpu::Isa isa : {cpu::Isa::kAvx512Bf16, cpu::Isa::kAvx2}) {
    RunOptions options;
    options.storage = type;
    options.extra = extra;
    options.cpu_features = cpu::cpu_features().limited_to(isa).mask;
    CandidateRunner runner(regions.front(), find_candidate(ops::candidates_conv_transpose(), "cpu.conv_transpose"), options);
    ASSERT_TRUE(runner.verdict().yes) << runner.verdict().reason;
    Dense x = runner.input("x"), w = runner.input("w");
    const bool flat = c.in.size() == 3;
    const std::int64_t h = flat ? 1 : c.in[2], wd = c.in.back(), oh = flat ? 1 : c.out[2], ow = c.out.back(), kh = flat ? 1 : c.weight[2], kw = c.weight.back();
    const std::int64_t cout = c.out[1], per_group = c.weight[1], in_group = c.in[1] / c.groups;
    std::vector<double> sum(static_cast<std::size_t>(c.in[0] * cout * oh * ow)), mass(sum.size());
    for (std::int64_t n = 0; n < c.in[0]; ++n)
      for (std::int64_t i = 0; i < c.in[1]; ++i)
        for (std::int64_t iy = 0; iy < h; ++iy)
          for (std::int64_t ix = 0; ix < wd; ++ix)
            for (std::int64_t o = 0; o < per_group; ++o)
              for (std::int64_t ky = 0; ky < kh; ++ky)
                for (std::int64_t kx = 0; kx < kw; ++kx) {
                  const std::int64_t oy = (flat ? 0 : iy * c.stride) - c.begin_h + ky * c.dilation, ox = ix * c.stride - c.begin_w + kx * c.dilation;
                  if (oy < 0 || oy >= oh || ox < 0 || ox >= ow) continue;
                  const std::int64_t channel = i / in_group * per_group + o;
                  const auto at = static_cast<std::size_t>(((n * cout + channel) * oh + oy) * ow + ox);
                  const double p = x.values[static_cast<std::size_t>(((n * c.in[1] + i) * h + iy) * wd + ix)] *
                                   w.values[static_cast<std::size_t>(((i * per_group + o) * kh + ky) * kw + kx)];
                  sum[at] += p;
                  mass[at] += std::fabs(p);
                }
    for (const RunResult& run : runner.run()) {
      const Dense& got = run.outputs.at(result);
      for (std::size_t i = 0; i < sum.size(); ++i) {
        double want = sum[i] + (c.bias ? runner.input("b").values[i / static_cast<std::size_t>(oh * ow) % static_cast<std::size_t>(cout)] : 0);
        if (tail) want = (want < 0 ? 0.1 * want : want) + runner.input("r").values[i];
        ASSERT_LE(std::fabs(got.values[i] - want), bound(in_group * kh * kw, mass[i] + 1, want, type == kBF16, type))
            << run.variant << " {" << c.attrs << "} element " << i << ": " << got.values[i] << " instead of " << want;
      }
    }
  }
}

TEST(ConvTransposeRegion, AttributesTypesAndTails) {
  const std::vector<Case> cases = {
      {{2, 8, 3, 4}, {8, 6, 4, 4}, {2, 6, 6, 8}, "strides=[2, 2], pads=[1, 1, 1, 1]", 2, 1, 1, 1, 1, true},
      {{1, 5, 1, 1}, {5, 20, 4, 4}, {1, 20, 4, 4}, "", 1, 1, 0, 0, 1, false},
      {{1, 8, 4, 4}, {8, 7, 2, 2}, {1, 7, 8, 8}, "strides=[2, 2]", 2, 1, 0, 0, 1, true},
      {{1, 8, 5, 5}, {8, 2, 3, 3}, {1, 8, 10, 10}, "strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1], group=4", 2, 1, 1, 1, 4, true},
      {{1, 4, 5, 6}, {4, 3, 3, 3}, {1, 3, 9, 10}, "dilations=[2, 2]", 1, 2, 0, 0, 1, false},
      // SAME_UPPER: output = input * stride, 1 pad in all, at the end; SAME_LOWER and output_shape put it first.
      {{1, 4, 3, 3}, {4, 3, 3, 3}, {1, 3, 6, 6}, "strides=[2, 2], auto_pad=\"SAME_UPPER\"", 2, 1, 0, 0, 1, false},
      {{1, 4, 3, 3}, {4, 3, 3, 3}, {1, 3, 6, 6}, "strides=[2, 2], auto_pad=\"SAME_LOWER\"", 2, 1, 1, 1, 1, false},
      {{1, 4, 3, 3}, {4, 3, 3, 3}, {1, 3, 6, 6}, "strides=[2, 2], output_shape=[6, 6]", 2, 1, 1, 1, 1, false},
      {{1, 4, 3, 3}, {4, 3, 3, 3}, {1, 3, 9, 8}, "strides=[2, 2], output_shape=[9, 8]", 2, 1, 0, 0, 1, true},
      {{2, 6, 7}, {6, 5, 4}, {2, 5, 14}, "strides=[2], pads=[1, 1]", 2, 1, 0, 1, 1, true}};
  for (const Case& c : cases)
    for (const DType type : {kF32, kBF16})
      for (const bool tail : {false, true}) {
        check(c, type, tail ? 3 : 0, tail);
        if (HasFatalFailure()) return;
      }
}

TEST(ConvTransposeRegion, ProposesOnlyConstantWeights) {
  const auto graph = ir::parse_graph("graph g(x: float[1, 2, 4, 4], w: float[2, 3, 2, 2]) -> (y) {\n  y: float[1, 3, 5, 5] = ConvTranspose(x, w)\n}\n");
  EXPECT_TRUE(propose_conv_transpose(*graph->nodes().front()).empty());
  const auto cube = ir::parse_graph(
      "graph g(x: float[1, 2, 4, 4, 4]) -> (y) {\n  w: float[2, 3, 2, 2, 2] = const random(1)\n  y: float[1, 3, 5, 5, 5] = ConvTranspose(x, w)\n}\n");
  const auto regions = propose_conv_transpose(find_node(*cube, "ConvTranspose"));
  ASSERT_EQ(regions.size(), 1u);
  EXPECT_FALSE(CandidateRunner(regions[0], find_candidate(ops::candidates_conv_transpose(), "cpu.conv_transpose"), {}).verdict().yes);
}

}  // namespace
}  // namespace lathe::regions
