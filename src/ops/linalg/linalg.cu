// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Det and Inverse: a block for a matrix, eliminated in double precision with row pivots as the references do it, operation by operation (no product is fused
// with a difference), so that the results are theirs. A warp owns rows, its lanes columns. A singular matrix has the determinant 0, and its inverse is what
// dividing by 0 gives: infinities and NaN, no error.
//! limits matrix_*: registers 64, shared 0, spill 16

#include "backend/cuda/kernels/ptx.cuh"
#include "ops/linalg/linalg_params.h"

namespace lathe::cuda {

/// The search of a pivot, by one warp.
struct PivotSearch {
  double best[32];
  int where[32];
  double pivot;
  int row;
};
static_assert(sizeof(PivotSearch) <= kPivotBytes, "shared memory");

extern __shared__ __align__(16) unsigned char matrix_storage[];

__device__ inline double load_number(const void* p, long long i, int type) {
  return type == kMatrixFloat64 ? static_cast<const double*>(p)[i] : load_element(p, i, type);
}
__device__ inline void store_number(void* p, long long i, int type, double value) {
  if (type == kMatrixFloat64) static_cast<double*>(p)[i] = value;
  else store_element(p, i, type, static_cast<float>(value));
}

/// Where a matrix lies in each tensor.
struct MatrixPlace {
  long long x = 0, y = 0;
  __device__ MatrixPlace(const MatrixParams& p, long long item) {
    for (int i = p.axes - 1; i >= 0; --i) {
      const long long rest = item / p.extent[i], at = item - rest * p.extent[i];
      x += at * p.x_step[i];
      y += at * p.y_step[i];
      item = rest;
    }
  }
};

/// By the first warp: the first of the rows from `k` on whose element of column k is largest. Where row k has no number it is that one.
__device__ inline void find_pivot(PivotSearch& search, const double* m, long long width, int n, int k, int lane) {
  double best = -1;
  int where = k;
  for (int r = k + lane; r < n; r += 32) {
    const double size = fabs(m[r * width + k]);
    if (size > best) best = size, where = r;
  }
  search.best[lane] = best;
  search.where[lane] = where;
  for (int apart = 16; apart > 0; apart /= 2) {
    __syncwarp();
    const bool takes = lane < apart && (search.best[lane + apart] > search.best[lane] ||
                                        (search.best[lane + apart] == search.best[lane] && search.where[lane + apart] < search.where[lane]));
    if (takes) {
      search.best[lane] = search.best[lane + apart];
      search.where[lane] = search.where[lane + apart];
    }
  }
  if (lane == 0) {
    const double first = m[k * width + k];
    search.row = first == first ? search.where[0] : k;
    search.pivot = m[search.row * width + k];
  }
}

template <bool kInverse>
__device__ inline void eliminate(const MatrixParams& p) {
  launch_dependents();
  PivotSearch& search = *reinterpret_cast<PivotSearch*>(matrix_storage);
  const int n = p.n, thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32, warps = static_cast<int>(blockDim.x) / 32;
  const long long width = kInverse ? 2ll * n : n;
  double* m = p.scratch ? p.scratch + blockIdx.x * (n * width) : reinterpret_cast<double*>(matrix_storage + kPivotBytes);
  wait_for_previous();
  for (long long item = blockIdx.x; item < p.items; item += gridDim.x) {
    const MatrixPlace place(p, item);
    for (int r = warp; r < n; r += warps)
      for (int c = lane; c < width; c += 32)
        m[r * width + c] = c < n ? load_number(p.x, place.x + r * p.x_row + c * p.x_column, p.type) : c - n == r ? 1.0 : 0.0;
    double result = 1;
    for (int k = 0; k < n; ++k) {
      __syncthreads();
      if (warp == 0) find_pivot(search, m, width, n, k, lane);
      __syncthreads();
      const int pivot = search.row;
      const double by = search.pivot;
      if (!kInverse && by == 0) {
        result = 0;
        break;
      }
      result = __dmul_rn(pivot == k ? result : -result, by);
      // The rows change places. Of column k each row keeps by how much it takes of row k; the pivot itself is `by`.
      double *const row = m + k * width, *const other = m + pivot * width;
      for (int c = k + 1 + thread; c < width; c += static_cast<int>(blockDim.x)) {
        const double chosen = other[c];
        if (pivot != k) other[c] = row[c];
        row[c] = kInverse ? chosen / by : chosen;
      }
      if constexpr (kInverse) {
        if (thread == 0 && pivot != k) other[k] = row[k];
      } else {
        for (int r = k + 1 + thread; r < n; r += static_cast<int>(blockDim.x)) m[r * width + k] = (r == pivot ? row[k] : m[r * width + k]) / by;
      }
      __syncthreads();
      for (int r = (kInverse ? 0 : k + 1) + warp; r < n; r += warps) {
        if (r == k) continue;
        double* const to = m + r * width;
        const double times = to[k];
        for (int c = k + 1 + lane; c < width; c += 32) to[c] = __dsub_rn(to[c], __dmul_rn(times, row[c]));
      }
    }
    __syncthreads();
    if constexpr (kInverse) {
      for (int r = warp; r < n; r += warps)
        for (int c = lane; c < n; c += 32) store_number(p.y, place.y + r * p.y_row + c * p.y_column, p.y_type, m[r * width + n + c]);
    } else if (thread == 0) {
      store_number(p.y, place.y, p.y_type, result);
    }
    __syncthreads();  // the matrix has been read
  }
}

}  // namespace lathe::cuda

extern "C" __global__ void __launch_bounds__(512) matrix_det(const __grid_constant__ lathe::cuda::MatrixParams p) { lathe::cuda::eliminate<false>(p); }
extern "C" __global__ void __launch_bounds__(512) matrix_inverse(const __grid_constant__ lathe::cuda::MatrixParams p) { lathe::cuda::eliminate<true>(p); }
