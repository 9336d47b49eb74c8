// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// DFT and STFT as products give what their references give; what they leave alone.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "ir/text.h"
#include "ops/expansion.h"
#include "ops/infer.h"
#include "ops/reference_runner.h"
#include "ops/signal/fourier.h"

namespace lathe::ops {
namespace {

Tensor sample(const ir::Value& input) {
  static const std::map<std::string, std::int64_t> kSymbols{{"n", 2}, {"t", 90}};
  Dims dims;
  for (const Dim& dim : input.shape()) dims.push_back(dim.constant() ? *dim.constant() : kSymbols.at(dim.to_string()));
  Tensor x(input.dtype(), dims);
  for (std::int64_t i = 0; i < x.size(); ++i) x.set_from_double(i, std::sin(1.7 * static_cast<double>(i) + 0.3 * static_cast<double>(i * i % 17)));
  return x;
}

std::shared_ptr<ir::Graph> parsed(const std::string& inputs, const std::string& body) {
  auto graph = ir::parse_graph("graph g(" + inputs + ") -> (y) {\n  " + body + "\n}\n");
  infer_graph(*graph);
  return graph;
}

/// Expands the node that makes y.
bool expand(ir::Graph& graph) { return expand_node(*graph.outputs()[0]->producer); }

std::size_t count(const ir::Graph& graph, std::string_view op) {
  std::size_t found = 0;
  for (const ir::Node* node : graph.nodes()) found += node->is(op) ? 1 : 0;
  return found;
}

void expect_expands(const std::string& inputs, const std::string& body, std::size_t products, std::size_t convolutions = 0, double tolerance = 2e-6) {
  SCOPED_TRACE(inputs + " " + body);
  const auto graph = parsed(inputs, body);
  std::vector<Tensor> feeds;
  for (const ir::Value* input : graph->inputs()) feeds.push_back(sample(*input));
  const Tensor expected = ReferenceRunner(*graph).run(feeds).at(0);
  const std::string type = graph->outputs()[0]->type.to_string();
  ASSERT_TRUE(expand(*graph));
  infer_graph(*graph);
  if (inputs.find("[n, t,") == std::string::npos) {
    EXPECT_EQ(graph->outputs()[0]->type.to_string(), type);
  }
  EXPECT_EQ(count(*graph, "DFT") + count(*graph, "STFT"), 0u);
  EXPECT_EQ(count(*graph, "MatMul"), products);
  EXPECT_EQ(count(*graph, "Conv"), convolutions);
  const Tensor actual = ReferenceRunner(*graph).run(feeds).at(0);
  ASSERT_EQ(actual.dtype(), expected.dtype());
  ASSERT_EQ(actual.dims(), expected.dims());
  double scale = 0;
  for (std::int64_t i = 0; i < expected.size(); ++i) scale = std::max(scale, std::abs(expected.as_double(i)));
  for (std::int64_t i = 0; i < expected.size(); ++i) ASSERT_NEAR(actual.as_double(i), expected.as_double(i), tolerance * scale) << "element " << i;
}

void expect_stays(const std::string& inputs, const std::string& body) {
  SCOPED_TRACE(inputs + " " + body);
  const auto graph = parsed(inputs, body);
  const std::size_t before = graph->nodes().size();
  EXPECT_FALSE(expand(*graph));
  EXPECT_EQ(graph->nodes().size(), before);
}

TEST(FourierExpansion, ShortTransformsAreOneProduct) {
  const char* kForms[] = {"", "{onesided=1}", "{inverse=1}"};
  for (const std::string form : kForms)
    for (const std::string input : {"x: float[n, 40, 1]", "x: float[n, 41, 2]", "x: float[3, 1, 1]", "x: float[3, 2, 2]"}) {
      if (form == "{inverse=1}" && input.starts_with("x: float[3")) expect_stays(input, "y = DFT(x) " + form);  // of few numbers
      else if (form != "{onesided=1}" || input.ends_with("1]")) expect_expands(input, "y = DFT(x) " + form, 1);
    }
  for (const char* input : {"x: float[n, 21, 2]", "x: float[n, 21, 1]"}) expect_expands(input, "y = DFT(x) {inverse=1, onesided=1}", 1);
  expect_expands("x: float[48, 2]", "y = DFT(x)", 1);
  expect_expands("x: float16[n, 40, 1]", "y = DFT(x)", 1, 0, 2e-3);
}

TEST(FourierExpansion, OtherAxesAndLengths) {
  expect_expands("x: float[12, n, 3, 2]", "a: int64[] = const {0}\n  y = DFT(x, _, a)", 1);
  expect_expands("x: float[n, 18, 3, 2]", "a: int64[] = const {-3}\n  y = DFT(x, _, a) {inverse=1}", 1);
  for (const char* length : {"7", "12", "33"}) {
    const std::string given = std::string("l: int64[] = const {") + length + "}\n  ";
    expect_expands("x: float[n, 12, 1]", given + "y = DFT(x, l) {onesided=1}", 1);
    if (given.find("33") != std::string::npos) expect_expands("x: float[n, 12, 2]", given + "y = DFT(x, l) {inverse=1}", 1);
    expect_expands("x: float[n, 12, 2]", given + "y = DFT(x, l) {inverse=1, onesided=1}", 1);
  }
}

TEST(FourierExpansion, LongOnesAreTwoProducts) {
  for (const char* extent : {"600", "1024", "1155", "4096"}) {
    const std::string of = extent;
    expect_expands("x: float[n, " + of + ", 1]", "y = DFT(x) {onesided=1}", 2);
    expect_expands("x: float[n, " + of + ", 2]", "y = DFT(x)", 2);
    expect_expands("x: float[n, " + of + ", 2]", "y = DFT(x) {inverse=1}", 2);
  }
  expect_expands("x: float[n, 301, 2]", "y = DFT(x) {inverse=1, onesided=1}", 2);
  expect_expands("x: float[n, 500, 1]", "l: int64[] = const {1000}\n  y = DFT(x, l) {onesided=1}", 2);
  expect_expands("x: float[n, 900, 2]", "l: int64[] = const {810}\n  y = DFT(x, l)", 2);
  expect_expands("x: float[n, 90, 2]", "l: int64[] = const {1001}\n  y = DFT(x, l) {inverse=1, onesided=1}", 2);
  // Few signals of any length would read a large matrix; a length without halves has no other way.
  expect_expands("x: float[1, 256, 1]", "y = DFT(x)", 2);
  expect_expands("x: float[1, 257, 1]", "y = DFT(x)", 1);
}

TEST(FourierExpansion, WhatIsNotKnownStays) {
  expect_stays("x: double[n, 40, 1]", "y = DFT(x)");
  expect_stays("x: float[n, t, 1]", "y = DFT(x)");
  expect_stays("x: float[n, 40, 1], l: int64[]", "y = DFT(x, l)");
  expect_stays("x: float[n, 40, 2, 1], a: int64[]", "y = DFT(x, _, a)");
  expect_stays("x: float[n, 4099, 2]", "y = DFT(x)");
  expect_stays("x: float[n, 40, 1], s: int64[]", "y = STFT(x, s)");
  expect_stays("x: float[n, t, 1]", "s: int64[] = const {8}\n  y = STFT(x, s)");
  expect_stays("x: float[n, 90, 1], l: int64[]", "s: int64[] = const {8}\n  y = STFT(x, s, _, l)");
  expect_stays("x: float[n, 90, 1], w: float[t]", "s: int64[] = const {8}\n  l: int64[] = const {32}\n  y = STFT(x, s, w, l)");
}

TEST(FourierExpansion, FramesAreWindowsOfAConvolution) {
  const std::string numbers = "s: int64[] = const {8}\n  l: int64[] = const {20}\n  ", window = numbers + "w = HannWindow(l)\n  ";
  for (const char* input : {"x: float[n, 90, 1]", "x: float[n, t, 1]", "x: float[n, t, 2]", "x: float[n, 88, 2]"}) {
    expect_expands(input, numbers + "y = STFT(x, s, _, l)", 0, 1);
    expect_expands(input, window + "y = STFT(x, s, w)", 0, 1);
    expect_expands(input, window + "y = STFT(x, s, w, l) {onesided=0}", 0, 1);
  }
}

TEST(FourierExpansion, FramesArePutTogether) {
  const std::string odd = "s: int64[] = const {7}\n  l: int64[] = const {24}\n  ", even = "s: int64[] = const {8}\n  l: int64[] = const {24}\n  ";
  for (const char* input : {"x: float[n, 90, 1], w: float[24]", "x: float[n, t, 2], w: float[24]"}) {
    expect_expands(input, odd + "y = STFT(x, s, w, l)", 1);
    expect_expands(input, even + "y = STFT(x, s, w)", 1);
    expect_expands(input, odd + "k = HammingWindow(l)\n  y = STFT(x, s, k) {onesided=0}", 1);
  }
  for (const char* input : {"x: float[n, 2000, 1]", "x: float[n, 1999, 2]"})
    for (const char* step : {"150", "160", "7"})
      expect_expands(input, std::string("s: int64[] = const {") + step + "}\n  l: int64[] = const {1200}\n  w = HannWindow(l)\n  y = STFT(x, s, w)", 2);
}

}  // namespace
}  // namespace lathe::ops
