// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#include "base/thread_pool.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <vector>

#include "base/sanitizers.h"

namespace lathe {
namespace {

class ThreadPoolSizes : public ::testing::TestWithParam<int> {};

TEST_P(ThreadPoolSizes, EachTaskRunsOnceAndIsVisible) {
  ThreadPool pool(GetParam());
  EXPECT_EQ(pool.size(), GetParam());
  for (std::int64_t count : {0, 1, 2, 3, 7, 64, 1000}) {
    std::vector<int> hits(static_cast<std::size_t>(count), 0);  // plain ints: a race would show under TSan
    std::atomic<bool> bad_worker{false};
    pool.parallel_for(count, [&](std::int64_t task, int worker) {
      ++hits[static_cast<std::size_t>(task)];
      if (worker < 0 || worker >= pool.size()) bad_worker = true;
    });
    for (int h : hits) ASSERT_EQ(h, 1);
    EXPECT_FALSE(bad_worker);
  }
}

TEST_P(ThreadPoolSizes, WorkerIndexIsExclusive) {
  ThreadPool pool(GetParam());
  std::vector<std::atomic<int>> inside(static_cast<std::size_t>(pool.size()));
  std::atomic<int> clashes{0};
  for (int round = 0; round < 200; ++round) {
    pool.parallel_for(20, [&](std::int64_t, int worker) {
      auto& slot = inside[static_cast<std::size_t>(worker)];
      if (slot.fetch_add(1) != 0) ++clashes;
      slot.fetch_sub(1);
    });
  }
  EXPECT_EQ(clashes.load(), 0);
}

TEST_P(ThreadPoolSizes, ManyShortCalls) {
  ThreadPool pool(GetParam());
  std::int64_t total = 0;
  std::vector<std::int64_t> partial(16);
  for (int round = 0; round < 3000; ++round) {
    pool.parallel_for(16, [&](std::int64_t task, int) { partial[static_cast<std::size_t>(task)] = task + round; });
    for (auto p : partial) total += p;
  }
  EXPECT_EQ(total, 3000LL * 120 + 16LL * (2999LL * 3000 / 2));
}

TEST_P(ThreadPoolSizes, WakesParkedWorkers) {
  ThreadPool pool(GetParam());
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(std::chrono::microseconds(300));
    std::atomic<int> sum{0};
    pool.parallel_for(8, [&](std::int64_t task, int) { sum += static_cast<int>(task); });
    ASSERT_EQ(sum.load(), 28);
  }
}

TEST_P(ThreadPoolSizes, NestedCallsRunSerially) {
  ThreadPool pool(GetParam()), other(2);
  std::atomic<int> sum{0};
  std::atomic<bool> left_thread{false};
  pool.parallel_for(8, [&](std::int64_t, int) {
    const auto me = std::this_thread::get_id();
    auto inner = [&](std::int64_t task, int worker) {
      if (std::this_thread::get_id() != me || worker != 0) left_thread = true;
      sum += static_cast<int>(task);
    };
    pool.parallel_for(5, inner);
    other.parallel_for(5, inner);
  });
  EXPECT_EQ(sum.load(), 8 * 2 * 10);
  EXPECT_FALSE(left_thread);
}

TEST_P(ThreadPoolSizes, SeveralCallersAtOnce) {
  ThreadPool pool(GetParam());
  std::atomic<std::int64_t> sum{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c) {
    callers.emplace_back([&] {
      for (int round = 0; round < 300; ++round) pool.parallel_for(10, [&](std::int64_t task, int) { sum += task; });
    });
  }
  for (auto& caller : callers) caller.join();
  EXPECT_EQ(sum.load(), 4 * 300 * 45);
}

INSTANTIATE_TEST_SUITE_P(Sizes, ThreadPoolSizes, ::testing::Values(1, 2, 3, 5));

TEST(ThreadPool, UnevenTasksAreStolen) {
  ThreadPool pool(2);
  // The first half is slow: without stealing worker 1 would leave it to worker 0 alone.
  std::atomic<int> by_second{0};
  pool.parallel_for(16, [&](std::int64_t task, int worker) {
    if (task < 8) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      if (worker == 1) ++by_second;
    }
  });
  EXPECT_GT(by_second.load(), 0);
}

TEST(ThreadPool, ALimitOfThreadsMakesASmallerPool) {
  if (LATHE_ADDRESS_SANITIZER || LATHE_THREAD_SANITIZER) GTEST_SKIP() << "sanitizers need more address space than the limit leaves";
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    // No room for another stack of 8 MiB: threads cannot start, in this child alone.
    rlimit stack{8 << 20, 8 << 20}, none{1 << 20, 1 << 20};
    setrlimit(RLIMIT_STACK, &stack);
    setrlimit(RLIMIT_AS, &none);
    ThreadPool pool(4);
    std::atomic<int> sum{0};
    pool.parallel_for(4, [&](std::int64_t task, int) { sum += static_cast<int>(task); });
    _exit(pool.size() < 4 && sum == 6 ? 0 : 1);  // one may have found the stack of a thread that has ended
  }
  int state = 0;
  ASSERT_EQ(waitpid(child, &state, 0), child);
  EXPECT_TRUE(WIFEXITED(state) && WEXITSTATUS(state) == 0) << state;
}

/// Workers that are only just coming to a run when the pool ends must not wait for another.
TEST(ThreadPool, EndsRightBehindARun) {
  for (int i = 0; i < 400; ++i) {
    ThreadPool pool(9);
    std::atomic<int> sum{0};
    for (int runs = 0; runs <= i % 3; ++runs) pool.parallel_for(9, [&](std::int64_t, int) { ++sum; });
    EXPECT_EQ(sum, 9 * (i % 3 + 1));
  }
}

}  // namespace
}  // namespace lathe
