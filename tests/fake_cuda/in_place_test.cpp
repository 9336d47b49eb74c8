// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The choice in the whole run (src/builder/in_place.h): kernels that take other times among others than alone, slow stretches, failures, the cache.

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <thread>

#include "base/log.h"
#include "builder/build_text.h"
#include "base/os.h"
#include "engine/engine.h"
#include "engine_fixture.h"

namespace lathe {
namespace {

constexpr const char* kMma = "gemm_mma_f16_64x64";
constexpr const char* kWgmma = "gemm_wgmma_f16_64x64";
constexpr const char* kPhase = "timing in the whole run";

/// Four equal convolutions, others between them.
std::shared_ptr<ir::Model> equal_convolutions() {
  builder::test::ModelMaker m(7);
  ir::Value* x = m.add("Relu", {m.conv(m.input("x", {1, 64, 32, 32}), 64, 64, 1)});
  for (int i = 0; i < 4; ++i) {
    x = m.add("Relu", {m.conv(x, 64, 64, 3)});
    x = m.add("Relu", {m.add("MaxPool", {x}, [] {
                ir::Attrs attrs;
                attrs.set("kernel_shape", std::vector<std::int64_t>{3, 3});
                attrs.set("pads", std::vector<std::int64_t>{1, 1, 1, 1});
                return attrs;
              }())});
  }
  return m.finish({m.conv(x, 64, 8, 1)});
}

class Listener final : public Progress, public LogSink {
 public:
  Listener() { set_log_sink(this); }
  ~Listener() override { set_log_sink(nullptr); }
  bool update(std::string_view phase, std::int64_t done, std::int64_t, double) noexcept override {
    phases.insert(std::string(phase));
    if (phase == at_phase && done == 0 && !called) {
      called = true;
      if (then) then();
    }
    return !(phase == cancel_in && done >= cancel_at);
  }
  void write(LogLevel level, std::string_view message) noexcept override {
    if (level == LogLevel::kWarning) warnings.emplace_back(message);
  }
  std::set<std::string> phases;
  std::vector<std::string> warnings;
  std::string at_phase, cancel_in;
  std::int64_t cancel_at = 0;
  std::function<void()> then;
  bool called = false;
};

class InPlace : public FakeEngine {
 protected:
  static builder::BuildOptions timed() {
    builder::BuildOptions o = options("fp16");
    o.budget_seconds = 60;
    return o;
  }
  /// Alone all kernels are slower than mma 64x64; wgmma 64x64 little. What it takes among others is up to the test.
  static void set_times(long wgmma_among, long mma_among = 100) {
    fake_cuda_set_kernel_ticks("gemm_", 40, 200);
    fake_cuda_set_kernel_ticks(kMma, 10, mma_among);
    fake_cuda_set_kernel_ticks(kWgmma, 11, wgmma_among);
  }
  /// The core that each convolution of 3x3 runs on, and whether the program says the same.
  static std::vector<std::string> cores(const builder::BuildResult& built) {
    std::vector<std::string> found;
    for (const builder::RegionReport& region : built.report.regions) {
      if (region.pattern != "conv_block" || region.flops < 5e7) continue;
      const auto chosen = std::find_if(region.choices.begin(), region.choices.end(), [](const builder::Choice& choice) { return choice.chosen; });
      found.push_back(chosen->variant.substr(0, chosen->variant.find(' ')));
      EXPECT_EQ(std::count_if(region.choices.begin(), region.choices.end(), [](const builder::Choice& choice) { return choice.chosen; }), 1);
      const auto& steps = built.engine.sections[0].program.steps;
      const auto step = std::find_if(steps.begin(), steps.end(), [&](const plan::Step& s) { return s.label == region.label; });
      EXPECT_EQ(step->params.get_ints("plan")[0], chosen->variant.starts_with("wgmma") ? 1 : 0) << region.label;
      EXPECT_DOUBLE_EQ(step->measured_seconds, chosen->seconds) << region.label;
    }
    return found;
  }
  static std::optional<double> gain_of(const builder::BuildResult& built, std::string_view core) {
    for (const builder::RegionReport& region : built.report.regions)
      if (region.pattern == "conv_block" && region.flops > 5e7)
        for (const builder::Choice& choice : region.choices)
          if (choice.variant.starts_with(core) && choice.in_run_gain) return choice.in_run_gain;
    return std::nullopt;
  }
  static std::vector<std::string> four(const char* core) { return std::vector<std::string>(4, core); }
};

TEST_F(InPlace, WhatShortensTheRunIsTakenForAllEqualSteps) {
  set_times(60);
  const builder::BuildResult built = builder::build_engine(equal_convolutions(), timed());
  EXPECT_EQ(cores(built), four("wgmma"));
  ASSERT_TRUE(gain_of(built, "wgmma"));
  EXPECT_GT(*gain_of(built, "wgmma"), 0.1);
  EXPECT_GE(built.report.in_run.taken, 1);
  EXPECT_GE(built.report.in_run.steps, 4);
  const std::string text = builder::explain_text(nlohmann::json::parse(built.report.to_json()));
  EXPECT_NE(text.find(" options tried in the whole run, " + std::to_string(built.report.in_run.taken) + " taken, for "), std::string::npos) << text;
  EXPECT_NE(text.find(" % shorter with it"), std::string::npos) << text;
  const auto engine = runtime::Engine::create(built.engine);
  runtime::Context context(engine);
  std::vector<float> x(64 * 32 * 32, 1);
  const std::int64_t dims[] = {1, 64, 32, 32};
  const runtime::InputView view{x.data(), DType::kFloat32, dims};
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(context.run(std::span(&view, 1), {}));
}

TEST_F(InPlace, WhatLengthensTheRunIsNot) {
  set_times(140);
  const builder::BuildResult built = builder::build_engine(equal_convolutions(), timed());
  EXPECT_EQ(cores(built), four("mma"));
  ASSERT_TRUE(gain_of(built, "wgmma"));
  EXPECT_LT(*gain_of(built, "wgmma"), -0.1);
  EXPECT_EQ(built.report.in_run.taken, 0);
  EXPECT_GT(built.report.in_run.tried, 0);
}

TEST_F(InPlace, WhatNoiseExplainsChangesNothing) {
  set_times(999, 1000);  // a tenth of a percent
  builder::BuildResult built = builder::build_engine(equal_convolutions(), timed());
  EXPECT_EQ(cores(built), four("mma"));
  EXPECT_EQ(gain_of(built, "wgmma"), 0.0);
  set_times(950, 1000);  // some percent, but runs differ by more
  fake_cuda_set_slow_stretches(2000);
  built = builder::build_engine(equal_convolutions(), timed());
  EXPECT_EQ(cores(built), four("mma"));
  EXPECT_EQ(gain_of(built, "wgmma"), 0.0);
  fake_cuda_set_slow_stretches(0);
  EXPECT_EQ(cores(builder::build_engine(equal_convolutions(), timed())), four("wgmma"));
}

TEST_F(InPlace, OptionsFarSlowerAloneAreNotTried) {
  set_times(10);
  fake_cuda_set_kernel_ticks(kWgmma, 14, 10);
  const builder::BuildResult built = builder::build_engine(equal_convolutions(), timed());
  EXPECT_EQ(cores(built), four("mma"));
  EXPECT_FALSE(gain_of(built, "wgmma"));
}

/// A folder of its own for the tuning cache.
class InPlaceCached : public InPlace {
 protected:
  void SetUp() override {
    InPlace::SetUp();
    folder_ = os::make_temp_dir();
    if (const char* before = std::getenv("LATHE_CACHE_DIR")) before_ = before;
    setenv("LATHE_CACHE_DIR", folder_.c_str(), 1);
  }
  void TearDown() override {
    if (before_) setenv("LATHE_CACHE_DIR", before_->c_str(), 1);
    else unsetenv("LATHE_CACHE_DIR");
    std::filesystem::remove_all(folder_);
    InPlace::TearDown();
  }
  static builder::BuildOptions cached() {
    builder::BuildOptions o = timed();
    o.use_cache = true;
    return o;
  }

 private:
  std::filesystem::path folder_;
  std::optional<std::string> before_;
};

TEST_F(InPlaceCached, TheNextBuildDecidesTheSameAndRunsNothing) {
  set_times(60);
  const builder::BuildResult first = builder::build_engine(equal_convolutions(), cached());
  fake_cuda_reset();
  Listener listener;
  builder::BuildOptions o = cached();
  o.progress = &listener;
  const builder::BuildResult second = builder::build_engine(equal_convolutions(), o);
  EXPECT_EQ(fake_cuda_count().launches + fake_cuda_count().graph_launches + fake_cuda_count().captured, 0u);
  EXPECT_EQ(listener.phases.count(kPhase), 0u);
  EXPECT_EQ(second.report.timed, 0);
  EXPECT_EQ(cores(second), four("wgmma"));
  EXPECT_EQ(gain_of(second, "wgmma"), gain_of(first, "wgmma"));
  EXPECT_EQ(second.report.in_run.tried, first.report.in_run.tried);
  EXPECT_EQ(second.report.in_run.steps, first.report.in_run.steps);
  EXPECT_EQ(engine::run_hash(first.engine), engine::run_hash(second.engine));
  ASSERT_EQ(first.engine.blobs.size(), second.engine.blobs.size());
  for (std::size_t i = 0; i < first.engine.blobs.size(); ++i) EXPECT_EQ(first.engine.blobs[i].hash, second.engine.blobs[i].hash) << i;
}

TEST_F(InPlaceCached, WhatThereWasNoTimeForIsLeftOutAgainUnlessThereIsMore) {
  set_times(60);
  Listener listener;
  listener.at_phase = kPhase;
  listener.then = [] { std::this_thread::sleep_for(std::chrono::milliseconds(1100)); };
  builder::BuildOptions o = cached();
  o.budget_seconds = 10;  // a second for this
  o.progress = &listener;
  const builder::BuildResult first = builder::build_engine(equal_convolutions(), o);
  EXPECT_EQ(first.report.in_run.tried, 1);
  fake_cuda_reset();
  const builder::BuildResult second = builder::build_engine(equal_convolutions(), o);
  EXPECT_EQ(second.report.in_run.tried, 1);
  EXPECT_EQ(fake_cuda_count().launches, 0u);
  EXPECT_EQ(engine::run_hash(first.engine), engine::run_hash(second.engine));
  set_times(60);
  const builder::BuildResult third = builder::build_engine(equal_convolutions(), cached());
  EXPECT_GT(third.report.in_run.tried, 1);
  EXPECT_EQ(cores(third), four("wgmma"));
}

TEST_F(InPlaceCached, ACancelledBuildGoesOnFromWhatItFound) {
  set_times(60);
  Listener listener;
  listener.cancel_in = kPhase;
  listener.cancel_at = 2;
  builder::BuildOptions o = cached();
  o.progress = &listener;
  try {
    builder::build_engine(equal_convolutions(), o);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kCancelled);
  }
  const builder::BuildResult next = builder::build_engine(equal_convolutions(), cached());
  const builder::BuildResult again = builder::build_engine(equal_convolutions(), timed());
  EXPECT_EQ(engine::run_hash(next.engine), engine::run_hash(again.engine));
  EXPECT_EQ(cores(next), four("wgmma"));
}

TEST_F(InPlace, AFailureLeavesWhatWasChosenAlone) {
  set_times(60);
  constexpr int kSomething = 719;
  // While the run is made, behind the packing of its weights, and while it is compared.
  for (const char* phase : {"packing weights", kPhase})
    for (const char* call : {"cuMemAlloc", "cuMemcpyHtoDAsync", "cuStreamCreate", "cuStreamBeginCapture", "cuGraphInstantiate", "cuLaunchKernelEx",
                             "cuGraphLaunch", "cuEventRecord", "cuEventElapsedTime", "cuStreamSynchronize"}) {
      const bool making = std::string_view(phase) != kPhase;
      const std::set<std::string_view> never = making ? std::set<std::string_view>{"cuGraphLaunch", "cuEventRecord", "cuEventElapsedTime"}
                                                      : std::set<std::string_view>{"cuMemAlloc", "cuMemcpyHtoDAsync", "cuStreamCreate"};
      if (never.count(call)) continue;
      const fake_cuda_live before = fake_cuda_count();
      Listener listener;
      listener.at_phase = phase;
      listener.then = [&] { fake_cuda_fail(call, 1, std::string_view(call) == "cuMemAlloc" ? cuda::kErrorOutOfMemory : kSomething); };
      builder::BuildOptions o = timed();
      o.progress = &listener;
      const builder::BuildResult built = builder::build_engine(equal_convolutions(), o);
      EXPECT_EQ(cores(built), four("mma")) << phase << ", " << call;
      EXPECT_EQ(built.report.in_run.taken, 0) << call;
      ASSERT_EQ(listener.warnings.size(), 1u) << phase << ", " << call;
      EXPECT_NE(listener.warnings[0].find("not in the whole run"), std::string::npos) << listener.warnings[0];
      const fake_cuda_live after = fake_cuda_count();
      EXPECT_EQ(after.blocks + after.streams + after.events + after.graphs, before.blocks + before.streams + before.events + before.graphs) << call;
    }
  EXPECT_EQ(cores(builder::build_engine(equal_convolutions(), timed())), four("wgmma"));
}

TEST_F(InPlace, NothingIsRunWithoutABudget) {
  set_times(60);
  const builder::BuildResult built = builder::build_engine(equal_convolutions(), options("fp16"));
  EXPECT_EQ(built.report.in_run.tried, 0);
  EXPECT_EQ(fake_cuda_count().launches, 0u);
}

}  // namespace
}  // namespace lathe
