// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// NonZeroPadded: every block counts what is set in its share of the elements; then each adds up the counts of those before it and writes its places.
//! limits nonzero_*: registers 56, shared 4096, spill 0

#include "backend/cuda/kernels/ptx.cuh"
#include "ops/nonzero/nonzero_params.h"

namespace lathe::cuda {

__device__ inline bool is_set(const NonZeroParams& p, long long i) {
  long long at = i;
  if (!p.dense) {
    at = 0;
    for (int axis = p.axes - 1; axis >= 0; --axis) {
      const long long rest = i / p.extent[axis];
      at += (i - rest * p.extent[axis]) * p.step[axis];
      i = rest;
    }
  }
  switch (p.bytes) {
    case 1: return static_cast<const unsigned char*>(p.x)[at] & p.mask;
    case 2: return static_cast<const u16*>(p.x)[at] & p.mask;
    case 4: return static_cast<const u32*>(p.x)[at] & p.mask;
    default: return static_cast<const u64*>(p.x)[at] & p.mask;
  }
}

/// The sum of all threads' values, for all threads. `sums` has one of each.
__device__ inline long long add_up(long long value, long long* sums) {
  const int thread = static_cast<int>(threadIdx.x);
  __syncthreads();  // what it held before has been read
  sums[thread] = value;
  __syncthreads();
  for (int apart = kNonZeroThreads / 2; apart > 0; apart /= 2) {
    if (thread < apart) sums[thread] += sums[thread + apart];
    __syncthreads();
  }
  return sums[0];
}

__device__ inline void count_set(const NonZeroParams& p, long long* sums) {
  launch_dependents();
  const long long begin = blockIdx.x * p.share, end = min(p.elements, begin + p.share);
  wait_for_previous();
  long long own = 0;
  for (long long i = begin + threadIdx.x; i < end; i += kNonZeroThreads) own += is_set(p, i);
  const long long all = add_up(own, sums);
  if (threadIdx.x == 0) p.counts[blockIdx.x] = static_cast<u32>(all);
}

__device__ inline void write_places(const NonZeroParams& p, long long* sums, u32* in_warps) {
  launch_dependents();
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  wait_for_previous();
  long long own = 0;
  for (u32 block = threadIdx.x; block < blockIdx.x; block += kNonZeroThreads) own += p.counts[block];
  long long before = add_up(own, sums);
  const long long begin = blockIdx.x * p.share, end = min(p.elements, begin + p.share);
  for (long long start = begin; start < end; start += kNonZeroThreads) {
    long long i = start + thread;
    const bool set = i < end && is_set(p, i);
    const u32 lanes = __ballot_sync(0xffffffffu, set);
    if (lane == 0) in_warps[warp] = static_cast<u32>(__popc(lanes));
    __syncthreads();
    long long column = before;
    for (int w = 0; w < kNonZeroThreads / 32; ++w) {
      if (w < warp) column += in_warps[w];
      before += in_warps[w];
    }
    if (set) {
      column = (column + __popc(lanes & ((1u << lane) - 1))) * p.column_step;
      for (int axis = p.axes - 1; axis >= 0; --axis) {
        const long long rest = i / p.extent[axis];
        p.places[axis * p.row_step + column] = i - rest * p.extent[axis];
        i = rest;
      }
    }
    __syncthreads();
  }
  if (thread == 0 && blockIdx.x == gridDim.x - 1) *p.count = before;
}

}  // namespace lathe::cuda

extern "C" __global__ void __launch_bounds__(256) nonzero_count(const __grid_constant__ lathe::cuda::NonZeroParams p) {
  __shared__ long long sums[lathe::cuda::kNonZeroThreads];
  lathe::cuda::count_set(p, sums);
}
extern "C" __global__ void __launch_bounds__(256) nonzero_write(const __grid_constant__ lathe::cuda::NonZeroParams p) {
  __shared__ long long sums[lathe::cuda::kNonZeroThreads];
  __shared__ lathe::cuda::u32 in_warps[lathe::cuda::kNonZeroThreads / 32];
  lathe::cuda::write_places(p, sums, in_warps);
}
