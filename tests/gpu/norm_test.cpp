// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// LayerNormalization and RMSNormalization on a GPU: lengths around every kernel's limits, odd ones too, over one and several axes, in every precision.

#include <gtest/gtest.h>

#include <fmt/format.h>

#include <algorithm>

#include "builder/test_models.h"
#include "verified_build.h"

namespace lathe {
namespace {

using builder::test::ModelMaker;

TEST(GpuNorm, RowsOfEveryLength) {
  std::uint32_t seed = 1;
  for (const std::int64_t columns : {1, 7, 8, 96, 255, 256, 257, 512, 600, 768, 1024, 1025, 2048, 3000, 4104, 8192})
    for (const char* precision : {"fp32", "bf16", "fp16"})
      for (const bool rms : {false, true}) {
        SCOPED_TRACE(fmt::format("{} columns, {}, {}", columns, precision, rms ? "rms" : "layer"));
        ModelMaker m(seed++);
        ir::Value* x = m.add("MatMul", {m.input("x", {2, 37, 8}), m.weight({8, columns}, 8)});
        ir::Attrs attrs;
        attrs.set("axis", -1);
        attrs.set("epsilon", 1e-4F);
        std::vector<ir::Value*> inputs{x, m.weight({columns}, 16, 1)};
        if (!rms && columns % 3) inputs.push_back(m.weight({columns}, 16));
        ir::Value* y = m.add(rms ? "RMSNormalization" : "LayerNormalization", inputs, attrs);
        const auto model = m.finish({m.add("MatMul", {y, m.weight({columns, 8}, static_cast<double>(columns))})});
        const auto result = verified_build(model, precision, 1);
        ASSERT_TRUE(result);
        const std::string wanted = rms ? "RMSNormalization" : "LayerNormalization";
        EXPECT_TRUE(std::any_of(result->report.regions.begin(), result->report.regions.end(), [&](const auto& region) { return region.pattern == wanted; }));
      }
}

TEST(GpuNorm, SeveralAxes) {
  ModelMaker m(3);
  ir::Value* x = m.add("MatMul", {m.input("x", {3, 5, 6, 8}), m.weight({8, 16}, 8)});
  ir::Attrs attrs;
  attrs.set("axis", 2);
  ir::Value* y = m.add("LayerNormalization", {x, m.weight({6, 16}, 16, 1), m.weight({6, 16}, 16)}, attrs);
  const auto model = m.finish({m.add("MatMul", {y, m.weight({16, 8}, 16)})});
  EXPECT_TRUE(verified_build(model, "fp16"));
}

}  // namespace
}  // namespace lathe
