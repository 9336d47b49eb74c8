// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Running sums and products: which elements are a thread's, how they are read and written, and what a block's threads have before them.

#include "backend/cuda/kernels/ptx.cuh"
#include "ops/reduce/cumulative_params.h"

namespace lathe::cuda {

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
  __device__ explicit CumulativePlace(const CumulativeParams& p)
      : CumulativePlace(p, blockIdx.x / static_cast<unsigned>(p.pieces), static_cast<int>(blockIdx.x % static_cast<unsigned>(p.pieces)),
                        static_cast<int>(threadIdx.x)) {}
  __device__ CumulativePlace(const CumulativeParams& p, long long of_row, int of_piece, int thread) : row(of_row), piece(of_piece) {
    first = static_cast<long long>(piece) * kCumulativePiece + thread * kCumulativeEach;
    long long rest = row;
    for (int axis = p.axes - 1; axis >= 0; --axis) {
      const long long next = rest / p.extent[axis], i = rest - next * p.extent[axis];
      x_from += i * p.x_step[axis], y_from += i * p.y_step[axis];
      rest = next;
    }
  }
};

template <class V>
__device__ inline V cumulative_element(const CumulativeParams& p, const CumulativePlace& at, long long k) {
  V value;
  cumulative_read(p.x, at.x_from + (p.reverse ? p.count - 1 - k : k) * p.x_along, p.type, value);
  return value;
}

template <class V>
__device__ inline void cumulative_result(const CumulativeParams& p, const CumulativePlace& at, long long k, V value) {
  cumulative_write(p.y, at.y_from + (p.reverse ? p.count - 1 - k : k) * p.y_along, p.y_type, value);
}

/// Of all threads' values the one that runs up to a thread's own, which is left out (of the first: `nothing`); `all`: the last. `run(a, b)`: b behind a.
/// `shared` may be read and written again behind it.
template <class V, class Run>
__device__ inline V before_thread(V own, V nothing, V* shared, V& all, Run run) {
  const int thread = static_cast<int>(threadIdx.x);
  shared[thread] = own;
  __syncthreads();
  for (int apart = 1; apart < kCumulativeThreads; apart *= 2) {
    const V value = thread >= apart ? run(shared[thread - apart], shared[thread]) : shared[thread];
    __syncthreads();
    shared[thread] = value;
    __syncthreads();
  }
  const V before = thread > 0 ? shared[thread - 1] : nothing;
  all = shared[kCumulativeThreads - 1];
  __syncthreads();
  return before;
}

}  // namespace lathe::cuda
