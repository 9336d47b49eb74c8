// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Dynamic programs, from the cut to the run: extents that only data tell, texts, sequences, control flow, each against the reference.

#include <gtest/gtest.h>

#include <set>
#include <thread>

#include "builder/builder.h"
#include "builder/islands.h"
#include "builder/random_inputs.h"
#include "builder/test_models.h"
#include "engine/engine.h"
#include "ir/text.h"
#include "ops/infer.h"
#include "ops/reference_runner.h"
#include "runtime/context.h"
#include "runtime/dynamic_run.h"

namespace lathe::builder {
namespace {

std::shared_ptr<ir::Model> model_of(const std::string& text) {
  auto model = std::make_shared<ir::Model>();
  model->ir_version = 10;
  model->opset_imports[""] = ops::kCanonicalOpset;
  model->graph = ir::parse_graph(text);
  ops::infer_graph(*model->graph);
  return model;
}

Tensor floats(Dims dims, const std::vector<float>& values) { return Tensor::from<float>(DType::kFloat32, std::move(dims), values); }

std::shared_ptr<const runtime::Engine> built(const std::shared_ptr<ir::Model>& model, bool verify = true) {
  BuildOptions options;
  options.budget_seconds = 0;
  options.use_cache = false;
  options.verify = verify;
  // Through the file, as everybody's engines come.
  const std::vector<std::byte> bytes = engine::write_engine(build_engine(model, options).engine);
  auto copy = std::make_shared<Tensor>(DType::kUint8, Dims{static_cast<std::int64_t>(bytes.size())});
  std::copy(bytes.begin(), bytes.end(), copy->mutable_raw());
  const std::span<const std::byte> view(copy->raw(), copy->bytes());
  return runtime::Engine::create(engine::read_engine(view, copy));
}

void expect_near(const Tensor& expected, const Tensor& actual, const std::string& what) {
  ASSERT_EQ(static_cast<int>(expected.form()), static_cast<int>(actual.form())) << what;
  if (!expected.is_tensor()) {
    if (expected.is_nothing()) return;
    ASSERT_EQ(expected.items().size(), actual.items().size()) << what;
    for (std::size_t i = 0; i < expected.items().size(); ++i) expect_near(expected.items()[i], actual.items()[i], what);
    return;
  }
  ASSERT_EQ(expected.dtype(), actual.dtype()) << what;
  ASSERT_EQ(expected.dims(), actual.dims()) << what;
  if (expected.dtype() == DType::kString) {
    EXPECT_EQ(expected.string_data(), actual.string_data()) << what;
    return;
  }
  for (std::int64_t i = 0; i < expected.size(); ++i)
    EXPECT_NEAR(expected.as_double(i), actual.as_double(i), 1e-4 * (1 + std::abs(expected.as_double(i)))) << what << ", element " << i;
}

/// Runs the engine on each set of inputs and compares with the reference.
void expect_equal(const std::shared_ptr<ir::Model>& model, const std::vector<std::vector<Tensor>>& sets) {
  const auto engine = built(model);
  EXPECT_TRUE(engine->program().dynamic);
  runtime::Context context(engine);
  for (const std::vector<Tensor>& inputs : sets) {
    const std::vector<Tensor> expected = ops::ReferenceRunner(*model).run(inputs);
    std::vector<Tensor> actual;
    const Status status = context.run_values(inputs, actual);
    ASSERT_TRUE(status) << status.message();
    ASSERT_EQ(expected.size(), actual.size());
    for (std::size_t i = 0; i < expected.size(); ++i) expect_near(expected[i], actual[i], model->graph->outputs()[i]->name);
  }
}

/// The places of positive elements, what stands there scaled, and how many there are.
constexpr const char* kPositive = R"(graph g(x: float[n, m]) -> (places, picked, count) {
  zero: float[] = const {0}
  two: float[] = const {2}
  positive = Greater(x, zero)
  places = NonZero(positive)
  index = Transpose(places) {perm=[1, 0]}
  values = GatherND(x, index)
  picked = Mul(values, two)
  extents = Shape(values)
  count = Cast(extents) {to=1}
}
)";

TEST(Dynamic, ExtentsThatDataTell) {
  const auto model = model_of(kPositive);
  EXPECT_FALSE(is_static(*model->graph));
  expect_equal(model, {{floats({2, 3}, {1, -1, 2, 0, 5, -7})}, {floats({1, 1}, {-1})}, {floats({3, 2}, {1, 2, 3, 4, 5, 6})}, {floats({0, 4}, {})}});
}

TEST(Dynamic, TheCutKeepsWorkTogether) {
  const auto model = model_of(kPositive);
  const CutGraph cut = cut_graph(*model->graph);
  // x > 0 in one island, NonZero alone, the rest in another.
  ASSERT_EQ(cut.pieces.size(), 3U);
  EXPECT_TRUE(cut.pieces[0].island);
  ASSERT_TRUE(cut.pieces[1].node);
  EXPECT_EQ(cut.pieces[1].node->op, "NonZero");
  ASSERT_TRUE(cut.pieces[2].island);
  EXPECT_GE(cut.pieces[2].island->node_count(), 4U);
}

TEST(Dynamic, RandomNumbersArePlannedForAGpuAlone) {
  const auto model = model_of(R"(graph g(x: float[n, 4]) -> (y) {
  wide = Exp(x)
  noise = RandomNormalLike(wide)
  y = Add(wide, noise)
}
)");
  EXPECT_TRUE(has_draws_for_gpu(*model->graph));
  EXPECT_FALSE(is_static(*model->graph));
  EXPECT_TRUE(is_static(*model->graph, Draws::kPlannedOnGpu));
  EXPECT_EQ(cut_graph(*model->graph).pieces.size(), 3U);
  EXPECT_EQ(cut_graph(*model->graph, Draws::kPlannedOnGpu).pieces.size(), 1U);
  EXPECT_FALSE(has_draws_for_gpu(*model_of(kPositive)->graph));
}

TEST(Dynamic, AnExtentThatAnElementTells) {
  // The second island's extents are an element of a tensor that the first one makes: a carrier brings it.
  const auto model = model_of(R"(graph g(x: float[n], k: int64[1]) -> (y, z) {
  one: int64[1] = const {1}
  more = Add(k, one)
  zero: int64[1] = const {0}
  y = Slice(x, zero, more)
  shape = Concat(more, one) {axis=0}
  filled = ConstantOfShape(shape)
  column = Exp(filled)
  ones: float[] = const {1}
  z = Add(column, ones)
}
)");
  EXPECT_FALSE(is_static(*model->graph));
  const auto k = [](std::int64_t value) { return Tensor::vector(std::vector<std::int64_t>{value}); };
  expect_equal(model, {{floats({4}, {1, 2, 3, 4}), k(1)}, {floats({4}, {1, 2, 3, 4}), k(3)}, {floats({2}, {1, 2}), k(0)}});
}

TEST(Dynamic, SizesThatTheDataTellAreExtents) {
  const auto model = model_of(R"(graph g(x: float[1, 1, 4, 6], hw: float[2]) -> (y, z) {
  fixed: int64[2] = const {1, 1}
  one: int64[1] = const {1}
  some = Cast(hw) {to=7}
  sizes = Concat(fixed, some) {axis=0}
  wide = Resize(x, _, _, sizes) {mode="linear"}
  y = Relu(wide)
  first = ReduceMin(some) {keepdims=1}
  least = Max(first, one)
  square = Concat(fixed, least, least) {axis=0}
  same = Resize(x, _, _, square) {mode="linear"}
  z = Relu(same)
}
)");
  const CutGraph cut = cut_graph(*model->graph);
  ASSERT_EQ(cut.pieces.size(), 2U);
  EXPECT_TRUE(cut.pieces[1].island) << "the resize is planned";
  std::vector<float> image(24);
  for (std::size_t i = 0; i < image.size(); ++i) image[i] = static_cast<float>(i % 7) - 3;
  expect_equal(model, {{floats({1, 1, 4, 6}, image), floats({2}, {8, 5})},
                       {floats({1, 1, 4, 6}, image), floats({2}, {2, 13})},
                       {floats({1, 1, 4, 6}, image), floats({2}, {3, 0})}});
}

TEST(Dynamic, InputsPassThroughAndOutputsRepeat) {
  const auto model = model_of(R"(graph g(x: float[n]) -> (a, b, places) {
  a = Identity(x)
  b = Identity(x)
  places = NonZero(x)
}
)");
  expect_equal(model, {{floats({3}, {1, 0, 2})}});
}

TEST(Dynamic, ViewsOfTheCallersMemoryAreNotKept) {
  const auto engine = built(model_of(R"(graph g(x: float[n]) -> (a, places) {
  a = Identity(x)
  places = NonZero(x)
}
)"));
  runtime::Context context(engine);
  std::vector<float> data{1, 2, 3};
  const Dims dims{3};
  const runtime::InputView view{data.data(), DType::kFloat32, dims};
  ASSERT_TRUE(context.run(std::span(&view, 1), {}));
  EXPECT_NE(context.output(0).data, data.data());
  data.assign({7, 7, 7});
  EXPECT_EQ(static_cast<const float*>(context.output(0).data)[0], 1);
}

TEST(Dynamic, WhatDoesNotFitIsRefused) {
  const auto engine = built(model_of(kPositive));
  runtime::Context context(engine);
  std::vector<Tensor> outputs;
  const auto refused = [&](const std::vector<Tensor>& inputs) {
    const Status status = context.run_values(inputs, outputs);
    EXPECT_EQ(status.code(), Code::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_EQ(refused({}), "0 inputs were given, the engine has 1");
  EXPECT_EQ(refused({Tensor(DType::kInt64, {2, 2})}), "input 'x': it has type int64, expected float");
  EXPECT_EQ(refused({Tensor(DType::kFloat32, {2})}), "input 'x': it has rank 1, expected 2: [n, m]");
  EXPECT_EQ(refused({Tensor::sequence({})}), "input 'x': the model wants a tensor");
  EXPECT_EQ(refused({Tensor()}), "input 'x': it was not given");
  const std::vector<Tensor> good{floats({1, 2}, {1, 2})};
  EXPECT_TRUE(context.run_values(good, outputs)) << "a refused run leaves the context as good as it was";
}

TEST(Dynamic, FourThreadsAtOnce) {
  const auto model = model_of(kPositive);
  const auto engine = built(model);
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (std::size_t t = 0; t < wrong.size(); ++t)
    threads.emplace_back([&, t] {
      runtime::Context context(engine);
      for (std::int64_t round = 0; round < 20; ++round) {
        std::vector<float> values;
        for (std::int64_t i = 0; i < 6 + round; ++i) values.push_back(static_cast<float>((i * 7 + static_cast<std::int64_t>(t)) % 5 - 2));
        const std::vector<Tensor> inputs{floats({1, 6 + round}, values)};
        std::vector<Tensor> outputs;
        if (!context.run_values(inputs, outputs)) ++wrong[t];
        else if (outputs[1].size() != std::count_if(values.begin(), values.end(), [](float v) { return v > 0; })) ++wrong[t];
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
}

TEST(Dynamic, ARandomValueFitsItsType) {
  ir::Type sequence;
  sequence.kind = ir::TypeKind::kSequence;
  sequence.element = std::make_shared<const ir::Type>(ir::Type::tensor(DType::kString, {2}));
  ir::Graph graph;
  graph.add_input("s", sequence);
  const Tensor value = random_inputs(graph, {}, 1).at("s");
  ASSERT_TRUE(value.is_sequence());
  ASSERT_FALSE(value.items().empty());
  EXPECT_EQ(value.items()[0].dtype(), DType::kString);
  EXPECT_EQ(value.items()[0].dims(), Dims{2});
}

}  // namespace
}  // namespace lathe::builder
