// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Convolutions over three axes run as convolutions over two (src/ops/conv/conv_3d.cpp): engines against the oracle on the graph as read.

#include <gtest/gtest.h>

#include "builder/builder.h"
#include "builder/test_models.h"

namespace lathe::builder {
namespace {

using Ints = std::vector<std::int64_t>;

struct Case {
  Ints kernel, strides, dilations, pads;
  std::int64_t channels = 6, group = 1;
  ir::Dim batch = 2, depth = 5;
};

TEST(Conv3d, RunsAsConvolutionsOverTwoAxes) {
  const ir::Dim n = ir::Dim::symbol("n");
  const std::vector<Case> cases{
      {{1, 3, 3}, {1, 1, 1}, {1, 1, 1}, {0, 1, 1, 0, 1, 1}},
      {{3, 1, 1}, {1, 1, 1}, {1, 1, 1}, {1, 0, 0, 1, 0, 0}},
      {{3, 1, 1}, {2, 1, 1}, {2, 1, 1}, {1, 0, 0, 2, 0, 0}},
      {{3, 3, 3}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1, 1, 1, 1}},
      {{3, 3, 2}, {2, 2, 1}, {1, 1, 2}, {1, 0, 1, 0, 1, 1}, 6, 3},
      {{2, 1, 1}, {1, 2, 2}, {2, 1, 1}, {0, 0, 0, 0, 0, 0}},
      {{1, 1, 1}, {2, 1, 1}, {1, 1, 1}, {0, 0, 0, 0, 0, 0}},
      {{3, 3, 3}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1, 1, 1, 1}, 6, 1, n, 5},
      {{3, 3, 3}, {2, 1, 1}, {1, 1, 1}, {1, 1, 1, 1, 1, 1}, 6, 1, 2, n},
      {{5, 1, 1}, {1, 1, 1}, {1, 1, 1}, {2, 0, 0, 2, 0, 0}, 6, 6, n, 7},
  };
  for (const bool bias : {false, true})
    for (const Case& each : cases) {
      test::ModelMaker m;
      ir::Value* x = m.input("x", {each.batch, each.channels, each.depth, 7, 6});
      ir::Attrs attrs;
      attrs.set("kernel_shape", each.kernel);
      attrs.set("strides", each.strides);
      attrs.set("dilations", each.dilations);
      attrs.set("pads", each.pads);
      attrs.set("group", each.group);
      std::vector<ir::Value*> inputs{x, m.weight({12, each.channels / each.group, each.kernel[0], each.kernel[1], each.kernel[2]}, 20)};
      if (bias) inputs.push_back(m.weight({12}, 4));
      const auto model = m.finish({m.add("Relu", {m.add("Conv", inputs, attrs)})});
      BuildOptions options;
      options.budget_seconds = 0;
      options.use_cache = false;
      const BuildResult result = build_engine(model, options);
      EXPECT_TRUE(result.report.verify.passed) << result.report.verify.summary;
      for (const plan::Step& step : result.engine.sections.front().program.steps) EXPECT_NE(step.kernel, "cpu.reference") << to_string(each.kernel);
    }
}

TEST(Conv3d, StaysWholeWhereNothingTellsTheExtents) {
  const ir::Dim n = ir::Dim::symbol("n"), d = ir::Dim::symbol("d");
  test::ModelMaker m;
  ir::Value* x = m.input("x", {n, 4, d, 7, 6});
  ir::Attrs attrs;
  attrs.set("kernel_shape", Ints{3, 3, 3});
  const auto model = m.finish({m.add("Conv", {x, m.weight({8, 4, 3, 3, 3}, 100)}, attrs)});
  BuildOptions options;
  options.budget_seconds = 0;
  options.use_cache = false;
  options.shapes["x"] = {{1, 4, 3, 7, 6}, {2, 4, 5, 7, 6}, {4, 4, 9, 7, 6}};
  EXPECT_TRUE(build_engine(model, options).report.verify.passed);
}

}  // namespace
}  // namespace lathe::builder
