// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Building and running engines for a GPU through the driver that only checks calls: what is allocated, copied, launched, captured and
// given back. Numbers are for machines with a GPU (tests/gpu).

#include <array>
#include <limits>
#include <map>

#include "backend/cuda/memory.h"
#include "backend/cuda/stream.h"
#include "engine/engine.h"
#include "engine_fixture.h"

namespace lathe {
namespace {

TEST_F(FakeEngine, TheFirstRunLaunchesAndLaterOnesReplay) {
  const auto engine = runtime::Engine::create(builder::build_engine(small_model(), options()).engine);
  EXPECT_EQ(engine->section().device, "cuda:sm_90");
  runtime::Context context(engine);
  fake_cuda_reset();
  ASSERT_TRUE(run(context, 1));
  const fake_cuda_live first = fake_cuda_count();
  EXPECT_GT(first.captured, 0u);
  EXPECT_EQ(first.graph_launches, 0u);
  ASSERT_TRUE(run(context, 1));
  ASSERT_TRUE(run(context, 1));
  const fake_cuda_live third = fake_cuda_count();
  EXPECT_EQ(third.graph_launches, 2u);
  EXPECT_EQ(third.launches, first.launches) << "replays launch nothing themselves";
  // Another shape is launched first too.
  ASSERT_TRUE(run(context, 3));
  EXPECT_EQ(fake_cuda_count().graph_launches, 2u);
}

TEST_F(FakeEngine, OutOfDeviceMemoryIsAStatusAndTheNextRunIsFine) {
  const auto engine = runtime::Engine::create(builder::build_engine(small_model(), options()).engine);
  runtime::Context context(engine);
  fake_cuda_set_memory(1 << 20);
  const Status status = run(context, 4096);
  EXPECT_EQ(status.code(), Code::kOutOfMemory) << status.message();
  ASSERT_TRUE(run(context, 1)) << "the context lives on";
}

/// Notes whether the run under way was waited for before its memory went back.
class WatchingAllocator final : public Allocator {
 public:
  explicit WatchingAllocator(std::shared_ptr<cuda::Device> device) : device_(std::move(device)) {}
  void* allocate(std::size_t bytes, std::size_t alignment, MemorySpace space, void* stream) noexcept override {
    return device_.allocate(bytes, alignment, space, stream);
  }
  void deallocate(void* pointer, std::size_t bytes, MemorySpace space, void* stream) noexcept override {
    if (space == MemorySpace::kDevice) waited = waited && fake_cuda_calls("cuEventSynchronize") > 0;
    device_.deallocate(pointer, bytes, space, stream);
  }
  bool waited = true;

 private:
  cuda::DeviceAllocator device_;
};

TEST_F(FakeEngine, MemoryGoesBackBehindTheRunThatUsesIt) {
  const auto engine = runtime::Engine::create(builder::build_engine(small_model(), options()).engine);
  const auto device = cuda::Device::open(0);
  const std::int64_t dims[] = {2, 16, 8, 8};
  constexpr std::size_t kBytes = 2 * 16 * 64 * sizeof(float);
  WatchingAllocator allocator(device);
  const cuda::Block in(device, kBytes), out(device, kBytes);
  const cuda::Stream stream(device);
  {
    runtime::Context context(engine, &allocator);
    const runtime::InputView x{in.data(), DType::kFloat32, dims};
    const runtime::OutputView y{out.data(), DType::kFloat32, dims};
    ASSERT_TRUE(context.run(std::span(&x, 1), std::span(&y, 1), stream.handle()));
    ASSERT_EQ(fake_cuda_calls("cuEventSynchronize"), 0u) << "the call returns at once";
  }
  EXPECT_TRUE(allocator.waited);
}

TEST_F(FakeEngine, AFailingDriverCallIsAStatusWithItsName) {
  const auto engine = runtime::Engine::create(builder::build_engine(small_model(), options()).engine);
  for (const char* call : {"cuMemcpyHtoDAsync", "cuLaunchKernelEx", "cuMemcpyDtoHAsync", "cuStreamSynchronize"}) {
    runtime::Context context(engine);
    ASSERT_TRUE(run(context, 2));
    fake_cuda_fail(call, 1, 719);
    const Status status = run(context, std::string_view(call) == "cuLaunchKernelEx" ? 5 : 2);
    EXPECT_FALSE(status) << call;
    EXPECT_NE(std::string(status.message()).find(std::string_view(call) == "cuStreamSynchronize" ? "running the steps" : call), std::string::npos)
        << status.message();
    EXPECT_TRUE(run(context, 2)) << call;
  }
}

TEST_F(FakeEngine, ContextsGiveBackWhatTheyTook) {
  const auto engine = runtime::Engine::create(builder::build_engine(small_model(), options()).engine);
  const auto cycle = [&] {
    runtime::Context context(engine);
    ASSERT_TRUE(run(context, 1));
    ASSERT_TRUE(run(context, 2));
  };
  cycle();
  const fake_cuda_live before = fake_cuda_count();
  for (int i = 0; i < 200; ++i) cycle();
  const fake_cuda_live after = fake_cuda_count();
  EXPECT_EQ(after.bytes, before.bytes);
  EXPECT_EQ(after.streams + after.events + after.graphs, before.streams + before.events + before.graphs);
}

TEST_F(FakeEngine, ConvolutionsPoolingAndProductsRunOnTheGpuInEveryPrecision) {
  for (const char* precision : {"fp32", "tf32", "bf16", "fp16"}) {
    builder::BuildResult built = builder::build_engine(image_model(), options(precision));
    EXPECT_TRUE(built.report.host_steps.empty()) << precision << ": " << built.report.host_steps.front();
    std::map<std::string, int> kernels;
    for (const plan::Step& step : built.engine.sections[0].program.steps) ++kernels[step.kernel];
    EXPECT_EQ(kernels["cuda.conv"], 6) << precision;
    EXPECT_EQ(kernels["cuda.depthwise"], 1) << precision;
    EXPECT_EQ(kernels["cuda.pool"], 2) << precision;
    EXPECT_EQ(kernels["cuda.conv_transpose"], 1) << precision;
    EXPECT_EQ(kernels["cuda.matmul"], 1) << precision;
    EXPECT_EQ(kernels["cuda.pad"], 1) << precision << ": the image is stored in whole pieces";
    const auto engine = runtime::Engine::create(std::move(built.engine));
    runtime::Context context(engine);
    // Other batches and sizes of the classes, there and back: parameters move, memory and weights stay.
    for (const auto& [batch, height, width] :
         std::vector<std::array<std::int64_t, 3>>{{1, 32, 40}, {3, 32, 40}, {1, 32, 40}, {2, 36, 28}, {1, 64, 52}, {3, 32, 40}}) {
      const Status status = run_image(context, batch, height, width);
      ASSERT_TRUE(status) << precision << " " << batch << "x" << height << "x" << width << ": " << status.message();
    }
  }
}

TEST_F(FakeEngine, RowsThatFillNoPieceAreStoredWider) {
  builder::BuildOptions o = options();
  o.precision = builder::Precision::kFloat16;
  const builder::BuildResult built = builder::build_engine(image_model(), o);
  const plan::Program& program = built.engine.sections[0].program;
  // The transposed convolution makes 20 channels: they lie in pixels of 24.
  int wide = 0;
  for (const plan::Step& step : program.steps) {
    if (step.kernel != "cuda.conv_transpose") continue;
    const plan::Slot& out = program.slots[static_cast<std::size_t>(step.outputs[0])];
    ASSERT_EQ(out.storage, plan::Storage::kAlias);
    EXPECT_EQ(program.slots[static_cast<std::size_t>(out.parent)].shape[1], ir::Dim(24));
    ++wide;
  }
  EXPECT_EQ(wide, 1);
}

TEST_F(FakeEngine, ScalesThatVaryByRowAreNotTakenForThoseOfColumns) {
  const auto norms = [](Dims scale, Dims bias, std::int64_t axis, const ir::Shape& shape) {
    builder::test::ModelMaker m(5);
    ir::Attrs attrs;
    attrs.set("axis", axis);
    const auto model = m.finish({m.add("LayerNormalization", {m.input("x", shape), m.weight(std::move(scale)), m.weight(std::move(bias))}, attrs)});
    const builder::BuildResult built = builder::build_engine(model, options("fp16"));
    int count = 0;
    for (const plan::Step& step : built.engine.sections[0].program.steps) count += step.kernel == "cuda.row_norm";
    return count;
  };
  const ir::Shape square{ir::Dim::symbol("batch"), 16, 16};
  EXPECT_EQ(norms({16}, {1, 16}, -1, square), 1);
  EXPECT_EQ(norms({1, 1, 16}, {16}, -1, square), 1);
  EXPECT_EQ(norms({16, 16}, {1, 16, 16}, -2, square), 1);
  EXPECT_EQ(norms({16, 1}, {16}, -1, square), 0) << "one scale a row";
  EXPECT_EQ(norms({16}, {16, 1}, -1, square), 0);
}

TEST_F(FakeEngine, ViewsOfOutputsHaveTheTypeThatTheirReadersWerePlannedFor) {
  builder::test::ModelMaker m(5);
  ir::Value* x = m.input("x", {2, 16, 64});
  ir::Value *q = m.add("MatMul", {x, m.weight({64, 16}, 64)}), *kept = m.add("MatMul", {x, m.weight({64, 64}, 64)});
  ir::Value* y = m.add("MatMul", {q, m.add("Reshape", {kept, m.ints({2, 16, 64})})});
  y = m.add("MatMul", {m.add("Reshape", {y, m.ints({2, 1, 16, 64})}), m.add("Reshape", {kept, m.ints({2, 1, 64, 16})})});
  const auto engine = runtime::Engine::create(builder::build_engine(m.finish({m.add("MatMul", {y, m.weight({16, 8}, 16)}), kept}), options("fp16")).engine);
  runtime::Context context(engine);
  std::vector<float> values(2 * 16 * 64, 1);
  const std::int64_t dims[] = {2, 16, 64};
  const runtime::InputView view{values.data(), DType::kFloat32, dims};
  const Status status = context.run(std::span(&view, 1), {});
  EXPECT_TRUE(status) << status.message();
}

TEST_F(FakeEngine, ANumberAddedToAProductOfAnyWidthIsNoPackedBias) {
  builder::test::ModelMaker m(5);
  ir::Value *x = m.input("x", {16, 64}), *z = m.input("z", {64, ir::Dim::symbol("columns")});
  const auto model = m.finish({m.add("Add", {m.add("MatMul", {x, z}), m.floats({0.5F})})});
  for (const bool gpu : {true, false}) {
    builder::BuildOptions o = options("fp16");
    if (!gpu) o.device = "cpu", o.precision = builder::Precision::kFloat32;
    runtime::Context context(runtime::Engine::create(builder::build_engine(model, o).engine));
    for (const std::int64_t columns : {1, 8, 24}) {
      std::vector<float> a(16 * 64, 1), b(static_cast<std::size_t>(64 * columns), 1);
      const std::int64_t a_dims[] = {16, 64}, b_dims[] = {64, columns};
      const runtime::InputView views[] = {{a.data(), DType::kFloat32, a_dims}, {b.data(), DType::kFloat32, b_dims}};
      const Status status = context.run(views, {});
      EXPECT_TRUE(status) << columns << (gpu ? " on a GPU: " : ": ") << status.message();
    }
  }
}

TEST_F(FakeEngine, ATranspositionThatIsNoneAtTheHintStaysBehindTheProduct) {
  builder::test::ModelMaker m(5);
  ir::Attrs perm;
  perm.set("perm", std::vector<std::int64_t>{2, 0, 1});
  ir::Value* product = m.add("MatMul", {m.input("x", {ir::Dim::symbol("batch"), 1, 64}), m.weight({64, 16}, 64)});
  const auto model = m.finish({m.add("Relu", {m.add("Transpose", {product}, perm)})});
  for (const bool gpu : {true, false}) {
    builder::BuildOptions o = options("fp16");
    if (!gpu) o.device = "cpu", o.precision = builder::Precision::kFloat32;
    runtime::Context context(runtime::Engine::create(builder::build_engine(model, o).engine));
    for (const std::int64_t batch : {1, 4, 3}) {
      std::vector<float> x(static_cast<std::size_t>(batch * 64), 1);
      const std::int64_t dims[] = {batch, 1, 64};
      const runtime::InputView view{x.data(), DType::kFloat32, dims};
      const Status status = context.run(std::span(&view, 1), {});
      EXPECT_TRUE(status) << batch << (gpu ? " on a GPU: " : ": ") << status.message();
    }
  }
}

TEST_F(FakeEngine, MasksKeepTheMostNegativeNumber) {
  builder::test::ModelMaker m(5);
  ir::Value *x = m.input("x", {ir::Dim::symbol("batch"), 16, 64}), *keep = m.input("keep", {ir::Dim::symbol("batch"), 16});
  ir::Value* mask = m.add("Mul", {m.add("Sub", {m.floats({1}), m.add("Unsqueeze", {keep, m.ints({1})})}), m.floats({std::numeric_limits<float>::lowest()})});
  ir::Attrs perm;
  perm.set("perm", std::vector<std::int64_t>{0, 2, 1});
  const auto project = [&] { return m.add("MatMul", {x, m.weight({64, 64}, 64)}); };
  ir::Value *q = project(), *k = m.add("Transpose", {project()}, perm);
  ir::Value* weights = m.add("Softmax", {m.add("Add", {m.add("Mul", {m.add("MatMul", {q, k}), m.floats({0.125F})}), mask})});
  const auto model = m.finish({m.add("MatMul", {m.add("MatMul", {weights, project()}), m.weight({64, 64}, 64)})});
  for (const char* precision : {"fp16", "bf16"}) {
    const engine::EngineData data = builder::build_engine(model, options(precision)).engine;
    const plan::Program& program = data.sections[0].program;
    int seen = 0;
    for (const plan::Step& step : program.steps) {
      if (step.kernel != "cuda.attention") continue;
      ++seen;
      ASSERT_EQ(step.inputs.size(), 2u) << "the joined projection, and the mask";
      EXPECT_EQ(program.slots[static_cast<std::size_t>(step.inputs[1])].dtype, DType::kFloat32) << precision;
    }
    EXPECT_EQ(seen, 1) << precision;
  }
}

TEST_F(FakeEngine, CandidatesAreTimedWithCallsThatTheDriverAccepts) {
  builder::BuildOptions o = options();
  o.precision = builder::Precision::kFloat16;
  o.budget_seconds = 5;
  const builder::BuildResult built = builder::build_engine(image_model(), o);
  EXPECT_GT(built.report.timed, 20);
}

TEST_F(FakeEngine, WeightsOfTheWrongSizeAreRefused) {
  builder::BuildOptions o = options();
  o.precision = builder::Precision::kFloat16;
  for (const char* kernel : {"cuda.conv", "cuda.depthwise", "cuda.matmul"}) {
    engine::EngineData data = builder::build_engine(image_model(), o).engine;
    for (plan::Step& step : data.sections[0].program.steps)
      if (step.kernel == kernel) std::swap(step.weights.at(0), step.weights.at(1));
    const auto engine = runtime::Engine::create(std::move(data));
    runtime::Context context(engine);
    const Status status = run_image(context, 1, 32, 40);
    EXPECT_EQ(status.code(), Code::kCorruptFile) << kernel << ": " << status.message();
  }
}

TEST_F(FakeEngine, AnEngineFileRunsOnTheCpuWhereItsGpuIsAnother) {
  engine::EngineData data = builder::build_engine(small_model(), options()).engine;
  data.sections[0].device = "cuda:sm_75";
  const auto bytes = std::make_shared<std::vector<std::byte>>(engine::write_engine(data));
  const auto engine = runtime::Engine::create(engine::read_engine(*bytes, bytes));
  EXPECT_EQ(engine->section().device, "cpu-generic");
  EXPECT_NE(engine->section_note().find("another architecture than sm_90"), std::string::npos) << engine->section_note();
  runtime::Context context(engine);
  EXPECT_TRUE(run(context, 1));
}

}  // namespace
}  // namespace lathe
