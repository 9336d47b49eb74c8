// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// NonZero, Compress and NonMaxSuppression by a padded result and a count give what the references give; what is left alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "ir/text.h"
#include "ops/expansion.h"
#include "ops/infer.h"
#include "ops/reference_runner.h"

namespace lathe::ops {
namespace {

std::shared_ptr<ir::Graph> parsed(const std::string& inputs, const std::string& body) {
  auto graph = ir::parse_graph("graph g(" + inputs + ") -> (y) {\n  " + body + "\n}\n");
  infer_graph(*graph);
  return graph;
}

Tensor filled(DType dtype, Dims dims, int one_in) {
  Tensor x(dtype, std::move(dims));
  for (std::int64_t i = 0; i < x.size(); ++i)
    if (one_in > 0 && (i * 7 + i / 5) % one_in == 0) x.set_from_double(i, dtype == DType::kBool ? 1 : 1 + 0.5 * static_cast<double>(i % 9));
  return x;
}

void expect_expands(const std::string& inputs, const std::string& body, const std::vector<Tensor>& given) {
  SCOPED_TRACE(inputs + " " + body);
  const auto graph = parsed(inputs, body);
  const Tensor expected = ReferenceRunner(*graph).run(given).at(0);
  const std::size_t rank = graph->outputs()[0]->shape().size();
  ASSERT_TRUE(expand_node(*graph->outputs()[0]->producer));
  infer_graph(*graph);
  ASSERT_TRUE(graph->outputs()[0]->has_shape());
  EXPECT_EQ(graph->outputs()[0]->shape().size(), rank);
  // Behind it an extent is known by the count's content, and by nothing else.
  bool counted = false;
  for (const ir::Node* node : graph->nodes())
    if (node->op == "First") counted = node->input(1)->content && node->input(1)->content->size() == 1 && node->input(1)->content->front().is_symbol();
  EXPECT_TRUE(counted);
  const Tensor actual = ReferenceRunner(*graph).run(given).at(0);
  EXPECT_TRUE(actual.same_bytes(expected)) << to_string(actual.dims()) << " instead of " << to_string(expected.dims());
}

void expect_stays(const std::string& inputs, const std::string& body) {
  SCOPED_TRACE(inputs + " " + body);
  const auto graph = parsed(inputs, body);
  const std::size_t before = graph->nodes().size();
  EXPECT_FALSE(expand_node(*graph->outputs()[0]->producer));
  EXPECT_EQ(graph->nodes().size(), before);
}

TEST(CountedExpansion, NonZero) {
  for (const int one_in : {0, 1, 3}) {
    expect_expands("x: bool[n, 5]", "y = NonZero(x)", {filled(DType::kBool, {4, 5}, one_in)});
    expect_expands("x: float[2, n, 3]", "y = NonZero(x)", {filled(DType::kFloat32, {2, 3, 3}, one_in)});
    expect_expands("x: bool[]", "y = NonZero(x)", {filled(DType::kBool, {}, one_in)});
  }
  expect_expands("x: int64[n]", "y = NonZero(x)", {filled(DType::kInt64, {0}, 1)});
  expect_stays("x: string[n]", "y = NonZero(x)");
  expect_stays("x: bool", "y = NonZero(x)");
}

TEST(CountedExpansion, Compress) {
  for (const int one_in : {0, 1, 3}) {
    expect_expands("x: float[n, 3], c: bool[n]", "y = Compress(x, c) {axis=0}", {filled(DType::kFloat32, {4, 3}, 1), filled(DType::kBool, {4}, one_in)});
    expect_expands("x: float[n, 6], c: bool[4]", "y = Compress(x, c) {axis=-1}", {filled(DType::kFloat32, {2, 6}, 1), filled(DType::kBool, {4}, one_in)});
    expect_expands("x: float[5, 3], c: bool[15]", "y = Compress(x, c)", {filled(DType::kFloat32, {5, 3}, 1), filled(DType::kBool, {15}, one_in)});
  }
  // A condition that may be longer than the axis is an error that only the run finds.
  expect_stays("x: float[n, 3], c: bool[m]", "y = Compress(x, c) {axis=0}");
  expect_stays("x: float[2, 3], c: bool[3]", "y = Compress(x, c) {axis=0}");
}

TEST(CountedExpansion, NonMaxSuppression) {
  Tensor boxes(DType::kFloat32, {2, 30, 4}), scores(DType::kFloat32, {2, 3, 30});
  for (std::int64_t i = 0; i < boxes.size(); ++i) boxes.set_from_double(i, 3 * std::sin(2.3 * static_cast<double>(i)) + (i % 4 > 1 ? 4 : 0));
  for (std::int64_t i = 0; i < scores.size(); ++i) scores.set_from_double(i, std::abs(std::sin(1.7 * static_cast<double>(i))));
  const std::string inputs = "b: float[n, m, 4], s: float[n, 3, m]";
  expect_expands(inputs, "k: int64[1] = const {4}\n  t: float[1] = const {0.4}\n  l: float[1] = const {0.2}\n  y = NonMaxSuppression(b, s, k, t, l)",
                 {boxes, scores});
  expect_expands(inputs, "k: int64[1] = const {100}\n  y = NonMaxSuppression(b, s, k) {center_point_box=1}", {boxes, scores});
  expect_expands(inputs, "y = NonMaxSuppression(b, s)", {boxes, scores});
  expect_expands(inputs + ", k: int64[1]", "y = NonMaxSuppression(b, s, k)", {boxes, scores, Tensor::vector(std::vector<std::int64_t>{7})});
  expect_expands(inputs + ", k: int64[1]", "y = NonMaxSuppression(b, s, k)", {boxes, scores, Tensor::vector(std::vector<std::int64_t>{-7})});
  expect_stays("b: float, s: float[n, 3, m]", "k: int64[1] = const {4}\n  y = NonMaxSuppression(b, s, k)");
}

}  // namespace
}  // namespace lathe::ops
