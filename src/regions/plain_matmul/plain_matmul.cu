// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Matrix products of any numeric type, strides and batch: a block makes a square of the result from tiles in shared memory. Numbers narrower than double are
// added up in float32, a tile's depth by itself, so that long sums lose few bits; integers wrap.
//! limits plain_matmul_*: registers 128, shared 16640, spill 8

#include "backend/cuda/kernels/plain_element.cuh"
#include "regions/plain_matmul/plain_matmul_params.h"

namespace lathe::cuda {

__device__ inline float plain_total(const PlainMatMulParams& p, float sum, float z) {
  return static_cast<float>(p.scale) * sum + static_cast<float>(p.z_scale) * z;
}
__device__ inline double plain_total(const PlainMatMulParams& p, double sum, double z) { return p.scale * sum + p.z_scale * z; }
__device__ inline u32 plain_total(const PlainMatMulParams&, u32 sum, u32 z) { return sum + z; }  // without factors only
/// Factors are real numbers, and so is what they make until it is truncated.
__device__ inline u64 plain_total(const PlainMatMulParams& p, u64 sum, u64 z) {
  if (p.scale == 1 && p.z_scale == 1) return sum + z;
  const double total = p.scale * static_cast<double>(static_cast<long long>(sum)) + p.z_scale * static_cast<double>(static_cast<long long>(z));
  return static_cast<u64>(static_cast<long long>(total));
}

/// One operand's tile, [depth][kTile]: of `lines` rows or columns from `first` on, and of the summed axis from `k` on; zeros beyond the ends.
template <class V, int kTile>
__device__ inline void plain_matmul_tile(V* tile, const void* from, int type, long long base, long long first, long long lines, long long line_step,
                                         long long k, long long depth, long long k_step, bool along_k) {
  for (int e = static_cast<int>(threadIdx.x); e < kTile * kPlainMatMulDepth; e += kPlainMatMulThreads) {
    const int i = along_k ? e / kPlainMatMulDepth : e % kTile, d = along_k ? e % kPlainMatMulDepth : e / kTile;
    V value = 0;
    if (first + i < lines && k + d < depth) plain_read(from, base + (first + i) * line_step + (k + d) * k_step, type, value);
    tile[d * (kTile + 1) + i] = value;
  }
}

template <class V, int kEach>
__device__ inline void plain_matmul(const PlainMatMulParams& p, V* shared) {
  constexpr int kTile = kPlainMatMulSide * kEach;
  constexpr bool kParts = sizeof(V) == sizeof(float) && static_cast<V>(0.5F) != 0;  ///< of float32: a tile's depth is added up by itself
  launch_dependents();
  V *const a_tile = shared, *const b_tile = shared + kPlainMatMulDepth * (kTile + 1);
  const int column = static_cast<int>(threadIdx.x) % kPlainMatMulSide, row = static_cast<int>(threadIdx.x) / kPlainMatMulSide;
  long long rest = blockIdx.x;
  const long long first_column = rest % p.column_tiles * kTile;
  rest /= p.column_tiles;
  const long long first_row = rest % p.row_tiles * kTile;
  rest /= p.row_tiles;
  long long a_from = 0, b_from = 0, y_from = 0;
  for (int axis = p.axes - 1; axis >= 0; --axis) {
    const long long next = rest / p.extent[axis], i = rest - next * p.extent[axis];
    a_from += i * p.a_step[axis], b_from += i * p.b_step[axis], y_from += i * p.y_step[axis];
    rest = next;
  }
  wait_for_previous();
  V sums[kEach][kEach] = {};
  for (long long k = 0; k < p.k; k += kPlainMatMulDepth) {
    plain_matmul_tile<V, kTile>(a_tile, p.a, p.a_type, a_from, first_row, p.m, p.a_m, k, p.k, p.a_k, p.a_along_k != 0);
    plain_matmul_tile<V, kTile>(b_tile, p.b, p.b_type, b_from, first_column, p.n, p.b_n, k, p.k, p.b_k, p.b_along_k != 0);
    __syncthreads();
    V parts[kEach][kEach] = {};
#pragma unroll
    for (int d = 0; d < kPlainMatMulDepth; ++d) {
      V left[kEach], right[kEach];
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        left[i] = a_tile[d * (kTile + 1) + row + i * kPlainMatMulSide];
        right[i] = b_tile[d * (kTile + 1) + column + i * kPlainMatMulSide];
      }
#pragma unroll
      for (int i = 0; i < kEach; ++i)
#pragma unroll
        for (int j = 0; j < kEach; ++j) {
          if constexpr (kParts) parts[i][j] += left[i] * right[j];
          else sums[i][j] += left[i] * right[j];
        }
    }
    if constexpr (kParts) {
#pragma unroll
      for (int i = 0; i < kEach; ++i)
#pragma unroll
        for (int j = 0; j < kEach; ++j) sums[i][j] += parts[i][j];
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const long long m = first_row + row + i * kPlainMatMulSide;
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      const long long n = first_column + column + j * kPlainMatMulSide;
      if (m >= p.m || n >= p.n) continue;
      V z = 0;
      if (p.has_z) plain_read(p.z, m * p.z_m + n * p.z_n, p.z_type, z);
      plain_write(p.y, y_from + m * p.y_m + n * p.y_n, p.y_type, plain_total(p, sums[i][j], z));
    }
  }
}

}  // namespace lathe::cuda

#define LATHE_PLAIN_MATMUL(name, type, each)                                                                            \
  extern "C" __global__ void __launch_bounds__(256, 2) name(const __grid_constant__ lathe::cuda::PlainMatMulParams p) { \
    __shared__ type shared[2 * lathe::cuda::kPlainMatMulDepth * (lathe::cuda::kPlainMatMulSide * each + 1)];            \
    lathe::cuda::plain_matmul<type, each>(p, shared);                                                                   \
  }
LATHE_PLAIN_MATMUL(plain_matmul_float_large, float, lathe::cuda::kPlainMatMulEach)
LATHE_PLAIN_MATMUL(plain_matmul_float_small, float, 1)
LATHE_PLAIN_MATMUL(plain_matmul_double_large, double, lathe::cuda::kPlainMatMulEach)
LATHE_PLAIN_MATMUL(plain_matmul_double_small, double, 1)
LATHE_PLAIN_MATMUL(plain_matmul_whole32_large, lathe::cuda::u32, lathe::cuda::kPlainMatMulEach)
LATHE_PLAIN_MATMUL(plain_matmul_whole32_small, lathe::cuda::u32, 1)
LATHE_PLAIN_MATMUL(plain_matmul_whole64_large, lathe::cuda::u64, lathe::cuda::kPlainMatMulEach)
LATHE_PLAIN_MATMUL(plain_matmul_whole64_small, lathe::cuda::u64, 1)
