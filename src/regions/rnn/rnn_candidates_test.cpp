// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// cpu.rnn from proposal to run against the equations of the ONNX operators, written step by step in double.

#include <fmt/format.h>

#include <functional>
#include <span>

#include "regions/candidate_test_util.h"
#include "regions/rnn/rnn.h"

namespace lathe::ops {
std::span<const Candidate> candidates_rnn();
}

namespace lathe::regions {
namespace {

using namespace testing;

constexpr DType kF32 = DType::kFloat32, kBF16 = DType::kBFloat16;

struct Case {
  std::string op, direction = "forward";
  std::int64_t steps = 5, batch = 3, in = 7, hidden = 9;
  bool bias = true, lengths = false, initial = true, batch_first = false, linear = false;
  std::string activations;  ///< "" or the attribute's text
  std::string f = "Sigmoid", g = "Tanh", h = "Tanh";
};

double act(const std::string& name, double x) {
  if (name == "Sigmoid") return 1 / (1 + std::exp(-x));
  if (name == "Relu") return std::max(x, 0.0);
  return std::tanh(x);
}

struct Reference {
  std::vector<double> y, h, c;  ///< [steps][dirs][batch][hidden], [dirs][batch][hidden]
};

Reference reference(const Case& k, CandidateRunner& run, const std::vector<std::int64_t>& lengths) {
  const std::int64_t gates = k.op == "LSTM" ? 4 : k.op == "GRU" ? 3 : 1, H = k.hidden, wide = gates * H, dirs = k.direction == "bidirectional" ? 2 : 1;
  const Dense &x = run.input("x"), &w = run.input("w"), &r = run.input("r");
  Reference out;
  out.y.assign(static_cast<std::size_t>(k.steps * dirs * k.batch * H), 0);
  out.h.assign(static_cast<std::size_t>(dirs * k.batch * H), 0);
  out.c = out.h;
  for (std::int64_t d = 0; d < dirs; ++d)
    for (std::int64_t b = 0; b < k.batch; ++b) {
      std::vector<double> h(static_cast<std::size_t>(H)), c(h);
      if (k.initial)
        for (std::int64_t j = 0; j < H; ++j) {
          h[static_cast<std::size_t>(j)] = k.batch_first ? run.input("h0")({b, d, j}) : run.input("h0")({d, b, j});
          if (k.op == "LSTM") c[static_cast<std::size_t>(j)] = k.batch_first ? run.input("c0")({b, d, j}) : run.input("c0")({d, b, j});
        }
      const bool reverse = d == 1 || k.direction == "reverse";
      const std::int64_t length = lengths[static_cast<std::size_t>(b)];
      for (std::int64_t s = 0; s < length; ++s) {
        const std::int64_t t = reverse ? length - 1 - s : s;
        const auto bias = [&](std::int64_t i) { return k.bias ? run.input("b")({d, i}) : 0.0; };
        std::vector<double> xw(static_cast<std::size_t>(wide)), hr(xw);
        const auto recurrent = [&](std::int64_t row, const std::vector<double>& state) {
          double sum = bias(wide + row);
          for (std::int64_t j = 0; j < H; ++j) sum += r({d, row, j}) * state[static_cast<std::size_t>(j)];
          return sum;
        };
        for (std::int64_t row = 0; row < wide; ++row) {
          double sum = bias(row);
          for (std::int64_t j = 0; j < k.in; ++j) sum += w({d, row, j}) * (k.batch_first ? x({b, t, j}) : x({t, b, j}));
          xw[static_cast<std::size_t>(row)] = sum;
          hr[static_cast<std::size_t>(row)] = recurrent(row, h);
        }
        const auto sum = [&](std::int64_t row) { return xw[static_cast<std::size_t>(row)] + hr[static_cast<std::size_t>(row)]; };
        std::vector<double> next(h);
        if (k.op == "LSTM") {
          for (std::int64_t j = 0; j < H; ++j) {
            const double i = act(k.f, sum(j)), o = act(k.f, sum(H + j)), f = act(k.f, sum(2 * H + j)), g = act(k.g, sum(3 * H + j));
            double& cell = c[static_cast<std::size_t>(j)];
            cell = f * cell + i * g;
            next[static_cast<std::size_t>(j)] = o * act(k.h, cell);
          }
        } else if (k.op == "GRU") {
          std::vector<double> reset(h);
          for (std::int64_t j = 0; j < H; ++j) reset[static_cast<std::size_t>(j)] *= act(k.f, sum(H + j));
          for (std::int64_t j = 0; j < H; ++j) {
            const double z = act(k.f, sum(j)), gate = act(k.f, sum(H + j));
            const double linear = k.linear ? gate * hr[static_cast<std::size_t>(2 * H + j)] : recurrent(2 * H + j, reset);
            const double n = act(k.g, xw[static_cast<std::size_t>(2 * H + j)] + linear);
            next[static_cast<std::size_t>(j)] = (1 - z) * n + z * h[static_cast<std::size_t>(j)];
          }
        } else {
          for (std::int64_t j = 0; j < H; ++j) next[static_cast<std::size_t>(j)] = act(k.f, sum(j));
        }
        h = next;
        for (std::int64_t j = 0; j < H; ++j) out.y[static_cast<std::size_t>(((t * dirs + d) * k.batch + b) * H + j)] = h[static_cast<std::size_t>(j)];
      }
      for (std::int64_t j = 0; j < H; ++j) {
        out.h[static_cast<std::size_t>((d * k.batch + b) * H + j)] = h[static_cast<std::size_t>(j)];
        out.c[static_cast<std::size_t>((d * k.batch + b) * H + j)] = c[static_cast<std::size_t>(j)];
      }
    }
  return out;
}

void check(const Case& k, DType type, int threads, std::int64_t extra) {
  const std::int64_t gates = k.op == "LSTM" ? 4 : k.op == "GRU" ? 3 : 1, H = k.hidden, dirs = k.direction == "bidirectional" ? 2 : 1;
  const auto shape = [](std::initializer_list<std::int64_t> dims) { return fmt::format("float[{}]", fmt::join(dims, ", ")); };
  const std::string x = k.batch_first ? shape({k.batch, k.steps, k.in}) : shape({k.steps, k.batch, k.in});
  const std::string y = k.batch_first ? shape({k.batch, k.steps, dirs, H}) : shape({k.steps, dirs, k.batch, H});
  const std::string state = k.batch_first ? shape({k.batch, dirs, H}) : shape({dirs, k.batch, H});
  const bool lstm = k.op == "LSTM";
  std::string inputs = "x: " + x, body;
  body += fmt::format("  w: {} = const random(3)\n  r: {} = const random(4)\n", shape({dirs, gates * H, k.in}), shape({dirs, gates * H, H}));
  if (k.bias) body += fmt::format("  b: {} = const random(5)\n", shape({dirs, 2 * gates * H}));
  if (k.lengths) inputs += fmt::format(", n: int32[{}]", k.batch);
  if (k.initial) inputs += fmt::format(", h0: {}{}", state, lstm ? ", c0: " + state : "");
  std::string attrs = fmt::format("hidden_size={}, direction=\"{}\", layout={}", H, k.direction, static_cast<int>(k.batch_first));
  if (k.linear) attrs += ", linear_before_reset=1";
  if (!k.activations.empty()) attrs += ", activations=" + k.activations;
  body += fmt::format("  y: {0}, yh: {1}{2} = {3}(x, w, r, {4}, {5}, {6}{7}) {{{8}}}\n", y, state, lstm ? ", yc: " + state : "", k.op, k.bias ? "b" : "_",
                      k.lengths ? "n" : "_", k.initial ? "h0" : "_", lstm ? (k.initial ? ", c0" : ", _") : "", attrs);
  const auto graph = ir::parse_graph(fmt::format("graph g({}) -> (y, yh{}) {{\n{}}}\n", inputs, lstm ? ", yc" : "", body));
  // Recurrent weights of the size that trained ones have: larger ones make the layer chaotic, and every rounding grows.
  for (float& value : graph->find("r")->constant.mutable_data<float>()) value /= std::sqrt(static_cast<float>(H));
  const auto regions = propose_rnn(find_node(*graph, k.op));
  ASSERT_EQ(regions.size(), 1u);
  RunOptions options;
  options.storage = type;
  options.threads = threads;
  options.extra = extra;
  std::vector<std::int64_t> lengths(static_cast<std::size_t>(k.batch), k.steps);
  if (k.lengths) {
    Tensor n(DType::kInt32, {k.batch});
    for (std::int64_t b = 0; b < k.batch; ++b) {
      lengths[static_cast<std::size_t>(b)] = b == 1 ? k.steps : (b * 2 + 1) % (k.steps + 1);
      n.set_from_int64(b, lengths[static_cast<std::size_t>(b)]);
    }
    options.given["n"] = n;
  }
  CandidateRunner runner(regions[0], find_candidate(ops::candidates_rnn(), "cpu.rnn"), options);
  ASSERT_TRUE(runner.verdict().yes) << runner.verdict().reason;
  const Reference want = reference(k, runner, lengths);
  for (const RunResult& result : runner.run()) {
    const double off = type == kBF16 ? 0.01 : 2e-5;
    const Dense& got = result.outputs.at("y");
    for (std::int64_t t = 0; t < k.steps; ++t)
      for (std::int64_t d = 0; d < dirs; ++d)
        for (std::int64_t b = 0; b < k.batch; ++b)
          for (std::int64_t j = 0; j < H; ++j) {
            const double value = k.batch_first ? got({b, t, d, j}) : got({t, d, b, j});
            const double expected = want.y[static_cast<std::size_t>(((t * dirs + d) * k.batch + b) * H + j)];
            ASSERT_NEAR(value, expected, off * (1 + std::fabs(expected))) << k.op << " " << attrs << " t " << t << " d " << d << " b " << b << " j " << j;
          }
    const auto compare = [&](const char* name, const std::vector<double>& expected) {
      const Dense& last = result.outputs.at(name);
      for (std::int64_t d = 0; d < dirs; ++d)
        for (std::int64_t b = 0; b < k.batch; ++b)
          for (std::int64_t j = 0; j < H; ++j) {
            const double value = k.batch_first ? last({b, d, j}) : last({d, b, j}), e = expected[static_cast<std::size_t>((d * k.batch + b) * H + j)];
            ASSERT_NEAR(value, e, off * (1 + std::fabs(e))) << k.op << " " << attrs << " " << name << " d " << d << " b " << b << " j " << j;
          }
    };
    compare("yh", want.h);
    if (lstm) compare("yc", want.c);
  }
}

TEST(RnnRegion, KindsDirectionsAndStates) {
  for (const std::string op : {"LSTM", "GRU", "RNN"})
    for (const std::string direction : {"forward", "reverse", "bidirectional"})
      for (const bool lengths : {false, true})
        for (const bool batch_first : {false, true})
          for (const bool linear : {false, true}) {
            if (linear && op != "GRU") continue;
            Case k;
            k.op = op;
            k.direction = direction;
            k.lengths = lengths;
            k.batch_first = batch_first;
            k.linear = linear;
            if (op == "RNN") k.f = "Tanh";
            for (const bool rest : {false, true}) {
              k.bias = rest;
              k.initial = rest || lengths;
              check(k, kF32, rest ? 1 : 2, 0);
              check(k, kBF16, 2, 0);
              if (HasFatalFailure()) return;
            }
          }
}

TEST(RnnRegion, SizesAndStrides) {
  for (const std::string op : {"LSTM", "GRU"})
    for (const auto& [steps, batch, in, hidden] : std::vector<std::array<std::int64_t, 4>>{{1, 1, 1, 1}, {40, 1, 64, 96}, {3, 17, 5, 33}, {300, 2, 3, 4}}) {
      Case k;
      k.op = op;
      k.steps = steps;
      k.batch = batch;
      k.in = in;
      k.hidden = hidden;
      k.direction = steps == 3 ? "forward" : "bidirectional";
      check(k, kF32, 2, 0);
      check(k, kF32, 6, 3);
      if (HasFatalFailure()) return;
    }
}

TEST(RnnRegion, OtherActivations) {
  Case k;
  k.op = "LSTM";
  k.activations = "[\"Sigmoid\", \"Relu\", \"Tanh\"]";
  k.g = "Relu";
  check(k, kF32, 2, 0);
  k.op = "RNN";
  k.activations = "[\"Relu\"]";
  k.f = "Relu";
  check(k, kF32, 2, 0);
}

TEST(RnnRegion, DeclinesWithTheReason) {
  const auto reason = [](const std::string& attrs, const std::string& more) {
    const auto graph = ir::parse_graph(fmt::format(R"(graph g(x: float[2, 3, 4]) -> (y) {{
  w: float[1, 20, 4] = const random(1)
  r: float[1, 20, 5] = const random(2)
  p: float[1, 15] = const random(3)
  y: float[2, 1, 3, 5] = LSTM(x, w, r{}) {{hidden_size=5{}}}
}})",
                                                   more, attrs));
    const auto regions = propose_rnn(find_node(*graph, "LSTM"));
    return CandidateRunner(regions.at(0), find_candidate(ops::candidates_rnn(), "cpu.rnn"), {}).verdict().reason;
  };
  EXPECT_EQ(reason("", ""), "");
  EXPECT_NE(reason(", clip=1.0", "").find("clip"), std::string::npos);
  EXPECT_NE(reason(", input_forget=1", "").find("coupled"), std::string::npos);
  EXPECT_NE(reason("", ", _, _, _, _, p").find("peephole"), std::string::npos);
  EXPECT_NE(reason(", activations=[\"Softsign\", \"Tanh\", \"Tanh\"]", "").find("Softsign"), std::string::npos);
  const auto given = ir::parse_graph(R"(graph g(x: float[2, 3, 4], w: float[1, 20, 4]) -> (y) {
  r: float[1, 20, 5] = const random(2)
  y: float[2, 1, 3, 5] = LSTM(x, w, r) {hidden_size=5}
})");
  const auto regions = propose_rnn(find_node(*given, "LSTM"));
  CandidateRunner runner(regions.at(0), find_candidate(ops::candidates_rnn(), "cpu.rnn"), {});
  EXPECT_NE(runner.verdict().reason.find("no constants"), std::string::npos);
}

}  // namespace
}  // namespace lathe::regions
