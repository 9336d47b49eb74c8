// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// For tests: counts what the whole program asks of malloc, by replacing it. Include it in one file of a test program; in others, if any,
// after defining LATHE_MALLOC_IS_REPLACED_ELSEWHERE.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>

#include "base/sanitizers.h"

// glibc lets a program define malloc and keeps its own under these names. Sanitizers bring their own malloc: no counting there.
#if defined(__GLIBC__) && !LATHE_ADDRESS_SANITIZER && !LATHE_THREAD_SANITIZER
#define LATHE_COUNTS_MALLOC 1
#else
#define LATHE_COUNTS_MALLOC 0
#endif

namespace lathe::test {

inline std::atomic<bool> counting_allocations{false};
inline std::atomic<std::int64_t> allocations_counted{0};
inline void note_allocation() noexcept {
  if (counting_allocations.load(std::memory_order_relaxed)) allocations_counted.fetch_add(1, std::memory_order_relaxed);
}

/// Allocations of all threads while `f` runs.
template <class F>
std::int64_t count_allocations(F&& f) {
  allocations_counted = 0;
  counting_allocations = true;
  f();
  counting_allocations = false;
  return allocations_counted;
}

/// Does the counter work in this program? A call of operator new, unlike a new-expression, may not be left out.
inline bool counts_allocations() {
  return LATHE_COUNTS_MALLOC && count_allocations([] { ::operator delete(::operator new(sizeof(int))); }) == 1;
}

}  // namespace lathe::test

#if LATHE_COUNTS_MALLOC && !defined(LATHE_MALLOC_IS_REPLACED_ELSEWHERE)
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void __libc_free(void*);
void* malloc(std::size_t bytes) { return lathe::test::note_allocation(), __libc_malloc(bytes); }
void* calloc(std::size_t n, std::size_t bytes) { return lathe::test::note_allocation(), __libc_calloc(n, bytes); }
void* realloc(void* p, std::size_t bytes) { return lathe::test::note_allocation(), __libc_realloc(p, bytes); }
void* memalign(std::size_t alignment, std::size_t bytes) { return lathe::test::note_allocation(), __libc_memalign(alignment, bytes); }
void* aligned_alloc(std::size_t alignment, std::size_t bytes) { return lathe::test::note_allocation(), __libc_memalign(alignment, bytes); }
int posix_memalign(void** out, std::size_t alignment, std::size_t bytes) {
  lathe::test::note_allocation();
  *out = __libc_memalign(alignment, bytes);
  return *out ? 0 : 12;
}
void free(void* p) { __libc_free(p); }
}
#endif
