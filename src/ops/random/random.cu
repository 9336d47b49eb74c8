// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Random numbers. Without a seed by Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011): four words of 32 bits
// are a function of the key of a kernel, the number of the run and the place of the elements that they are for. The number of the run is counted in memory
// (random_count), since a captured graph has its parameters frozen and one kernel may run on several streams at once. With a seed the numbers are the host's,
// those of NumPy's RandomState, and lie in memory.
// Multinomial cannot fail here: of a row that is no distribution (its sum is 0, infinite or NaN) every draw is the last class.
//! limits random_multinomial: registers 96, shared 4352, spill 0
//! limits random_*: registers 64, shared 0, spill 0

#include "backend/cuda/kernels/ptx.cuh"
#include "ops/random/random_params.h"

namespace lathe::cuda {

struct RandomWords {
  u32 word[4];
};

/// `low` and `high`: the two halves of the counter.
__device__ inline RandomWords philox(u64 low, u64 high, u32 key0, u32 key1) {
  u32 c0 = static_cast<u32>(low), c1 = static_cast<u32>(low >> 32), c2 = static_cast<u32>(high), c3 = static_cast<u32>(high >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const u64 a = static_cast<u64>(c0) * 0xD2511F53u, b = static_cast<u64>(c2) * 0xCD9E8D57u;
    c0 = static_cast<u32>(b >> 32) ^ c1 ^ key0, c1 = static_cast<u32>(b);
    c2 = static_cast<u32>(a >> 32) ^ c3 ^ key1, c3 = static_cast<u32>(a);
    key0 += 0x9E3779B9u, key1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

__device__ inline RandomWords random_words(const RandomParams& p, u64 run, long long place) {
  return philox(static_cast<u64>(place), run, static_cast<u32>(p.key[0]), static_cast<u32>(p.key[1]));
}
/// In [0, 1), of 53 bits, as the Mersenne Twister's two words make one.
__device__ inline double wide_uniform(u32 high, u32 low) { return ((high >> 5) * 67108864.0 + (low >> 6)) * (1.0 / 9007199254740992.0); }
__device__ inline double wide_uniform(const RandomWords& words, int which) { return wide_uniform(words.word[2 * which], words.word[2 * which + 1]); }

__device__ inline long long random_place(const RandomParams& p, long long i, const long long* step) {
  long long at = 0;
  for (int axis = p.axes - 1; axis > 0; --axis) {
    const long long rest = i / p.extent[axis];
    at += (i - rest * p.extent[axis]) * step[axis];
    i = rest;
  }
  return at + i * step[0];
}
__device__ inline long long random_thread() { return static_cast<long long>(blockIdx.x) * kRandomThreads + threadIdx.x; }
__device__ inline float random_rounded(float value, int type) {
  return type == kRandomFloat32 ? value : type == kRandomFloat16 ? half_to_float(float_to_half(value)) : bfloat_to_float(float_to_bfloat(value));
}
__device__ inline double random_read(const RandomParams& p, long long at) {
  return p.x_type == kRandomFloat64 ? static_cast<const double*>(p.x)[at] : static_cast<double>(load_element(p.x, at, p.x_type));
}
__device__ inline void random_write(const RandomParams& p, long long at, int number) {
  switch (p.y_type) {
    case kRandomFloat64: static_cast<double*>(p.y)[at] = number; break;
    case kRandomByte: static_cast<unsigned char*>(p.y)[at] = static_cast<unsigned char>(number); break;
    case kRandomInt16: static_cast<short*>(p.y)[at] = static_cast<short>(number); break;
    case kRandomInt32: static_cast<int*>(p.y)[at] = number; break;
    case kRandomInt64: static_cast<long long*>(p.y)[at] = number; break;
    default: store_element(p.y, at, p.y_type, static_cast<float>(number)); break;
  }
}

__device__ inline void random_count(const RandomParams& p) {
  launch_dependents();
  wait_for_previous();
  if (threadIdx.x == 0) *p.run = atomicAdd(p.runs, 1ull);
}

/// Two normal numbers of two words by the method of Box and Muller.
__device__ inline void normal_pair(u32 a, u32 b, float* pair) {
  const float u = __fadd_rn(__fmul_rn(static_cast<float>(a), 0x1p-32f), 0x1p-33f), r = sqrtf(-2.0f * logf(u));  // u is never 0
  float sine, cosine;
  sincospif(__fmul_rn(static_cast<float>(b), 0x1p-31f), &sine, &cosine);
  pair[0] = r * cosine, pair[1] = r * sine;
}

/// Uniform and normal numbers: a thread makes those of four words, four elements or two of double.
__device__ inline void random_draw(const RandomParams& p) {
  launch_dependents();
  const long long thread = random_thread();
  wait_for_previous();
  const RandomWords words = random_words(p, *p.run, thread);
  if (p.type == kRandomFloat64) {
    double v[2] = {wide_uniform(words, 0), wide_uniform(words, 1)};
    if (p.kind == kRandomNormal) {
      const double r = sqrt(-2.0 * log(1.0 - v[0]));
      double sine, cosine;
      sincospi(2.0 * v[1], &sine, &cosine);
      v[0] = r * cosine, v[1] = r * sine;
    }
    for (int e = 0; e < 2; ++e)
      if (const long long i = 2 * thread + e; i < p.count)
        static_cast<double*>(p.y)[random_place(p, i, p.y_step)] = __dadd_rn(__dmul_rn(v[e], p.scale), p.offset);
    return;
  }
  float v[4];
  if (p.kind == kRandomNormal) {
    normal_pair(words.word[0], words.word[1], v);
    normal_pair(words.word[2], words.word[3], v + 2);
  } else {
    for (int e = 0; e < 4; ++e) v[e] = static_cast<float>(words.word[e] >> 8) * 0x1p-24f;
  }
  const float scale = static_cast<float>(p.scale), offset = static_cast<float>(p.offset);
  for (int e = 0; e < 4; ++e) {
    const long long i = 4 * thread + e;
    if (i >= p.count) return;
    const float scaled = random_rounded(__fmul_rn(random_rounded(v[e], p.type), scale), p.type);
    store_element(p.y, random_place(p, i, p.y_step), p.y_type, random_rounded(__fadd_rn(scaled, offset), p.type));
  }
}

/// The same with a seed: the results are there.
__device__ inline void random_copy(const RandomParams& p) {
  launch_dependents();
  const long long i = random_thread();
  wait_for_previous();
  if (i >= p.count) return;
  const long long at = random_place(p, i, p.y_step);
  if (p.type == kRandomFloat64) static_cast<double*>(p.y)[at] = static_cast<const double*>(p.numbers)[i];
  else store_element(p.y, at, p.y_type, load_element(p.numbers, i, p.type));
}

/// Does a trial of this probability succeed, by the number that the format's reference draws for it? It counts how often the rarer outcome comes, by inversion:
/// not at all up to `none`, else once.
__device__ inline bool seeded_success(double probability, double number) {
  const bool mirrored = probability > 0.5;
  const double rare = mirrored ? 1.0 - probability : probability, none = exp(log(1.0 - rare));
  return (number > none) != mirrored;
}

/// A thread makes two elements. What is no probability counts as the nearest one, NaN as 0.
__device__ inline void random_bernoulli(const RandomParams& p) {
  launch_dependents();
  const long long thread = random_thread();
  wait_for_previous();
  RandomWords words = {};
  if (!p.seeded) words = random_words(p, *p.run, thread);
  for (int e = 0; e < 2; ++e) {
    const long long i = 2 * thread + e;
    if (i >= p.count) return;
    const double given = random_read(p, random_place(p, i, p.x_step)), probability = given > 0 ? (given < 1 ? given : 1.0) : 0.0;
    const bool one = p.seeded ? seeded_success(probability, static_cast<const double*>(p.numbers)[i]) : wide_uniform(words, e) < probability;
    random_write(p, random_place(p, i, p.y_step), one);
  }
}

struct RandomShared {
  double largest[kRandomThreads];
  double below[kRandomThreads + 1];  ///< the sums of all classes in front of a thread's
};

/// A block draws from a row by the inverse of its distribution function. Of the classes each thread adds up a run; sums only grow from one class to the next,
/// and not where a class has no share.
__device__ inline void random_multinomial(const RandomParams& p, RandomShared& shared) {
  launch_dependents();
  const long long row = blockIdx.x, length = (p.classes + kRandomThreads - 1) / kRandomThreads;
  const int thread = static_cast<int>(threadIdx.x);
  const long long begin = min(thread * length, p.classes), end = min(begin + length, p.classes), from = row * p.x_step[0];
  wait_for_previous();
  double largest = -__int_as_float(0x7f800000);
  for (long long c = begin; c < end; ++c)
    if (const double value = random_read(p, from + c * p.x_step[1]); largest < value) largest = value;
  shared.largest[thread] = largest;
  __syncthreads();
  for (int apart = kRandomThreads / 2; apart > 0; apart /= 2) {
    if (thread < apart && shared.largest[thread] < shared.largest[thread + apart]) shared.largest[thread] = shared.largest[thread + apart];
    __syncthreads();
  }
  largest = shared.largest[0];
  double sum = 0;
  for (long long c = begin; c < end; ++c) sum += exp(random_read(p, from + c * p.x_step[1]) - largest);
  shared.below[thread + 1] = sum;
  __syncthreads();
  if (thread == 0) {
    shared.below[0] = 0;
    for (int t = 0; t < kRandomThreads; ++t) shared.below[t + 1] += shared.below[t];
  }
  __syncthreads();
  const double all = shared.below[kRandomThreads];
  const u64 run = p.seeded ? 0 : *p.run;
  for (long long s = thread; s < p.draws; s += kRandomThreads) {
    const long long i = row * p.draws + s;
    const double number = p.seeded ? static_cast<const double*>(p.numbers)[i] : wide_uniform(random_words(p, run, i / 2), static_cast<int>(i % 2));
    int low = 0, high = kRandomThreads;  // the first thread whose classes reach beyond the number; all: none does
    while (low < high) {
      const int middle = (low + high) / 2;
      if (shared.below[middle + 1] / all > number) high = middle;
      else low = middle + 1;
    }
    long long c = min(low * length, p.classes);
    const long long stop = min(c + length, p.classes);
    for (double part = 0; c < stop; ++c) {
      part += exp(random_read(p, from + c * p.x_step[1]) - largest);
      if ((shared.below[low] + part) / all > number) break;
    }
    random_write(p, row * p.y_step[0] + s * p.y_step[1], static_cast<int>(min(c, p.classes - 1)));
  }
}

}  // namespace lathe::cuda

#define LATHE_RANDOM(name) \
  extern "C" __global__ void __launch_bounds__(256) name(const __grid_constant__ lathe::cuda::RandomParams p) { lathe::cuda::name(p); }
LATHE_RANDOM(random_count)
LATHE_RANDOM(random_draw)
LATHE_RANDOM(random_copy)
LATHE_RANDOM(random_bernoulli)
extern "C" __global__ void __launch_bounds__(256) random_multinomial(const __grid_constant__ lathe::cuda::RandomParams p) {
  __shared__ lathe::cuda::RandomShared shared;
  lathe::cuda::random_multinomial(p, shared);
}
