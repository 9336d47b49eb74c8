// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Which convolutions of one tensor are one product, and which must not be.

#include "regions/conv_siblings/conv_siblings.h"

#include <gtest/gtest.h>

#include "builder/test_models.h"

namespace lathe::regions {
namespace {

using builder::test::ModelMaker;

struct Pair {
  std::int64_t channels[2] = {64, 64};
  std::int64_t kernel[2] = {1, 1}, stride[2] = {1, 1}, groups[2] = {1, 1};
  const char* activation[2] = {"Silu", "Silu"};
  bool other_tensor = false, residual = false, leaves = false;
};

/// Regions of the later one.
std::vector<ops::Region> regions_of(const Pair& pair, std::shared_ptr<ir::Model>& model) {
  ModelMaker m;
  ir::Value *x = m.add("Relu", {m.conv(m.input("x", {1, 3, 12, 10}), 3, 64, 3)}), *other = pair.other_tensor ? m.add("Tanh", {x}) : x;
  std::vector<ir::Value*> results;
  const ir::Node* last = nullptr;
  for (int i = 0; i < 2; ++i) {
    ir::Value* y = m.conv(i ? other : x, 64, pair.channels[i], pair.kernel[i], pair.stride[i], pair.groups[i]);
    last = y->producer;
    if (pair.leaves && i == 0) results.push_back(y);
    const std::string act = pair.activation[i];
    y = act.empty() ? y : act == "Silu" ? m.silu(y) : m.add(act, {y});
    if (pair.residual && i == 1) y = m.add("Add", {y, other});
    results.push_back(m.add("Sqrt", {y}));
  }
  model = m.finish(results);
  return propose_conv_siblings(*last);
}

TEST(ConvSiblings, TwoOfOneTensor) {
  std::shared_ptr<ir::Model> model;
  const auto regions = regions_of({.channels = {64, 96}}, model);
  ASSERT_EQ(regions.size(), 1U);
  ASSERT_EQ(regions[0].outputs.size(), 2U);
  const ConvSiblings match = match_conv_siblings(regions[0]);
  EXPECT_EQ(match.each[0].channels(), 64);
  EXPECT_EQ(match.each[1].channels(), 96);
  EXPECT_EQ(match.each[0].tail.activation, "silu");
  EXPECT_EQ(match.x, match.each[1].conv->input(0));
}

TEST(ConvSiblings, TheFirstIsTheOneThatTilesKeepApart) {
  std::shared_ptr<ir::Model> model;
  const auto regions = regions_of({.channels = {24, 32}, .activation = {"", ""}}, model);
  ASSERT_EQ(regions.size(), 1U);
  EXPECT_EQ(match_conv_siblings(regions[0]).each[0].channels(), 32);
}

TEST(ConvSiblings, OfMoreThanTwoEachPairIsOffered) {
  ModelMaker m;
  ir::Value* x = m.input("x", {1, 32, 8, 8});
  const auto model = m.finish({m.conv(x, 32, 32, 1), m.conv(x, 32, 32, 1), m.conv(x, 32, 64, 1)});
  EXPECT_EQ(propose_conv_siblings(*model->graph->outputs()[2]->producer).size(), 2U);
}

TEST(ConvSiblings, MustNotFire) {
  const Pair cases[] = {
      {.channels = {24, 40}}, {.kernel = {1, 3}}, {.stride = {1, 2}},           {.groups = {1, 2}}, {.activation = {"Silu", "Relu"}},
      {.other_tensor = true}, {.residual = true}, {.activation = {"Silu", ""}}, {.leaves = true},
  };
  for (std::size_t i = 0; i < std::size(cases); ++i) {
    std::shared_ptr<ir::Model> model;
    EXPECT_TRUE(regions_of(cases[i], model).empty()) << "case " << i;
  }
}

TEST(ConvSiblings, AWeightThatIsNoConstantStaysAlone) {
  ModelMaker m;
  ir::Value *x = m.input("x", {1, 32, 8, 8}), *w = m.input("w", {32, 32, 1, 1});
  const auto model = m.finish({m.add("Conv", {x, w}), m.conv(x, 32, 32, 1)});
  EXPECT_TRUE(propose_conv_siblings(*model->graph->outputs()[1]->producer).empty());
}

}  // namespace
}  // namespace lathe::regions
