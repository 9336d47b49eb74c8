// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// What an application may replace (Allocator, LogSink, Progress) as the C++ API honours it, and Network and Engine as an application sees them.

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <set>
#include <thread>

#include "builder/test_models.h"
#include "lathe/lathe.hpp"
#include "onnx/writer.h"

namespace lathe {
namespace {

const std::string& model_text() {
  static const std::string text = onnx::model_bytes(*builder::test::conv_model());
  return text;
}
std::span<const std::byte> model() { return std::as_bytes(std::span(model_text())); }

BuildConfig quick(Progress* progress = nullptr) {
  BuildConfig config;
  config.budget_seconds = 0;
  config.use_cache = false;
  config.progress = progress;
  return config;
}

const Engine& shared_engine() {
  static const Engine engine = build(model(), quick());
  return engine;
}

struct Image {
  std::vector<std::int64_t> shape{1, 3, 40, 56};
  std::vector<float> pixels = std::vector<float>(3 * 40 * 56, 0.5F);
  ConstTensorView view() const { return {pixels.data(), DType::kFloat32, shape}; }
};

// Progress ---------------------------------------------------------------------------------------------------------

/// Notes phases and how each proceeds; cancels at call number `stop`.
struct Watch final : Progress {
  explicit Watch(int stop = -1) : stop(stop) {}
  bool update(std::string_view phase, std::int64_t done, std::int64_t total, double) noexcept override {
    if (phases.empty() || phases.back() != phase) {
      sound &= done == 0;
      phases.emplace_back(phase);
      last = 0;
    }
    sound &= total >= 1 && done >= last && done <= total;
    last = done;
    finished = done == total;
    return calls++ != stop;
  }
  int stop, calls = 0;
  std::int64_t last = 0;
  bool sound = true, finished = false;
  std::vector<std::string> phases;
};

TEST(Progress, TellsEveryPhaseFromBeginToEnd) {
  Watch watch;
  build(model(), quick(&watch));
  EXPECT_EQ(watch.phases, (std::vector<std::string>{"reading", "simplifying", "timing candidates", "packing weights", "choosing generic kernels",
                                                    "packing generic weights", "verifying"}));
  EXPECT_TRUE(watch.sound);
  EXPECT_TRUE(watch.finished);
}

TEST(Progress, CancelsWhereverItIsAsked) {
  Watch whole;
  build(model(), quick(&whole));
  std::set<std::string> stopped_in;
  // Every call up to the first of each phase, then some of the many.
  for (int stop = 0; stop < whole.calls; stop += 1 + stop / 8) {
    Watch watch(stop);
    try {
      build(model(), quick(&watch));
      ADD_FAILURE() << "call " << stop << " of " << whole.calls << " was not heeded";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kCancelled) << error.what();
      EXPECT_EQ(watch.calls, stop + 1) << "the work went on after it was cancelled";
      stopped_in.insert(watch.phases.back());
    }
  }
  for (const char* phase : {"reading", "simplifying", "timing candidates", "packing weights", "verifying"}) EXPECT_TRUE(stopped_in.count(phase)) << phase;
}

// Allocator --------------------------------------------------------------------------------------------------------

struct CountingAllocator final : Allocator {
  void* allocate(std::size_t bytes, std::size_t alignment, MemorySpace space, void* stream) noexcept override {
    sound = sound && space == MemorySpace::kHost && stream == nullptr && alignment > 0 && (alignment & (alignment - 1)) == 0 && alignment <= 4096;
    if (bytes > most_bytes) return nullptr;
    ++allocations;
    live_bytes += bytes;
    return std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  }
  void deallocate(void* pointer, std::size_t bytes, MemorySpace, void*) noexcept override {
    live_bytes -= bytes;
    std::free(pointer);
  }
  std::size_t most_bytes = SIZE_MAX;
  std::atomic<std::size_t> allocations{0}, live_bytes{0};
  std::atomic<bool> sound{true};
};

TEST(Allocator, GivesTheActivationsAndGetsThemBack) {
  CountingAllocator allocator;
  const Image image;
  {
    Context context = shared_engine().create_context(&allocator);
    const ConstTensorView inputs[] = {image.view()};
    ASSERT_TRUE(context.run(inputs));
    EXPECT_GE(allocator.live_bytes, context.activation_bytes());
    EXPECT_GT(context.activation_bytes(), 0U);
    const std::size_t after_first = allocator.allocations;
    ASSERT_TRUE(context.run(inputs));
    ASSERT_TRUE(context.run(inputs));
    EXPECT_EQ(allocator.allocations, after_first) << "a later run of the same shape allocated";
  }
  EXPECT_EQ(allocator.live_bytes, 0U);
  EXPECT_TRUE(allocator.sound);
}

TEST(Allocator, MayRefuse) {
  CountingAllocator allocator;
  allocator.most_bytes = 16;
  const Image image;
  const ConstTensorView inputs[] = {image.view()};
  {
    Context context = shared_engine().create_context(&allocator);
    const Status status = context.run(inputs);
    EXPECT_EQ(status.code(), Code::kOutOfMemory) << status.message();
    allocator.most_bytes = SIZE_MAX;  // memory came free: the same context goes on
    EXPECT_TRUE(context.run(inputs));
  }
  EXPECT_EQ(allocator.live_bytes, 0U);
}

// LogSink ----------------------------------------------------------------------------------------------------------

struct Lines final : LogSink {
  void write(LogLevel level, std::string_view message) noexcept override {
    const std::lock_guard lock(mutex);
    lines.emplace_back(level, message);
  }
  std::mutex mutex;
  std::vector<std::pair<LogLevel, std::string>> lines;
};

TEST(LogSink, TakesTheProcesssMessages) {
  Lines sink;
  set_log_sink(&sink);
  set_log_level(LogLevel::kDebug);
  build(model(), quick());
  set_log_level(LogLevel::kWarning);
  const std::size_t count = sink.lines.size();
  build(model(), quick());
  set_log_sink(nullptr);
  EXPECT_GT(count, 0U);
  EXPECT_EQ(sink.lines.size(), count) << "a message below the level was written: " << sink.lines.back().second;
  EXPECT_TRUE(std::any_of(sink.lines.begin(), sink.lines.end(), [](const auto& line) { return line.second.find("simplify") != std::string::npos; }));
}

// Network, Engine, Context -----------------------------------------------------------------------------------------

TEST(Network, IsReadChangedAndBuilt) {
  Network network = Network::parse(model());
  ASSERT_EQ(network.inputs().size(), 1U);
  EXPECT_EQ(network.inputs()[0].name, "image");
  EXPECT_EQ(network.inputs()[0].shape, (std::vector<std::int64_t>{1, 3, 40, 56}));
  EXPECT_GT(network.node_count(), 10U);
  const std::string text = network.to_text();
  EXPECT_NE(text.find("Conv"), std::string::npos);
  EXPECT_THROW(network.mark_output("nothing of this name"), Error);
  EXPECT_THROW(network.mark_output("image"), Error);
  const auto at = text.find("Relu");
  ASSERT_NE(at, std::string::npos);
  const std::string before = network.outputs()[0].name;
  network.mark_output("t4");
  ASSERT_EQ(network.outputs().size(), 2U);
  const Engine engine = network.build(quick());
  ASSERT_EQ(engine.outputs().size(), 2U);
  EXPECT_EQ(engine.outputs()[0].name, before);
  EXPECT_EQ(engine.outputs()[1].name, "t4");
  EXPECT_NE(network.simplify().find("before"), std::string::npos);
}

TEST(Network, RefusesAnEngine) {
  const std::vector<std::byte> bytes = shared_engine().to_bytes();
  try {
    Network::parse(bytes);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kInvalidArgument);
    EXPECT_NE(std::string(error.what()).find("engine"), std::string::npos);
  }
  try {
    Engine::load(model());
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("ONNX"), std::string::npos) << error.what();
  }
}

TEST(Network, RefusesAFieldOfTheWrongType) {
  // A node with an attribute whose graph is a number. Here, where the engine file's own reader of graphs is linked as well: both must have the one
  // reader that refuses.
  const unsigned char bytes[] = {0x08, 0x08, 0x3A, 0x06, 0x0A, 0x04, 0x2A, 0x02, 0x30, 0x01, 0x42, 0x02, 0x10, 0x11};
  try {
    Network::parse(std::as_bytes(std::span(bytes)));
    FAIL() << "it was read";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kCorruptFile) << error.what();
  }
}

TEST(Engine, ComesBackFromItsBytes) {
  const Engine loaded = Engine::load(shared_engine().to_bytes());
  const Image image;
  const ConstTensorView inputs[] = {image.view()};
  Context a = shared_engine().create_context(), b = loaded.create_context();
  ASSERT_TRUE(a.run(inputs));
  ASSERT_TRUE(b.run(inputs));
  const ConstTensorView x = a.output(0), y = b.output(0);
  std::size_t bytes = sizeof(float);
  for (const std::int64_t extent : x.shape) bytes *= static_cast<std::size_t>(extent);
  EXPECT_EQ(std::memcmp(x.data, y.data, bytes), 0);
  EXPECT_EQ(loaded.inputs()[0].tuned_shape, image.shape);
}

TEST(Engine, TellsTheShapeThatItWasTunedFor) {
  builder::test::ModelMaker m;
  const auto symbolic = m.finish({m.add("Relu", {m.input("x", {ir::Dim::symbol("batch"), ir::Dim(4)})})});
  const std::string text = onnx::model_bytes(*symbolic);
  BuildConfig config = quick();
  config.shapes["x"] = {{1, 4}, {6, 4}, {8, 4}};
  const Engine engine = build(std::as_bytes(std::span(text)), config);
  EXPECT_EQ(engine.inputs()[0].shape, (std::vector<std::int64_t>{-1, 4}));
  EXPECT_EQ(engine.inputs()[0].tuned_shape, (std::vector<std::int64_t>{6, 4}));
}

TEST(Context, RunsByNameAndNamesWhatIsWrong) {
  const Image image;
  Context context = shared_engine().create_context();
  const std::string name = shared_engine().outputs()[0].name;
  std::vector<float> result(20 * 10 * 14);
  const std::vector<std::int64_t> shape{1, 20, 10, 14};
  ASSERT_TRUE(context.run({{"image", image.view()}}, {{name, TensorView{result.data(), DType::kFloat32, shape}}}));
  EXPECT_TRUE(std::any_of(result.begin(), result.end(), [](float value) { return value != 0; }));
  const auto says = [&](const Status& status, std::string_view word) {
    EXPECT_EQ(status.code(), Code::kInvalidArgument);
    EXPECT_NE(status.message().find(word), std::string_view::npos) << status.message();
  };
  says(context.run({{"picture", image.view()}}, {}), "picture");
  says(context.run({}, {}), "image");
  says(context.run({{"image", image.view()}}, {{"nothing", {}}}), "nothing");
  ConstTensorView wrong = image.view();
  wrong.dtype = DType::kFloat64;
  says(context.run({{"image", wrong}}, {}), "double");
  const std::vector<std::int64_t> flat{3 * 40 * 56};
  says(context.run({{"image", {image.pixels.data(), DType::kFloat32, flat}}}, {}), "image");
  const std::vector<std::int64_t> small{1, 20, 10, 13};
  says(context.run({{"image", image.view()}}, {{name, TensorView{result.data(), DType::kFloat32, small}}}), name);
}

TEST(Context, EachThreadItsOwn) {
  const Image image;
  const ConstTensorView inputs[] = {image.view()};
  Context first = shared_engine().create_context();
  ASSERT_TRUE(first.run(inputs));
  const auto* expected = static_cast<const float*>(first.output(0).data);
  std::atomic<int> different{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      Context context = shared_engine().create_context();
      for (int i = 0; i < 50; ++i)
        if (!context.run(inputs) || std::memcmp(context.output(0).data, expected, 20 * 10 * 14 * sizeof(float)) != 0) ++different;
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(different, 0);
}

TEST(Build, TellsWrongOptions) {
  const auto refused = [](BuildConfig config, Code code, std::string_view word) {
    try {
      build(model(), config);
      ADD_FAILURE() << word;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      EXPECT_NE(std::string_view(error.what()).find(word), std::string_view::npos) << error.what();
    }
  };
  const auto with = [](auto change) {
    BuildConfig config = quick();
    change(config);
    return config;
  };
  setenv("LATHE_CUDA_DRIVER", "none", 0);  // this machine may have a GPU
  refused(with([](BuildConfig& c) { c.device = "cuda"; }), Code::kMachine, "cuda");
  refused(with([](BuildConfig& c) { c.device = "abacus"; }), Code::kInvalidArgument, "abacus");
  refused(with([](BuildConfig& c) { c.precision = "fp12"; }), Code::kInvalidArgument, "fp12");
  refused(with([](BuildConfig& c) { c.precision = "fp16"; }), Code::kInvalidArgument, "fp16");
  refused(with([](BuildConfig& c) { c.budget_seconds = -1; }), Code::kInvalidArgument, "budget");
  refused(with([](BuildConfig& c) { c.shapes["picture"] = {{}, {1, 3, 8, 8}, {}}; }), Code::kInvalidArgument, "'image'");
  refused(with([](BuildConfig& c) { c.shapes["image"] = {{}, {1, 3, 8, 8}, {}}; }), Code::kInvalidArgument, "axis 2");
  refused(with([](BuildConfig& c) { c.shapes["image"] = {{}, {1, 3, 40}, {}}; }), Code::kInvalidArgument, "3 axes");
  refused(with([](BuildConfig& c) { c.shapes["image"] = {{1, 3, 41, 56}, {1, 3, 40, 56}, {1, 3, 40, 56}}; }), Code::kInvalidArgument, "41");
}

}  // namespace
}  // namespace lathe
