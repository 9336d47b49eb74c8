// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Emitted CUDA C++ run on the CPU, for tests without a GPU: the kernels are compiled by the host's compiler behind a prelude of stand-ins;
// the threads of a block are fibers, barriers switch among them, and a barrier that not all threads of a block (or warp) reach is an error.

#include <dlfcn.h>

#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>

#include "base/os.h"
#include "loops/cuda/emitter.h"

namespace lathe::loops::cuda::testing {

inline constexpr std::string_view kHostPrelude = R"cpp(
#include <ucontext.h>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <cstdlib>
  using namespace std;
#define LATHE_ON_HOST
#define LATHE_BEGIN
#define DEVICE static inline
#define __global__
#define __launch_bounds__(n)
#define __restrict__
#define __shared__ static
  struct Index {
    unsigned x;
  };
  static Index blockIdx, threadIdx;
  enum State { kReady, kAtBlock, kAtWarp, kDone };
  struct Fiber {
    ucontext_t context;
    State state;
  };
  static Fiber fibers[256];
  static char* stacks;
  static ucontext_t home;
  static int current;
  static void wait_at(State where) {
    fibers[current].state = where;
    swapcontext(&fibers[current].context, &home);
    threadIdx.x = current;
  }
  static void __syncthreads() { wait_at(kAtBlock); }
  static void __syncwarp() { wait_at(kAtWarp); }
  static void (*entry)(const void*);
  static const void* arguments;
  static void start() {
    entry(arguments);
    fibers[current].state = kDone;
  }
  extern "C" const char* emulate(void (*call)(const void*), const void* parameters, unsigned blocks) {
    const size_t bytes = 64 << 10;
    if (!stacks) stacks = (char*)malloc(256 * bytes);
    entry = call;
    arguments = parameters;
    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x) {
      for (int t = 0; t < 256; ++t) {
        getcontext(&fibers[t].context);
        fibers[t].context.uc_stack.ss_sp = stacks + t * bytes;
        fibers[t].context.uc_stack.ss_size = bytes;
        fibers[t].context.uc_link = &home;
        makecontext(&fibers[t].context, start, 0);
        fibers[t].state = kReady;
      }
      for (int done = 0; done < 256;) {
        // Backwards now and then, so that an order among threads is not taken for a barrier.
        static unsigned turn = 0;
        ++turn;
        for (int i = 0; i < 256; ++i) {
          const int t = turn % 2 ? i : 255 - i;
          if (fibers[t].state != kReady) continue;
          current = t;
          threadIdx.x = t;
          swapcontext(&home, &fibers[t].context);
        }
        int at_block = 0, at_warp = 0;
        done = 0;
        for (int t = 0; t < 256; ++t) at_block += fibers[t].state == kAtBlock, done += fibers[t].state == kDone, at_warp += fibers[t].state == kAtWarp;
        if (at_warp > 0) {
          for (int w = 0; w < 8; ++w) {
            int here = 0;
            for (int t = 32 * w; t < 32 * w + 32; ++t) here += fibers[t].state == kAtWarp;
            if (here == 0) continue;
            if (here != 32) return "a warp barrier that only a part of the warp reached";
            for (int t = 32 * w; t < 32 * w + 32; ++t) fibers[t].state = kReady;
          }
          continue;
        }
        if (at_block > 0) {
          if (at_block != 256) return "a block barrier that only a part of the block reached";
          for (int t = 0; t < 256; ++t) fibers[t].state = kReady;
        }
      }
    }
    return nullptr;
  }
  typedef unsigned short u16;
  static float float_of(unsigned bits) {
    float f;
    memcpy(&f, &bits, 4);
    return f;
  }
  static double double_of(unsigned long long bits) {
    double f;
    memcpy(&f, &bits, 8);
    return f;
  }
  static unsigned multiply_high(unsigned a, unsigned b) { return (unsigned)(((unsigned long long)a * b) >> 32); }
  struct half_t;
  struct bf16_t;
  static float widen(half_t h);
  static half_t to_half(float f);
  static float widen(bf16_t h);
  static bf16_t to_bf16(float f);
)cpp";

/// Behind the device's prelude: conversions that it has instructions for.
inline constexpr std::string_view kHostConversions = R"cpp(
#if defined(__aarch64__)  // whose g++ has no _Float16 before 13
  typedef __fp16 host_half;
#else
  typedef _Float16 host_half;
#endif
  static float widen(half_t h) {
    host_half f;
    memcpy(&f, &h, 2);
    return (float)f;
  }
  static half_t to_half(float x) {
    const host_half f = (host_half)x;
    half_t h;
    memcpy(&h, &f, 2);
    return h;
  }
  static float widen(bf16_t h) { return float_of((unsigned)h.bits << 16); }
  static bf16_t to_bf16(float f) {
    unsigned u;
    memcpy(&u, &f, 4);
    bf16_t h;
    h.bits = f != f ? 0x7fc0 : (u16)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
    return h;
  }
)cpp";

/// Compiles kernels for the CPU; each `Emitted` with its own prefix.
class HostModule {
 public:
  void add(const Emitted& emitted) {
    std::string calls;
    for (const Launch& launch : emitted.launches)
      for (const std::string& name : {launch.kernel, launch.unaligned_kernel})
        if (!name.empty()) calls += "extern \"C\" void call_" + name + "(const void* p) { " + name + "(*(const Parameters_" + name + "*)p); }\n";
    source_ += "namespace n" + std::to_string(count_++) + " {\n" + emitted.source + calls + "}\n";
  }
  /// Throws std::runtime_error with the compiler's words.
  void compile() {
    const std::filesystem::path folder = os::make_temp_dir();
    const std::filesystem::path source = folder / "kernels.cpp", library = folder / "kernels.so", log = folder / "log";
    {
      os::AtomicFile file(source);
      file.write(std::string(kHostPrelude) + std::string(device_prelude()) + std::string(kHostConversions) + source_);
      file.commit();
    }
    const std::string command =
        std::string(LATHE_HOST_COMPILER) + " -std=c++17 -O0 -w -shared -fPIC -o " + library.string() + " " + source.string() + " > " + log.string() + " 2>&1";
    if (std::system(command.c_str()) != 0) throw std::runtime_error(os::read_text(log).substr(0, 4000));
    handle_ = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!handle_) throw std::runtime_error(dlerror());
    std::filesystem::remove_all(folder);
  }
  /// Empty, or what went wrong.
  std::string run(const std::string& kernel, const void* parameters, unsigned blocks) const {
    using Call = void (*)(const void*);
    const auto call = reinterpret_cast<Call>(dlsym(handle_, ("call_" + kernel).c_str()));
    const auto emulate = reinterpret_cast<const char* (*)(Call, const void*, unsigned)>(dlsym(handle_, "emulate"));
    if (!call || !emulate) return "no kernel " + kernel;
    const char* wrong = emulate(call, parameters, blocks);
    return wrong ? wrong : "";
  }

 private:
  std::string source_;
  int count_ = 0;
  void* handle_ = nullptr;
};

}  // namespace lathe::loops::cuda::testing
