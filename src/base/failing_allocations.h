// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// For tests and fuzzers: replaces operator new of the whole program by one that fails when told to (the n-th call, every call from the n-th
// on, or calls beyond a limit of bytes) and counts what is alive. Include it in exactly one file of a program. It stands on malloc, so
// sanitizers go on seeing every block. oneDNN, the Allocator of the public API (default_allocator()) and Tensor's storage come here too.

#include <malloc.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <new>

namespace lathe::test {

struct AllocationRules {
  std::atomic<std::int64_t> countdown{0};  // 0: none is to fail by number
  std::atomic<bool> ever_after{false};     // the n-th and all that follow
  std::atomic<bool> failed{false};         // one was refused since the last rule
  std::atomic<std::size_t> largest{std::numeric_limits<std::size_t>::max()};
  std::atomic<std::int64_t> most_bytes{std::numeric_limits<std::int64_t>::max()};
  std::atomic<std::int64_t> live_blocks{0}, live_bytes{0};
};
inline AllocationRules allocation_rules;

/// From here on allocation number `nth` (from 1) of all threads fails; `ever_after`: those that follow it as well.
inline void fail_allocation(std::int64_t nth, bool ever_after = false) noexcept {
  allocation_rules.failed = false;
  allocation_rules.ever_after = ever_after;
  allocation_rules.countdown = nth;
}
/// No more failures by number.
inline void stop_failing() noexcept { allocation_rules.countdown = 0; }
/// Was one refused since fail_allocation()?
inline bool allocation_failed() noexcept { return allocation_rules.failed; }
/// What operator new has given out and not got back.
inline std::int64_t live_blocks() noexcept { return allocation_rules.live_blocks; }

/// While it lives, blocks of more than `largest` bytes fail, and those that would bring what was allocated since to more than `all` bytes.
class AllocationLimit {
 public:
  AllocationLimit(std::size_t largest, std::int64_t all) {
    allocation_rules.largest = largest;
    allocation_rules.most_bytes = allocation_rules.live_bytes + all;
  }
  ~AllocationLimit() {
    allocation_rules.largest = std::numeric_limits<std::size_t>::max();
    allocation_rules.most_bytes = std::numeric_limits<std::int64_t>::max();
  }
  AllocationLimit(const AllocationLimit&) = delete;
  AllocationLimit& operator=(const AllocationLimit&) = delete;
};

inline bool allocation_refused(std::size_t bytes) noexcept {
  AllocationRules& rules = allocation_rules;
  bool refused = bytes > rules.largest.load(std::memory_order_relaxed) ||
                 rules.live_bytes.load(std::memory_order_relaxed) > rules.most_bytes.load(std::memory_order_relaxed) - static_cast<std::int64_t>(bytes);
  if (rules.countdown.load(std::memory_order_relaxed) > 0) {
    const std::int64_t before = rules.countdown.fetch_sub(1);
    if (before == 1) {
      refused = true;
      if (rules.ever_after) rules.countdown = 1;
    }
  }
  if (refused) rules.failed = true;
  return refused;
}

inline void* allocate_by_rules(std::size_t bytes, std::size_t alignment) noexcept {
  if (allocation_refused(bytes)) return nullptr;
  if (bytes == 0) bytes = 1;
  void* block = nullptr;
  if (alignment <= alignof(std::max_align_t)) block = std::malloc(bytes);
  else if (::posix_memalign(&block, alignment, bytes) != 0) block = nullptr;
  if (!block) return nullptr;
  allocation_rules.live_blocks.fetch_add(1, std::memory_order_relaxed);
  allocation_rules.live_bytes.fetch_add(static_cast<std::int64_t>(::malloc_usable_size(block)), std::memory_order_relaxed);
  return block;
}

inline void* allocate_or_throw(std::size_t bytes, std::size_t alignment) {
  if (void* block = allocate_by_rules(bytes, alignment)) return block;
  throw std::bad_alloc();
}

inline void give_back(void* block) noexcept {
  if (!block) return;
  allocation_rules.live_blocks.fetch_sub(1, std::memory_order_relaxed);
  allocation_rules.live_bytes.fetch_sub(static_cast<std::int64_t>(::malloc_usable_size(block)), std::memory_order_relaxed);
  std::free(block);
}

}  // namespace lathe::test

void* operator new(std::size_t bytes) { return lathe::test::allocate_or_throw(bytes, 0); }
void* operator new[](std::size_t bytes) { return lathe::test::allocate_or_throw(bytes, 0); }
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept { return lathe::test::allocate_by_rules(bytes, 0); }
void* operator new[](std::size_t bytes, const std::nothrow_t&) noexcept { return lathe::test::allocate_by_rules(bytes, 0); }
void* operator new(std::size_t bytes, std::align_val_t a) { return lathe::test::allocate_or_throw(bytes, static_cast<std::size_t>(a)); }
void* operator new[](std::size_t bytes, std::align_val_t a) { return lathe::test::allocate_or_throw(bytes, static_cast<std::size_t>(a)); }
void* operator new(std::size_t bytes, std::align_val_t a, const std::nothrow_t&) noexcept {
  return lathe::test::allocate_by_rules(bytes, static_cast<std::size_t>(a));
}
void* operator new[](std::size_t bytes, std::align_val_t a, const std::nothrow_t&) noexcept {
  return lathe::test::allocate_by_rules(bytes, static_cast<std::size_t>(a));
}
void operator delete(void* block) noexcept { lathe::test::give_back(block); }
void operator delete[](void* block) noexcept { lathe::test::give_back(block); }
void operator delete(void* block, std::size_t) noexcept { lathe::test::give_back(block); }
void operator delete[](void* block, std::size_t) noexcept { lathe::test::give_back(block); }
void operator delete(void* block, const std::nothrow_t&) noexcept { lathe::test::give_back(block); }
void operator delete[](void* block, const std::nothrow_t&) noexcept { lathe::test::give_back(block); }
void operator delete(void* block, std::align_val_t) noexcept { lathe::test::give_back(block); }
void operator delete[](void* block, std::align_val_t) noexcept { lathe::test::give_back(block); }
void operator delete(void* block, std::size_t, std::align_val_t) noexcept { lathe::test::give_back(block); }
void operator delete[](void* block, std::size_t, std::align_val_t) noexcept { lathe::test::give_back(block); }
void operator delete(void* block, std::align_val_t, const std::nothrow_t&) noexcept { lathe::test::give_back(block); }
void operator delete[](void* block, std::align_val_t, const std::nothrow_t&) noexcept { lathe::test::give_back(block); }
