// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Engines with steps by oneDNN keep the promises of the others (steady_state_test.cpp): a run allocates nothing, no thread beyond pool and
// callers, the same bits from any number of threads; and they fall back where the library is another one.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <fstream>
#include <thread>

#define LATHE_MALLOC_IS_REPLACED_ELSEWHERE
#include "base/count_allocations.h"
#include "base/os.h"
#include "base/sanitizers.h"
#include "base/thread_pool.h"
#include "builder/builder.h"
#include "builder/test_models.h"
#include "engine/engine.h"
#include "plan/kernel.h"
#include "regions/conv_block/onednn_conv_params.h"
#include "regions/matmul_block/onednn_matmul_params.h"
#include "runtime/context.h"

namespace lathe::builder {
namespace {

using runtime::InputView;

/// Dense and sliced outputs, a residual, strides, groups; one class of shapes whose batch changes.
std::shared_ptr<ir::Model> model() {
  test::ModelMaker m(5);
  ir::Value* x = m.silu(m.conv(m.input("image", {ir::Dim::symbol("n"), 16, 24, 20}), 16, 32, 3));
  x = m.add("Add", {x, m.silu(m.conv(x, 32, 32, 1))});
  ir::Attrs axis;
  axis.set("axis", 1);
  ir::Value* joined = m.add("Concat", {m.silu(m.conv(x, 32, 16, 3)), m.add("Relu", {m.conv(x, 32, 16, 1)})}, axis);
  ir::Value* y = m.add("HardSwish", {m.conv(joined, 32, 32, 3, 2, 2)});
  ir::Value* rows = m.add("Gelu", {m.add("MatMul", {m.input("rows", {5, 64}), m.weight({64, 48}, 64)})});
  return m.finish({m.conv(y, 32, 48, 1), rows});
}

/// Modelled costs never choose oneDNN, and what timing chooses depends on the machine: here every convolution and product is given to it.
int use_onednn(engine::EngineData& data) {
  namespace onednn = cpu::onednn;
  int changed = 0;
  plan::Program& program = data.sections.front().program;
  for (plan::Step& step : program.steps) {
    if (step.kernel != "cpu.conv" && step.kernel != "cpu.matmul") continue;
    const plan::Slot &x = program.slots[static_cast<std::size_t>(step.inputs[0])], &y = program.slots[static_cast<std::size_t>(step.outputs[0])];
    const Dims weight = step.params.get_ints("weight_dims"), dims = *ir::evaluate(x.shape, {{"n", 1}});
    const bool convolution = step.kernel == "cpu.conv";
    onednn::ConvSpec spec;
    spec.problem = convolution ? regions::conv_problem(step.params, dims, weight) : regions::matmul_as_conv(dims[0], weight[0], weight[1]);
    spec.problem.src = x.dtype;
    spec.problem.dst = y.dtype;
    spec.problem.weights = onednn::product_type(x.dtype, y.dtype);
    spec.bias = step.weights.size() > 1;
    spec.residual = step.inputs.size() > 1;
    spec.split = {false, 2};
    if (convolution) {
      regions::write_spec(spec, step.params);
    } else {
      regions::write_onednn(spec, step.params);
      step.params.set("extents", Dims{dims[0], weight[0], weight[1]});
    }
    step.params.set("weight_format", onednn::Conv(convolution ? regions::read_spec(step.params) : regions::read_matmul_spec(step.params)).weight_format());
    step.kernel += ".onednn";
    plan::Blob blob = data.blobs[static_cast<std::size_t>(step.weights[0])];
    blob.pack = step.kernel + ".pack";
    blob.pack_params = step.params;
    const auto source = static_cast<std::size_t>(blob.sources[0]);
    const Tensor raw = Tensor::view(data.blobs[source].dtype, data.blobs[source].dims, data.blob_bytes[source].data(), data.blob_bytes[source].size(), nullptr);
    const std::vector<std::byte> packed = plan::find_pack_function(blob.pack)->pack(blob.pack_params, std::span(&raw, 1));
    const auto owner = std::make_shared<Tensor>(DType::kUint8, Dims{static_cast<std::int64_t>(packed.size())});
    std::memcpy(owner->mutable_raw(), packed.data(), packed.size());
    blob.bytes = packed.size();
    blob.hash = hash128(packed.data(), packed.size());
    step.weights[0] = static_cast<plan::BlobId>(data.blobs.size());
    data.blobs.push_back(std::move(blob));
    data.blob_bytes.emplace_back(owner->raw(), owner->bytes());
    data.owners.push_back(owner);
    ++changed;
  }
  return changed;
}

engine::EngineData built(bool by_onednn) {
  BuildOptions options;
  options.budget_seconds = 0;
  options.use_cache = false;
  options.shapes["image"] = {{1, 16, 24, 20}, {1, 16, 24, 20}, {8, 16, 24, 20}};
  engine::EngineData data = build_engine(model(), options).engine;
  if (by_onednn) {
    EXPECT_EQ(use_onednn(data), 7);
  }
  return data;
}

struct Call {
  Tensor image, rows;
  std::array<InputView, 2> views;
  explicit Call(std::int64_t n) : image(DType::kFloat32, {n, 16, 24, 20}), rows(DType::kFloat32, {5, 64}) {
    std::mt19937 random(static_cast<std::uint32_t>(n));
    std::normal_distribution<float> normal;
    for (float& value : image.mutable_data<float>()) value = normal(random);
    for (float& value : rows.mutable_data<float>()) value = normal(random);
    views = {InputView{image.raw(), image.dtype(), image.dims()}, InputView{rows.raw(), rows.dtype(), rows.dims()}};
  }
  Call(const Call&) = delete;
};

/// All outputs, one behind the other.
std::vector<float> output(const runtime::Context& context) {
  std::vector<float> all;
  for (std::size_t i = 0; i < context.engine().program().outputs.size(); ++i) {
    const InputView view = context.output(i);
    std::int64_t count = 1;
    for (const std::int64_t extent : view.dims) count *= extent;
    const auto* data = static_cast<const float*>(view.data);
    all.insert(all.end(), data, data + count);
  }
  return all;
}

#if !LATHE_ADDRESS_SANITIZER && !LATHE_THREAD_SANITIZER
int threads_of_process() {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);)
    if (line.rfind("Threads:", 0) == 0) return std::stoi(line.substr(8));
  return -1;
}
#endif

class OneDnnEngine : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string why;
    if (!cpu::onednn::Library::find(&why)) GTEST_SKIP() << why;
  }
};

TEST_F(OneDnnEngine, GivesWhatOwnKernelsGive) {
  runtime::Context own(runtime::Engine::create(built(false))), other(runtime::Engine::create(built(true)));
  EXPECT_EQ(other.engine().section().device, "cpu") << other.engine().section_note();
  for (const std::int64_t n : {1, 3, 4, 7}) {
    const Call call(n);
    ASSERT_TRUE(own.run(call.views, {}));
    const Status status = other.run(call.views, {});
    ASSERT_TRUE(status) << status.message();
    const std::vector<float> expected = output(own), got = output(other);
    ASSERT_EQ(got.size(), expected.size());
    for (std::size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], expected[i], 1e-4F) << "batch " << n << " element " << i;
  }
}

TEST_F(OneDnnEngine, AllocatesNothingFromTheSecondRunOfAClassOn) {
  if (!LATHE_COUNTS_MALLOC) GTEST_SKIP() << "malloc is not counted under this sanitizer or C library";
  ASSERT_TRUE(lathe::test::counts_allocations());
  runtime::Context context(runtime::Engine::create(built(true)));
  const Call calls[] = {Call(1), Call(3), Call(4), Call(8)};
  std::size_t classes = 0;
  for (int round = 0; round < 20; ++round)
    for (const Call& call : calls) {
      Status status;
      const std::int64_t allocations = lathe::test::count_allocations([&] { status = context.run(call.views, {}); });
      ASSERT_TRUE(status) << status.message();
      if (context.specialisations() == classes) {
        EXPECT_EQ(allocations, 0) << to_string(call.image.dims()) << " in round " << round;
      }
      classes = context.specialisations();
    }
}

TEST_F(OneDnnEngine, GivesTheSameBitsFromEightThreadsAndStartsNone) {
  const auto shared = runtime::Engine::create(built(true));
  const Call calls[] = {Call(1), Call(2)};
  std::vector<std::vector<float>> expected;
  for (const Call& call : calls) {
    runtime::Context context(shared);
    ASSERT_TRUE(context.run(call.views, {}));
    expected.push_back(output(context));
  }
  std::atomic<int> wrong{0}, runs{0};
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&, t] {
      runtime::Context context(shared);
      for (int i = 0; i < 100 || !stop; ++i) {
        const std::size_t which = static_cast<std::size_t>(t + i / 7) % 2;
        if (!context.run(calls[which].views, {}) || output(context) != expected[which]) ++wrong;
        runs.fetch_add(1);
      }
    });
  while (runs < 400) std::this_thread::yield();
#if !LATHE_ADDRESS_SANITIZER && !LATHE_THREAD_SANITIZER
  EXPECT_EQ(threads_of_process(), default_pool().size() + 8);  // the pool's size counts one caller
#endif
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0);
}

TEST_F(OneDnnEngine, OneKernelServesSeveralCallersAtOnce) {
  const engine::EngineData data = built(true);
  const auto& steps = data.sections.front().program.steps;
  const plan::Step& step = *std::find_if(steps.rbegin(), steps.rend(), [](const plan::Step& each) { return each.kernel == "cpu.conv.onednn"; });
  std::vector<std::span<const std::byte>> weights;
  for (const plan::BlobId id : step.weights) weights.push_back(data.blob_bytes[static_cast<std::size_t>(id)]);
  const plan::TensorDesc x{DType::kFloat32, {2, 32, 12, 10}, {12 * 10 * 32, 1, 10 * 32, 32}},
      y{DType::kFloat32, {2, 48, 12, 10}, {12 * 10 * 48, 1, 10 * 48, 48}};
  const ir::Bindings symbols;
  const auto kernel = plan::find_kernel(step.kernel)->bind({step.params, std::span(&x, 1), std::span(&y, 1), {}, weights, symbols, 2});
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  std::vector<float> expected;
  const auto go = [&](int seed, std::vector<float>& out) {
    ThreadPool pool(1);
    std::vector<float> in(static_cast<std::size_t>(x.elements()));
    for (std::size_t i = 0; i < in.size(); ++i) in[i] = std::sin(static_cast<float>(i + static_cast<std::size_t>(seed)));
    out.assign(static_cast<std::size_t>(y.elements()), 0);
    std::vector<std::byte> scratch(kernel->scratch_bytes() + 64);
    void* const aligned = reinterpret_cast<void*>((reinterpret_cast<std::uintptr_t>(scratch.data()) + 63) & ~std::uintptr_t{63});
    const void* ins[] = {in.data()};
    void* outs[] = {out.data()};
    return kernel->run({ins, outs, aligned, &pool}).is_ok();
  };
  ASSERT_TRUE(go(3, expected));
  for (int t = 0; t < 12; ++t)
    threads.emplace_back([&] {
      std::vector<float> out;
      for (int i = 0; i < 50; ++i)
        if (!go(3, out) || out != expected) ++wrong;
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0);
}

TEST_F(OneDnnEngine, FallsBackWhereTheLibraryIsAnother) {
  engine::EngineData data = built(true);
  runtime::Context usual(runtime::Engine::create(data));
  for (plan::Step& step : data.sections.front().program.steps)
    if (step.kernel.ends_with(".onednn")) step.params.set("library", "3.1.0 isa 7 L1 1 L2 2");
  const auto engine = runtime::Engine::create(data);
  EXPECT_EQ(engine->section().device, "cpu-generic");
  EXPECT_NE(engine->section_note().find("packed for oneDNN 3.1.0"), std::string::npos) << engine->section_note();
  EXPECT_NE(engine->section_note().find("build again here"), std::string::npos) << engine->section_note();
  runtime::Context context(engine);
  const Call call(2);
  ASSERT_TRUE(context.run(call.views, {}));
  ASSERT_TRUE(usual.run(call.views, {}));
  const std::vector<float> expected = output(usual), got = output(context);
  for (std::size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], expected[i], 1e-4F) << i;
}

TEST_F(OneDnnEngine, DoesNotGrowOverCycles) {
#if LATHE_ADDRESS_SANITIZER || LATHE_THREAD_SANITIZER
  GTEST_SKIP() << "sanitizers keep freed memory";
#endif
  const std::vector<std::byte> file = engine::write_engine(built(true));
  const Call call(1);
  std::size_t before = 0;
  for (int cycle = 0; cycle < 200; ++cycle) {
    if (cycle == 50) before = os::current_rss_bytes();
    runtime::Context context(runtime::Engine::create(engine::read_engine(file, nullptr)));
    ASSERT_TRUE(context.run(call.views, {}));
  }
  EXPECT_LT(os::current_rss_bytes(), before + (1U << 20));
}

}  // namespace
}  // namespace lathe::builder
