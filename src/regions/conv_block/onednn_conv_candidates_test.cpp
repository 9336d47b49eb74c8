// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// cpu.conv.onednn from plan to run against the plain loop; several callers at once; what it declines and says.

#include <fmt/format.h>

#include <span>
#include <thread>

#include "backend/cpu/test_util.h"
#include "regions/candidate_test_util.h"
#include "regions/conv_block/conv_block.h"
#include "regions/conv_block/onednn_conv_params.h"

namespace lathe::ops {
std::span<const Candidate> candidates_onednn_conv();
}

namespace lathe::regions {
namespace {

using namespace testing;
using cpu::onednn::Library;

constexpr DType kF32 = DType::kFloat32, kBF16 = DType::kBFloat16;

const ops::Candidate& candidate() { return ops::candidates_onednn_conv().front(); }

#define NEED_ONEDNN()  \
  std::string missing; \
  if (!Library::find(&missing)) GTEST_SKIP() << missing

struct Case {
  Dims in, weight;
  std::string attrs;
  bool bias = true;
  std::string activation = {};  ///< "Relu(t)"
  int residual = 0;             ///< 1: before the activation, 2: after it
};

std::shared_ptr<ir::Graph> graph_of(const Case& c) {
  std::string constants = fmt::format("  w: float[{}] = const random(3)\n", fmt::join(c.weight, ", "));
  if (c.bias) constants += fmt::format("  b: float[{}] = const random(4)\n", c.weight[0]);
  constants += "  lo: float[] = const {-0.4}\n  hi: float[] = const {0.7}\n";
  const auto attrs =
      ir::parse_graph(fmt::format("graph g(x: float[{}]) -> (t) {{\n{}  t = Conv(x, w) {{{}}}\n}}\n", fmt::join(c.in, ", "), constants, c.attrs));
  const cpu::ConvProblem p = conv_problem(find_node(*attrs, "Conv").attrs, c.in, c.weight);
  Dims out{c.in[0], p.cout};
  if (c.in.size() == 4) out.push_back(p.oh());
  out.push_back(p.ow());
  const std::string y = fmt::format("float[{}]", fmt::join(out, ", "));
  std::string body = constants + fmt::format("  t: {} = Conv(x, w{}) {{{}}}\n", y, c.bias ? ", b" : "", c.attrs), last = "t";
  const auto then = [&](const std::string& name, const std::string& what) {
    body += fmt::format("  {}: {} = {}\n", name, y, what);
    last = name;
  };
  if (c.residual == 1) then("s", fmt::format("Add({}, r)", last));
  if (!c.activation.empty()) {
    std::string text = c.activation;
    text.replace(text.find("(t"), 2, "(" + last);
    then("u", text);
  }
  if (c.residual == 2) then("v", fmt::format("Add({}, r)", last));
  return ir::parse_graph(fmt::format("graph g(x: float[{}], r: {}) -> ({}) {{\n{}}}\n", fmt::join(c.in, ", "), y, last, body));
}

/// The products' sums and absolute mass at each output.
void reference(const cpu::ConvProblem& p, const Dense& x, const Dense& w, std::vector<double>& sum, std::vector<double>& mass) {
  const std::int64_t in_group = p.cin / p.groups, out_group = p.cout / p.groups, oh = p.oh(), ow = p.ow();
  sum.assign(static_cast<std::size_t>(p.n * p.cout * oh * ow), 0);
  mass = sum;
  std::size_t at = 0;
  for (std::int64_t n = 0; n < p.n; ++n)
    for (std::int64_t o = 0; o < p.cout; ++o)
      for (std::int64_t oy = 0; oy < oh; ++oy)
        for (std::int64_t ox = 0; ox < ow; ++ox, ++at)
          for (std::int64_t i = 0; i < in_group; ++i)
            for (std::int64_t ky = 0; ky < p.kh; ++ky)
              for (std::int64_t kx = 0; kx < p.kw; ++kx) {
                const std::int64_t iy = oy * p.stride_h - p.pad_top + ky * p.dilation_h, ix = ox * p.stride_w - p.pad_left + kx * p.dilation_w;
                if (iy < 0 || iy >= p.h || ix < 0 || ix >= p.w) continue;
                const std::int64_t channel = o / out_group * in_group + i;
                const double product = x.values[static_cast<std::size_t>(((n * p.cin + channel) * p.h + iy) * p.w + ix)] *
                                       w.values[static_cast<std::size_t>(((o * in_group + i) * p.kh + ky) * p.kw + kx)];
                sum[at] += product;
                mass[at] += std::fabs(product);
              }
}

/// Number of plans that were run; 0: declined.
std::size_t check(const Case& c, const RunOptions& options) {
  const auto graph = graph_of(c);
  const ops::Region region = propose_conv_block(find_node(*graph, "Conv")).front();
  const ConvBlock block = match_conv_block(region);
  CandidateRunner runner(region, candidate(), options);
  if (!runner.verdict().yes) {
    EXPECT_FALSE(runner.verdict().reason.empty());
    return 0;
  }
  const cpu::ConvProblem p = conv_problem(block.conv->attrs, c.in, c.weight);
  std::vector<double> sum, mass;
  reference(p, runner.input("x"), runner.input("w"), sum, mass);
  cpu::Epilogue epilogue;
  epilogue.activation = *cpu::find_activation(block.tail.activation);
  epilogue.alpha = block.tail.alpha;
  epilogue.beta = block.tail.beta;
  const std::string result = region.outputs[0]->name;
  const auto stored_as = [&](const std::string& name) { return options.storage_of.count(name) ? options.storage_of.at(name) : options.storage; };
  std::size_t plans = 0;
  for (const RunResult& run : runner.run()) {
    ++plans;
    const Dense& got = run.outputs.at(result);
    for (std::size_t i = 0; i < sum.size(); ++i) {
      double want = sum[i], size = mass[i] + 1;
      if (c.bias) want += runner.input("b").values[i / static_cast<std::size_t>(p.oh() * p.ow()) % static_cast<std::size_t>(p.cout)];
      if (c.residual == 1) want += runner.input("r").values[i];
      want = cpu::testing::activate(epilogue, want);
      if (c.residual == 2) want += runner.input("r").values[i];
      const double off = std::fabs(got.values[i] - want),
                   allowed = bound(p.cin / p.groups * p.kh * p.kw, size, want, stored_as("x") == kBF16 || stored_as(result) == kBF16, stored_as(result));
      if (!(off <= allowed)) {
        ADD_FAILURE() << run.variant << " {" << c.attrs << "} " << c.activation << " residual " << c.residual << " element " << i << ": " << got.values[i]
                      << " instead of " << want << ", off by " << off << ", allowed " << allowed;
        return plans;
      }
    }
  }
  return plans;
}

std::vector<Case> geometries() {
  return {{{1, 16, 9, 11}, {32, 16, 3, 3}, "pads=[1, 1, 1, 1]"},
          {{2, 24, 13, 7}, {40, 24, 3, 3}, "pads=[1, 1, 1, 1], strides=[2, 2]"},
          {{1, 64, 20, 20}, {64, 64, 1, 1}, ""},
          {{3, 33, 5, 7}, {17, 33, 1, 1}, "", false},
          {{1, 16, 8, 8}, {16, 16, 1, 1}, "strides=[2, 2]"},
          {{1, 32, 12, 12}, {32, 8, 3, 3}, "pads=[1, 1, 1, 1], group=4"},
          {{2, 48, 9, 9}, {48, 1, 3, 3}, "pads=[1, 1, 1, 1], group=48"},
          {{1, 16, 14, 15}, {16, 16, 3, 3}, "pads=[2, 2, 2, 2], dilations=[2, 2]"},
          {{1, 16, 10, 10}, {32, 16, 5, 3}, "pads=[2, 0, 1, 2]", false},
          {{1, 512, 7, 7}, {128, 512, 1, 1}, ""},
          {{1, 3, 16, 16}, {16, 3, 3, 3}, "pads=[1, 1, 1, 1], strides=[2, 2]"},
          {{1, 32, 6, 6}, {32, 32, 3, 3}, "auto_pad=\"SAME_UPPER\", strides=[2, 2]"},
          {{1, 16, 1, 1}, {16, 16, 3, 3}, "pads=[1, 1, 1, 1]"},
          {{5, 16, 40}, {32, 16, 3}, "pads=[1, 1]"}};
}

TEST(OneDnnConv, GeometriesTypesSlicesAndThreads) {
  NEED_ONEDNN();
  std::size_t taken = 0, asked = 0;
  for (const Case& geometry : geometries())
    for (const DType type : {kF32, kBF16})
      for (const std::int64_t extra : {0, 5, 16})
        for (const int threads : {1, 2, 3}) {
          Case c = geometry;
          if (extra != 5) c.activation = "HardSwish(t)";
          c.residual = threads - 1;
          RunOptions options;
          options.storage = type;
          options.extra = extra;
          options.threads = threads;
          ++asked;
          taken += check(c, options) > 0;
          if (HasFailure()) return;
        }
  EXPECT_GE(taken, asked * 2 / 3) << "of " << asked;
}

TEST(OneDnnConv, Activations) {
  NEED_ONEDNN();
  for (const char* activation : {"LeakyRelu(t) {alpha=0.1}", "Sigmoid(t)", "HardSwish(t)", "Tanh(t)", "Elu(t) {alpha=0.7}", "Mish(t)", "Gelu(t)",
                                 "Gelu(t) {approximate=\"tanh\"}", "Swish(t)"})
    for (const DType type : {kF32, kBF16})
      for (const int residual : {0, 1, 2}) {
        Case c{{2, 32, 9, 9}, {48, 32, 3, 3}, "pads=[1, 1, 1, 1]", true, activation, residual};
        RunOptions options;
        options.storage = type;
        EXPECT_GT(check(c, options), 0U) << activation << " is declined";
      }
}

TEST(OneDnnConv, MixedStorage) {
  NEED_ONEDNN();
  Case c{{1, 32, 9, 9}, {32, 32, 3, 3}, "pads=[1, 1, 1, 1]", true, "LeakyRelu(t) {alpha=0.1}", 2};
  RunOptions options;
  options.storage_of = {{"x", kBF16}};  // sums leave as float32
  const std::size_t least = Library::get().multiplies_bf16() ? 1 : 0;
  EXPECT_GE(check(c, options), least);
  options.storage_of = {{"x", kBF16}, {"v", kBF16}, {"r", kF32}};
  EXPECT_GE(check(c, options), least);
  options.storage_of = {{"v", kBF16}};  // the source is converted on its way
  EXPECT_GE(check(c, options), least);
}

ops::Verdict verdict(const Case& c, const RunOptions& options) {
  const auto graph = graph_of(c);
  const ops::Region region = propose_conv_block(find_node(*graph, "Conv")).front();
  return CandidateRunner(region, candidate(), options).verdict();
}

TEST(OneDnnConv, DeclinesWithReasons) {
  NEED_ONEDNN();
  const Case relu{{1, 16, 8, 8}, {16, 16, 3, 3}, "pads=[1, 1, 1, 1]", true, "Relu(t)"};
  const Case sigmoid{{1, 16, 8, 8}, {16, 16, 3, 3}, "pads=[1, 1, 1, 1]", true, "Sigmoid(t)"};
  RunOptions options;
  EXPECT_TRUE(verdict(sigmoid, options).yes) << verdict(sigmoid, options).reason;
  EXPECT_NE(verdict(relu, options).reason.find("NaN"), std::string::npos);
  options.cpu_features = 0;
  EXPECT_NE(verdict(sigmoid, options).reason.find("CPU features"), std::string::npos);
  const auto graph =
      ir::parse_graph("graph g(x: float[1, 16, h, 8]) -> (y) {\n  w: float[16, 16, 1, 1] = const random(1)\n  y: float[1, 16, h, 8] = Conv(x, w)\n}\n");
  options = {};
  options.bindings["h"] = 8;
  const auto regions = propose_conv_block(find_node(*graph, "Conv"));
  EXPECT_NE(CandidateRunner(regions.front(), candidate(), options).verdict().reason.find("not fixed"), std::string::npos);
}

TEST(OneDnnConv, KeepsNan) {
  NEED_ONEDNN();
  for (const char* activation : {"", "LeakyRelu(t) {alpha=0.1}", "HardSwish(t)", "Swish(t)", "Sigmoid(t)", "Tanh(t)", "Elu(t) {alpha=0.7}", "Mish(t)",
                                 "Gelu(t)", "Gelu(t) {approximate=\"tanh\"}"}) {
    const Case c{{1, 16, 4, 4}, {16, 16, 1, 1}, "", true, activation};
    RunOptions options;
    options.exact = true;
    Tensor x(kF32, {1, 16, 4, 4});
    for (float& value : x.mutable_data<float>()) value = 0.5F;
    x.mutable_data<float>()[5] = std::nanf("");  // channel 0, pixel 5
    options.given["x"] = x;
    const auto graph = graph_of(c);
    const ops::Region region = propose_conv_block(find_node(*graph, "Conv")).front();
    CandidateRunner runner(region, candidate(), options);
    if (!runner.verdict().yes) continue;  // a NaN that would be hidden
    for (const RunResult& run : runner.run()) {
      const Dense& y = run.outputs.at(region.outputs[0]->name);
      for (std::size_t channel = 0; channel < 16; ++channel)
        for (std::size_t pixel = 0; pixel < 16; ++pixel) EXPECT_EQ(std::isnan(y.values[channel * 16 + pixel]), pixel == 5) << activation << " " << run.variant;
    }
  }
}

TEST(OneDnnConv, ServesAnyBatch) {
  NEED_ONEDNN();
  const auto graph =
      ir::parse_graph("graph g(x: float[n, 16, 9, 8]) -> (y) {\n  w: float[32, 16, 3, 3] = const random(1)\n  y: float[n, 32, 7, 6] = Conv(x, w)\n}\n");
  const auto regions = propose_conv_block(find_node(*graph, "Conv"));
  RunOptions options;
  options.bindings["n"] = 2;
  for (const std::int64_t n : {0, 1, 5}) {
    options.run_bindings = {{"n", n}};
    CandidateRunner runner(regions.front(), candidate(), options);
    ASSERT_TRUE(runner.verdict().yes) << runner.verdict().reason;
    EXPECT_FALSE(runner.run().empty());
  }
}

TEST(OneDnnLibrary, AnswersWhyItIsNotThere) {
  std::string why;
  EXPECT_EQ(Library::open("none", why), nullptr);
  EXPECT_EQ(why, "the knob LATHE_ONEDNN is 'none'");
  why.clear();
  EXPECT_EQ(Library::open("/nowhere/libdnnl.so.3", why), nullptr);
  EXPECT_NE(why.find("cannot be opened"), std::string::npos) << why;
  EXPECT_NE(why.find("onednn-cpu-gomp"), std::string::npos) << why;
  why.clear();
  EXPECT_EQ(Library::open("libm.so.6", why), nullptr);
  EXPECT_NE(why.find("has no function"), std::string::npos) << why;
}

}  // namespace
}  // namespace lathe::regions
