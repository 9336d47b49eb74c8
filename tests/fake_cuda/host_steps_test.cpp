// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Operators whose kernels on a GPU are not made of products, pooling or loops, as steps of an engine on the driver that checks every call: nothing of them
// runs on the host, in any precision, and they run at any extents.

#include <algorithm>

#include "../gpu/linear_attention_model.h"
#include "../gpu/recurrent_models.h"
#include "engine_fixture.h"
#include "ops/ml/ml_test_models.h"

namespace lathe {
namespace {

using builder::test::ModelMaker;
using testing_gpu::Layer;
using testing_gpu::recurrent_layers;
using testing_gpu::recurrent_model;

class NoHostSteps : public FakeEngine {
 protected:
  static int steps_by(const engine::EngineData& data, std::string_view kernel) {
    const auto& steps = data.sections[0].program.steps;
    return static_cast<int>(std::count_if(steps.begin(), steps.end(), [&](const plan::Step& step) { return step.kernel == kernel; }));
  }
};

TEST_F(NoHostSteps, TopK) {
  for (const char* precision : {"fp32", "fp16", "bf16"}) {
    ModelMaker m(2);
    ir::Value* x = m.input("x", {ir::Dim::symbol("batch"), 4, ir::Dim::symbol("places")});
    ir::Attrs axis;
    axis.set("axis", std::int64_t{1});
    ir::Node* top = m.add_all("TopK", {m.add("Relu", {x}), m.ints({3})}, 2, axis);
    builder::BuildResult built = builder::build_engine(m.finish({m.add("Neg", {top->output(0)}), top->output(1)}), options(precision));
    EXPECT_EQ(steps_by(built.engine, "cuda.topk"), 1) << precision;
    EXPECT_TRUE(built.report.host_steps.empty()) << built.report.host_steps.front();
    const auto engine = runtime::Engine::create(std::move(built.engine));
    runtime::Context context(engine);
    for (const auto& [batch, places] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {5, 100}, {2, 3001}, {3, 0}, {5, 100}}) {
      std::vector<float> data(static_cast<std::size_t>(batch * 4 * places), 1);
      const std::int64_t dims[] = {batch, 4, places};
      const runtime::InputView view{data.data(), DType::kFloat32, dims};
      const Status status = context.run(std::span(&view, 1), {});
      ASSERT_TRUE(status) << batch << "x" << places << ": " << status.message();
    }
  }
}

TEST_F(NoHostSteps, RecurrentLayers) {
  for (const Layer& l : recurrent_layers())
    for (const char* precision : {"fp32", "fp16", "bf16"}) {
      SCOPED_TRACE(l.op + " " + l.direction + " in " + precision);
      builder::BuildResult built = builder::build_engine(recurrent_model(l), options(precision));
      EXPECT_EQ(steps_by(built.engine, "cuda.rnn"), 1);
      EXPECT_TRUE(built.report.host_steps.empty()) << built.report.host_steps.front();
      const auto engine = runtime::Engine::create(std::move(built.engine));
      runtime::Context context(engine);
      for (auto [batch, steps] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {3, 50}, {2, 0}, {17, 2}, {3, 50}}) {
        if (l.constant_initial) batch = 3;
        const std::int64_t n = batch, t = steps, d = l.direction == "bidirectional" ? 2 : 1, rows = 20 * (l.op == "LSTM" ? 4 : l.op == "GRU" ? 3 : 1);
        std::vector<Dims> dims{l.layout ? Dims{n, t, 16} : Dims{t, n, 16}};
        if (l.given) dims.insert(dims.end(), {{d, rows, 24}, {d, rows, 20}, {d, 2 * rows}});
        if (l.lengths) dims.push_back({n});
        if (l.initial) dims.insert(dims.end(), l.op == "LSTM" ? 2 : 1, l.layout ? Dims{n, d, 20} : Dims{d, n, 20});
        if (l.given && l.peephole) dims.push_back({d, 60});
        const std::vector<float> zeros(100000);
        std::vector<runtime::InputView> views;
        for (const Dims& each : dims) views.push_back({zeros.data(), each.size() == 1 ? DType::kInt32 : DType::kFloat32, each});
        const Status status = context.run(views, {});
        ASSERT_TRUE(status) << batch << "x" << steps << ": " << status.message();
      }
    }
}

TEST_F(NoHostSteps, RecurrentLayersOfFloat64) {
  for (const char* op : {"LSTM", "GRU", "RNN"})
    for (const bool given : {false, true}) {
      SCOPED_TRACE(std::string(op) + (given ? " of weights that are no constants" : ""));
      const bool lstm = op == std::string("LSTM");
      const std::int64_t rows = 20 * (lstm ? 4 : op[0] == 'G' ? 3 : 1);
      ModelMaker m(4);
      // Inputs are declared in the order of the views below.
      ir::Value* x = m.input("x", {ir::Dim::symbol("steps"), ir::Dim::symbol("batch"), 24}, DType::kFloat64);
      const auto weight = [&](const char* name, Dims dims) {
        return given ? m.input(name, ir::Shape(dims.begin(), dims.end()), DType::kFloat64) : m.constant(Tensor(DType::kFloat64, std::move(dims)));
      };
      std::vector<ir::Value*> inputs{m.add("Tanh", {x}), weight("w", {2, rows, 24}), weight("r", {2, rows, 20}), weight("b", {2, 2 * rows})};
      if (lstm) inputs.insert(inputs.end(), {nullptr, nullptr, nullptr, weight("p", {2, 60})});
      ir::Attrs attrs;
      attrs.set("direction", "bidirectional");
      attrs.set("hidden_size", std::int64_t{20});
      ir::Node* node = m.add_all(op, inputs, 2, attrs);
      builder::BuildResult built = builder::build_engine(m.finish({m.add("Exp", {node->output(0)}), node->output(1)}), options("fp32"));
      EXPECT_EQ(steps_by(built.engine, "cuda.rnn"), 1);
      EXPECT_TRUE(built.report.host_steps.empty()) << built.report.host_steps.front();
      const auto engine = runtime::Engine::create(std::move(built.engine));
      runtime::Context context(engine);
      const std::vector<double> zeros(100000);
      for (const auto& [batch, steps] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {3, 50}, {2, 0}, {17, 2}, {3, 50}}) {
        std::vector<Dims> dims{{steps, batch, 24}};
        if (given) dims.insert(dims.end(), {{2, rows, 24}, {2, rows, 20}, {2, 2 * rows}});
        if (given && lstm) dims.push_back({2, 60});
        std::vector<runtime::InputView> views;
        for (const Dims& each : dims) views.push_back({zeros.data(), DType::kFloat64, each});
        const Status status = context.run(views, {});
        ASSERT_TRUE(status) << batch << "x" << steps << ": " << status.message();
      }
    }
}

TEST_F(NoHostSteps, LinearAttention) {
  for (const char* rule : {"linear", "gated", "delta", "gated_delta"})
    for (const bool past : {false, true})
      for (const char* precision : {"fp32", "fp16", "bf16"}) {
        SCOPED_TRACE(std::string(rule) + (past ? " with a state in " : " in ") + precision);
        builder::BuildResult built = builder::build_engine(testing_gpu::linear_attention_model(rule, past), options(precision));
        EXPECT_EQ(steps_by(built.engine, "cuda.linear_attention"), 1);
        EXPECT_TRUE(built.report.host_steps.empty()) << built.report.host_steps.front();
        const auto engine = runtime::Engine::create(std::move(built.engine));
        runtime::Context context(engine);
        const std::vector<float> zeros(10000);
        for (const auto& [batch, steps] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {3, 50}, {2, 0}, {17, 2}, {3, 50}}) {
          const std::int64_t x[] = {batch, steps, 24}, state[] = {batch, 2, 16, 12};
          std::vector<runtime::InputView> views{{zeros.data(), DType::kFloat32, x}};
          if (past) views.push_back({zeros.data(), DType::kFloat32, state});
          const Status status = context.run(views, {});
          ASSERT_TRUE(status) << batch << "x" << steps << ": " << status.message();
        }
      }
}

/// Behind a product, whose results may be stored in fewer bits, and with a product behind them.
TEST_F(NoHostSteps, ModelsOfTreesAndSupportVectors) {
  ops::testing::Random random{3};
  ir::Attrs trees = ops::testing::forest({40, 5, 8, 3}, "target", random), classes = ops::testing::forest({20, 4, 8, 3}, "class", random);
  trees.set("n_targets", 3);
  classes.set("classlabels_int64s", std::vector<std::int64_t>{7, 5, 9});
  classes.set("post_transform", "SOFTMAX");
  const ir::Attrs ensemble = ops::testing::ensemble(DType::kFloat32, true, random), vectors = ops::testing::support_vectors(30, 8, random),
                  voters = ops::testing::support_vectors_of_classes(4, 8, true, random), linear = ops::testing::linear_classes(3, 8, random);
  for (const char* precision : {"fp32", "fp16", "bf16"}) {
    SCOPED_TRACE(precision);
    ModelMaker m(5);
    ir::Value* in = m.input("x", {ir::Dim::symbol("batch"), 16});
    ir::Value *x = m.add("MatMul", {in, m.weight({16, 8}, 16)}), *narrow = m.add("MatMul", {in, m.weight({16, 8}, 16)});
    std::vector<ir::Value*> outputs{m.add("MatMul", {m.add("ai.onnx.ml::TreeEnsembleRegressor", {narrow}, trees), m.weight({3, 5}, 3)}),
                                    m.add("ai.onnx.ml::TreeEnsemble", {x}, ensemble), m.add("ai.onnx.ml::SVMRegressor", {x}, vectors)};
    const std::pair<const char*, const ir::Attrs*> classifiers[] = {
        {"TreeEnsembleClassifier", &classes}, {"SVMClassifier", &voters}, {"SVMClassifier", &linear}};
    for (const auto& [op, attrs] : classifiers) {
      const ir::Node* node = m.add_all(std::string("ai.onnx.ml::") + op, {x}, 2, *attrs);
      outputs.insert(outputs.end(), {node->output(0), node->output(1)});
    }
    builder::BuildResult built = builder::build_engine(m.finish(outputs), options(precision));
    EXPECT_EQ(steps_by(built.engine, "cuda.trees"), 3);
    EXPECT_EQ(steps_by(built.engine, "cuda.svm"), 3);
    EXPECT_TRUE(built.report.host_steps.empty()) << built.report.host_steps.front();
    const auto engine = runtime::Engine::create(std::move(built.engine));
    runtime::Context context(engine);
    for (const std::int64_t batch : {1, 100, 0, 33, 3000}) {
      const std::vector<float> data(static_cast<std::size_t>(batch * 16), 1);
      const std::int64_t dims[] = {batch, 16};
      const runtime::InputView view{data.data(), DType::kFloat32, dims};
      const Status status = context.run(std::span(&view, 1), {});
      ASSERT_TRUE(status) << batch << ": " << status.message();
    }
  }
}

TEST_F(NoHostSteps, CountsOfNGrams) {
  ir::Attrs attrs;
  attrs.set("mode", "TFIDF");
  attrs.set("min_gram_length", 1);
  attrs.set("max_gram_length", 2);
  attrs.set("max_skip_count", 3);
  attrs.set("ngram_counts", std::vector<std::int64_t>{0, 3});
  attrs.set("ngram_indexes", std::vector<std::int64_t>{4, 0, 1, 1, 7});
  attrs.set("pool_int64s", std::vector<std::int64_t>{7, 5, 9, 5, 7, 9, 9});
  attrs.set("weights", std::vector<float>{1, 2, 3, 4, 5});
  for (const char* precision : {"fp32", "fp16", "bf16"})
    for (const DType type : {DType::kInt32, DType::kInt64}) {
      SCOPED_TRACE(std::string(precision) + " " + std::string(dtype_name(type)));
      ModelMaker m(5);
      ir::Value* x = m.input("x", {ir::Dim::symbol("batch"), ir::Dim::symbol("tokens")}, type);
      ir::Value* y = m.add("TfIdfVectorizer", {x}, attrs);
      builder::BuildResult built = builder::build_engine(m.finish({m.add("MatMul", {y, m.weight({8, 5}, 8)}), y}), options(precision));
      EXPECT_EQ(steps_by(built.engine, "cuda.tfidf"), 1);
      EXPECT_TRUE(built.report.host_steps.empty()) << built.report.host_steps.front();
      const auto engine = runtime::Engine::create(std::move(built.engine));
      runtime::Context context(engine);
      const std::vector<std::int64_t> data(100000, 5);
      for (const auto& [batch, tokens] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {3, 500}, {0, 5}, {2, 0}, {70000, 1}, {3, 500}}) {
        const std::int64_t dims[] = {batch, tokens};
        const runtime::InputView view{data.data(), type, dims};
        const Status status = context.run(std::span(&view, 1), {});
        ASSERT_TRUE(status) << batch << "x" << tokens << ": " << status.message();
      }
    }
}

TEST_F(NoHostSteps, LongRunningSumsAndProducts) {
  for (const char* op : {"CumSum", "CumProd"})
    for (const DType type :
         {DType::kFloat32, DType::kFloat64, DType::kFloat16, DType::kBFloat16, DType::kInt32, DType::kInt64, DType::kUint32, DType::kUint64}) {
      SCOPED_TRACE(std::string(op) + " of " + std::string(dtype_name(type)));
      ModelMaker m(5);
      ir::Value* x = m.input("x", {ir::Dim::symbol("batch"), 100000}, type);
      builder::BuildResult built = builder::build_engine(m.finish({m.add(op, {x, m.ints({1})})}), options("fp32"));
      EXPECT_EQ(steps_by(built.engine, "cuda.cumulative"), 1);
      EXPECT_TRUE(built.report.host_steps.empty()) << built.report.host_steps.front();
      const auto engine = runtime::Engine::create(std::move(built.engine));
      runtime::Context context(engine);
      for (const std::int64_t batch : {1, 3, 0, 2}) {
        const std::vector<std::byte> data(static_cast<std::size_t>(batch) * 800000);
        const std::int64_t dims[] = {batch, 100000};
        const runtime::InputView view{data.data(), type, dims};
        const Status status = context.run(std::span(&view, 1), {});
        ASSERT_TRUE(status) << batch << ": " << status.message();
      }
    }
}

TEST_F(NoHostSteps, ProductsWithAConstantOnTheLeft) {
  for (const char* precision : {"fp32", "tf32", "fp16", "bf16"}) {
    ModelMaker m(4);
    ir::Value* x = m.input("x", {ir::Dim::symbol("batch"), 4, 32});
    ir::Value* y = m.add("MatMul", {m.weight({128, 4}, 4), m.add("Relu", {x})});
    const builder::BuildResult built = builder::build_engine(m.finish({m.add("Exp", {y})}), options(precision));
    EXPECT_EQ(steps_by(built.engine, "cuda.matmul"), 1) << precision;
    EXPECT_TRUE(built.report.host_steps.empty()) << precision << ": " << built.report.host_steps.front();
  }
}

TEST_F(NoHostSteps, ProductsWithWhatTheModelGives) {
  for (const char* precision : {"fp32", "tf32", "fp16", "bf16"}) {
    ModelMaker m(4);
    ir::Attrs axis;
    axis.set("axis", std::int64_t{1});
    const ir::Dim past = ir::Dim::symbol("past");
    ir::Value* cache = m.add("Concat", {m.input("before", {1, past, 32}), m.input("new", {1, 1, 32})}, axis);
    ir::Value* shares = m.add("Softmax", {m.input("scores", {1, 4, past + ir::Dim(1)})});
    ir::Value* y = m.add("MatMul", {shares, cache});
    const builder::BuildResult built = builder::build_engine(m.finish({m.add("Exp", {y}), cache}), options(precision));
    EXPECT_EQ(steps_by(built.engine, "cuda.matmul"), 1) << precision;
    EXPECT_TRUE(built.report.host_steps.empty()) << precision << ": " << built.report.host_steps.front();
  }
}

/// All of a dynamic program's steps are calls of planned ones, and what goes to the host between them is counts.
TEST_F(NoHostSteps, WhatOnlyTheDataCount) {
  const auto every_step = [](const plan::Program& program, std::string_view kernel) {
    int found = 0;
    for (const plan::Step& step : program.steps) EXPECT_EQ(static_cast<int>(step.kind), static_cast<int>(plan::StepKind::kCall)) << step.label;
    for (const plan::Program& island : program.subprograms)
      for (const plan::Step& step : island.steps) {
        EXPECT_NE(static_cast<int>(step.kind), static_cast<int>(plan::StepKind::kHostOp)) << step.label;
        found += step.kernel == kernel;
      }
    return found;
  };
  for (const char* precision : {"fp32", "fp16", "bf16"}) {
    SCOPED_TRACE(precision);
    ModelMaker m(6);
    ir::Value* x = m.input("x", {ir::Dim::symbol("rows"), 64});
    ir::Value* bright = m.add("Greater", {x, m.weight({1}, 1)});
    ir::Attrs turned;
    turned.set("perm", std::vector<std::int64_t>{1, 0});
    ir::Value* places = m.add("Transpose", {m.add("NonZero", {bright})}, turned);
    builder::BuildResult built = builder::build_engine(m.finish({m.add("Exp", {m.add("GatherND", {x, places})}), places}), options(precision));
    EXPECT_EQ(every_step(built.engine.sections[0].program, "cuda.nonzero"), 1);
    const auto engine = runtime::Engine::create(std::move(built.engine));
    runtime::Context context(engine);
    const std::vector<float> data(64 * 300);
    for (const std::int64_t rows : {1, 300, 0, 7, 300}) {
      fake_cuda_reset();
      fake_cuda_set_fill(0);  // a count of nothing
      const std::int64_t dims[] = {rows, 64};
      const runtime::InputView view{data.data(), DType::kFloat32, dims};
      const Status status = context.run(std::span(&view, 1), {});
      ASSERT_TRUE(status) << rows << " rows: " << status.message();
      // The input goes there once for all islands; the count and the outputs come back.
      EXPECT_LE(fake_cuda_calls("cuMemcpyHtoDAsync_v2"), 1u);
      EXPECT_LE(fake_cuda_calls("cuMemcpyDtoHAsync_v2"), 3u);
      EXPECT_STREQ(fake_cuda_violations(), "");
    }
  }
}

/// A CPU runs them by their definitions, between planned steps; for a GPU they are planned, so that a model of fixed extents is one program.
TEST_F(NoHostSteps, RandomNumbers) {
  for (const char* precision : {"fp32", "fp16", "bf16"})
    for (const bool seeded : {false, true}) {
      SCOPED_TRACE(std::string(precision) + (seeded ? ", seeded" : ""));
      ModelMaker m(9);
      ir::Attrs attrs, shaped;
      if (seeded) attrs.set("seed", 3.0F);
      shaped = attrs;
      shaped.set("shape", std::vector<std::int64_t>{7, 48});
      ir::Value *in = m.input("x", {ir::Dim::symbol("batch"), 32}), *x = m.add("MatMul", {in, m.weight({32, 48}, 32)});
      ir::Value* noise = m.add("Add", {m.add("RandomNormalLike", {x}, attrs), m.add("RandomUniformLike", {x}, attrs)});
      ir::Value* y = m.add("MatMul", {m.add("Mul", {noise, m.add("Bernoulli", {m.add("Sigmoid", {x})}, attrs)}), m.weight({48, 16}, 48)});
      ir::Value* fixed = m.add("Add", {m.add("RandomNormal", {}, shaped), m.add("RandomUniform", {}, shaped)});
      builder::BuildResult built = builder::build_engine(m.finish({m.add("Multinomial", {y}, attrs), fixed, y}), options(precision));
      EXPECT_EQ(steps_by(built.engine, "cuda.random"), 6);
      EXPECT_FALSE(built.engine.sections[0].program.dynamic);
      EXPECT_TRUE(built.engine.sections[1].program.dynamic);
      EXPECT_TRUE(built.report.host_steps.empty()) << built.report.host_steps.front();
      const auto engine = runtime::Engine::create(std::move(built.engine));
      runtime::Context context(engine);
      for (const std::int64_t batch : {1, 100, 0, 33, 3000, 100, 100}) {
        const std::vector<float> data(static_cast<std::size_t>(batch * 32), 1);
        const std::int64_t dims[] = {batch, 32};
        const runtime::InputView view{data.data(), DType::kFloat32, dims};
        const Status status = context.run(std::span(&view, 1), {});
        ASSERT_TRUE(status) << batch << ": " << status.message();
      }
    }
}

TEST_F(NoHostSteps, RandomNumbersOfWhatOnlyTheDataCount) {
  ModelMaker m(6);
  ir::Value* x = m.input("x", {ir::Dim::symbol("rows"), 64});
  ir::Value* noise = m.add("RandomNormalLike", {m.add("Cast", {m.add("NonZero", {m.add("Relu", {x})})}, [] {
                             ir::Attrs to;
                             to.set("to", static_cast<std::int64_t>(DType::kFloat32));
                             return to;
                           }())});
  builder::BuildResult built = builder::build_engine(m.finish({m.add("Exp", {noise})}), options());
  int found = 0;
  for (const plan::Step& step : built.engine.sections[0].program.steps)
    EXPECT_EQ(static_cast<int>(step.kind), static_cast<int>(plan::StepKind::kCall)) << step.label;
  for (const plan::Program& island : built.engine.sections[0].program.subprograms)
    for (const plan::Step& step : island.steps) found += step.kernel == "cuda.random";
  EXPECT_EQ(found, 1);
  EXPECT_TRUE(built.report.host_steps.empty()) << built.report.host_steps.front();
}

TEST_F(NoHostSteps, BoxesThatOverlap) {
  ModelMaker m(7);
  const ir::Dim boxes = ir::Dim::symbol("boxes");
  ir::Value *b = m.input("boxes", {1, boxes, 4}), *s = m.input("scores", {1, 5, boxes});
  ir::Node* nms = m.add_all("NonMaxSuppression", {b, m.add("Sigmoid", {s}), m.ints({20}), m.weight({1}, 1), m.weight({1}, 1)}, 1);
  builder::BuildResult built = builder::build_engine(m.finish({m.add("Add", {nms->output(0), m.ints({1})})}), options("fp16"));
  int found = 0;
  for (const plan::Step& step : built.engine.sections[0].program.steps)
    EXPECT_EQ(static_cast<int>(step.kind), static_cast<int>(plan::StepKind::kCall)) << step.label;
  for (const plan::Program& island : built.engine.sections[0].program.subprograms)
    for (const plan::Step& step : island.steps) found += step.kernel == "cuda.nms";
  EXPECT_EQ(found, 1);
  const auto engine = runtime::Engine::create(std::move(built.engine));
  fake_cuda_set_fill(0);
  runtime::Context context(engine);
  for (const std::int64_t count : {100, 0, 3000}) {
    const std::vector<float> data(static_cast<std::size_t>(count * 5));
    const std::int64_t box_dims[] = {1, count, 4}, score_dims[] = {1, 5, count};
    const runtime::InputView views[] = {{data.data(), DType::kFloat32, box_dims}, {data.data(), DType::kFloat32, score_dims}};
    const Status status = context.run(views, {});
    ASSERT_TRUE(status) << count << " boxes: " << status.message();
    EXPECT_STREQ(fake_cuda_violations(), "");
  }
}

/// A caller's arrays on the device are read and written where they are.
TEST_F(NoHostSteps, DynamicProgramsTakeTheDevicesMemory) {
  ModelMaker m(8);
  ir::Value* x = m.input("x", {ir::Dim::symbol("rows"), 8});
  ir::Value* places = m.add("NonZero", {m.add("Relu", {x})});
  const auto engine = runtime::Engine::create(builder::build_engine(m.finish({m.add("Exp", {x}), places}), options("fp32")).engine);
  runtime::Context context(engine);
  const auto& device = engine->cuda()->device();
  cuda::Block in(device, 4 * 8 * sizeof(float)), out(device, 4 * 8 * sizeof(float));
  const std::int64_t dims[] = {4, 8};
  const runtime::InputView input{in.data(), DType::kFloat32, dims};
  const runtime::OutputView output{out.data(), DType::kFloat32, dims};
  fake_cuda_reset();
  fake_cuda_set_fill(0);
  const Status status = context.run(std::span(&input, 1), std::span(&output, 1));
  ASSERT_TRUE(status) << status.message();
  EXPECT_EQ(fake_cuda_calls("cuMemcpyHtoDAsync_v2"), 0u);
  EXPECT_EQ(context.output(0).data, out.data());
  EXPECT_STREQ(fake_cuda_violations(), "");
}

}  // namespace
}  // namespace lathe
