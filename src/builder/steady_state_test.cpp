// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// What must hold while a server runs for months, on a network that uses every kernel: no allocation from the second run of a class of
// shapes on, few specialisations, the same bits whatever shapes came before and from many threads at once, no growth over
// create/run/destroy cycles, no thread beyond pool and callers. The program's malloc is replaced by a counting one.

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <set>
#include <thread>

#include "backend/cpu/conv.h"
#include "base/count_allocations.h"
#include "base/os.h"
#include "base/sanitizers.h"
#include "base/thread_pool.h"
#include "builder/builder.h"
#include "builder/test_models.h"
#include "engine/engine.h"
#include "plan/kernel.h"
#include "regions/conv_block/conv_params.h"
#include "runtime/context.h"

namespace lathe::builder {
namespace {

using runtime::InputView;

/// image [n, 3, height, width] -> a small detector's body (every convolution kernel, poolings, concat, split, resize), then its pixels as
/// a sequence through attention, a norm and an LSTM; ids [n, length] through an embedding and an integer product.
std::shared_ptr<ir::Model> every_kernel() {
  test::ModelMaker m(3);
  const ir::Dim n = ir::Dim::symbol("n"), height = ir::Dim::symbol("height"), width = ir::Dim::symbol("width"), length = ir::Dim::symbol("length");
  const auto ints = [](std::vector<std::int64_t> values) { return values; };
  const auto with = [](std::initializer_list<std::pair<const char*, ir::Attribute>> list) {
    ir::Attrs attrs;
    for (const auto& [name, value] : list) attrs.set(name, value);
    return attrs;
  };
  ir::Value* image = m.input("image", {n, 3, height, width});
  ir::Value* x = m.silu(m.conv(image, 3, 16, 3, 2));
  x = m.add("Relu", {m.conv(x, 16, 32, 3)});              // Winograd
  x = m.add("HardSwish", {m.conv(x, 32, 32, 3, 1, 32)});  // depthwise
  x = m.add("Add", {x, m.silu(m.conv(m.silu(m.conv(x, 32, 16, 1)), 16, 32, 3))});
  ir::Value* small = m.add("MaxPool", {x}, with({{"kernel_shape", ints({3, 3})}, {"strides", ints({2, 2})}, {"pads", ints({1, 1, 1, 1})}}));
  ir::Value* mean = m.add("AveragePool", {small}, with({{"kernel_shape", ints({3, 3})}, {"auto_pad", "SAME_UPPER"}, {"strides", ints({1, 1})}}));
  ir::Value* wide =
      m.add("ConvTranspose", {m.add("Relu", {mean}), m.weight({32, 16, 2, 2}, 32)}, with({{"kernel_shape", ints({2, 2})}, {"strides", ints({2, 2})}}));
  ir::Node* halves = m.add_all("Split", {small}, 2, with({{"axis", 1}, {"num_outputs", 2}}));
  ir::Value* resized = m.add("Resize", {m.conv(halves->output(0), 16, 16, 1), nullptr, m.floats({1, 1, 2, 2})},
                             with({{"mode", "nearest"}, {"coordinate_transformation_mode", "asymmetric"}, {"nearest_mode", "floor"}}));
  ir::Value* joined = m.silu(m.conv(m.add("Concat", {resized, wide}, with({{"axis", 1}})), 32, 24, 1));
  ir::Value* features = m.conv(m.add("Concat", {m.conv(halves->output(1), 16, 8, 3), mean}, with({{"axis", 1}})), 40, 16, 1);
  ir::Value* scores = m.add("Softmax", {m.add("Flatten", {m.add("GlobalAveragePool", {joined})})}, with({{"axis", -1}}));

  ir::Value* sequence = m.add("Transpose", {m.add("Reshape", {features, m.ints({0, 16, -1})})}, with({{"perm", ints({0, 2, 1})}}));
  ir::Value* q = m.add("MatMul", {sequence, m.weight({16, 16}, 16)});
  ir::Value* k = m.add("Transpose", {m.add("MatMul", {sequence, m.weight({16, 16}, 16)})}, with({{"perm", ints({0, 2, 1})}}));
  ir::Value* attention = m.add("Softmax", {m.add("MatMul", {q, k})}, with({{"axis", -1}}));
  sequence = m.add("Add", {sequence, m.add("MatMul", {attention, sequence})});
  sequence = m.add("LayerNormalization", {sequence, m.weight({16}, 9, 1), m.weight({16}, 9)}, with({{"axis", -1}}));
  ir::Node* lstm = m.add_all("LSTM", {m.add("Transpose", {sequence}, with({{"perm", ints({1, 0, 2})}})), m.weight({1, 32, 16}, 16), m.weight({1, 32, 8}, 8)}, 3,
                             with({{"hidden_size", 8}}));

  ir::Value* ids = m.input("ids", {n, length}, DType::kInt64);
  ir::Value* embedded = m.add("ReduceSum", {m.add("Gather", {m.weight({10, 8}, 1), ids}), m.ints({1})}, with({{"keepdims", 0}}));
  ir::Node* largest = m.add_all("TopK", {embedded, m.ints({3})}, 2);
  // One tree of two leaves.
  ir::Value* votes = m.add("ai.onnx.ml::TreeEnsembleRegressor", {embedded},
                           with({{"n_targets", 1},
                                 {"nodes_treeids", ints({0, 0, 0})},
                                 {"nodes_nodeids", ints({0, 1, 2})},
                                 {"nodes_featureids", ints({1, 0, 0})},
                                 {"nodes_modes", std::vector<std::string>{"BRANCH_LEQ", "LEAF", "LEAF"}},
                                 {"nodes_values", std::vector<float>{0.1F, 0, 0}},
                                 {"nodes_truenodeids", ints({1, 0, 0})},
                                 {"nodes_falsenodeids", ints({2, 0, 0})},
                                 {"target_treeids", ints({0, 0})},
                                 {"target_nodeids", ints({1, 2})},
                                 {"target_ids", ints({0, 0})},
                                 {"target_weights", std::vector<float>{1, -1}}}));
  std::vector<float> supports(16);
  for (std::size_t i = 0; i < supports.size(); ++i) supports[i] = static_cast<float>(i) / 8 - 1;
  ir::Value* margin = m.add("ai.onnx.ml::SVMRegressor", {embedded},
                            with({{"kernel_type", "RBF"},
                                  {"kernel_params", std::vector<float>{0.1F, 0, 0}},
                                  {"n_supports", 2},
                                  {"support_vectors", supports},
                                  {"coefficients", std::vector<float>{1, -0.5F}},
                                  {"rho", std::vector<float>{0.25F}}}));
  ir::Value* counted = m.add("MatMul", {ids, m.add("Transpose", {ids}, with({{"perm", ints({1, 0})}}))});
  ir::Value* rois = m.constant(Tensor::from<float>(DType::kFloat32, {2, 4}, std::vector<float>{0, 0, 3, 2, 1, 1, 9, 9}));
  ir::Value* aligned = m.add("RoiAlign", {joined, rois, m.ints({0, 0})}, with({{"output_height", 2}, {"output_width", 3}, {"mode", "avg"}}));
  ir::Value* nowhere = m.add("Cast", {m.add("Less", {embedded, m.floats({-1e30F})})}, with({{"to", static_cast<std::int64_t>(DType::kInt64)}}));
  ir::Value* scattered = m.add("ScatterElements", {embedded, nowhere, embedded}, with({{"axis", 0}}));
  ir::Node* recurrent =
      m.add_all("LinearAttention", {sequence, sequence, sequence}, 2, with({{"q_num_heads", 2}, {"kv_num_heads", 2}, {"update_rule", "linear"}}));
  return m.finish({recurrent->output(0), recurrent->output(1), scores, joined, sequence, lstm->output(0), largest->output(0), largest->output(1), counted,
                   votes, margin, aligned, scattered});
}

/// x [n, 8] -> what NonZero and NonMaxSuppression are made of. Places behind the counts hold anything, so they are covered.
std::shared_ptr<const runtime::Engine> counted_engine() {
  static const std::shared_ptr<const runtime::Engine> engine = [] {
    test::ModelMaker m(4);
    ir::Value* x = m.input("x", {ir::Dim::symbol("n"), 8});
    const auto first = [&](ir::Value* places, ir::Value* count) {
      ir::Value* columns = m.add("Squeeze", {m.add("Gather", {m.add("Shape", {places}), m.ints({1})})});
      ir::Value *none = m.constant(Tensor::scalar(0)), *step = m.constant(Tensor::scalar(1));
      return m.add("Where", {m.add("Less", {m.add("Range", {none, columns, step}), count}), places, none});
    };
    ir::Node* filled = m.add_all("lathe.internal::NonZeroPadded", {m.add("Relu", {x})}, 2);
    ir::Value* chances = m.add("Reshape", {m.add("MatMul", {x, m.weight({8, 2}, 8)}), m.ints({0, 1, 2})});
    ir::Attrs most, turned;
    most.set("most", std::int64_t{1});
    turned.set("perm", std::vector<std::int64_t>{1, 0});
    ir::Node* best = m.add_all("lathe.internal::NonMaxSuppressionPadded", {m.add("Reshape", {x, m.ints({0, 2, 4})}), chances, m.ints({1})}, 2, most);
    BuildOptions options;
    options.budget_seconds = 0;
    options.use_cache = options.verify = false;
    const auto model = m.finish({first(filled->output(0), filled->output(1)), first(m.add("Transpose", {best->output(0)}, turned), best->output(1))});
    return runtime::Engine::create(build_engine(model, options).engine);
  }();
  return engine;
}

/// Modelled costs never choose Winograd; which convolution timing chooses it for depends on the machine. Here it is one that must have it.
void use_winograd(engine::EngineData& data) {
  for (plan::Step& step : data.sections.front().program.steps) {
    if (step.kernel != "cpu.conv" || step.params.get_ints("weight_dims") != Dims{32, 16, 3, 3}) continue;
    plan::Blob& blob = data.blobs[static_cast<std::size_t>(step.weights[0])];
    const auto source = static_cast<std::size_t>(blob.sources[0]);
    cpu::ConvProblem problem;
    problem.n = 1;
    problem.cin = 16;
    problem.cout = 32;
    problem.h = problem.w = 12;
    problem.kh = problem.kw = 3;
    problem.pad_top = problem.pad_left = problem.pad_bottom = problem.pad_right = 1;
    const cpu::ConvPlan plan = cpu::conv_plans(problem, cpu::cpu_features(), default_pool().size(), false).front();
    ASSERT_TRUE(plan.fast());
    regions::write_plan(plan, step.params);
    blob.pack_params.set("algorithm", static_cast<std::int64_t>(plan.algorithm));
    blob.pack_params.set("panel", static_cast<std::int64_t>(plan.panel));
    blob.pack_params.set("chunk", static_cast<std::int64_t>(plan.chunk));
    const Tensor weight =
        Tensor::view(data.blobs[source].dtype, data.blobs[source].dims, data.blob_bytes[source].data(), data.blob_bytes[source].size(), nullptr);
    const std::vector<std::byte> packed = plan::find_pack_function(blob.pack)->pack(blob.pack_params, std::span(&weight, 1));
    const auto owner = std::make_shared<Tensor>(DType::kUint8, Dims{static_cast<std::int64_t>(packed.size())});
    std::memcpy(owner->mutable_raw(), packed.data(), packed.size());
    blob.bytes = packed.size();
    blob.hash = hash128(packed.data(), packed.size());
    data.blob_bytes[static_cast<std::size_t>(step.weights[0])] = {owner->raw(), owner->bytes()};
    data.owners.push_back(owner);
    return;
  }
  FAIL() << "no convolution for Winograd";
}

const engine::EngineData& built() {
  static const engine::EngineData data = [] {
    BuildOptions options;
    options.budget_seconds = 0;
    options.use_cache = false;
    options.shapes["image"] = {{1, 3, 8, 8}, {1, 3, 24, 24}, {64, 3, 512, 512}};
    options.shapes["ids"] = {{1, 1}, {1, 6}, {64, 512}};
    const auto model = every_kernel();
    BuildResult result = build_engine(model, options);
    use_winograd(result.engine);
    const VerifyReport report = verify_engine(*model, result.engine, options);
    EXPECT_TRUE(report.passed) << report.summary;
    return std::move(result.engine);
  }();
  return data;
}

std::shared_ptr<const runtime::Engine> engine() { return runtime::Engine::create(built()); }

struct Call {
  Tensor image, ids;
  std::array<InputView, 2> views;
  Call(std::int64_t n, std::int64_t height, std::int64_t width, std::int64_t length)
      : image(DType::kFloat32, {n, 3, height, width}), ids(DType::kInt64, {n, length}) {
    std::mt19937 random(static_cast<std::uint32_t>(n + 3 * height + 5 * width + 7 * length));
    std::normal_distribution<float> normal;
    for (float& value : image.mutable_data<float>()) value = normal(random);
    for (std::int64_t& value : ids.mutable_data<std::int64_t>()) value = static_cast<std::int64_t>(random() % 10);
    views = {InputView{image.raw(), image.dtype(), image.dims()}, InputView{ids.raw(), ids.dtype(), ids.dims()}};
  }
  Call(const Call&) = delete;
};

using Bytes = std::vector<std::vector<std::byte>>;

Bytes outputs(const runtime::Context& context) {
  Bytes all;
  for (std::size_t i = 0; i < context.engine().program().outputs.size(); ++i) {
    const InputView view = context.output(i);
    std::int64_t count = 1;
    for (const std::int64_t extent : view.dims) count *= extent;
    const auto* data = static_cast<const std::byte*>(view.data);
    all.emplace_back(data, data + dtype_bytes(view.dtype, count));
  }
  return all;
}

bool same(const runtime::Context& context, const Bytes& expected) {
  for (std::size_t i = 0; i < expected.size(); ++i)
    if (std::memcmp(context.output(i).data, expected[i].data(), expected[i].size()) != 0) return false;
  return true;
}

TEST(EveryKernel, IsInTheNetwork) {
  std::set<std::string> kernels;
  std::set<std::int64_t> convolutions;
  const auto shared = engine();
  for (const plan::Step& step : shared->program().steps) {
    kernels.insert(step.kernel);
    EXPECT_NE(step.kernel, "cpu.reference") << step.label << ": defining loops allocate while they run";
    if (step.kernel == "cpu.conv") convolutions.insert(step.params.get_ints("plan").at(0));
  }
  for (const plan::Step& step : counted_engine()->program().steps) kernels.insert(step.kernel);
  for (const plan::KernelType* type : plan::all_kernels())
    if (type->name != "cpu.reference" && type->name != "cpu.custom" &&           // the caller's own functions
        !type->name.starts_with("cuda.") && !type->name.ends_with(".onednn")) {  // onednn_steady_state_test.cpp
      EXPECT_TRUE(kernels.count(std::string(type->name))) << type->name << " is not held to anything here";
    }
  EXPECT_EQ(convolutions.size() + (convolutions.count(2) != convolutions.count(3)), 4U) << "tiles, depthwise and a Winograd are wanted";
}

TEST(EveryKernel, AllocatesNothingFromTheSecondRunOfAClassOn) {
  if (!LATHE_COUNTS_MALLOC) GTEST_SKIP() << "malloc is not counted under this sanitizer or C library";
  ASSERT_TRUE(lathe::test::counts_allocations());
  runtime::Context context(engine());
  const Call calls[] = {{1, 24, 24, 6}, {5, 40, 36, 9}, {6, 50, 62, 12}, {8, 64, 64, 16}, {7, 33, 34, 10}, {5, 63, 35, 9}, {2, 24, 17, 3}, {1, 20, 30, 4}};
  std::size_t classes = 0;
  for (int round = 0; round < 3; ++round)
    for (const Call& call : calls) {
      Status status;
      const std::int64_t allocations = lathe::test::count_allocations([&] { status = context.run(call.views, {}); });
      ASSERT_TRUE(status) << status.message();
      if (context.specialisations() > classes) {
        classes = context.specialisations();
        EXPECT_GT(allocations, 0);
      } else {
        EXPECT_EQ(allocations, 0) << to_string(call.image.dims()) << " and " << to_string(call.ids.dims()) << " in round " << round;
      }
    }
  EXPECT_EQ(classes, 4U);
}

TEST(EveryKernel, CountsWithoutAllocationsAndTheSameWhateverRanBefore) {
  if (!LATHE_COUNTS_MALLOC) GTEST_SKIP() << "malloc is not counted under this sanitizer or C library";
  runtime::Context used(counted_engine());
  std::size_t classes = 0;
  for (int round = 0; round < 3; ++round)
    for (const std::int64_t n : {40000, 3, 1, 33000, 2, 40000}) {
      Tensor x(DType::kFloat32, {n, 8});
      for (std::int64_t i = 0; i < x.size(); ++i) x.mutable_data<float>()[static_cast<std::size_t>(i)] = std::sin(static_cast<float>(i * (round + 1)));
      const InputView view{x.raw(), x.dtype(), x.dims()};
      Status status;
      const std::int64_t allocations = lathe::test::count_allocations([&] { status = used.run(std::span(&view, 1), {}); });
      ASSERT_TRUE(status) << status.message();
      EXPECT_TRUE(allocations == 0 || used.specialisations() > classes) << n << " in round " << round;
      classes = std::max(classes, used.specialisations());
      runtime::Context fresh(counted_engine());
      ASSERT_TRUE(fresh.run(std::span(&view, 1), {}));
      EXPECT_TRUE(same(used, outputs(fresh))) << n << " in round " << round;
    }
}

TEST(EveryKernel, MakesFewSpecialisations) {
  runtime::Context batches(engine()), steps(engine());
  for (std::int64_t n = 1; n <= 32; ++n) ASSERT_TRUE(batches.run(Call(n, 24, 24, 6).views, {}));
  EXPECT_LE(batches.specialisations(), 7U);
  for (std::int64_t length = 1; length <= 512; ++length) ASSERT_TRUE(steps.run(Call(1, 24, 24, length).views, {}));
  EXPECT_LE(steps.specialisations(), 10U);
}

TEST(EveryKernel, GivesTheSameBitsWhateverRanBefore) {
  runtime::Context used(engine());
  std::mt19937 random(5);
  const auto extent = [&](std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(random() % static_cast<std::uint32_t>(high - low + 1));
  };
  for (int i = 0; i < 60; ++i) {
    const Call call(extent(1, 4), extent(8, 48), extent(8, 48), extent(1, 20));
    runtime::Context fresh(engine());
    ASSERT_TRUE(fresh.run(call.views, {}));
    ASSERT_TRUE(used.run(call.views, {}));
    ASSERT_TRUE(same(used, outputs(fresh))) << to_string(call.image.dims()) << " and " << to_string(call.ids.dims());
  }
}

TEST(EveryKernel, GivesTheSameBitsFromEightThreads) {
  const auto shared = engine();
  const Call calls[] = {{1, 8, 8, 3}, {2, 9, 12, 4}};
  std::vector<Bytes> expected;
  for (const Call& call : calls) {
    runtime::Context context(shared);
    ASSERT_TRUE(context.run(call.views, {}));
    expected.push_back(outputs(context));
  }
  EXPECT_NE(expected[0], expected[1]);
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&, t] {
      runtime::Context context(shared);
      for (int i = 0; i < 1000; ++i) {
        const std::size_t which = static_cast<std::size_t>(t + i / 7) % 2;
        if (!context.run(calls[which].views, {}) || !same(context, expected[which])) ++wrong;
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0);
}

int threads_of_process() {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);)
    if (line.rfind("Threads:", 0) == 0) return std::stoi(line.substr(8));
  return -1;
}

TEST(EveryKernel, StartsNoThreadBeyondThePool) {
#if LATHE_ADDRESS_SANITIZER || LATHE_THREAD_SANITIZER
  GTEST_SKIP() << "sanitizers start threads of their own";
#endif
  const auto shared = engine();
  std::atomic<bool> stop{false};
  std::atomic<int> runs{0};
  std::vector<std::thread> callers;
  for (int t = 0; t < 3; ++t)
    callers.emplace_back([&] {
      runtime::Context own(shared);
      const Call call(1, 16, 16, 3);
      while (!stop && own.run(call.views, {})) runs.fetch_add(1);
    });
  while (runs < 30) std::this_thread::yield();
  EXPECT_EQ(threads_of_process(), default_pool().size() + 3);  // the pool's size counts one caller
  stop = true;
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(threads_of_process(), default_pool().size());
}

TEST(EveryKernel, DoesNotGrowOverCycles) {
#if LATHE_ADDRESS_SANITIZER || LATHE_THREAD_SANITIZER
  GTEST_SKIP() << "sanitizers keep freed memory";
#endif
  const std::vector<std::byte> file = engine::write_engine(built());
  const Call call(1, 24, 24, 6), other(2, 20, 12, 3);
  std::size_t at_100 = 0;
  for (int cycle = 0; cycle < 1000; ++cycle) {
    if (cycle == 100) at_100 = os::current_rss_bytes();
    runtime::Context context(runtime::Engine::create(engine::read_engine(file, nullptr)));
    ASSERT_TRUE(context.run((cycle % 2 == 0 ? call : other).views, {}));
  }
  const std::size_t at_1000 = os::current_rss_bytes();
  EXPECT_LT(at_1000, at_100 + (1U << 20)) << "grew from " << at_100 << " to " << at_1000 << " bytes";
}

}  // namespace
}  // namespace lathe::builder
