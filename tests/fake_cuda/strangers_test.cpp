// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Engines from strangers on a GPU: whatever the parameters of a step say, binding refuses it with an error or launches within the step's tensors.

#include <algorithm>
#include <set>

#include "../gpu/recurrent_models.h"
#include "engine/engine.h"
#include "engine/semantic_verifier.h"
#include "engine_fixture.h"
#include "plan/kernel.h"
#include "regions/attention/test_models.h"
#include "strangers.h"

namespace lathe {
namespace {

std::shared_ptr<ir::Model> norm_model() {
  builder::test::ModelMaker m(5);
  ir::Attrs axis;
  axis.set("axis", -1);
  ir::Value* x = m.input("x", {ir::Dim::symbol("batch"), 12, 64});
  return m.finish({m.add("LayerNormalization", {x, m.weight({64}), m.weight({64})}, axis)});
}

std::shared_ptr<ir::Model> masked_attention() {
  builder::test::AttentionCase c;
  c.batch = ir::Dim::symbol("batch");
  c.mask = builder::test::Mask::kKeys;
  c.spelling = builder::test::Spelling::kSplit;
  return builder::test::attention_model(c);
}

std::shared_ptr<ir::Model> topk_model() {
  builder::test::ModelMaker m(5);
  ir::Attrs axis;
  axis.set("axis", std::int64_t{1});
  ir::Node* top = m.add_all("TopK", {m.input("x", {ir::Dim::symbol("batch"), 3000, 2}), m.ints({700})}, 2, axis);
  return m.finish({top->output(0), top->output(1)});
}

std::shared_ptr<ir::Model> random_model() {
  builder::test::ModelMaker m(5);
  ir::Attrs seed;
  seed.set("seed", 3.0F);
  ir::Value* x = m.add("Relu", {m.input("x", {ir::Dim::symbol("batch"), 300})});
  return m.finish(
      {m.add("Add", {m.add("RandomNormalLike", {x}, seed), m.add("Bernoulli", {m.add("RandomUniformLike", {x})}, seed)}), m.add("Multinomial", {x}, seed)});
}

std::shared_ptr<ir::Model> recurrent(bool given) {
  testing_gpu::Layer layer;
  layer.op = given ? "GRU" : "LSTM";
  layer.direction = "bidirectional";
  layer.initial = layer.peephole = !given;
  layer.given = given;
  return testing_gpu::recurrent_model(layer);
}

std::shared_ptr<ir::Model> recurrent_of_float64() {
  builder::test::ModelMaker m(5);
  const auto weight = [&](Dims dims) { return m.constant(Tensor(DType::kFloat64, std::move(dims))); };
  ir::Value* x = m.input("x", {ir::Dim::symbol("steps"), ir::Dim::symbol("batch"), 16}, DType::kFloat64);
  ir::Attrs attrs;
  attrs.set("hidden_size", std::int64_t{20});
  ir::Node* node = m.add_all("GRU", {x, weight({1, 60, 16}), weight({1, 60, 20}), weight({1, 120})}, 2, attrs);
  return m.finish({node->output(0), node->output(1)});
}

/// Two lists of n-grams: a step may be given the other one.
std::shared_ptr<ir::Model> n_grams() {
  builder::test::ModelMaker m(5);
  std::vector<ir::Value*> outputs;
  ir::Value* x = m.input("x", {ir::Dim::symbol("batch"), 30}, DType::kInt32);
  for (const std::int64_t least : {1, 2}) {
    ir::Attrs attrs;
    attrs.set("mode", "TFIDF");
    attrs.set("min_gram_length", least);
    attrs.set("max_gram_length", 2);
    attrs.set("max_skip_count", 3);
    attrs.set("ngram_counts", std::vector<std::int64_t>{0, 2});
    attrs.set("ngram_indexes", std::vector<std::int64_t>{5, 0, 4 + least});
    attrs.set("pool_int64s", std::vector<std::int64_t>{0, 5, 0, 0});
    outputs.push_back(m.add("TfIdfVectorizer", {x}, attrs));
  }
  return m.finish(outputs);
}

std::shared_ptr<ir::Model> running_product() {
  builder::test::ModelMaker m(5);
  return m.finish({m.add("CumProd", {m.input("x", {ir::Dim::symbol("batch"), 70000}), m.ints({1})})});
}

std::shared_ptr<ir::Model> products_of_float64() {
  builder::test::ModelMaker m(5);
  ir::Value *x = m.input("x", {ir::Dim::symbol("batch"), 6}, DType::kFloat64), *w = m.input("w", {4, 6}, DType::kFloat64);
  ir::Attrs turned;
  turned.set("transB", std::int64_t{1});
  turned.set("alpha", 2.0F);
  return m.finish({m.add("Gemm", {x, w, m.input("c", {4}, DType::kFloat64)}, turned), m.add("MatMul", {x, m.constant(Tensor(DType::kFloat64, {6, 5}))})});
}

std::shared_ptr<ir::Model> convolutions_of_given_weights() {
  builder::test::ModelMaker m(5);
  ir::Value *x = m.input("x", {ir::Dim::symbol("batch"), 4, 9, 7}), *w = m.input("w", {4, 2, 3, 3}), *b = m.input("b", {4});
  ir::Attrs attrs;
  attrs.set("group", std::int64_t{2});
  attrs.set("strides", std::vector<std::int64_t>{2, 1});
  attrs.set("dilations", std::vector<std::int64_t>{1, 2});
  attrs.set("pads", std::vector<std::int64_t>{1, 0, 2, 1});
  return m.finish({m.add("Conv", {x, w, b}, attrs), m.add("ConvTranspose", {x, w}, attrs)});
}

/// All inputs zero, of this batch.
Status run_zeros(runtime::Context& context, const plan::Program& program, std::int64_t batch, std::int64_t others = 5) {
  std::vector<std::vector<std::byte>> tensors;
  std::vector<DType> types;
  std::vector<Dims> dims;
  for (const plan::Io& io : program.inputs) {
    dims.push_back(*ir::evaluate(program.slots[static_cast<std::size_t>(io.slot)].shape,
                                 {{"batch", batch}, {"others", others}, {"steps", 4}, {"height", 32}, {"width", 40}}));
    std::int64_t elements = 1;
    for (const std::int64_t extent : dims.back()) elements *= extent;
    types.push_back(program.slots[static_cast<std::size_t>(io.slot)].dtype);
    tensors.emplace_back(dtype_bytes(types.back(), elements));
  }
  std::vector<runtime::InputView> views;
  for (std::size_t i = 0; i < tensors.size(); ++i) views.push_back({tensors[i].data(), types[i], dims[i]});
  return context.run(views, {});
}

class Strangers : public FakeEngine {
 protected:
  /// Each damage to each step of this kernel: an error of a few kinds, or a run that the driver takes. Returns how many were refused.
  static int refused(const std::shared_ptr<ir::Model>& model, std::string_view kernel) {
    engine::EngineData data = builder::build_engine(model, options("fp16")).engine;
    const std::set<Code> kinds{Code::kCorruptFile, Code::kInvalidModel, Code::kInvalidArgument, Code::kUnsupported, Code::kInternal, Code::kMachine};
    int steps = 0, refusals = 0;
    for (plan::Step& step : data.sections[0].program.steps) {
      if (step.kernel != kernel) continue;
      ++steps;
      for_each_damage(step.params, [&](const std::string& what) {
        Status status;
        try {
          const auto engine = runtime::Engine::create(data, "cuda*");
          runtime::Context context(engine);
          for (const std::int64_t batch : {1, 3, 0, 2})
            if (status) status = run_zeros(context, engine->program(), batch);
        } catch (const Error& error) {
          status = Status(error.code(), error.what());
        }
        if (!status) {
          ++refusals;
          EXPECT_EQ(kinds.count(status.code()), 1u) << step.label << ", " << what << ": " << status.message();
        }
        EXPECT_STREQ(fake_cuda_violations(), "") << step.label << ", " << what;
        fake_cuda_reset();
      });
    }
    EXPECT_GT(steps, 0) << kernel;
    return refusals;
  }

  /// Steps with other tensors and weights than they were made for, as far as the file's own checks let them pass. Returns how many ran or were refused.
  static int with_other_tensors(const std::shared_ptr<ir::Model>& model, std::size_t section) {
    engine::EngineData data = builder::build_engine(model, options("fp16")).engine;
    plan::Program& program = data.sections[section].program;
    int tried = 0;
    const auto attempt = [&](const plan::Step& step, const char* what) {
      if (!engine::find_defect(data).empty()) return;
      ++tried;
      try {
        runtime::Context context(runtime::Engine::create(data, data.sections[section].device));
        for (const std::int64_t batch : {2, 1})
          if (!run_zeros(context, program, batch)) break;
      } catch (const Error&) {  // refused
      }
      EXPECT_STREQ(fake_cuda_violations(), "") << step.label << ", " << step.kernel << ", " << what;
      fake_cuda_reset();
    };
    for (plan::Step& step : program.steps) {
      const plan::Step before = step;
      const auto restored = [&](const char* what) {
        attempt(step, what);
        step = before;
      };
      step.inputs.clear();
      restored("no inputs");
      step.weights.clear();
      restored("no weights");
      step.outputs.clear();
      restored("no outputs");
      step.inputs.push_back(before.inputs.empty() ? -1 : before.inputs[0]);
      restored("one input more");
      step.outputs.push_back(before.outputs.at(0));
      restored("one output more");
      for (auto list : {&plan::Step::inputs, &plan::Step::outputs})
        for (std::size_t i = 0; i < (before.*list).size(); ++i)
          for (plan::SlotId slot = -1; slot < static_cast<plan::SlotId>(program.slots.size()); ++slot) {
            (step.*list)[i] = slot;
            restored("another tensor");
          }
      for (const plan::KernelType* type : plan::all_kernels()) {
        if (type->name.starts_with("cuda.") != (section == 0)) continue;
        step.kernel = type->name;
        attempt(step, "another kernel");
        step.inputs.clear();
        restored("another kernel without inputs");
      }
      for (std::size_t i = 0; i < before.weights.size(); ++i)
        for (plan::BlobId blob = 0; blob < static_cast<plan::BlobId>(data.blobs.size()); ++blob) {
          step.weights[i] = blob;
          restored("another weight");
        }
    }
    return tried;
  }
};

TEST_F(Strangers, AttentionRefusesDamagedParameters) { EXPECT_GT(refused(masked_attention(), "cuda.attention"), 100); }
TEST_F(Strangers, RowNormRefusesDamagedParameters) { EXPECT_GT(refused(norm_model(), "cuda.row_norm"), 5); }
TEST_F(Strangers, TopKRefusesDamagedParameters) { EXPECT_GT(refused(topk_model(), "cuda.topk"), 3); }
TEST_F(Strangers, RandomNumbersRefuseDamagedParameters) { EXPECT_GT(refused(random_model(), "cuda.random"), 20); }
TEST_F(Strangers, RecurrentLayersRefuseDamagedParameters) {
  for (const bool given : {false, true}) EXPECT_GT(refused(recurrent(given), "cuda.rnn"), 20);
  EXPECT_GT(refused(recurrent_of_float64(), "cuda.rnn"), 20);
}
TEST_F(Strangers, RunningProductsRefuseDamagedParameters) { EXPECT_GT(refused(running_product(), "cuda.cumulative"), 5); }
TEST_F(Strangers, PlainProductsRefuseDamagedParameters) { EXPECT_GT(refused(products_of_float64(), "cuda.matmul.generic"), 5); }
TEST_F(Strangers, PlainConvolutionsRefuseDamagedParameters) { EXPECT_GT(refused(convolutions_of_given_weights(), "cuda.conv.generic"), 20); }
TEST_F(Strangers, MatMulRefusesDamagedParameters) { EXPECT_GT(refused(masked_attention(), "cuda.matmul"), 100); }

TEST_F(Strangers, KernelsOfConvolutionalNetworksRefuseDamagedParameters) {
  for (const char* kernel : {"cuda.conv", "cuda.depthwise", "cuda.pool", "cuda.conv_transpose", "cuda.matmul"})
    EXPECT_GT(refused(image_model(), kernel), 0) << kernel;
  EXPECT_GT(refused(small_model(), "cuda.loops"), 0);
}

TEST_F(Strangers, AnyPlanOfALargeProductIsLaunchedWithinLimits) {
  builder::test::ModelMaker m(5);
  ir::Value* x = m.input("x", {ir::Dim::symbol("batch"), 300, 1024});
  const auto model = m.finish({m.add("Relu", {m.add("Add", {m.add("MatMul", {x, m.weight({1024, 520}, 1024)}), m.weight({520})})})});
  engine::EngineData data = builder::build_engine(model, options("fp16")).engine;
  plan::Program& program = data.sections[0].program;
  const auto step = std::find_if(program.steps.begin(), program.steps.end(), [](const plan::Step& each) { return each.kernel == "cuda.matmul"; });
  ASSERT_TRUE(step != program.steps.end());
  step->params.set("tuned_rows", std::int64_t{600});
  for (const std::int64_t core : {0, 1, 2})
    for (const std::int64_t rows : {64, 128, 256})
      for (const std::int64_t columns : {64, 128, 256})
        for (const std::int64_t splits : {1, 2, 7, 64})
          for (const std::int64_t cluster : {0, 1}) {
            step->params.set("plan", std::vector<std::int64_t>{core, rows, columns, splits, cluster});
            runtime::Context context(runtime::Engine::create(data, "cuda*"));
            for (const std::int64_t batch : {2, 4, 1}) {
              const Status status = run_zeros(context, program, batch);
              EXPECT_TRUE(status) << status.message();
            }
            ASSERT_STREQ(fake_cuda_violations(), "") << core << " " << rows << "x" << columns << " " << splits << " " << cluster;
          }
}

TEST_F(Strangers, StepsOnOtherTensorsAreRefusedOrStayInside) {
  for (const auto& model : {masked_attention(), norm_model(), image_model(), small_model(), topk_model(), recurrent(false), recurrent(true)})
    for (const std::size_t section : {0, 1}) EXPECT_GT(with_other_tensors(model, section), 20);
  EXPECT_GT(with_other_tensors(random_model(), 0), 20);
  for (const auto& model : {recurrent_of_float64(), n_grams(), running_product(), products_of_float64(), convolutions_of_given_weights()})
    EXPECT_GT(with_other_tensors(model, 0), 20);
}

TEST_F(Strangers, NormsOfNoRowsRun) {
  builder::test::ModelMaker m(5);
  ir::Attrs axis;
  axis.set("axis", -1);
  const ir::Shape shape{2, ir::Dim::symbol("others"), 3, ir::Dim::symbol("batch"), 64};
  const auto model = m.finish({m.add("Relu", {m.add("LayerNormalization", {m.add("Relu", {m.input("x", shape)}), m.weight({64}), m.weight({64})}, axis)})});
  const auto engine = runtime::Engine::create(builder::build_engine(model, options("fp16")).engine, "cuda*");
  runtime::Context context(engine);
  for (const auto& [batch, others] : {std::pair(2, 2), std::pair(0, 2), std::pair(2, 0), std::pair(1, 1), std::pair(1, 3), std::pair(3, 1)}) {
    const Status status = run_zeros(context, engine->program(), batch, others);
    EXPECT_TRUE(status) << batch << ", " << others << ": " << status.message();
  }
}

TEST_F(Strangers, AnAttentionOverNoKeysRuns) {
  builder::test::AttentionCase c;
  c.batch = ir::Dim::symbol("batch");
  c.cross = true;
  c.keys = ir::Dim::symbol("others");
  const auto engine = runtime::Engine::create(builder::build_engine(builder::test::attention_model(c), options("fp16")).engine, "cuda*");
  const auto& steps = engine->program().steps;
  ASSERT_TRUE(std::any_of(steps.begin(), steps.end(), [](const plan::Step& step) { return step.kernel == "cuda.attention"; }));
  runtime::Context context(engine);
  for (const std::int64_t keys : {7, 0, 3}) {
    const Status status = run_zeros(context, engine->program(), 2, keys);
    EXPECT_TRUE(status) << keys << " keys: " << status.message();
  }
}

TEST_F(Strangers, AKernelOfTheOtherMachineIsRefused) {
  const engine::EngineData data = builder::build_engine(small_model(), options()).engine;
  // The host's kernel would read and write at the device's addresses; the device's has no device.
  for (const auto& [section, kernel] : {std::pair("cuda:sm_90", "cpu.loops"), std::pair("cpu-generic", "cuda.loops")}) {
    engine::EngineData other = data;
    int changed = 0;
    for (engine::DeviceSection& each : other.sections)
      for (plan::Step& step : each.program.steps)
        if (each.device == section && step.kernel.ends_with(".loops")) step.kernel = kernel, ++changed;
    ASSERT_GT(changed, 0) << section;
    Status status;
    try {
      runtime::Context context(runtime::Engine::create(std::move(other), section));
      status = run(context, 2);
    } catch (const Error& error) {
      status = Status(error.code(), error.what());
    }
    EXPECT_EQ(status.code(), Code::kCorruptFile) << section << ": " << status.message();
  }
}

}  // namespace
}  // namespace lathe
