// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// CumSum and CumProd: a block for each piece of a row. Of a row with several pieces their totals come first; then each block takes those before its own, and
// goes through its elements. Floating-point numbers are added in double precision, as by the definition; integers wrap.
// Products are of integers: one of floating-point numbers is not made of its parts, which may be infinite where the whole is not.
//! limits cumulative_*: registers 64, shared 4096, spill 8

#include "backend/cuda/kernels/ptx.cuh"
#include "ops/reduce/cumulative_params.h"

namespace lathe::cuda {

template <class V>
__device__ inline V running(const CumulativeParams& p, V a, V b) {
  return p.product ? a * b : a + b;
}

__device__ inline void cumulative_read(const void* x, long long at, int type, double& value) {
  value = type == kCumulativeFloat64 ? static_cast<const double*>(x)[at] : static_cast<double>(load_element(x, at, type));
}
__device__ inline void cumulative_read(const void* x, long long at, int type, u64& value) {
  switch (type) {
    case kCumulativeInt32: value = static_cast<u64>(static_cast<long long>(static_cast<const int*>(x)[at])); break;
    case kCumulativeUint32: value = static_cast<const unsigned*>(x)[at]; break;
    default: value = static_cast<u64>(static_cast<const long long*>(x)[at]); break;
  }
}
__device__ inline void cumulative_write(void* y, long long at, int type, double value) {
  if (type == kCumulativeFloat64) static_cast<double*>(y)[at] = value;
  else store_element(y, at, type, static_cast<float>(value));
}
__device__ inline void cumulative_write(void* y, long long at, int type, u64 value) {
  if (type == kCumulativeInt32 || type == kCumulativeUint32) static_cast<unsigned*>(y)[at] = static_cast<unsigned>(value);
  else static_cast<long long*>(y)[at] = static_cast<long long>(value);
}

/// What of the work is a thread's.
struct CumulativePlace {
  long long row, x_from = 0, y_from = 0, first;  ///< first: of its elements, in the order in which they are added
  int piece;
  __device__ explicit CumulativePlace(const CumulativeParams& p) {
    row = blockIdx.x / static_cast<unsigned>(p.pieces);
    piece = static_cast<int>(blockIdx.x - row * p.pieces);
    first = static_cast<long long>(piece) * kCumulativePiece + threadIdx.x * kCumulativeEach;
    long long rest = row;
    for (int axis = p.axes - 1; axis >= 0; --axis) {
      const long long next = rest / p.extent[axis], i = rest - next * p.extent[axis];
      x_from += i * p.x_step[axis], y_from += i * p.y_step[axis];
      rest = next;
    }
  }
};

template <class V>
__device__ inline V element(const CumulativeParams& p, const CumulativePlace& at, long long k) {
  V value;
  cumulative_read(p.x, at.x_from + (p.reverse ? p.count - 1 - k : k) * p.x_along, p.type, value);
  return value;
}

/// Of all threads' values the one that runs up to a thread's own, which is left out; `all`: the last. `shared` may be read and written again behind it.
template <class V>
__device__ inline V before_thread(const CumulativeParams& p, V own, V* shared, V& all) {
  const int thread = static_cast<int>(threadIdx.x);
  shared[thread] = own;
  __syncthreads();
  for (int apart = 1; apart < kCumulativeThreads; apart *= 2) {
    const V value = thread >= apart ? running(p, shared[thread - apart], shared[thread]) : shared[thread];
    __syncthreads();
    shared[thread] = value;
    __syncthreads();
  }
  const V before = thread > 0 ? shared[thread - 1] : static_cast<V>(p.product);
  all = shared[kCumulativeThreads - 1];
  __syncthreads();
  return before;
}

template <class V>
__device__ inline void cumulative_totals(const CumulativeParams& p, V* shared) {
  launch_dependents();
  const CumulativePlace at(p);
  wait_for_previous();
  V own = static_cast<V>(p.product), all;
  for (int e = 0; e < kCumulativeEach && at.first + e < p.count; ++e) own = running(p, own, element<V>(p, at, at.first + e));
  before_thread(p, own, shared, all);
  if (threadIdx.x == 0) static_cast<V*>(p.totals)[blockIdx.x] = all;
}

template <class V>
__device__ inline void cumulative_elements(const CumulativeParams& p, V* shared) {
  launch_dependents();
  const CumulativePlace at(p);
  wait_for_previous();
  V base = static_cast<V>(p.product);
  if (at.piece > 0) {
    // A thread takes neighbours, so that the order is that of the pieces.
    const int length = (at.piece + kCumulativeThreads - 1) / kCumulativeThreads, begin = static_cast<int>(threadIdx.x) * length,
              end = min(begin + length, at.piece);
    const V* totals = static_cast<const V*>(p.totals) + at.row * p.pieces;
    V part = static_cast<V>(p.product);
    for (int i = begin; i < end; ++i) part = running(p, part, totals[i]);
    before_thread(p, part, shared, base);
  }
  V own = static_cast<V>(p.product), all;
  for (int e = 0; e < kCumulativeEach && at.first + e < p.count; ++e) own = running(p, own, element<V>(p, at, at.first + e));
  V value = running(p, base, before_thread(p, own, shared, all));
  for (int e = 0; e < kCumulativeEach && at.first + e < p.count; ++e) {
    const long long k = at.first + e;
    const V before = value;
    value = running(p, value, element<V>(p, at, k));
    cumulative_write(p.y, at.y_from + (p.reverse ? p.count - 1 - k : k) * p.y_along, p.y_type, p.exclusive ? before : value);
  }
}

}  // namespace lathe::cuda

#define LATHE_CUMULATIVE(name, work, type)                                                                          \
  extern "C" __global__ void __launch_bounds__(256) name(const __grid_constant__ lathe::cuda::CumulativeParams p) { \
    __shared__ type shared[lathe::cuda::kCumulativeThreads];                                                        \
    lathe::cuda::work<type>(p, shared);                                                                             \
  }
LATHE_CUMULATIVE(cumulative_totals_float, cumulative_totals, double)
LATHE_CUMULATIVE(cumulative_totals_whole, cumulative_totals, lathe::cuda::u64)
LATHE_CUMULATIVE(cumulative_elements_float, cumulative_elements, double)
LATHE_CUMULATIVE(cumulative_elements_whole, cumulative_elements, lathe::cuda::u64)
