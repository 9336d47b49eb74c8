// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// What FlexAttention expands to against its defining loops.
#include <gtest/gtest.h>

#include <random>

#include "ir/text.h"
#include "ops/evaluate.h"
#include "ops/expansion.h"
#include "ops/infer.h"

namespace lathe::ops {
namespace {

Tensor random(DType dtype, Dims dims, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<double> normal;
  Tensor tensor(dtype, std::move(dims));
  for (std::int64_t i = 0; i < tensor.size(); ++i) tensor.set_from_double(i, normal(engine));
  return tensor;
}

struct Case {
  const char* name;
  std::int64_t heads, key_heads;
  const char *type, *attributes;
  double tolerance;
};

class FlexAttention : public testing::TestWithParam<Case> {};

TEST_P(FlexAttention, ExpandsToTheSame) {
  const Case& c = GetParam();
  const DType dtype = *parse_dtype(c.type);
  const std::string t = c.type, h = std::to_string(c.heads), k = std::to_string(c.key_heads);
  const auto graph = ir::parse_graph("graph g(q: " + t + "[2, " + h + ", 3, 8], k: " + t + "[2, " + k + ", 5, 8], v: " + t + "[2, " + k +
                                     ", 5, 6]) -> (y) {\n y = \"ai.onnx.preview\"::FlexAttention(q, k, v) " + c.attributes + "\n}");
  infer_graph(*graph);
  const Tensor inputs[] = {random(dtype, {2, c.heads, 3, 8}, 1), random(dtype, {2, c.key_heads, 5, 8}, 2), random(dtype, {2, c.key_heads, 5, 6}, 3)};
  const Node* node = nullptr;
  graph->for_each([&](Node& n) { node = &n; });
  const Tensor expected = evaluate_node(*node, inputs).at(0), actual = evaluate_expanded(*node, inputs, {}).at(0);
  ASSERT_EQ(actual.dtype(), dtype);
  ASSERT_EQ(actual.dims(), expected.dims());
  for (std::int64_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(actual.as_double(i), expected.as_double(i), c.tolerance) << i;
}

constexpr const char* kMods = R"({scale=0.3, score_mod=graph s(x: float[2, 4, 3, 5]) -> (z) {
    two: float[] = const {2.0}
    w = Mul(x, two)
    z = Tanh(w)
  }, prob_mod=graph p(r: float[2, 4, 3, 5]) -> (m) {
    m = Mul(r, r)
  }})";

INSTANTIATE_TEST_SUITE_P(All, FlexAttention,
                         testing::Values(Case{"plain", 4, 4, "float", "", 1e-6}, Case{"grouped", 6, 2, "float", "{scale=0.5}", 1e-6},
                                         Case{"half", 6, 3, "float16", "", 2e-3}, Case{"double_soft", 2, 2, "float", "{softmax_precision=11}", 1e-6},
                                         Case{"mods", 4, 2, "float", kMods, 1e-6}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace lathe::ops
