// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// LayerNormalization and RMSNormalization: a warp or a block per row, which stays in registers between the two passes of its statistics, so that
// memory is read and written once. Statistics in float32, the variance around the mean.
//! limits row_norm_*: registers 168, shared 64, spill 0

#include "backend/cuda/kernels/ptx.cuh"
#include "ops/norm/row_norm_params.h"

namespace lathe::cuda {

/// The sum over the threads of a row; `shared`: one float a warp, of which there are several only where a row is a block's.
template <int kThreads>
__device__ inline float row_sum(float v, float* shared) {
#pragma unroll
  for (int apart = 16; apart > 0; apart /= 2) v += __shfl_xor_sync(0xffffffffu, v, apart);
  if constexpr (kThreads > 32) {
    __syncthreads();
    if ((threadIdx.x & 31) == 0) shared[threadIdx.x >> 5] = v;
    __syncthreads();
    v = 0;
#pragma unroll
    for (int i = 0; i < kThreads / 32; ++i) v += shared[i];
  }
  return v;
}

template <int kThreads, int kGroups>
__device__ inline void row_norm(const RowNormParams& p) {
  __shared__ float shared[kThreads > 32 ? kThreads / 32 : 1];
  launch_dependents();
  const int row = blockIdx.x * (blockDim.x / kThreads) + threadIdx.x / kThreads, lane = threadIdx.x % kThreads;
  if (kThreads == 32 && row >= p.rows) return;
  // Constants do not depend on the kernel before: asked for ahead of it.
  float scale[kGroups][8], bias[kGroups][8];
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
    const int column = (g * kThreads + lane) * 8;
#pragma unroll
    for (int e = 0; e < 8; ++e) scale[g][e] = bias[g][e] = 0;
    if (p.vectors && column < p.columns) {
      load8(scale[g], p.scale, column, kElementFloat32);
      if (p.bias) load8(bias[g], p.bias, column, kElementFloat32);
    } else {
#pragma unroll
      for (int e = 0; e < 8; ++e)
        if (column + e < p.columns) {
          scale[g][e] = p.scale[column + e];
          if (p.bias) bias[g][e] = p.bias[column + e];
        }
    }
  }
  wait_for_previous();
  float v[kGroups][8];
  const long long from = row * p.x_row;
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
    const int column = (g * kThreads + lane) * 8;
#pragma unroll
    for (int e = 0; e < 8; ++e) v[g][e] = 0;
    if (p.vectors) {
      if (column < p.columns) load8(v[g], p.x, from + column, p.x_type);
    } else {
#pragma unroll
      for (int e = 0; e < 8; ++e)
        if (column + e < p.columns) v[g][e] = load_element(p.x, from + column + e, p.x_type);
    }
  }
  float mean = 0;
  if (!p.rms) {
    float sum = 0;
#pragma unroll
    for (int g = 0; g < kGroups; ++g)
#pragma unroll
      for (int e = 0; e < 8; ++e) sum += v[g][e];
    mean = row_sum<kThreads>(sum, shared) / static_cast<float>(p.columns);
  }
  float squares = 0;
#pragma unroll
  for (int g = 0; g < kGroups; ++g)
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      const float d = v[g][e] - mean;
      if ((g * kThreads + lane) * 8 + e < p.columns) squares += d * d;
    }
  const float inverse = 1 / sqrtf(row_sum<kThreads>(squares, shared) / static_cast<float>(p.columns) + p.epsilon);
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
    const int column = (g * kThreads + lane) * 8;
    if (column >= p.columns) continue;
    const long long to = row * p.out_row + column;
    float result[8];
#pragma unroll
    for (int e = 0; e < 8; ++e) result[e] = (v[g][e] - mean) * inverse * scale[g][e] + bias[g][e];
    if (p.vectors) {
      store8(p.out, to, p.out_type, result);
    } else {
#pragma unroll
      for (int e = 0; e < 8; ++e)
        if (column + e < p.columns) store_element(p.out, to + e, p.out_type, result[e]);
    }
  }
}

#define LATHE_ROW_NORM(threads, groups)                                                     \
  extern "C" __global__ void __launch_bounds__(threads > 128 ? threads : 128)               \
      row_norm_##threads##_##groups(const __grid_constant__ lathe::cuda::RowNormParams p) { \
    lathe::cuda::row_norm<threads, groups>(p);                                              \
  }

}  // namespace lathe::cuda

LATHE_ROW_NORMS(LATHE_ROW_NORM)
