// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#include "base/thread_pool.h"

#include <chrono>
#include <system_error>

#include "base/knobs.h"
#include "base/log.h"
#include "base/os.h"

namespace lathe {
namespace {

constexpr std::uint32_t kOpen = 0x80000000u;
constexpr auto kSpinTime = std::chrono::microseconds(50);

inline void pause_cpu() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Set while a thread runs tasks of any pool: a nested call must not wait for workers that may be waiting for it.
thread_local bool t_inside_task = false;

}  // namespace

ThreadPool::ThreadPool(int threads) : size_(threads < 1 ? 1 : threads), ranges_(new Range[static_cast<std::size_t>(size_)]) {
  threads_.reserve(static_cast<std::size_t>(size_ - 1));
  try {
    start_threads();
  } catch (...) {
    stop();
    throw;
  }
}

void ThreadPool::start_threads() try {
  for (int worker = 1; worker < size_; ++worker) threads_.emplace_back([this, worker] { worker_main(worker); });
} catch (const std::system_error& error) {
  size_ = static_cast<int>(threads_.size()) + 1;  // workers read it only once a run was posted
  log(LogLevel::kWarning, "the system starts no more threads ({}): work is shared by {} instead", error.what(), size_);
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() noexcept {
  stop_.store(true);
  epoch_.fetch_add(1);
  epoch_.notify_all();
  for (auto& thread : threads_) thread.join();
}

void ThreadPool::run(std::int64_t count, TaskFn fn, void* context) noexcept {
  if (count <= 0) return;
  const bool serial = count == 1 || size_ == 1 || t_inside_task || busy_.exchange(true, std::memory_order_acquire);
  if (serial) {
    const bool was_inside = t_inside_task;
    t_inside_task = true;
    for (std::int64_t task = 0; task < count; ++task) fn(context, task, 0);
    t_inside_task = was_inside;
    return;
  }
  fn_ = fn;
  context_ = context;
  const std::int64_t ranges = count < size_ ? count : size_;
  ranges_in_use_ = static_cast<int>(ranges);
  const std::int64_t share = count / ranges, extra = count % ranges;
  std::int64_t begin = 0;
  for (std::int64_t r = 0; r < ranges; ++r) {
    ranges_[r].next.store(begin, std::memory_order_relaxed);
    begin += share + (r < extra ? 1 : 0);
    ranges_[r].end = begin;
  }
  gate_.store(kOpen, std::memory_order_release);
  epoch_.fetch_add(1);  // seq_cst with sleepers_: either we see the sleeper or it sees the new epoch
  if (sleepers_.load() != 0) epoch_.notify_all();

  t_inside_task = true;
  work(0);
  t_inside_task = false;

  gate_.fetch_and(~kOpen, std::memory_order_acq_rel);
  for (int spins = 0; gate_.load(std::memory_order_acquire) != 0; ++spins) {
    if (spins < 4096) {
      pause_cpu();
    } else {
      std::this_thread::yield();  // more threads than CPUs: let the one we wait for run
    }
  }
  busy_.store(false, std::memory_order_release);
}

void ThreadPool::work(int worker) noexcept {
  const int ranges = ranges_in_use_;
  int r = worker % ranges;
  for (int visited = 0; visited < ranges; ++visited) {
    Range& range = ranges_[r];
    while (range.next.load(std::memory_order_relaxed) < range.end) {
      const std::int64_t task = range.next.fetch_add(1, std::memory_order_relaxed);
      if (task >= range.end) break;
      fn_(context_, task, worker);
    }
    if (++r == ranges) r = 0;
  }
}

void ThreadPool::worker_main(int worker) noexcept {
  t_inside_task = true;
  std::uint32_t seen = 0;
  for (;;) {
    auto spin_end = std::chrono::steady_clock::time_point{};
    for (int spins = 1; epoch_.load(std::memory_order_acquire) == seen; ++spins) {
      pause_cpu();
      if ((spins & 63) != 0) continue;
      const auto now = std::chrono::steady_clock::now();
      if (spin_end == std::chrono::steady_clock::time_point{}) spin_end = now + kSpinTime;
      if (now < spin_end) continue;
      sleepers_.fetch_add(1);
      epoch_.wait(seen);
      sleepers_.fetch_sub(1);
    }
    // In this order: the last epoch is the one that stop() begins, and who has seen it sees that it is over.
    seen = epoch_.load();
    if (stop_.load()) return;
    std::uint32_t gate = gate_.load(std::memory_order_acquire);
    while ((gate & kOpen) != 0) {
      if (gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acq_rel)) {
        work(worker);
        gate_.fetch_sub(1, std::memory_order_acq_rel);
        break;
      }
    }
  }
}

ThreadPool& default_pool() {
  static ThreadPool pool([] {
    const long wanted = knob_int("LATHE_THREADS");
    return wanted > 0 ? static_cast<int>(wanted) : os::available_cpus();
  }());
  return pool;
}

}  // namespace lathe
