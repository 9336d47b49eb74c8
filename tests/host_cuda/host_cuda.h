// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Lathe's own kernels run on the CPU, for tests without a GPU: a test includes the .cu file behind this. The threads of a block are fibers, barriers
// and shuffles switch among them, and one that not all threads of a block (or warp) reach is an error. Shared memory ends in guard bytes.

#include <ucontext.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#define __global__
#define __device__
#define __shared__  // of what is declared `extern`; a test whose kernels have arrays of their own says `static` instead
#define __noinline__
#define __align__(n) __attribute__((aligned(n)))
#define __grid_constant__
#define __launch_bounds__(...)

namespace lathe::host_cuda {

struct Index {
  unsigned x = 0, y = 0, z = 0;
};
inline Index threadIdx, blockIdx, blockDim, gridDim;

enum class State { kReady, kAtBlock, kAtWarp, kDone };
struct Fiber {
  ucontext_t context;
  State state = State::kReady;
};
inline std::vector<Fiber> fibers(1024);
inline std::unique_ptr<char[]> stacks;
inline constexpr std::size_t kStack = 64 << 10;
inline ucontext_t home;
inline unsigned current = 0;
inline std::string wrong;
inline void (*entry)(void*) = nullptr;
inline void* argument = nullptr;
inline double exchanged[1024];
inline bool voted[1024];

inline void fail(const char* why) {
  if (wrong.empty()) wrong = why;
}
inline void wait_at(State where) {
  fibers[current].state = where;
  swapcontext(&fibers[current].context, &home);
  threadIdx.x = current;
}
inline void start() {
  entry(argument);
  fibers[current].state = State::kDone;
}
/// All warps that wait as a whole go on; false where none does.
inline bool release_warps(unsigned threads) {
  bool any = false;
  for (unsigned w = 0; w < threads; w += 32) {
    unsigned here = 0, done = 0;
    const unsigned end = std::min(threads, w + 32);
    for (unsigned t = w; t < end; ++t) here += fibers[t].state == State::kAtWarp, done += fibers[t].state == State::kDone;
    if (here == 0) continue;
    if (here != end - w) {
      fail("a warp barrier that only a part of the warp reached");
      return false;
    }
    for (unsigned t = w; t < end; ++t) fibers[t].state = State::kReady;
    any = true;
  }
  return any;
}
inline void run_block(unsigned threads) {
  for (unsigned t = 0; t < threads; ++t) {
    Fiber& fiber = fibers[t];
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = stacks.get() + t * kStack;
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = &home;
    makecontext(&fiber.context, start, 0);
    fiber.state = State::kReady;
  }
  static unsigned turn = 0;
  for (unsigned done = 0; done < threads && wrong.empty();) {
    ++turn;  // backwards now and then, so that an order among threads is not taken for a barrier
    for (unsigned i = 0; i < threads; ++i) {
      const unsigned t = turn % 2 ? i : threads - 1 - i;
      if (fibers[t].state != State::kReady) continue;
      current = threadIdx.x = t;
      swapcontext(&home, &fibers[t].context);
    }
    unsigned at_block = 0;
    done = 0;
    for (unsigned t = 0; t < threads; ++t) at_block += fibers[t].state == State::kAtBlock, done += fibers[t].state == State::kDone;
    if (done == threads || release_warps(threads) || !wrong.empty()) continue;
    if (at_block != threads) fail("a block barrier that only a part of the block reached");
    for (unsigned t = 0; t < threads; ++t) fibers[t].state = State::kReady;
  }
}

/// Empty, or what went wrong. `storage`: the kernel's dynamic shared memory, of which the launch has `shared` bytes.
template <class Kernel>
std::string launch(unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned threads, Kernel kernel, unsigned char* storage = nullptr,
                   std::size_t capacity = 0, std::size_t shared = 0) {
  if (!stacks) stacks = std::make_unique<char[]>(1024 * kStack);
  wrong.clear();
  if (threads < 1 || threads > 1024 || grid_y > 65535 || grid_z > 65535 || shared > capacity) return "a launch beyond its limits";
  entry = [](void* p) { (*static_cast<Kernel*>(p))(); };
  argument = &kernel;
  blockDim = {threads, 1, 1};
  gridDim = {grid_x, grid_y, grid_z};
  for (unsigned z = 0; z < grid_z; ++z)
    for (unsigned y = 0; y < grid_y; ++y)
      for (unsigned x = 0; x < grid_x && wrong.empty(); ++x) {
        blockIdx = {x, y, z};
        std::fill(storage, storage + capacity, static_cast<unsigned char>(0xA5));
        run_block(threads);
        if (std::any_of(storage + shared, storage + capacity, [](unsigned char c) { return c != 0xA5; })) fail("shared memory is written behind its end");
      }
  return wrong;
}

}  // namespace lathe::host_cuda

namespace lathe::cuda {

using host_cuda::blockDim;
using host_cuda::blockIdx;
using host_cuda::gridDim;
using host_cuda::threadIdx;
using std::max;
using std::min;

inline void __syncthreads() { host_cuda::wait_at(host_cuda::State::kAtBlock); }
inline void __syncwarp() { host_cuda::wait_at(host_cuda::State::kAtWarp); }
template <class T>
T __shfl_xor_sync(unsigned, T value, int apart) {
  const unsigned own = host_cuda::current;
  host_cuda::exchanged[own] = static_cast<double>(value);
  __syncwarp();
  const auto other = static_cast<T>(host_cuda::exchanged[own ^ static_cast<unsigned>(apart)]);
  __syncwarp();
  return other;
}
inline unsigned __ballot_sync(unsigned, bool vote) {
  const unsigned own = host_cuda::current, first = own / 32 * 32;
  host_cuda::voted[own] = vote;
  __syncwarp();
  unsigned lanes = 0;
  for (unsigned lane = 0; lane < 32 && first + lane < blockDim.x; ++lane) lanes |= static_cast<unsigned>(host_cuda::voted[first + lane]) << lane;
  __syncwarp();
  return lanes;
}
inline int atomicMax(int* at, int value) {
  const int old = *at;
  *at = std::max(old, value);
  return old;
}
inline unsigned long long atomicAdd(unsigned long long* at, unsigned long long value) {
  const unsigned long long old = *at;
  *at += value;
  return old;
}
inline void sincospi(double x, double* sine, double* cosine) { *sine = std::sin(M_PI * x), *cosine = std::cos(M_PI * x); }
inline void sincospif(float x, float* sine, float* cosine) {
  double s, c;
  sincospi(static_cast<double>(x), &s, &c);
  *sine = static_cast<float>(s), *cosine = static_cast<float>(c);
}
inline float __int_as_float(int bits) { return std::bit_cast<float>(bits); }
inline int __popc(unsigned bits) { return std::popcount(bits); }
inline int __ffs(int bits) { return bits == 0 ? 0 : std::countr_zero(static_cast<unsigned>(bits)) + 1; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline float __saturatef(float x) { return std::isnan(x) ? 0.0F : std::min(std::max(x, 0.0F), 1.0F); }

}  // namespace lathe::cuda
