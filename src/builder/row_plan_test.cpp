// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Which values a GPU's section stores in wider rows, and where the others stay as they are.

#include <gtest/gtest.h>

#include "builder/test_models.h"
#include "builder/value_plan.h"

namespace lathe::builder {
namespace {

using ops::Layout;
using test::ModelMaker;

ValuePlans planned(const ir::Graph& graph, Precision precision) {
  ValuePlans plans;
  plan_precision(graph, precision, plans, {}, true);
  plan_slices(graph, plans);
  plan_rows(graph, plans);
  return plans;
}

std::int64_t multiple(const ValuePlans& plans, const ir::Value* value) {
  const ValuePlan* plan = plans.find(value);
  return plan && plan->rows ? plan->rows->multiple : 0;
}

TEST(RowPlan, ImagesOfFewChannels) {
  struct Case {
    ir::Shape image;
    std::int64_t stride;
    Precision precision;
    std::int64_t multiple;
  };
  const ir::Dim any = ir::Dim::symbol("w");
  const Case cases[] = {
      {{1, 3, 32, 32}, 2, Precision::kFloat16, 4},       // pairs of pixels
      {{1, 3, 32, any * 2}, 2, Precision::kFloat16, 4},  // the width is even whatever w is
      {{1, 3, 32, any}, 2, Precision::kFloat16, 8},      // it may be odd
      {{1, 3, 32, 32}, 1, Precision::kBFloat16, 8},      // no pairs at stride 1
      {{1, 3, 32, 32}, 2, Precision::kFloat32, 4},       // 16 bytes
      {{1, 4, 32, 32}, 2, Precision::kFloat16, 0},       // whole already
      {{1, 16, 32, 32}, 2, Precision::kFloat16, 0},
  };
  for (const Case& c : cases) {
    ModelMaker m;
    ir::Value* image = m.input("image", c.image);
    const auto model = m.finish({m.conv(m.conv(image, *c.image[1].constant(), 16, 3, c.stride), 16, 16, 1)});
    const ValuePlans plans = planned(*model->graph, c.precision);
    EXPECT_EQ(multiple(plans, image), c.multiple) << ir::to_string(c.image) << " stride " << c.stride << " " << precision_name(c.precision);
  }
}

TEST(RowPlan, WhatConvolutionsMake) {
  ModelMaker m;
  ir::Value* x = m.input("x", {1, 16, 8, 8});
  ir::Value *odd = m.conv(x, 16, 20, 3), *even = m.conv(x, 16, 24, 3), *few = m.conv(x, 16, 4, 3);
  ir::Value* tail = m.add("Relu", {m.conv(x, 16, 36, 1)});
  ir::Attrs axis;
  axis.set("axis", 1);
  ir::Value* part = m.conv(x, 16, 12, 1);
  ir::Value* whole = m.add("Concat", {part, m.conv(x, 16, 12, 1)}, axis);
  const auto model = m.finish({m.conv(odd, 20, 8, 1), m.conv(even, 24, 8, 1), m.conv(few, 4, 8, 1), m.conv(tail, 36, 8, 1), m.conv(whole, 24, 8, 1)});
  const ValuePlans plans = planned(*model->graph, Precision::kFloat16);
  EXPECT_EQ(multiple(plans, odd), 8);
  EXPECT_EQ(multiple(plans, tail), 8);
  EXPECT_EQ(multiple(plans, even), 0);
  EXPECT_EQ(multiple(plans, few), 0) << "eight times the memory for four channels";
  EXPECT_EQ(multiple(plans, part), 0) << "it lives in the concat";
  const plan::TensorDesc desc = plans.desc(odd, Layout::kChannelsLast, {});
  EXPECT_EQ(desc.strides, (std::vector<std::int64_t>{8 * 8 * 24, 1, 8 * 24, 24}));
  EXPECT_EQ(plans.desc(odd, Layout::kRowMajor, {}).strides, (std::vector<std::int64_t>{20 * 64, 64, 8, 1})) << "in the other order it is dense";
}

TEST(RowPlan, OperandsOfProducts) {
  ModelMaker m;
  const ir::Dim length = ir::Dim::symbol("length");
  ir::Value *q = m.input("q", {2, 197, 64}), *k = m.input("k", {2, 64, 197}), *v = m.input("v", {2, 197, 64});
  ir::Value* scores = m.add("MatMul", {q, k});
  ir::Attrs axis;
  axis.set("axis", -1);
  ir::Value* weights = m.add("Softmax", {scores}, axis);
  ir::Value* result = m.add("MatMul", {weights, v});
  ir::Value *a = m.input("a", {2, length, 64}), *b = m.input("b", {2, 64, length});
  ir::Value* dynamic = m.add("Relu", {m.add("MatMul", {a, b})});
  ir::Value* viewed = m.add("MatMul", {q, m.weight({64, 30}, 64)});
  const auto model = m.finish({result, m.add("MatMul", {dynamic, m.input("c", {2, length, 8})}), m.add("Reshape", {viewed, m.ints({-1})})});
  const ValuePlans plans = planned(*model->graph, Precision::kFloat16);
  EXPECT_EQ(multiple(plans, scores), 8);
  EXPECT_EQ(multiple(plans, weights), 8);
  EXPECT_EQ(multiple(plans, result), 0) << "rows of 64, and an output";
  EXPECT_EQ(multiple(plans, dynamic), 8) << "the length may be anything";
  EXPECT_EQ(multiple(plans, viewed), 0) << "a view reads its elements side by side";
  EXPECT_EQ(plans.desc(scores, Layout::kRowMajor, {}).strides, (std::vector<std::int64_t>{197 * 200, 200, 1}));
}

TEST(RowPlan, ContractionsReadNarrowValuesOnAGpu) {
  // Each block normalises behind its sum: a way without contraction leads from every sum to the output.
  ModelMaker m;
  ir::Value* x = m.input("x", {4, 32});
  ir::Attrs axis;
  axis.set("axis", -1);
  std::vector<ir::Value*> read;
  for (int block = 0; block < 2; ++block) {
    ir::Value* sum = m.add("Add", {x, m.add("MatMul", {x, m.weight({32, 32}, 32)})});
    x = m.add("Softmax", {sum}, axis);
    read.push_back(x);
  }
  const auto model = m.finish({x});
  ValuePlans gpu, cpu;
  plan_precision(*model->graph, Precision::kFloat16, gpu, {}, true);
  plan_precision(*model->graph, Precision::kBFloat16, cpu, {}, false);
  EXPECT_EQ(gpu.storage(read[0]), DType::kFloat16);
  EXPECT_EQ(gpu.storage(read[1]), DType::kFloat32) << "the output";
  EXPECT_EQ(cpu.storage(read[0]), DType::kFloat32);
}

}  // namespace
}  // namespace lathe::builder
