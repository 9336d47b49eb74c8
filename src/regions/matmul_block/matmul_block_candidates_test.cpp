// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// matmul_block from proposal to run against plain double loops, over shapes, types, strides, tails and permutations.

#include <fmt/format.h>

#include <functional>
#include <span>

#include "regions/candidate_test_util.h"
#include "regions/matmul_block/matmul_block.h"

namespace lathe::ops {
std::span<const Candidate> candidates_matmul_block();
}

namespace lathe::regions {
namespace {

using namespace testing;

const ops::Candidate& candidate(std::string_view name) { return find_candidate(ops::candidates_matmul_block(), name); }

constexpr DType kF32 = DType::kFloat32, kBF16 = DType::kBFloat16;

/// Checks every plan's output against f(flat index) -> {value, mass, k}.
struct Expected {
  double value, mass;
  std::int64_t k;
};
void compare(CandidateRunner& runner, const std::string& output, DType stored, bool narrow, const std::function<Expected(std::int64_t)>& f) {
  const auto results = runner.run();
  ASSERT_FALSE(results.empty());
  for (const RunResult& result : results) {
    const Dense& got = result.outputs.at(output);
    for (std::size_t i = 0; i < got.values.size(); ++i) {
      const Expected want = f(static_cast<std::int64_t>(i));
      ASSERT_LE(std::fabs(got.values[i] - want.value), bound(want.k, want.mass + 1, want.value, narrow, stored))
          << result.variant << " element " << i << ": " << got.values[i] << " instead of " << want.value;
    }
  }
}

TEST(MatMulBlock, ProductsOfEveryRankAndSize) {
  struct Shape {
    Dims a, b, c;
  };
  // Broadcast batches, vectors, empty and single extents.
  const std::vector<Shape> shapes = {{{5, 7}, {7, 9}, {5, 9}},
                                     {{1, 64}, {64, 33}, {1, 33}},
                                     {{2, 3, 5, 8}, {2, 3, 8, 6}, {2, 3, 5, 6}},
                                     {{4, 5, 8}, {8, 6}, {4, 5, 6}},
                                     {{5, 8}, {3, 8, 6}, {3, 5, 6}},
                                     {{2, 1, 5, 8}, {3, 8, 6}, {2, 3, 5, 6}},
                                     {{8}, {8, 6}, {6}},
                                     {{5, 8}, {8}, {5}},
                                     {{8}, {8}, {}},
                                     {{3, 8}, {2, 4, 8, 1}, {2, 4, 3, 1}},
                                     {{0, 8}, {8, 4}, {0, 4}},
                                     {{3, 0}, {0, 4}, {3, 4}},
                                     {{2, 2, 2, 3, 4}, {2, 1, 2, 4, 5}, {2, 2, 2, 3, 5}},
                                     {{8}, {2, 8, 3}, {2, 3}},
                                     {{70, 130}, {130, 1}, {70, 1}}};
  for (const Shape& s : shapes)
    for (const bool constant : {false, true})
      for (const DType type : {kF32, kBF16})
        for (const std::int64_t extra : {0, 3}) {
          const auto text = [](const Dims& dims) { return fmt::format("{}", fmt::join(dims, ", ")); };
          const std::string b = constant ? fmt::format("  b: float[{}] = const random(7)\n", text(s.b)) : "";
          const auto graph = ir::parse_graph(fmt::format("graph g(a: float[{}]{}) -> (c) {{\n{}  c: float[{}] = MatMul(a, b)\n}}\n", text(s.a),
                                                         constant ? "" : fmt::format(", b: float[{}]", text(s.b)), b, text(s.c)));
          const auto regions = propose_matmul_block(find_node(*graph, "MatMul"));
          ASSERT_EQ(regions.size(), 1u);
          RunOptions options;
          options.storage = type;
          options.extra = extra;
          const bool packs = constant && s.b.size() <= 2;
          for (const char* name : {"cpu.matmul.packed", "cpu.matmul.dynamic", "cpu.matmul.generic"}) {
            CandidateRunner runner(regions[0], candidate(name), options);
            const auto verdict = runner.verdict();
            const bool generic = std::string_view(name) == "cpu.matmul.generic";
            const bool expected = generic ? !(constant && type == kBF16) : packs == (std::string_view(name) == "cpu.matmul.packed");
            ASSERT_EQ(verdict.yes, expected) << name << " " << verdict.reason << " for " << text(s.a) << " x " << text(s.b);
            if (!verdict.yes) continue;
            SCOPED_TRACE(fmt::format("{} {} x {} constant {} type {} extra {}", name, text(s.a), text(s.b), constant, static_cast<int>(type), extra));
            const Dense &x = runner.input("a"), &y = runner.input("b");
            const std::int64_t k = s.a.back(), m = s.a.size() > 1 ? s.a[s.a.size() - 2] : 1, n = s.b.size() > 1 ? s.b.back() : 1;
            const std::size_t batch = s.c.size() - (s.a.size() > 1) - (s.b.size() > 1);
            compare(runner, "c", type, type == kBF16, [&](std::int64_t i) {
              const std::int64_t col = i % n, row = i / n % m;
              std::int64_t rest = i / n / m, ia = 0, ib = 0, sa = 1, sb = 1;
              for (std::size_t axis = batch; axis-- > 0;) {
                const std::int64_t at = rest % s.c[axis];
                rest /= s.c[axis];
                const auto add = [&](const Dims& dims, std::int64_t& offset, std::int64_t& stride) {
                  const std::size_t own = dims.size() < 2 ? 0 : dims.size() - 2;
                  if (axis + own < batch) return;
                  const std::int64_t extent = dims[axis + own - batch];
                  if (extent > 1) offset += at * stride;
                  stride *= extent;
                };
                add(s.a, ia, sa);
                add(s.b, ib, sb);
              }
              Expected e{0, 0, k};
              for (std::int64_t j = 0; j < k; ++j) {
                const double p = x.values[static_cast<std::size_t>((ia * m + row) * k + j)] * y.values[static_cast<std::size_t>((ib * k + j) * n + col)];
                e.value += p;
                e.mass += std::fabs(p);
              }
              return e;
            });
            if (HasFatalFailure()) return;
          }
        }
}

TEST(MatMulBlock, GemmWithEveryThirdInput) {
  for (const bool trans_a : {false, true})
    for (const bool trans_b : {false, true})
      for (const bool constant : {false, true})
        for (const std::string c : {"", "c: float[6]", "c: float[5, 6]", "c: float[1, 6]", "c: float[1]", "const float[6]", "const float[1, 6]",
                                    "const float[5, 6]", "const float[]"}) {
          std::string inputs = trans_a ? "a: float[8, 5]" : "a: float[5, 8]", body;
          const std::string b_shape = trans_b ? "[6, 8]" : "[8, 6]";
          if (constant) body += "  b: float" + b_shape + " = const random(3)\n";
          else inputs += ", b: float" + b_shape;
          const bool constant_c = c.starts_with("const");
          if (constant_c) body += "  c: " + c.substr(6) + " = const random(5)\n";
          else if (!c.empty()) inputs += ", " + c;
          const auto graph = ir::parse_graph(fmt::format(
              "graph g({}) -> (y) {{\n{}  g: float[5, 6] = Gemm(a, b{}) {{transA={}, transB={}, alpha=0.5, beta=1.5}}\n  y: float[5, 6] = Relu(g)\n}}\n",
              inputs, body, c.empty() ? "" : ", c", static_cast<int>(trans_a), static_cast<int>(trans_b)));
          const auto regions = propose_matmul_block(find_node(*graph, "Gemm"));
          ASSERT_EQ(regions.size(), 2u);
          for (const auto& region : regions)
            for (const char* name : {"cpu.matmul.packed", "cpu.matmul.dynamic", "cpu.matmul.generic"}) {
              CandidateRunner runner(region, candidate(name), {});
              const auto verdict = runner.verdict();
              const bool generic = std::string_view(name) == "cpu.matmul.generic";
              bool expected = generic ? region.nodes.size() == 1 : constant == (std::string_view(name) == "cpu.matmul.packed");
              if (!generic && c == "c: float[1]") expected = false;  // one run-time number for all: only the loop
              ASSERT_EQ(verdict.yes, expected) << name << " " << verdict.reason << " c " << c << " nodes " << region.nodes.size();
              if (!verdict.yes) continue;
              SCOPED_TRACE(fmt::format("{} ta {} tb {} c '{}'", name, trans_a, trans_b, c));
              const Dense &x = runner.input("a"), &y = runner.input("b");
              const Dense* z = c.empty() ? nullptr : &runner.input("c");
              const bool relu = region.nodes.size() == 2;
              compare(runner, relu ? "y" : "g", kF32, false, [&](std::int64_t i) {
                const std::int64_t row = i / 6, col = i % 6;
                Expected e{0, 0, 8};
                for (std::int64_t j = 0; j < 8; ++j) {
                  const double p = (trans_a ? x({j, row}) : x({row, j})) * (trans_b ? y({col, j}) : y({j, col}));
                  e.value += p;
                  e.mass += std::fabs(p);
                }
                e.value *= 0.5;
                if (z) {
                  const std::int64_t count = static_cast<std::int64_t>(z->values.size());
                  e.value += 1.5 * z->values[static_cast<std::size_t>(count == 30 ? i : count == 6 ? col : 0)];
                }
                if (relu) e.value = std::max(e.value, 0.0);
                return e;
              });
              if (HasFatalFailure()) return;
            }
        }
}

TEST(MatMulBlock, AttentionReadsAndWritesPermutedHeads) {
  // [batch, seq, heads, depth] operands, scaled; keys as [b, h, d, s]; the result goes back to [b, s, h, d].
  const auto graph = ir::parse_graph(R"(graph g(q: float[b, s, 3, 8], k: float[b, s, 3, 8], v: float[b, s, 3, 8]) -> (o) {
  half: float[] = const {0.5}
  qt: float[b, 3, s, 8] = Transpose(q) {perm=[0, 2, 1, 3]}
  qs: float[b, 3, s, 8] = Mul(qt, half)
  kt: float[b, 3, 8, s] = Transpose(k) {perm=[0, 2, 3, 1]}
  ks: float[b, 3, 8, s] = Mul(half, kt)
  p: float[b, 3, s, s] = MatMul(qs, ks)
  w: float[b, 3, s, s] = Softmax(p) {axis=-1}
  vt: float[b, 3, s, 8] = Transpose(v) {perm=[0, 2, 1, 3]}
  m: float[b, 3, s, 8] = MatMul(w, vt)
  o: float[b, s, 3, 8] = Transpose(m) {perm=[0, 2, 1, 3]}
})");
  std::vector<const ir::Node*> products;
  for (const ir::Node* node : graph->nodes())
    if (node->is("MatMul")) products.push_back(node);
  for (const DType type : {kF32, kBF16})
    for (const std::int64_t seq : {1, 5, 40}) {
      RunOptions options;
      options.storage = type;
      options.bindings = {{"b", 2}, {"s", 4}};
      options.run_bindings = {{"b", 3}, {"s", seq}};
      const auto first = propose_matmul_block(*products[0]);
      ASSERT_EQ(first.front().nodes.size(), 5u);
      ASSERT_EQ(first.front().inputs.front()->name, "q");
      CandidateRunner runner(first.front(), candidate("cpu.matmul.dynamic"), options);
      ASSERT_TRUE(runner.verdict().yes) << runner.verdict().reason;
      const Dense &q = runner.input("q"), &k = runner.input("k");
      compare(runner, "p", type, type == kBF16, [&](std::int64_t i) {
        const std::int64_t col = i % seq, row = i / seq % seq, head = i / seq / seq % 3, b = i / seq / seq / 3;
        Expected e{0, 0, 8};
        for (std::int64_t d = 0; d < 8; ++d) {
          e.value += 0.25 * q({b, row, head, d}) * k({b, col, head, d});
          e.mass += std::fabs(q({b, row, head, d}) * k({b, col, head, d}));
        }
        return e;
      });
      const auto second = propose_matmul_block(*products[1]);
      ASSERT_EQ(second.front().nodes.size(), 3u);
      CandidateRunner back(second.front(), candidate("cpu.matmul.dynamic"), options);
      ASSERT_TRUE(back.verdict().yes) << back.verdict().reason;
      const Dense &w = back.input("w"), &v = back.input("v");
      compare(back, "o", type, type == kBF16, [&](std::int64_t i) {
        const std::int64_t d = i % 8, head = i / 8 % 3, row = i / 24 % seq, b = i / 24 / seq;
        Expected e{0, 0, seq};
        for (std::int64_t j = 0; j < seq; ++j) {
          e.value += w({b, head, row, j}) * v({b, j, head, d});
          e.mass += std::fabs(w({b, head, row, j}) * v({b, j, head, d}));
        }
        return e;
      });
      if (HasFatalFailure()) return;
    }
}

double apply(const std::string& op, double x) {
  if (op == "Relu") return std::max(x, 0.0);
  if (op == "Gelu") return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
  if (op == "silu") return x / (1 + std::exp(-x));
  return std::tanh(x);
}

TEST(MatMulBlock, TailsAndTypes) {
  for (const std::string act : {"Relu", "Gelu", "Tanh", "silu"})
    for (const bool bias : {false, true})
      for (const bool residual : {false, true})
        for (const DType type : {kF32, kBF16})
          for (const cpu::Isa isa : {cpu::Isa::kAvx512Bf16, cpu::Isa::kAvx2}) {
            std::string body = "  w: float[20, 33] = const random(3)\n  c: float[33] = const random(4)\n  m: float[2, n, 33] = MatMul(x, w)\n";
            std::string now = "m";
            if (bias) body += "  h: float[2, n, 33] = Add(c, m)\n", now = "h";
            if (act == "silu") body += fmt::format("  s: float[2, n, 33] = Sigmoid({0})\n  t: float[2, n, 33] = Mul({0}, s)\n", now);
            else body += fmt::format("  t: float[2, n, 33] = {}({})\n", act, now);
            if (residual) body += "  y: float[2, n, 33] = Add(t, r)\n";
            const std::string out = residual ? "y" : "t";
            const auto graph = ir::parse_graph(fmt::format("graph g(x: float[2, n, 20], r: float[2, n, 33]) -> ({}) {{\n{}}}\n", out, body));
            const auto regions = propose_matmul_block(find_node(*graph, "MatMul"));
            ASSERT_EQ(regions.size(), 2u + bias + residual);
            RunOptions options;
            options.storage = type;
            options.cpu_features = cpu::cpu_features().limited_to(isa).mask;
            options.extra = bias ? 1 : 0;
            options.bindings = {{"n", 7}};
            CandidateRunner runner(regions.front(), candidate("cpu.matmul.packed"), options);
            ASSERT_TRUE(runner.verdict().yes) << runner.verdict().reason;
            const Dense &x = runner.input("x"), &w = runner.input("w");
            compare(runner, out, type, type == kBF16, [&](std::int64_t i) {
              Expected e{0, 0, 20};
              for (std::int64_t k = 0; k < 20; ++k) {
                const double p = x.values[static_cast<std::size_t>(i / 33 * 20 + k)] * w({k, i % 33});
                e.value += p;
                e.mass += std::fabs(p);
              }
              if (bias) e.value += runner.input("c").values[static_cast<std::size_t>(i % 33)];
              e.value = apply(act, e.value);
              if (residual) e.value += runner.input("r").values[static_cast<std::size_t>(i)];
              return e;
            });
            if (HasFatalFailure()) return;
          }
}

TEST(MatMulBlock, WritesChannelsLastThroughATranspose) {
  const auto graph = ir::parse_graph(R"(graph g(x: float[2, 5, 7, 12]) -> (y) {
  w: float[12, 20] = const random(3)
  c: float[20] = const random(4)
  m: float[2, 5, 7, 20] = MatMul(x, w)
  h: float[2, 5, 7, 20] = Add(m, c)
  y: float[2, 20, 5, 7] = Transpose(h) {perm=[0, 3, 1, 2]}
})");
  const auto regions = propose_matmul_block(find_node(*graph, "MatMul"));
  const ops::Candidate& packed = candidate("cpu.matmul.packed");
  ASSERT_EQ(regions.front().nodes.size(), 3u);
  EXPECT_EQ(packed.layout(regions.front(), true, 0), ops::Layout::kChannelsLast);
  for (const std::int64_t extra : {0, 4}) {
    RunOptions options;
    options.extra = extra;
    CandidateRunner runner(regions.front(), packed, options);
    ASSERT_TRUE(runner.verdict().yes) << runner.verdict().reason;
    const Dense &x = runner.input("x"), &w = runner.input("w");
    compare(runner, "y", kF32, false, [&](std::int64_t i) {
      const std::int64_t pixel = i % 35, channel = i / 35 % 20, n = i / 700;
      Expected e{0, 0, 12};
      for (std::int64_t k = 0; k < 12; ++k) {
        const double p = x.values[static_cast<std::size_t>((n * 35 + pixel) * 12 + k)] * w({k, channel});
        e.value += p;
        e.mass += std::fabs(p);
      }
      e.value += runner.input("c").values[static_cast<std::size_t>(channel)];
      return e;
    });
  }
}

TEST(MatMulBlock, ChainsOfTransposesAndFactors) {
  // Two transposes in a row compose; heads over one constant matrix are no more rows than memory allows; a factor behind Gemm is on C too.
  const auto chain = ir::parse_graph(R"(graph g(x: float[2, 3, 4, 5], w: float[2, 5, 4, 6]) -> (y) {
  s: float[2, 4, 5, 3] = Transpose(x) {perm=[0, 2, 3, 1]}
  t: float[2, 5, 3, 4] = Transpose(s) {perm=[0, 2, 3, 1]}
  y: float[2, 5, 3, 6] = MatMul(t, w)
})");
  const auto chained = propose_matmul_block(find_node(*chain, "MatMul")).front();
  CandidateRunner first(chained, candidate("cpu.matmul.dynamic"), {});
  ASSERT_EQ(chained.nodes.size(), 3u);
  ASSERT_TRUE(first.verdict().yes) << first.verdict().reason;  // channels-last makes the rows contiguous
  compare(first, "y", kF32, false, [&](std::int64_t i) {
    const std::int64_t n = i % 6, m = i / 6 % 3, c = i / 18 % 5, b = i / 90;
    Expected e{0, 1, 4};
    for (std::int64_t k = 0; k < 4; ++k) e.value += first.input("x")({b, m, k, c}) * first.input("w")({b, c, k, n});
    return e;
  });
  const auto heads = ir::parse_graph(R"(graph g(x: float[2, 7, 3, 8]) -> (y) {
  w: float[8, 6] = const random(3)
  s: float[3, 7, 2, 8] = Transpose(x) {perm=[2, 1, 0, 3]}
  t: float[2, 3, 7, 8] = Transpose(s) {perm=[2, 0, 1, 3]}
  y: float[2, 3, 7, 6] = MatMul(t, w)
})");
  const auto region = propose_matmul_block(find_node(*heads, "MatMul")).front();
  ASSERT_EQ(region.nodes.size(), 3u);
  CandidateRunner runner(region, candidate("cpu.matmul.packed"), {});
  ASSERT_TRUE(runner.verdict().yes) << runner.verdict().reason;
  const Dense &x = runner.input("x"), &w = runner.input("w");
  compare(runner, "y", kF32, false, [&](std::int64_t i) {
    Expected e{0, 0, 8};
    for (std::int64_t k = 0; k < 8; ++k) {
      const double p = x({i / 126, i / 6 % 7, i / 42 % 3, k}) * w({k, i % 6});
      e.value += p;
      e.mass += std::fabs(p);
    }
    return e;
  });
  for (const std::string c : {"c: float[5, 6]", "const"}) {
    const bool constant = c == "const";
    const auto gemm = ir::parse_graph(fmt::format(R"(graph g(a: float[5, 8]{}) -> (y) {{
  b: float[8, 6] = const random(3)
{}  two: float[] = const {{2.0}}
  g: float[5, 6] = Gemm(a, b, c) {{alpha=0.5, beta=1.5}}
  y: float[5, 6] = Mul(g, two)
}})",
                                                  constant ? "" : ", " + c, constant ? "  c: float[6] = const random(5)\n" : ""));
    const auto regions = propose_matmul_block(find_node(*gemm, "Gemm"));
    ASSERT_EQ(regions.front().nodes.size(), 2u);
    CandidateRunner scaled(regions.front(), candidate("cpu.matmul.packed"), {});
    ASSERT_TRUE(scaled.verdict().yes) << scaled.verdict().reason;
    compare(scaled, "y", kF32, false, [&](std::int64_t i) {
      Expected e{0, 0, 8};
      for (std::int64_t k = 0; k < 8; ++k) {
        e.value += scaled.input("a")({i / 6, k}) * scaled.input("b")({k, i % 6});
        e.mass += std::fabs(scaled.input("a")({i / 6, k}) * scaled.input("b")({k, i % 6}));
      }
      e.value += 3 * scaled.input("c").values[static_cast<std::size_t>(constant ? i % 6 : i)];
      return e;
    });
  }
}

TEST(MatMulBlock, ManyBatchAxesWithAResidual) {
  const auto graph = ir::parse_graph(R"(graph g(a: float[2, 2, 2, 3, 4], b: float[2, 1, 2, 4, 5], r: float[2, 2, 2, 3, 5]) -> (y) {
  m: float[2, 2, 2, 3, 5] = MatMul(a, b)
  y: float[2, 2, 2, 3, 5] = Add(m, r)
})");
  const auto region = propose_matmul_block(find_node(*graph, "MatMul")).front();
  for (const std::int64_t extra : {0, 3}) {
    RunOptions options;
    options.extra = extra;
    CandidateRunner runner(region, candidate("cpu.matmul.dynamic"), options);
    ASSERT_TRUE(runner.verdict().yes) << runner.verdict().reason;
    const Dense &a = runner.input("a"), &b = runner.input("b"), &r = runner.input("r");
    compare(runner, "y", kF32, false, [&](std::int64_t i) {
      const std::int64_t n = i % 5, m = i / 5 % 3, z = i / 15 % 2, y = i / 30 % 2, x = i / 60;
      Expected e{r.values[static_cast<std::size_t>(i)], 1, 4};
      for (std::int64_t k = 0; k < 4; ++k) e.value += a({x, y, z, m, k}) * b({x, 0, z, k, n});
      return e;
    });
  }
}

TEST(MatMulBlock, LoopRunsOtherTypes) {
  for (const std::string type : {"double", "float16", "int32", "int64", "uint32", "uint64"}) {
    const auto graph = ir::parse_graph(fmt::format("graph g(a: {0}[3, 4, 5], b: {0}[5, 6]) -> (c) {{\n  c: {0}[3, 4, 6] = MatMul(a, b)\n}}\n", type));
    const auto regions = propose_matmul_block(find_node(*graph, "MatMul"));
    EXPECT_FALSE(CandidateRunner(regions[0], candidate("cpu.matmul.dynamic"), {}).verdict().yes);
    CandidateRunner runner(regions[0], candidate("cpu.matmul.generic"), {});
    ASSERT_TRUE(runner.verdict().yes);
    const Dense &a = runner.input("a"), &b = runner.input("b");
    compare(runner, "c", type == "float16" ? kBF16 : kF32, false, [&](std::int64_t i) {
      Expected e{0, 0, 5};
      for (std::int64_t k = 0; k < 5; ++k) e.value += a({i / 24, i / 6 % 4, k}) * b({k, i % 6});
      e.mass = std::fabs(e.value);
      return e;
    });
  }
}

TEST(MatMulBlock, LeavesWhatOthersRead) {
  // The product has two readers; the transposed operand too.
  const auto graph = ir::parse_graph(R"(graph g(a: float[4, 5], b: float[6, 5]) -> (y, z, u) {
  bt: float[5, 6] = Transpose(b) {perm=[1, 0]}
  m: float[4, 6] = MatMul(a, bt)
  y: float[4, 6] = Relu(m)
  z: float[4, 6] = Neg(m)
  u: float[5, 6] = Neg(bt)
})");
  const auto regions = propose_matmul_block(find_node(*graph, "MatMul"));
  ASSERT_EQ(regions.size(), 1u);
  EXPECT_EQ(regions[0].nodes.size(), 1u);
  // A graph output inside a chain ends it.
  const auto other = ir::parse_graph(R"(graph g(a: float[4, 5], b: float[5, 6]) -> (m, y) {
  m: float[4, 6] = MatMul(a, b)
  y: float[4, 6] = Relu(m)
})");
  EXPECT_EQ(propose_matmul_block(find_node(*other, "MatMul")).size(), 1u);
  EXPECT_TRUE(propose_matmul_block(find_node(*other, "Relu")).empty());
}

}  // namespace
}  // namespace lathe::regions
