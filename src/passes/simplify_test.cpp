// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The driver of the passes: the verifier behind each, dumps that parse back, options, the report, and input shapes that are fixed.

#include "passes/simplify.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "ir/text.h"
#include "ir/verify.h"
#include "lathe/status.h"
#include "passes/pass.h"
#include "passes/rewrite_cases.h"

namespace lathe::passes {
namespace {

using ir::Graph;
using ir::Node;
using ir::Value;

std::shared_ptr<ir::Model> parse_model(const std::string& text) {
  register_test_ops();
  return model_of(ir::parse_graph(text), 10);
}

/// Exports in miniature: something for most passes, nested graphs, constants that dumps print in full.
constexpr const char* kModel = R"(graph main(x: float[n, 2, 4, 4], q: bool[]) -> (y, z) {
  w: float[3, 2, 1, 1] = const {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}
  scale: float[3] = const {2.0, -1.0, 0.5}
  bias: float[3] = const {0.5, 1.5, 2.5}
  mean: float[3] = const {1.0, 2.0, 3.0}
  var: float[3] = const {0.25, 4.0, 1.0}
  axis: int64[1] = const {0}
  rest: int64[1] = const {-1}
  one: int64[1] = const {1}
  zero: int64[1] = const {0}
  yes: bool[] = const {1}
  c = Conv(x, w) @"conv"
  b = BatchNormalization(c, scale, bias, mean, var) {epsilon=0.0} @"norm"
  r = Relu(b) @"relu"
  i = Identity(r) @"copy"
  s = Shape(i) @"shape"
  n1 = Slice(s, zero, one, axis) @"batch"
  target = Concat(n1, rest) {axis=0} @"target"
  f = Reshape(i, target) @"flatten"
  t = Transpose(f) @"there"
  u = Abs(t) @"abs"
  y = Transpose(u) @"back"
  z = If(q) {then_branch=graph t() -> (a) {
    k: float[1] = const {2.0}
    a1 = Mul(y, k) @"double"
    a = Identity(a1) @"copy2"
  }, else_branch=graph e() -> (d) {
    d = If(yes) {then_branch=graph t2() -> (a2) {
      a2 = Neg(y) @"neg"
    }, else_branch=graph e2() -> (b2) {
      b2 = Exp(y) @"never"
    }} @"inner"
  }} @"if"
}
)";

std::set<std::string> sources_of(const Graph& graph) {
  std::set<std::string> sources;
  ir::for_each_node_deep(graph, [&](Node& node) { sources.insert(node.sources.begin(), node.sources.end()); });
  return sources;
}

TEST(Simplify, SourcesSurviveThePipeline) {
  const auto model = parse_model(kModel);
  auto lost = sources_of(*model->graph);
  simplify(*model);
  for (const std::string& kept : sources_of(*model->graph)) EXPECT_EQ(lost.erase(kept), 1u) << kept;
  // What made the Reshape's target is a constant now; one branch is never taken.
  EXPECT_EQ(lost, (std::set<std::string>{"shape", "batch", "target", "never"}));
  EXPECT_EQ(model->graph->nodes().size(), 5u) << ir::print(*model->graph);  // Conv, Relu, Reshape, Abs, If
}

TEST(Simplify, ReportCounts) {
  const auto model = parse_model(kModel);
  const auto report = simplify(*model);
  EXPECT_TRUE(report.converged);
  EXPECT_EQ(report.nodes_before, 17u);
  EXPECT_EQ(report.nodes_after, 7u);
  EXPECT_EQ(report.ops.at("Transpose"), (std::pair<std::size_t, std::size_t>{2, 0}));
  EXPECT_EQ(report.ops.at("Conv"), (std::pair<std::size_t, std::size_t>{1, 1}));
  EXPECT_EQ(report.passes.size(), pipeline().size());
  const auto again = simplify(*model);
  EXPECT_EQ(again.rounds, 1);
  EXPECT_EQ(again.nodes_after, again.nodes_before);
}

TEST(Simplify, StopsAndSaysSo) {
  const auto model = parse_model(kModel);
  SimplifyOptions options;
  options.max_rounds = 1;
  const auto report = simplify(*model, options);
  EXPECT_EQ(report.rounds, 1);
  EXPECT_FALSE(report.converged);
}

TEST(Simplify, LeavesOutDisabledPasses) {
  const auto model = parse_model(kModel);
  SimplifyOptions options;
  options.disabled = {"fold-batch-norm"};
  simplify(*model, options);
  const auto nodes = model->graph->nodes();
  EXPECT_TRUE(std::any_of(nodes.begin(), nodes.end(), [](const Node* n) { return n->is("BatchNormalization"); }));
}

TEST(Simplify, UnknownPassesAreNamed) {
  for (const bool dump : {false, true}) {
    const auto model = parse_model(kModel);
    SimplifyOptions options;
    if (dump) options.dump_after = "no-such-pass";
    else options.disabled = {"no-such-pass"};
    try {
      simplify(*model, options);
      ADD_FAILURE() << "accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kInvalidArgument);
      EXPECT_NE(error.message().find("no-such-pass"), std::string::npos);
      EXPECT_NE(error.remedy().find("fold-batch-norm"), std::string::npos);
    }
  }
}

// A graph whose list of uses says too much: inference does not mind, the verifier does.
void spoil(Graph& graph) { graph.inputs()[0]->uses.push_back({graph.nodes().back(), 7}); }

TEST(Simplify, VerifiesAfterEachPass) {
  const auto model = parse_model("graph g(x: float[2]) -> (y) {\n  y = Neg(x)\n}");
  spoil(*model->graph);
  SimplifyOptions options;
  options.verify = true;
  try {
    simplify(*model, options);
    ADD_FAILURE() << "nobody looked";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kInternal);
    EXPECT_NE(error.message().find("after canonicalise"), std::string::npos) << error.message();
  }
}

TEST(Simplify, VerifiesByItselfInDebugBuilds) {
  const auto model = parse_model("graph g(x: float[2]) -> (y) {\n  y = Neg(x)\n}");
  spoil(*model->graph);
#ifdef NDEBUG
  EXPECT_NO_THROW(simplify(*model));
#else
  EXPECT_THROW(simplify(*model), Error);
#endif
}

/// The dumps of a text, each with the pass that its comment names.
std::vector<std::pair<std::string, std::string>> dumps_in(const std::string& text) {
  std::vector<std::pair<std::string, std::string>> dumps;
  for (std::size_t at = text.find("// after "); at != std::string::npos;) {
    const std::size_t next = text.find("\n// after ", at);
    const std::string one = text.substr(at, next == std::string::npos ? next : next + 1 - at);
    dumps.emplace_back(one.substr(9, one.find(',') - 9), one);
    at = next == std::string::npos ? next : next + 1;
  }
  return dumps;
}

TEST(Simplify, DumpsParseBack) {
  const auto model = parse_model(kModel);
  SimplifyOptions options;
  options.dump_after = "all";
  testing::internal::CaptureStderr();
  simplify(*model, options);
  const auto dumps = dumps_in(testing::internal::GetCapturedStderr());
  std::set<std::string> seen;
  for (const auto& [pass, text] : dumps) {
    seen.insert(pass);
    const auto graph = ir::parse_graph(text);
    for (const std::string& defect : ir::find_defects(*graph)) ADD_FAILURE() << "after " << pass << ": " << defect;
    // The comment aside, it prints as it was printed.
    EXPECT_EQ(ir::print(*graph), text.substr(text.find('\n') + 1)) << "after " << pass;
  }
  for (const Pass& pass : pipeline()) EXPECT_TRUE(seen.contains(std::string(pass.name))) << "no dump after " << pass.name;
  EXPECT_EQ(ir::print(*ir::parse_graph(dumps.back().second)), ir::print(*model->graph));
}

TEST(Simplify, DumpsAfterOnePass) {
  const auto model = parse_model(kModel);
  SimplifyOptions options;
  options.dump_after = "fold-batch-norm";
  testing::internal::CaptureStderr();
  simplify(*model, options);
  for (const auto& [pass, text] : dumps_in(testing::internal::GetCapturedStderr())) {
    EXPECT_EQ(pass, "fold-batch-norm");
    EXPECT_EQ(text.find("BatchNormalization"), std::string::npos);
  }
}

std::string refusal(const std::map<std::string, Dims>& shapes) {
  const auto model = parse_model(R"(graph g(x: float[n, 4], m: float[n, k], free: float[?], e: float[2*k, 3]) -> (y) {
    y = Concat(x, m) {axis=1}
  })");
  try {
    set_input_shapes(*model, shapes);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kInvalidArgument);
    return error.message();
  }
  return "accepted";
}

TEST(SetInputShapes, ReplacesSymbolsEverywhere) {
  const auto model = parse_model(R"(graph g(x: float[n, 4], m: float[n, k], free: float[?], q: bool[]) -> (y, z, f) {
    a = Concat(x, m) {axis=1}
    y = Shape(a)
    f = Neg(free)
    z = If(q) {then_branch=graph t() -> (b) {
      b = Neg(x)
    }, else_branch=graph e() -> (c) {
      c = Abs(x)
    }}
  })");
  simplify(*model);
  set_input_shapes(*model, {{"x", {2, 4}}, {"free", {5, 6}}});
  const Graph& graph = *model->graph;
  EXPECT_EQ(graph.find("m")->type.to_string(), "float[2, k]");  // the other reader of n
  EXPECT_EQ(graph.find("a")->type.to_string(), "float[2, k + 4]");
  EXPECT_EQ(graph.find("f")->type.to_string(), "float[5, 6]");
  EXPECT_EQ(graph.find("z")->type.to_string(), "float[2, 4]");
  const auto nested = ir::nested_graphs(*graph.find("z")->producer);
  EXPECT_EQ(nested[0]->outputs()[0]->type.to_string(), "float[2, 4]");
  set_input_shapes(*model, {{"m", {2, 3}}});
  simplify(*model);
  EXPECT_TRUE(graph.find("y")->producer->is("Identity"));
  EXPECT_EQ(graph.find("y")->producer->inputs[0]->constant.to_int64_vector(), (std::vector<std::int64_t>{2, 7}));
}

TEST(SetInputShapes, RefusesWhatDisagrees) {
  EXPECT_NE(refusal({{"w", {1}}}).find("no input 'w'"), std::string::npos);
  EXPECT_NE(refusal({{"x", {1, 4, 4}}}).find("ranks differ"), std::string::npos);
  EXPECT_NE(refusal({{"x", {1, 5}}}).find("extent 1 is 4"), std::string::npos);
  EXPECT_NE(refusal({{"x", {-1, 4}}}).find("negative"), std::string::npos);
  EXPECT_NE(refusal({{"x", {2, 4}}, {"m", {3, 3}}}).find("'n' is"), std::string::npos);
  EXPECT_NE(refusal({{"m", {3, 3}}, {"e", {5, 3}}}).find("extent 0 is 6"), std::string::npos);
  EXPECT_EQ(refusal({{"m", {3, 3}}, {"e", {6, 3}}}), "accepted");
}

TEST(Simplify, SlicesAreSortedOnAGpuAlone) {
  const auto has = [](bool for_running, bool for_gpu, const char* op) {
    const auto model = parse_model("graph g(x: float[n, 3]) -> (y) {\n  y = Unique(x) {axis=0}\n}\n");
    SimplifyOptions options;
    options.for_running = for_running;
    options.for_gpu = for_gpu;
    simplify(*model, options);
    const auto nodes = model->graph->nodes();
    return std::any_of(nodes.begin(), nodes.end(), [&](const Node* node) { return node->op == op; });
  };
  EXPECT_TRUE(has(true, true, "SortedSlices") && !has(true, true, "Unique"));
  EXPECT_TRUE(has(true, false, "Unique") && !has(true, false, "SortedSlices"));
  EXPECT_TRUE(has(false, true, "Unique") && !has(false, true, "SortedSlices")) << "a model that is written keeps its operators";
}

}  // namespace
}  // namespace lathe::passes
