// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The one persistent thread pool of the process. A parallel_for gives each worker a contiguous range of the tasks (so that
// neighbouring tasks, and the same tasks of the next layer, meet a warm cache) and lets workers that finish early steal single
// tasks from the others. Idle workers spin for about 50 us, then park. No allocation and no lock on the way of a call.

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

namespace lathe {

class ThreadPool {
 public:
  /// `threads` counts the calling thread: ThreadPool(1) starts none and runs everything in the caller. Where the system's limit of
  /// threads is met the pool is smaller, and a warning says so.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const noexcept { return size_; }

  /// Calls f(task, worker) once for each task in [0, count) and returns when all are done; what the tasks wrote is visible to the
  /// caller. `worker` is in [0, size()) and no two threads that work on this call at the same time share it (index scratch by it);
  /// the caller is worker 0. A nested call, or a call while another thread uses this pool, runs in its caller, serially:
  /// nothing waits for a busy pool, so nothing can deadlock.
  template <class F>
  void parallel_for(std::int64_t count, F&& f) noexcept {
    using Fn = std::remove_reference_t<F>;
    run(
        count, [](void* fn, std::int64_t task, int worker) { (*static_cast<Fn*>(fn))(task, worker); }, const_cast<void*>(static_cast<const void*>(&f)));
  }

 private:
  using TaskFn = void (*)(void*, std::int64_t, int);
  struct alignas(64) Range {
    std::atomic<std::int64_t> next{0};
    std::int64_t end = 0;
  };

  void start_threads();
  void stop() noexcept;
  void run(std::int64_t count, TaskFn fn, void* context) noexcept;
  void work(int worker) noexcept;
  void worker_main(int worker) noexcept;

  int size_;
  TaskFn fn_ = nullptr;
  void* context_ = nullptr;
  int ranges_in_use_ = 0;
  std::unique_ptr<Range[]> ranges_;
  alignas(64) std::atomic<bool> busy_{false};
  // Bit 31: a job is open to be joined. Bits 0..30: workers inside it. A parked worker that comes late finds the job closed, so the
  // caller never waits for a thread that has not started.
  alignas(64) std::atomic<std::uint32_t> gate_{0};
  alignas(64) std::atomic<std::uint32_t> epoch_{0};
  alignas(64) std::atomic<std::uint32_t> sleepers_{0};
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
};

/// The process's pool, sized by LATHE_THREADS or, unset, by the CPUs that affinity and cgroup quota leave. Made at the first call.
ThreadPool& default_pool();

}  // namespace lathe
