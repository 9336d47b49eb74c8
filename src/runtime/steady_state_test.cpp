// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// What must hold while a server runs for months: no allocation from the second run of a class of shapes on, equal bits from many
// threads, no growth over create/run/destroy cycles, no thread beyond pool and callers. Here on copy steps alone, whose results are known
// to the bit; src/builder/steady_state_test.cpp holds every kernel to the same.

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <fstream>
#include <thread>

#include "base/count_allocations.h"
#include "base/os.h"
#include "base/sanitizers.h"
#include "base/thread_pool.h"
#include "engine/test_engines.h"
#include "runtime/context.h"

namespace lathe::runtime {
namespace {

using engine::test::copy_step;
using engine::test::ramp;
using engine::test::slot;

/// y = x after six copies between memory orders and bfloat16; small integers stay exact.
engine::EngineData chain() {
  engine::EngineData data = engine::test::concat_engine();
  plan::Program& program = data.sections[0].program;
  const ir::Shape shape{ir::Dim::symbol("n"), 3, ir::Dim::symbol("height"), ir::Dim::symbol("width")};
  program = {};
  program.slots = {slot("x", shape, plan::Storage::kInput), slot("y", shape, plan::Storage::kOutput)};
  program.inputs = {{"x", 0, -1}};
  program.outputs = {{"y", 1, -1}};
  plan::SlotId from = 0;
  for (int i = 0; i < 6; ++i) {
    plan::Slot next = slot("", shape, plan::Storage::kArena, i == 1 ? DType::kBFloat16 : DType::kFloat32);
    if (i % 2 == 0) next.order = {0, 2, 3, 1};
    program.slots.push_back(next);
    const auto to = static_cast<plan::SlotId>(program.slots.size() - 1);
    program.steps.push_back(copy_step(from, to));
    from = to;
  }
  program.steps.push_back(copy_step(from, 1));
  program.segments = {{0, static_cast<std::int32_t>(program.steps.size())}};
  return data;
}

InputView view(const Tensor& tensor) { return {tensor.raw(), tensor.dtype(), tensor.dims()}; }

int threads_of_process() {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);)
    if (line.rfind("Threads:", 0) == 0) return std::stoi(line.substr(8));
  return -1;
}

TEST(SteadyState, AllocatesNothingFromTheSecondRunOn) {
  if (!LATHE_COUNTS_MALLOC) GTEST_SKIP() << "malloc is not counted under this sanitizer or C library";
  ASSERT_TRUE(test::counts_allocations());

  Context context(Engine::create(chain()));
  const Tensor small = ramp({1, 3, 4, 5}), large = ramp({2, 3, 64, 48});
  std::vector<float> out(static_cast<std::size_t>(large.size()));
  const InputView in_small[] = {view(small)}, in_large[] = {view(large)};
  const OutputView to[] = {{out.data(), DType::kFloat32, large.dims()}};
  ASSERT_TRUE(context.run(in_small, {}));
  ASSERT_TRUE(context.run(in_large, to));
  // A shape not seen before, of the class of the large one.
  const Dims other{2, 3, 50, 33};
  const InputView in_other[] = {{large.raw(), DType::kFloat32, other}};
  bool good = true;
  const std::int64_t allocations = test::count_allocations([&] {
    for (int i = 0; i < 200; ++i) {
      good = good && context.run(in_small, {}).is_ok();
      good = good && context.run(in_large, to).is_ok();
      good = good && context.output(0).data == out.data();
      good = good && context.run(in_other, {}).is_ok();
    }
    // A refused call allocates nothing either.
    const InputView wrong[] = {{small.raw(), DType::kInt32, small.dims()}};
    good = good && !context.run(wrong, {}).is_ok();
  });
  EXPECT_TRUE(good);
  EXPECT_EQ(allocations, 0);
}

TEST(SteadyState, EightThreadsGiveTheSameBits) {
  const auto engine = Engine::create(chain());
  const Tensor inputs[] = {ramp({1, 3, 8, 9}), ramp({2, 3, 5, 7}, 10)};
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&, t] {
      Context context(engine);
      for (int i = 0; i < 1000; ++i) {
        const Tensor& x = inputs[(t + i / 7) % 2];
        const InputView in[] = {view(x)};
        if (!context.run(in, {}) || std::memcmp(context.output(0).data, x.raw(), x.bytes()) != 0) ++wrong;
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0);
}

TEST(SteadyState, ProcessHasPoolAndCallersOnly) {
#if LATHE_ADDRESS_SANITIZER || LATHE_THREAD_SANITIZER
  GTEST_SKIP() << "sanitizers start threads of their own";
#endif
  const auto engine = Engine::create(chain());
  const Tensor x = ramp({2, 3, 64, 64});
  Context context(engine);
  const InputView in[] = {view(x)};
  ASSERT_TRUE(context.run(in, {}));
  const int pool = default_pool().size();  // counts one caller
  EXPECT_EQ(threads_of_process(), pool);
  std::atomic<bool> stop{false};
  std::atomic<int> running{0};
  std::vector<std::thread> callers;
  for (int t = 0; t < 3; ++t)
    callers.emplace_back([&] {
      Context own(engine);
      while (!stop) {
        const InputView mine[] = {view(x)};
        if (!own.run(mine, {})) break;
        running.fetch_add(1);
      }
    });
  while (running < 30) std::this_thread::yield();
  EXPECT_EQ(threads_of_process(), pool + 3);
  stop = true;
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(threads_of_process(), pool);
}

TEST(SteadyState, CyclesOfCreateRunDestroyDoNotGrow) {
#if LATHE_ADDRESS_SANITIZER || LATHE_THREAD_SANITIZER
  GTEST_SKIP() << "sanitizers keep freed memory";
#endif
  const auto engine = Engine::create(chain());
  const Tensor x = ramp({1, 3, 64, 64});
  std::size_t at_100 = 0;
  for (int cycle = 0; cycle < 1000; ++cycle) {
    if (cycle == 100) at_100 = os::current_rss_bytes();
    Context context(engine);
    const InputView in[] = {view(x)};
    ASSERT_TRUE(context.run(in, {}));
  }
  const std::size_t at_1000 = os::current_rss_bytes();
  EXPECT_LT(at_1000, at_100 + (1U << 20)) << "grew from " << at_100 << " to " << at_1000 << " bytes";
}

}  // namespace
}  // namespace lathe::runtime
