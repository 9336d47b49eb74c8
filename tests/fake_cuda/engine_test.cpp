// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Building and running engines for a GPU through the driver that only checks calls: what is allocated, copied, launched, captured and
// given back. Numbers are for machines with a GPU (tests/gpu).

#include <gtest/gtest.h>

#include <cstdlib>

#include "backend/cuda/nvrtc.h"
#include "builder/builder.h"
#include "builder/test_models.h"
#include "engine/engine.h"
#include "fake_cuda.h"
#include "runtime/context.h"

namespace lathe {
namespace {

const int chosen = setenv("LATHE_CUDA_DRIVER", LATHE_FAKE_CUDA, 1);

std::shared_ptr<ir::Model> small_model() {
  builder::test::ModelMaker m(3);
  ir::Value* x = m.input("x", {ir::Dim::symbol("batch"), 16, 8, 8});
  ir::Attrs axis;
  axis.set("axis", -1);
  ir::Value* y = m.add("Softmax", {m.silu(x)}, axis);
  return m.finish({m.add("Add", {y, m.weight({16, 1, 1}, 1)})});
}

builder::BuildOptions options() {
  builder::BuildOptions options;
  options.device = "cuda";
  options.verify = false;  // nothing is computed here
  options.budget_seconds = 0;
  options.use_cache = false;
  return options;
}

class FakeEngine : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(chosen, 0);
    if (!cuda::Nvrtc::find()) GTEST_SKIP() << "no NVRTC here";
    fake_cuda_reset();
  }
  void TearDown() override {
    EXPECT_STREQ(fake_cuda_violations(), "");
    const fake_cuda_live live = fake_cuda_count();
    EXPECT_EQ(live.contexts + live.blocks + live.pinned_blocks + live.streams + live.events + live.modules + live.graphs, 0u) << "something was left behind";
  }
  static Status run(runtime::Context& context, std::int64_t batch) {
    std::vector<float> x(static_cast<std::size_t>(batch * 16 * 64), 1);
    const std::int64_t dims[] = {batch, 16, 8, 8};
    const runtime::InputView view{x.data(), DType::kFloat32, dims};
    return context.run(std::span(&view, 1), {});
  }
};

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
