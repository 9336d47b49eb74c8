// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Resizes as sums with constant weights give what the reference gives; what is left alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "ir/text.h"
#include "ops/expansion.h"
#include "ops/infer.h"
#include "ops/reference_runner.h"

namespace lathe::ops {
namespace {

std::shared_ptr<ir::Graph> parsed(const std::string& input, const std::string& body) {
  auto graph = ir::parse_graph("graph g(" + input + ") -> (y) {\n  " + body + "\n}\n");
  infer_graph(*graph);
  return graph;
}

void expect_expands(const std::string& input, const std::string& body, std::size_t products, std::size_t sums = 0, double tolerance = 4e-6) {
  SCOPED_TRACE(input + " " + body);
  const auto graph = parsed(input, body);
  Dims dims;
  for (const Dim& dim : graph->inputs()[0]->shape()) dims.push_back(dim.constant().value_or(2));
  Tensor x(graph->inputs()[0]->dtype(), dims);
  for (std::int64_t i = 0; i < x.size(); ++i) x.set_from_double(i, std::sin(1.3 * static_cast<double>(i)));
  const Tensor expected = ReferenceRunner(*graph).run(std::span(&x, 1)).at(0);
  const std::string type = graph->outputs()[0]->type.to_string();
  ASSERT_TRUE(expand_node(*graph->outputs()[0]->producer));
  infer_graph(*graph);
  EXPECT_EQ(graph->outputs()[0]->type.to_string(), type);
  const auto nodes = graph->nodes();
  const auto count = [&](std::string_view op) {
    return static_cast<std::size_t>(std::count_if(nodes.begin(), nodes.end(), [&](const ir::Node* node) { return node->is(op); }));
  };
  EXPECT_EQ(count("MatMul"), products);
  EXPECT_EQ(count("ReduceSum"), sums);
  const Tensor actual = ReferenceRunner(*graph).run(std::span(&x, 1)).at(0);
  ASSERT_EQ(actual.dims(), expected.dims());
  ASSERT_EQ(actual.dtype(), expected.dtype());
  for (std::int64_t i = 0; i < expected.size(); ++i) ASSERT_NEAR(actual.as_double(i), expected.as_double(i), tolerance) << "element " << i;
}

void expect_stays(const std::string& input, const std::string& body) {
  SCOPED_TRACE(input + " " + body);
  const auto graph = parsed(input, body);
  const std::size_t before = graph->nodes().size();
  EXPECT_FALSE(expand_node(*graph->outputs()[0]->producer));
  EXPECT_EQ(graph->nodes().size(), before);
}

TEST(ResizeExpansion, Antialiasing) {
  const std::string half = "s: float[4] = const {1.0, 1.0, 0.5, 0.3}\n  ", sizes = "z: int64[2] = const {5, 30}\n  ";
  for (const char* mode : {"linear", "cubic"}) {
    const std::string with = std::string("{antialias=1, mode=\"") + mode + "\"";
    expect_expands("x: float[n, 3, 20, 17]", half + "y = Resize(x, _, s) " + with + "}", 2);
    expect_expands("x: float[n, c, 20, 17]", sizes + "y = Resize(x, _, _, z) " + with + ", axes=[2, 3]}", 2);
    expect_expands("x: float16[n, 20, 17]", sizes + "y = Resize(x, _, _, z) " + with + ", axes=[-1, 1], exclude_outside=1}", 2, 0, 2e-3);
    expect_expands("x: double[n, 20, 17]", sizes + "y = Resize(x, _, _, z) " + with + ", axes=[1, 2], keep_aspect_ratio_policy=\"not_larger\"}", 0, 2);
    expect_expands("x: float[n, 20, 17, 3]", sizes + "y = Resize(x, _, _, z) " + with + ", axes=[1, 2]}", 1, 1);
  }
}

TEST(ResizeExpansion, WhatTheRegionLanguageDoesNotHold) {
  const std::string odd = "s: float[2] = const {1.0, 0.6180339}\n  ";
  expect_expands("x: float[n, 20]", odd + "y = Resize(x, _, s) {mode=\"linear\", coordinate_transformation_mode=\"half_pixel_symmetric\"}", 1);
  expect_expands("x: float[n, 20]", odd + "y = Resize(x, _, s) {mode=\"cubic\", coordinate_transformation_mode=\"align_corners\"}", 1);
  expect_expands("x: float[n, 20]", odd + "y = Resize(x, _, s) {mode=\"linear\", exclude_outside=1}", 1);
}

TEST(ResizeExpansion, SmallCubicOnes) {
  expect_expands("x: float[n, c, 20, 17]", "z: int64[2] = const {31, 30}\n  y = Resize(x, _, _, z) {mode=\"cubic\", axes=[2, 3]}", 2);
  expect_expands("x: float[2, 20, 17]", "s: float[3] = const {1.0, 2.0, 1.0}\n  y = Resize(x, _, s) {mode=\"cubic\", cubic_coeff_a=-0.5}", 1);
}

TEST(ResizeExpansion, OthersStay) {
  const std::string half = "s: float[2] = const {1.0, 0.5}\n  ", odd = "s: float[2] = const {1.0, 0.6180339}\n  ";
  expect_stays("x: float[n, 20]", half + "y = Resize(x, _, s) {mode=\"linear\"}");  // has a lowering
  expect_stays("x: float[n, 20, 3, 4]", "s: float[4] = const {1.0, 2.0, 1.0, 1.0}\n  y = Resize(x, _, s) {mode=\"cubic\"}");
  expect_stays("x: float[n, 600]", "s: float[2] = const {1.0, 2.0}\n  y = Resize(x, _, s) {mode=\"cubic\"}");
  expect_stays("x: float[n, w]", half + "y = Resize(x, _, s) {mode=\"linear\", antialias=1}");         // an extent that is not known
  expect_stays("x: int32[n, 20]", half + "y = Resize(x, _, s) {mode=\"linear\", antialias=1}");        // integers, cut off where a sum ends
  expect_stays("x: float[n, 20], s: float[2]", "y = Resize(x, _, s) {mode=\"linear\", antialias=1}");  // run-time scales
  expect_stays("x: float[n, 20]", odd + "y = Resize(x, _, s)");                                        // nearest
  expect_stays("x: float[n, 2000]",
               "s: float[2] = const {1.0, 0.0005}\n  y = Resize(x, _, s) {mode=\"cubic\", coordinate_transformation_mode=\"tf_crop_and_resize\"}");
}

}  // namespace
}  // namespace lathe::ops
