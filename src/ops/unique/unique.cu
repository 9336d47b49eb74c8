// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// SortedSlices: a merge sort of the slices' places. In each level a place finds by halving how many of its run's partner come before it, which is where it
// goes: of equal slices the first run's are first. Chunks are sorted in shared memory, then merged two by two. At last each slice is held against the one
// before.
//! limits slices_*: registers 64, shared 8192, spill 24

#include "backend/cuda/kernels/ptx.cuh"
#include "ops/topk/topk_key.cuh"
#include "ops/unique/unique_params.h"

namespace lathe::cuda {

/// -1, 0, 1 by the first element that differs.
__device__ inline int compare_slices(const SliceParams& p, int a, int b) {
  const bool wide = p.type == kTopKFloat64 || p.type == kTopKInt64 || p.type == kTopKUint64;
  const long long from_a = a * p.slice_step, from_b = b * p.slice_step, along = p.extent[p.axes - 1], step = p.step[p.axes - 1];
  for (long long line = 0; line < p.lines; ++line) {
    long long at = 0, rest = line;
    for (int i = p.axes - 2; i >= 0; --i) {
      const long long next = rest / p.extent[i];
      at += (rest - next * p.extent[i]) * p.step[i];
      rest = next;
    }
    for (long long e = 0; e < along; ++e, at += step) {
      const u64 x = wide ? wide_key(p.x, from_a + at, p.type) : narrow_key(p.x, from_a + at, p.type);
      const u64 y = wide ? wide_key(p.x, from_b + at, p.type) : narrow_key(p.x, from_b + at, p.type);
      if (x != y) return x < y ? -1 : 1;
    }
  }
  return 0;
}

/// Where the `i`-th of `count` places goes when runs of `run` are merged.
__device__ inline int merged_at(const SliceParams& p, const int* places, int count, int run, int i) {
  const int own = i / run, begin = own % 2 ? (own - 1) * run : min((own + 1) * run, count), have = min(run, count - begin), place = places[i];
  int low = 0, high = have;
  while (low < high) {
    const int middle = (low + high) / 2, order = compare_slices(p, places[begin + middle], place);
    if (order < 0 || (order == 0 && own % 2)) low = middle + 1;
    else high = middle;
  }
  return (own - own % 2) * run + (i - own * run) + low;
}

__device__ inline void sort_chunk(const SliceParams& p, int* from, int* to) {
  launch_dependents();
  const int first = static_cast<int>(blockIdx.x) * kSliceChunk, have = min(kSliceChunk, p.count - first), thread = static_cast<int>(threadIdx.x);
  wait_for_previous();
  for (int i = thread; i < have; i += kSliceThreads) from[i] = first + i;
  __syncthreads();
  for (int run = 1; run < have; run *= 2) {
    for (int i = thread; i < have; i += kSliceThreads) to[merged_at(p, from, have, run, i)] = from[i];
    __syncthreads();
    int* const sorted = to;
    to = from;
    from = sorted;
  }
  for (int i = thread; i < have; i += kSliceThreads) p.to[first + i] = from[i];
}

__device__ inline void merge_runs(const SliceParams& p) {
  launch_dependents();
  const int i = static_cast<int>(blockIdx.x) * kSliceThreads + static_cast<int>(threadIdx.x);
  wait_for_previous();
  if (i < p.count) p.to[merged_at(p, p.from, p.count, p.run, i)] = p.from[i];
}

__device__ inline void mark(const SliceParams& p) {
  launch_dependents();
  const int i = static_cast<int>(blockIdx.x) * kSliceThreads + static_cast<int>(threadIdx.x);
  wait_for_previous();
  if (i >= p.count) return;
  p.order[i * p.order_step] = p.from[i];
  p.begins[i * p.begin_step] = i == 0 || compare_slices(p, p.from[i - 1], p.from[i]) != 0;
}

}  // namespace lathe::cuda

extern "C" __global__ void __launch_bounds__(256) slices_sort(const __grid_constant__ lathe::cuda::SliceParams p) {
  __shared__ int from[lathe::cuda::kSliceChunk];
  __shared__ int to[lathe::cuda::kSliceChunk];
  lathe::cuda::sort_chunk(p, from, to);
}
extern "C" __global__ void __launch_bounds__(256) slices_merge(const __grid_constant__ lathe::cuda::SliceParams p) { lathe::cuda::merge_runs(p); }
extern "C" __global__ void __launch_bounds__(256) slices_mark(const __grid_constant__ lathe::cuda::SliceParams p) { lathe::cuda::mark(p); }
