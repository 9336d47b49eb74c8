// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Extents that a model needs to agree and that only a run tells: the run is refused as the caller's mistake, whatever kernel meets it.

#include <gtest/gtest.h>

#include "builder/builder.h"
#include "builder/hints.h"
#include "builder/test_models.h"
#include "ops/infer.h"
#include "runtime/context.h"

namespace lathe::builder {
namespace {

using runtime::InputView;

std::shared_ptr<const runtime::Engine> built(const std::shared_ptr<ir::Model>& model, const std::string& input, Dims opt) {
  BuildOptions options;
  options.budget_seconds = 0;
  options.use_cache = false;
  options.verify = false;  // at other extents as well, which these models do not run at
  Dims largest = opt;
  for (std::int64_t& extent : largest) extent = std::max<std::int64_t>(extent, 16);
  options.shapes[input] = {Dims(opt.size(), 1), opt, largest};
  return runtime::Engine::create(build_engine(model, options).engine);
}

/// Runs at `good` and at each of `bad`, in turn: a refused run leaves the Context as good as it was.
void expect_refusals(const std::shared_ptr<const runtime::Engine>& engine, const Dims& good, const std::vector<Dims>& bad) {
  runtime::Context context(engine);
  const std::vector<float> data(1 << 14, 1.0F);
  const auto run = [&](const Dims& dims) {
    const InputView view{data.data(), DType::kFloat32, dims};
    return context.run(std::span(&view, 1), {});
  };
  for (const Dims& dims : bad) {
    EXPECT_TRUE(run(good)) << to_string(good);
    const Status status = run(dims);
    EXPECT_EQ(status.code(), Code::kInvalidArgument) << to_string(dims) << ": " << status.message();
    EXPECT_FALSE(status.message().empty());
  }
  EXPECT_TRUE(run(good));
}

TEST(Extents, APartOfAConcatIsNeitherShorterNorLonger) {
  test::ModelMaker m;
  ir::Value* x = m.input("x", {ir::Dim::symbol("n"), 2});
  ir::Attrs axis;
  axis.set("axis", 1);
  const auto model = m.finish({m.add("Concat", {x, m.weight({3, 2})}, axis)});
  expect_refusals(built(model, "x", {3, 2}), {3, 2}, {{2, 2}, {5, 2}, {1, 2}});
}

TEST(Extents, APartThatLivesInsideTheConcat) {
  test::ModelMaker m;
  ir::Value* x = m.input("x", {1, 3, ir::Dim::symbol("h"), 8});
  ir::Attrs axis;
  axis.set("axis", 1);
  ir::Value* part = m.add("Relu", {m.conv(x, 3, 16, 3)});
  const auto model = m.finish({m.conv(m.add("Concat", {part, m.weight({1, 4, 8, 8})}, axis), 20, 8, 1)});
  expect_refusals(built(model, "x", {1, 3, 8, 8}), {1, 3, 8, 8}, {{1, 3, 7, 8}, {1, 3, 10, 8}, {1, 3, 1, 8}});
}

TEST(Extents, AReshapeToSizesThatTheModelKeeps) {
  test::ModelMaker m;
  ir::Value* x = m.input("x", {ir::Dim::symbol("n"), ir::Dim::symbol("t"), 4});
  const auto model = m.finish({m.add("Reshape", {m.add("Relu", {x}), m.ints({17, 8, 1})})});
  const auto engine = built(model, "x", {2, 17, 4});
  expect_refusals(engine, {2, 17, 4}, {{2, 5, 4}, {1, 17, 4}, {1, 1, 4}});
  runtime::Context context(engine);
  const std::vector<float> data(16);
  const std::int64_t dims[] = {1, 4, 4};
  const InputView view{data.data(), DType::kFloat32, dims};
  const std::string text(context.run(std::span(&view, 1), {}).message());
  EXPECT_NE(text.find("a reshape between the shapes 17x8x1 and 1x4x4 would change the number of elements"), std::string::npos) << text;
  EXPECT_NE(text.find("export it with these axes free"), std::string::npos) << text;
}

TEST(Extents, TheDepthOfAProduct) {
  test::ModelMaker m;
  ir::Value* x = m.input("x", {4, ir::Dim::symbol("k")});
  const auto model = m.finish({m.add("MatMul", {x, m.weight({6, 5}, 6)})});
  expect_refusals(built(model, "x", {4, 6}), {4, 6}, {{4, 5}, {4, 7}, {4, 1}});
}

TEST(Extents, TheChannelsOfAConvolution) {
  test::ModelMaker m;
  ir::Value* x = m.input("x", {1, ir::Dim::symbol("c"), 6, 6});
  const auto model = m.finish({m.conv(x, 4, 8, 3)});
  expect_refusals(built(model, "x", {1, 4, 6, 6}), {1, 4, 6, 6}, {{1, 3, 6, 6}, {1, 5, 6, 6}});
}

/// Attention over pixels: its scores grow with the fourth power of a picture's side.
std::shared_ptr<ir::Model> pixel_attention() {
  test::ModelMaker m;
  ir::Value* x = m.input("x", {ir::Dim::symbol("n"), 8, ir::Dim::symbol("h"), ir::Dim::symbol("w")});
  ir::Value* rows = m.add("Reshape", {x, m.ints({0, 8, -1})});
  ir::Attrs perm;
  perm.set("perm", std::vector<std::int64_t>{0, 2, 1});
  return m.finish({m.add("Softmax", {m.add("MatMul", {m.add("Transpose", {rows}, perm), rows})})});
}

TEST(Hints, PicturesAreSmallerWhereATensorWouldBecomeHuge) {
  const auto model = pixel_attention();
  ops::infer_graph(*model->graph);
  const ir::Bindings hints = hint_bindings(*model->graph, {});
  EXPECT_EQ(hints, (ir::Bindings{{"n", 1}, {"h", 64}, {"w", 64}}));
  EXPECT_EQ(odd_bindings(*model->graph, {}, hints), (ir::Bindings{{"n", 3}, {"h", 32}, {"w", 64}}));
  // What was asked for is taken.
  const std::map<std::string, ShapeRange> given{{"x", {{1, 8, 16, 16}, {1, 8, 128, 128}, {1, 8, 128, 128}}}};
  EXPECT_EQ(hint_bindings(*model->graph, given), (ir::Bindings{{"n", 1}, {"h", 128}, {"w", 128}}));
}

TEST(Hints, PicturesAreOfAHundredAndTwentyEightElsewhere) {
  test::ModelMaker m;
  // A large tensor that no picture makes larger.
  ir::Value* table = m.add("Transpose", {m.input("table", {20000, 4096})});
  const auto model = m.finish({m.conv(m.input("x", {ir::Dim::symbol("n"), 3, ir::Dim::symbol("h"), ir::Dim::symbol("w")}), 3, 64, 3), table});
  ops::infer_graph(*model->graph);
  const ir::Bindings hints = hint_bindings(*model->graph, {});
  EXPECT_EQ(hints, (ir::Bindings{{"n", 1}, {"h", 128}, {"w", 128}}));
  EXPECT_EQ(odd_bindings(*model->graph, {}, hints), (ir::Bindings{{"n", 3}, {"h", 160}, {"w", 192}}));
}

TEST(RandomInputs, RegionsNameAnImageThatIsThere) {
  test::ModelMaker m;
  ir::Value *x = m.input("x", {2, 4, 20, 20}), *regions = m.input("regions", {7, 5});
  ir::Attrs attrs;
  attrs.set("pooled_shape", std::vector<std::int64_t>{3, 2});
  BuildOptions options;
  options.budget_seconds = 0;
  options.use_cache = false;
  const BuildResult result = build_engine(m.finish({m.add("MaxRoiPool", {x, regions}, attrs)}), options);
  EXPECT_TRUE(result.report.verify.ran && result.report.verify.passed) << result.report.verify.summary;
}

}  // namespace
}  // namespace lathe::builder
