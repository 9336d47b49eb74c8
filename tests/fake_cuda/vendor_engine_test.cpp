// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Engines with steps by cuBLASLt and cuDNN over fakes of both: when they are chosen, that they run, are captured and move, what they leave behind,
// and what is said where a library is missing or another one.

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <set>
#include <thread>
#include <tuple>

#include "backend/cuda/cublaslt.h"
#include "backend/cuda/cudnn.h"
#include "backend/cuda/nvrtc.h"
#include "builder/builder.h"
#include "ops/candidate.h"
#include "builder/test_models.h"
#include "engine/engine.h"
#include "fake_cuda.h"
#include "fake_vendor.h"
#include "plan/kernel.h"
#include "runtime/context.h"
#include "strangers.h"

namespace lathe {
namespace {

const int chosen =
    setenv("LATHE_CUDA_DRIVER", LATHE_FAKE_CUDA, 1) + setenv("LATHE_CUBLASLT", LATHE_FAKE_CUBLASLT, 1) + setenv("LATHE_CUDNN", LATHE_FAKE_CUDNN, 1);

const ir::Dim kAnyBatch = ir::Dim::symbol("batch");

std::shared_ptr<ir::Model> model(const ir::Dim& batch = ir::Dim(2)) {
  builder::test::ModelMaker m(3);
  ir::Value* x = m.silu(m.conv(m.input("x", {batch, 3, 16, 16}), 3, 16, 3, 2));
  x = m.add("Add", {x, m.silu(m.conv(x, 16, 16, 3))});
  ir::Value* rows = m.add("Flatten", {m.add("GlobalAveragePool", {x})});
  return m.finish({m.add("Gemm", {rows, m.weight({16, 24}, 16), m.weight({24}, 1)})});
}

builder::BuildOptions options() {
  builder::BuildOptions options;
  options.libraries = ops::kCublasLt | ops::kCudnn;
  options.device = "cuda";
  options.precision = builder::Precision::kFloat16;
  options.verify = false;  // Lathe's own kernels compute nothing here
  options.budget_seconds = 20;
  options.use_cache = false;
  return options;
}

class VendorEngine : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(chosen, 0);
    if (!cuda::Nvrtc::find()) GTEST_SKIP() << "no NVRTC here";
    fake_cuda_reset();
    fake_cudnn_refuse(100, 0);
    fake_cublaslt_refuse_unaligned(0);
    fake_cuda_set_launch_ticks(10);  // Lathe's own kernels are slow
  }
  void TearDown() override {
    fake_cudnn_refuse(100, 0);
    EXPECT_STREQ(fake_cuda_violations(), "");
    const fake_cuda_live live = fake_cuda_count();
    EXPECT_EQ(live.contexts + live.blocks + live.pinned_blocks + live.streams + live.events + live.modules + live.graphs, 0u) << "something was left behind";
    for (const fake_vendor_live left : {fake_cublaslt_count(), fake_cudnn_count()})
      EXPECT_EQ(left.handles + left.objects, 0u) << "a library's objects were left";
  }
  static int steps_by(const engine::EngineData& data, std::string_view kernel) {
    int count = 0;
    for (const plan::Step& step : data.sections[0].program.steps) count += step.kernel == kernel;
    return count;
  }
  static Status run(runtime::Context& context, std::int64_t batch) {
    std::vector<float> x(static_cast<std::size_t>(batch * 3 * 16 * 16), 1);
    const std::int64_t dims[] = {batch, 3, 16, 16};
    const runtime::InputView view{x.data(), DType::kFloat32, dims};
    return context.run(std::span(&view, 1), {});
  }
};

TEST_F(VendorEngine, FasterStepsAreChosenRunAreCapturedAndMove) {
  builder::BuildResult built = builder::build_engine(model(), options());
  EXPECT_EQ(steps_by(built.engine, "cuda.conv.cudnn"), 1) << "the first one reads the caller's image";
  EXPECT_EQ(steps_by(built.engine, "cuda.matmul.cublaslt"), 1);
  const auto engine = runtime::Engine::create(std::move(built.engine));
  runtime::Context context(engine);
  ASSERT_TRUE(run(context, 2));
  // Replays call neither library.
  const std::size_t before = fake_cublaslt_count().runs + fake_cudnn_count().runs;
  EXPECT_GT(before, 0u);
  ASSERT_TRUE(run(context, 2));
  ASSERT_TRUE(run(context, 2));
  EXPECT_EQ(fake_cublaslt_count().runs + fake_cudnn_count().runs, before);
}

TEST_F(VendorEngine, InTheWholeRunOwnKernelsTakeALibrarysPlaceAndNotTheOtherWayRound) {
  builder::BuildOptions o = options();
  o.libraries = ops::kCublasLt;
  const auto build = [&](long library_alone, long library_among, long own_alone, long own_among) {
    fake_cuda_set_launch_ticks(0);
    fake_cuda_set_kernel_ticks("library", library_alone, library_among);
    fake_cuda_set_kernel_ticks("gemm_", own_alone, own_among);
    return builder::build_engine(model(), o);
  };
  // Its weights are packed another way: they are uploaded for the trial.
  const builder::BuildResult taken = build(100, 100, 125, 40);
  EXPECT_EQ(steps_by(taken.engine, "cuda.matmul.cublaslt"), 0);
  EXPECT_EQ(steps_by(taken.engine, "cuda.matmul"), 1);
  EXPECT_EQ(taken.report.in_run.taken, 1);
  runtime::Context context(runtime::Engine::create(taken.engine));
  EXPECT_TRUE(run(context, 2));
  const builder::BuildResult kept = build(100, 100, 125, 200);
  EXPECT_EQ(steps_by(kept.engine, "cuda.matmul.cublaslt"), 1);
  EXPECT_EQ(kept.report.in_run.taken, 0);
  const builder::BuildResult own = build(100, 10, 100, 100);
  EXPECT_EQ(steps_by(own.engine, "cuda.matmul.cublaslt"), 0);
  for (const builder::RegionReport& region : own.report.regions)
    for (const builder::Choice& choice : region.choices) EXPECT_FALSE(choice.by_library && choice.in_run_gain) << region.label;
}

TEST_F(VendorEngine, ProductsServeAnyBatch) {
  builder::BuildResult built = builder::build_engine(model(kAnyBatch), options());
  EXPECT_EQ(steps_by(built.engine, "cuda.conv.cudnn"), 0) << "another batch is another plan of cuDNN's";
  EXPECT_EQ(steps_by(built.engine, "cuda.matmul.cublaslt"), 1);
  const auto engine = runtime::Engine::create(std::move(built.engine));
  runtime::Context context(engine);
  for (const std::int64_t batch : {1, 1, 7, 1, 16, 5, 7}) {
    const Status status = run(context, batch);
    ASSERT_TRUE(status) << batch << ": " << status.message();
  }
  // Extents that came before need no asking.
  const std::size_t asked = fake_cublaslt_count().asked;
  for (const std::int64_t batch : {5, 7, 5, 16, 1}) ASSERT_TRUE(run(context, batch));
  EXPECT_EQ(fake_cublaslt_count().asked, asked);
  ASSERT_TRUE(run(context, 6));
  EXPECT_GT(fake_cublaslt_count().asked, asked);
}

TEST_F(VendorEngine, ATieIsLathesOwn) {
  fake_cuda_set_launch_ticks(0);
  const builder::BuildResult built = builder::build_engine(model(), options());
  EXPECT_EQ(steps_by(built.engine, "cuda.conv.cudnn") + steps_by(built.engine, "cuda.matmul.cublaslt"), 0);
}

TEST_F(VendorEngine, WithoutTimingNoLibraryIsAsked) {
  builder::BuildOptions o = options();
  o.budget_seconds = 0;
  const std::size_t before = fake_cublaslt_count().asked + fake_cudnn_count().asked;
  const builder::BuildResult built = builder::build_engine(model(), o);
  EXPECT_EQ(steps_by(built.engine, "cuda.conv.cudnn") + steps_by(built.engine, "cuda.matmul.cublaslt"), 0);
  EXPECT_EQ(fake_cublaslt_count().asked + fake_cudnn_count().asked, before);
}

TEST_F(VendorEngine, ManyContextsOnManyThreadsLeaveNothing) {
  const auto engine = runtime::Engine::create(builder::build_engine(model(kAnyBatch), options()).engine);
  const auto fixed = runtime::Engine::create(builder::build_engine(model(), options()).engine);
  const auto go = [&](runtime::Context& context, bool any) {
    for (const std::int64_t batch : any ? std::vector<std::int64_t>{9, 1, 3, 9} : std::vector<std::int64_t>{2, 2})
      if (const Status status = run(context, batch); !status) ADD_FAILURE() << batch << ": " << status.message();
  };
  std::vector<std::unique_ptr<runtime::Context>> contexts;
  const auto make = [&] {
    const bool any = contexts.size() % 2 == 0;
    contexts.push_back(std::make_unique<runtime::Context>(any ? engine : fixed));
    go(*contexts.back(), any);  // the fake driver takes allocations in one thread at a time
  };
  make();
  make();
  contexts.clear();
  const std::size_t objects = fake_cublaslt_count().objects + fake_cudnn_count().objects;
  for (int i = 0; i < 6; ++i) make();
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < contexts.size(); ++i)
    threads.emplace_back([&, i] {
      for (int k = 0; k < 20; ++k) go(*contexts[i], i % 2 == 0);
    });
  for (std::thread& thread : threads) thread.join();
  contexts.clear();
  EXPECT_EQ(fake_cublaslt_count().objects + fake_cudnn_count().objects, objects);
}

/// Gives a step another parameter and says which section runs it.
TEST_F(VendorEngine, AnotherVersionMeansTheGenericSectionAndSaysWhy) {
  const engine::EngineData built = builder::build_engine(model(), options()).engine;
  for (const char* kernel : {"cuda.conv.cudnn", "cuda.matmul.cublaslt"}) {
    engine::EngineData data = built;
    for (plan::Step& step : data.sections[0].program.steps)
      if (step.kernel == kernel) step.params.set("library", std::string("8.1.2"));
    const auto engine = runtime::Engine::create(std::move(data));
    EXPECT_EQ(engine->section().device, "cpu-generic");
    EXPECT_NE(engine->section_note().find("8.1.2"), std::string::npos) << engine->section_note();
    EXPECT_NE(engine->section_note().find("PyPI"), std::string::npos) << engine->section_note();
    runtime::Context context(engine);
    EXPECT_TRUE(run(context, 2));
  }
}

TEST_F(VendorEngine, DamagedParametersAreRefused) {
  const engine::EngineData built = builder::build_engine(model(), options()).engine;
  const auto refused = [&](const char* kernel, const char* name, std::vector<std::int64_t> values) {
    engine::EngineData data = built;
    for (plan::Step& step : data.sections[0].program.steps)
      if (step.kernel == kernel) step.params.set(name, values);
    const auto engine = runtime::Engine::create(std::move(data));
    runtime::Context context(engine);
    return run(context, 2).code();
  };
  EXPECT_EQ(refused("cuda.matmul.cublaslt", "algorithm", {1, 2}), Code::kCorruptFile);
  EXPECT_EQ(refused("cuda.conv.cudnn", "engine", {1, 2}), Code::kCorruptFile);
  EXPECT_EQ(refused("cuda.conv.cudnn", "engine", {}), Code::kCorruptFile);
  // Algorithms and engines that the library does not have: what it offers instead runs.
  EXPECT_EQ(refused("cuda.matmul.cublaslt", "algorithm", {9999, 0, 0, 0, 0, 0, 0, 0, 0}), Code::kOk);
  EXPECT_EQ(refused("cuda.conv.cudnn", "engine", {9999}), Code::kOk);
}

TEST_F(VendorEngine, AnyDamagedParameterIsAnErrorOrARunThatTheLibraryTakes) {
  engine::EngineData data = builder::build_engine(model(), options()).engine;
  for (const char* kernel : {"cuda.matmul.cublaslt", "cuda.conv.cudnn"}) {
    int refusals = 0;
    for (plan::Step& step : data.sections[0].program.steps) {
      if (step.kernel != kernel) continue;
      for_each_damage(step.params, [&](const std::string& what) {
        Status status;
        try {
          runtime::Context context(runtime::Engine::create(data, "cuda*"));
          status = run(context, 2);
        } catch (const Error& error) {
          status = Status(error.code(), error.what());
        }
        refusals += !status;
        EXPECT_NE(status.code(), Code::kOutOfMemory) << what << ": " << status.message();
        EXPECT_STREQ(fake_cuda_violations(), "") << kernel << ", " << what;
        fake_cuda_reset();
      });
    }
    EXPECT_GT(refusals, 30) << kernel;
  }
}

TEST_F(VendorEngine, GraphsThatAreNotFusedAreDeclinedWithTheLibrarysReason) {
  fake_cudnn_refuse(2, 0);  // convolution and bias
  const builder::BuildResult built = builder::build_engine(model(), options());
  EXPECT_EQ(steps_by(built.engine, "cuda.conv.cudnn"), 0);
  bool said = false;
  for (const builder::RegionReport& region : built.report.regions)
    for (const builder::Choice& choice : region.choices)
      said |= choice.candidate == "cuda.conv.cudnn" && choice.reason.find("FAKE_NOT_SUPPORTED_GRAPH_PATTERN") != std::string::npos;
  EXPECT_TRUE(said);
}

TEST_F(VendorEngine, EnginesOfOtherArithmeticOrThatLoseNanAreLeftOut) {
  builder::test::ModelMaker m(4);
  ir::Value* x = m.silu(m.conv(m.input("x", {2, 3, 16, 16}), 3, 16, 3, 2));
  const builder::BuildResult built = builder::build_engine(m.finish({m.conv(m.add("Relu", {m.conv(x, 16, 16, 3)}), 16, 8, 1)}), options());
  std::set<std::string> variants;
  for (const builder::RegionReport& region : built.report.regions)
    for (const builder::Choice& choice : region.choices)
      if (choice.candidate == "cuda.conv.cudnn" && choice.accepted) variants.insert(choice.variant);
  EXPECT_EQ(variants, (std::set<std::string>{"engine 11 (5=3)", "engine 38"}));
}

TEST_F(VendorEngine, LibrariesThatDoNotStartAreDeclined) {
  fake_cublaslt_fail(1);
  fake_cudnn_fail(1);
  const builder::BuildResult built = builder::build_engine(model(), options());
  fake_cublaslt_fail(0);
  fake_cudnn_fail(0);
  EXPECT_EQ(steps_by(built.engine, "cuda.conv.cudnn") + steps_by(built.engine, "cuda.matmul.cublaslt"), 0);
}

TEST_F(VendorEngine, OddAddressesNeedAnAlgorithmOfTheirOwn) {
  fake_cublaslt_refuse_unaligned(1);
  const auto engine = runtime::Engine::create(builder::build_engine(model(), options()).engine);
  runtime::Context context(engine);
  EXPECT_TRUE(run(context, 2)) << "operands of the engine's own begin at whole pieces";
}

TEST_F(VendorEngine, ABiasOfTheImagesTypeServesWhereAWideOneDoesNot) {
  fake_cudnn_refuse(100, 1);
  builder::BuildResult built = builder::build_engine(model(), options());
  ASSERT_EQ(steps_by(built.engine, "cuda.conv.cudnn"), 1);
  for (const plan::Step& step : built.engine.sections[0].program.steps)
    if (step.kernel == "cuda.conv.cudnn") {
      EXPECT_EQ(step.params.get_int("narrow_bias", 0), 1);
    }
  const auto engine = runtime::Engine::create(std::move(built.engine));
  runtime::Context context(engine);
  EXPECT_TRUE(run(context, 2));
}

TEST(VendorLibraries, AreFoundBesideLatheAndTheirAbsenceIsASentenceThatNamesThePackage) {
  for (const char* asked : {"none", "/nowhere/lib.so"}) {
    std::string why;
    EXPECT_EQ(cuda::cublaslt::Library::open(asked, why), nullptr);
    EXPECT_NE(why.find(asked == std::string("none") ? "LATHE_CUBLASLT" : "nvidia-cublas"), std::string::npos) << why;
    why.clear();
    EXPECT_EQ(cuda::cudnn::Library::open(asked, why), nullptr);
    EXPECT_NE(why.find(asked == std::string("none") ? "LATHE_CUDNN" : "nvidia-cudnn-cu13"), std::string::npos) << why;
  }
  // Packages that lie beside Lathe's own are found without being told.
  namespace fs = std::filesystem;
  const fs::path beside = fs::read_symlink("/proc/self/exe").parent_path() / "nvidia";
  for (const auto& [folder, name, fake] :
       {std::tuple{"cu13/lib", "libcublasLt.so.13", LATHE_FAKE_CUBLASLT}, {"cudnn/lib", "libcudnn.so.9", LATHE_FAKE_CUDNN}}) {
    fs::create_directories(beside / folder);
    fs::create_symlink(fake, beside / folder / name);
  }
  std::string none;
  const auto cublaslt = cuda::cublaslt::Library::open("", none);
  const auto cudnn = cuda::cudnn::Library::open("", none);
  fs::remove_all(beside);
  ASSERT_TRUE(cublaslt && cudnn) << none;
  EXPECT_EQ(cublaslt->version_text(), "13.2.4");
  EXPECT_EQ(cudnn->version_text(), "9.19.1");
  // A library that is none of them.
  std::string why;
  EXPECT_EQ(cuda::cudnn::Library::open(LATHE_FAKE_CUBLASLT, why), nullptr);
  EXPECT_NE(why.find("has no function cudnn"), std::string::npos) << why;
  EXPECT_EQ(cuda::cublaslt::Library::open(LATHE_FAKE_CUDNN, why), nullptr);
  EXPECT_NE(why.find("has no function cublasLt"), std::string::npos) << why;
}

}  // namespace
}  // namespace lathe
