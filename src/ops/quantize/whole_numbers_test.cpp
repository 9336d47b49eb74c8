// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// What counts as whole numbers, and as a product of such.
#include "ops/quantize/whole_numbers.h"

#include <gtest/gtest.h>

#include "ir/text.h"
#include "ops/infer.h"

namespace lathe::ops {
namespace {

using Range = std::optional<std::pair<std::int64_t, std::int64_t>>;

std::shared_ptr<ir::Graph> graph_of(const std::string& inputs, const std::string& body) {
  auto graph = ir::parse_graph("graph g(" + inputs + ") -> (y) {\n" + body + "\n}");
  infer_graph(*graph);
  return graph;
}

Range range_of_y(const std::string& inputs, const std::string& body) { return whole_range(graph_of(inputs, body)->outputs()[0]); }

bool ends_in_whole_product(const std::string& inputs, const std::string& body) { return is_whole_product(*graph_of(inputs, body)->outputs()[0]->producer); }

TEST(WholeNumbers, DifferencesOfBytes) {
  EXPECT_EQ(range_of_y("x: uint8[n], z: uint8[]", "a = Cast(x) {to=1}\n b = Cast(z) {to=1}\n y = Sub(a, b)"), (Range{{-255, 255}}));
  EXPECT_EQ(range_of_y("x: int8[n]", "z: float[] = const {-128.0}\n a = Cast(x) {to=1}\n y = Sub(a, z)"), (Range{{-128, 255}}));
}

TEST(WholeNumbers, RoundedAndBounded) {
  const std::string bounds = "l: float[] = const {0.0}\n h: float[] = const {255.0}\n z: float[] = const {3.0}\n";
  EXPECT_EQ(range_of_y("x: float[n]", bounds + "a = Round(x)\n b = Add(a, z)\n y = Clip(b, l, h)"), (Range{{0, 255}}));
  EXPECT_EQ(range_of_y("x: float[n]", bounds + "y = Clip(x, l, h)"), Range());
  EXPECT_EQ(range_of_y("x: float[n]", "y = Round(x)"), Range());  // as large as may be
}

TEST(WholeNumbers, MovementsKeepThem) { EXPECT_EQ(range_of_y("x: int8[2, 3]", "a = Cast(x) {to=1}\n y = Transpose(a) {perm=[1, 0]}"), (Range{{-128, 127}})); }

TEST(WholeNumbers, ConstantsByTheirContent) {
  EXPECT_EQ(range_of_y("x: float[3]", "k: float[3] = const {-7.0, 2.0, 5.0}\n y = Identity(k)"), (Range{{-7, 5}}));
  EXPECT_EQ(range_of_y("x: float[3]", "k: float[3] = const {-7.0, 2.5, 5.0}\n y = Identity(k)"), Range());
}

TEST(WholeProducts, OperandsAndBiasMustBeWhole) {
  const std::string weights = "w: float[2, 1] = const {127.0, -128.0}\n a = Cast(x) {to=1}\n";
  EXPECT_TRUE(ends_in_whole_product("x: uint8[n, 2]", weights + "y = MatMul(a, w)"));
  EXPECT_FALSE(ends_in_whole_product("x: float[n, 2]", "w: float[2, 1] = const {127.0, -128.0}\n y = MatMul(x, w)"));
  EXPECT_FALSE(ends_in_whole_product("x: uint8[n, 2]", "w: float[2, 1] = const {0.5, 1.0}\n a = Cast(x) {to=1}\n y = MatMul(a, w)"));
  const std::string conv = "w: float[1, 1, 1, 1] = const {3.0}\n a = Cast(x) {to=1}\n";
  EXPECT_TRUE(ends_in_whole_product("x: uint8[1, 1, 4, 4]", conv + "b: float[1] = const {9.0}\n y = Conv(a, w, b)"));
  EXPECT_FALSE(ends_in_whole_product("x: uint8[1, 1, 4, 4]", conv + "b: float[1] = const {0.25}\n y = Conv(a, w, b)"));
}

}  // namespace
}  // namespace lathe::ops
