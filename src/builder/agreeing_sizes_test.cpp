// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Sizes that belong together: a mask over the cache and the new tokens.
#include "builder/agreeing_sizes.h"

#include <gtest/gtest.h>

#include "builder/builder.h"
#include "builder/hints.h"
#include "ir/text.h"
#include "ops/infer.h"
#include "ops/import.h"

namespace lathe::builder {
namespace {

/// The mask's elements at the places of the cache and the tokens: it has to have as many.
constexpr const char* kMasked = R"(graph g(tokens: float[batch, seq], cache: float[batch, past], mask: float[batch, total]) -> (y) {
  all = Concat(cache, tokens) {axis=1}
  shape = Shape(all) {start=1, end=2}
  none: int64[0] = const {}
  zero: int64[] = const {0}
  one: int64[] = const {1}
  count = Squeeze(shape)
  places = Range(zero, count, one)
  seen = Gather(mask, places) {axis=1}
  y = Mul(all, seen)
})";

TEST(AgreeingSizes, FindsTheSumInAllSets) {
  const auto graph = ir::parse_graph(kMasked);
  ops::infer_graph(*graph);
  ir::Bindings hints{{"batch", 1}, {"seq", 16}, {"past", 16}, {"total", 16}}, odd{{"batch", 3}, {"seq", 19}, {"past", 5}, {"total", 19}};
  ASSERT_TRUE(make_sizes_agree(*graph, {&hints, &odd}));
  EXPECT_EQ(hints.at("total"), 32);
  EXPECT_EQ(odd.at("total"), 24);  // not twice either
  EXPECT_EQ(odd.at("past"), 5);
}

TEST(AgreeingSizes, ChangesNothingWhereNoSumHelps) {
  const auto graph = ir::parse_graph(R"(graph g(x: float[n], k: float[m]) -> (y) {
  far: int64[] = const {1000}
  y = Gather(x, far)
  z = Neg(k)
})");
  ops::infer_graph(*graph);
  ir::Bindings hints{{"n", 4}, {"m", 5}};
  const ir::Bindings before = hints;
  EXPECT_FALSE(make_sizes_agree(*graph, {&hints}));
  EXPECT_EQ(hints, before);
}

TEST(AgreeingSizes, AModelOfThemIsVerified) {
  auto model = std::make_shared<ir::Model>();
  model->graph = ir::parse_graph(kMasked);
  model->opset_imports[""] = ops::kCanonicalOpset;
  BuildOptions options;
  options.budget_seconds = 0;
  options.use_cache = false;
  const BuildResult result = build_engine(model, options);
  EXPECT_TRUE(result.report.verify.passed) << result.report.verify.summary;
  EXPECT_NE(result.report.verify.summary.find("2 shape sets"), std::string::npos) << result.report.verify.summary;
}

TEST(BindUnknown, TakesTheExtentThatAProductOrASumNeeds) {
  const auto graph = ir::parse_graph(R"(graph g(a: float[2, s, q], b: float[2, r, 8], c: float[r, t], d: float[u, t]) -> (y, z, w) {
  y = MatMul(a, b)
  z = Add(c, d)
  w = Relu(d)
}
)");
  ops::infer_graph(*graph);
  ir::Bindings bindings{{"s", 9}, {"q", 5}};
  bind_unknown(*graph, {"q", "r", "s", "t", "u"}, 16, bindings);
  EXPECT_EQ(bindings, (ir::Bindings{{"q", 5}, {"r", 5}, {"s", 9}, {"t", 16}, {"u", 5}}));
}

}  // namespace
}  // namespace lathe::builder
