// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Recurrent layers: the inputs of all steps are projected by one launch, then each step is one (a GRU whose reset gate stands before the product: two).
// In a step a warp computes one unit of one direction for some rows of the batch: its rows of R come from the second-level cache by 16 bytes a thread.
// Sums and states are of type T: float32 for layers stored in any of three types (rnn.cu), float64 where everything is (rnn_double.cu).

#include "backend/cuda/kernels/ptx.cuh"
#include "regions/rnn/rnn_params.h"

namespace lathe::cuda {

template <class T>
constexpr bool kIsDouble = sizeof(T) == 8;
/// Elements that a thread takes of a row at once, and rows of the batch that a warp takes where there are several.
template <class T>
constexpr int kEach = kIsDouble<T> ? 4 : 8;
template <class T>
constexpr int kRowsOf = kIsDouble<T> ? kRnnDoubleRows : kRnnRows;

/// `type` is that of the storage; of doubles there is one.
template <class T>
__device__ inline T load_number(const void* p, long long at, int type) {
  if constexpr (kIsDouble<T>) return static_cast<const double*>(p)[at];
  else return load_element(p, at, type);
}
template <class T>
__device__ inline void store_number(void* p, long long at, int type, T value) {
  if constexpr (kIsDouble<T>) static_cast<double*>(p)[at] = value;
  else store_element(p, at, type, value);
}
template <class T>
__device__ inline void load_aligned(T (&v)[kEach<T>], const void* p, long long at, int type) {
  if constexpr (kIsDouble<T>) {
#pragma unroll
    for (int e = 0; e < kEach<T>; ++e) v[e] = static_cast<const double*>(p)[at + e];
  } else {
    load8(v, p, at, type);
  }
}
/// Elements from place `k` of a row of `depth` that begins at `at`; zeros behind it.
template <class T>
__device__ inline void load_row(T (&v)[kEach<T>], const void* p, long long at, int k, int depth, int type, bool vectors) {
  if (vectors) {
    load_aligned<T>(v, p, at + k, type);
    return;
  }
#pragma unroll
  for (int e = 0; e < kEach<T>; ++e) v[e] = k + e < depth ? load_number<T>(p, at + k + e, type) : T(0);
}

template <class T>
__device__ inline T warp_sum(T v) {
#pragma unroll
  for (int apart = 16; apart > 0; apart /= 2) v += __shfl_xor_sync(0xffffffffu, v, apart);
  return v;
}

/// sum[g][b] over the lanes of weights' row g times vectors' row b, for b < rows; `at(b)`: where that begins.
template <class T, int kGates, int kRows, class At>
__device__ inline void products(T (&sum)[kGates][kRows], const void* weights, int weight_type, const long long (&weights_at)[kGates], const void* x, int x_type,
                                At at, int rows, int depth, int padded, bool vectors) {
  const int lane = threadIdx.x & 31;
#pragma unroll
  for (int g = 0; g < kGates; ++g) {
#pragma unroll
    for (int b = 0; b < kRows; ++b) sum[g][b] = 0;
  }
  for (int k = lane * kEach<T>; k < padded; k += 32 * kEach<T>) {
    T w[kGates][kEach<T>];
#pragma unroll
    for (int g = 0; g < kGates; ++g) load_aligned<T>(w[g], weights, weights_at[g] + k, weight_type);
#pragma unroll
    for (int b = 0; b < kRows; ++b) {
      if (b >= rows) break;
      T v[kEach<T>];
      load_row<T>(v, x, at(b), k, depth, x_type, vectors);
#pragma unroll
      for (int g = 0; g < kGates; ++g) {
#pragma unroll
        for (int e = 0; e < kEach<T>; ++e) sum[g][b] += w[g][e] * v[e];
      }
    }
  }
#pragma unroll
  for (int g = 0; g < kGates; ++g) {
#pragma unroll
    for (int b = 0; b < kRows; ++b) sum[g][b] = warp_sum(sum[g][b]);
  }
}

// The functions of either type, by one name.
__device__ inline float exp_of(float x) { return expf(x); }
__device__ inline double exp_of(double x) { return exp(x); }
__device__ inline float expm1_of(float x) { return expm1f(x); }
__device__ inline double expm1_of(double x) { return expm1(x); }
__device__ inline float log1p_of(float x) { return log1pf(x); }
__device__ inline double log1p_of(double x) { return log1p(x); }
__device__ inline float tanh_of(float x) { return tanhf(x); }
__device__ inline double tanh_of(double x) { return tanh(x); }
__device__ inline float abs_of(float x) { return fabsf(x); }
__device__ inline double abs_of(double x) { return fabs(x); }

template <class T>
__device__ __noinline__ T rnn_function(T x, int kind, T alpha, T beta) {
  switch (kind) {
    case kRnnSigmoid: return T(1) / (T(1) + exp_of(-x));
    case kRnnTanh: return tanh_of(x);
    case kRnnRelu: return x < 0 ? T(0) : x;
    case kRnnAffine: return alpha * x + beta;
    case kRnnLeakyRelu: return x < 0 ? alpha * x : x;
    case kRnnThresholdedRelu: return x > alpha ? x : T(0);
    case kRnnScaledTanh: return alpha * tanh_of(beta * x);
    case kRnnHardSigmoid: {
      const T v = alpha * x + beta;
      return v < 0 ? T(0) : v > 1 ? T(1) : v;
    }
    case kRnnElu: return x < 0 ? alpha * expm1_of(x) : x;
    case kRnnSoftsign: return x / (T(1) + abs_of(x));
    default: return x > (kIsDouble<T> ? 40 : 20) ? x : log1p_of(exp_of(x));  // kRnnSoftplus
  }
}
template <class T>
__device__ inline T clipped(const RnnParams& p, T x) {
  const T bound = p.clip;
  return x < -bound ? -bound : x > bound ? bound : x;
}
template <class T>
__device__ inline T apply(const RnnParams& p, int direction, int which, T x) {
  const RnnFunction& f = p.functions[direction][which];
  if constexpr (kIsDouble<T>) return rnn_function<T>(x, f.kind, f.wide_alpha, f.wide_beta);
  else return rnn_function<T>(x, f.kind, f.alpha, f.beta);
}

template <class T>
__device__ inline void store_state(const RnnState& s, int direction, int row, int unit, T value) {
  if (s.data) store_number<T>(s.data, direction * s.direction + row * s.batch + unit, s.type, value);
}

/// One unit of one direction for batch rows from `first` on: lane b of the warp ends row b.
template <class T, int kPart, int kRows>
__device__ inline void rnn_unit(const RnnParams& p, int direction, int unit, int first) {
  constexpr int kGates = kPart == kRnnLstm ? 4 : kPart == kRnnGruLinear ? 3 : kPart == kRnnGruGates ? 2 : 1;
  const int rows = min(kRows, p.batch - first), lane = threadIdx.x & 31;
  const long long states = (static_cast<long long>(direction) * p.batch + first) * p.padded;
  long long weights_at[kGates];
#pragma unroll
  for (int g = 0; g < kGates; ++g) {
    const int gate = kPart == kRnnGruCandidate ? 2 : g;
    weights_at[g] = ((static_cast<long long>(direction) * p.gates + gate) * p.hidden + unit) * p.padded;
  }
  const T* const h_from = static_cast<const T*>(p.h_from);
  T *const h_to = static_cast<T*>(p.h_to), *const cells = static_cast<T*>(p.c), *const update = static_cast<T*>(p.update),
           *const gated = static_cast<T*>(p.gated);
  T sums[kGates][kRows];
  products<T, kGates, kRows>(
      sums, p.r, p.weight_type, weights_at, kPart == kRnnGruCandidate ? p.gated : p.h_from, kElementFloat32,
      [&](int b) { return states + static_cast<long long>(b) * p.padded; }, rows, p.padded, p.padded, true);
  if (lane >= rows) return;
  T sum[kGates];
#pragma unroll
  for (int g = 0; g < kGates; ++g) {
    sum[g] = sums[g][0];
#pragma unroll
    for (int b = 1; b < kRows; ++b) sum[g] = lane == b ? sums[g][b] : sum[g];
  }
  const int row = first + lane;
  const int length = p.lengths ? max(0, min(p.lengths[row], p.steps)) : p.steps;
  const bool active = p.step < length, reverse = direction == 1 || p.first_reverse;
  const int time = active && reverse ? length - 1 - p.step : p.step;
  const long long own = states + static_cast<long long>(lane) * p.padded + unit;
  const T before = h_from[own];
  T h = before, c = 0;
  if constexpr (kPart == kRnnLstm) c = cells[own];
  if (active) {
    const T* g =
        static_cast<const T*>(p.projected) + time * p.projected_step + row * p.projected_batch + static_cast<long long>(direction) * p.gates * p.hidden + unit;
    const long long apart = p.hidden;
    if constexpr (kPart == kRnnLstm) {
      const T* peephole = p.peephole ? static_cast<const T*>(p.peephole) + 3 * apart * direction + unit : nullptr;
      const T i = apply<T>(p, direction, 0, clipped<T>(p, g[0] + sum[0] + (peephole ? peephole[0] * c : T(0))));
      const T forget = p.coupled ? T(1) - i : apply<T>(p, direction, 0, clipped<T>(p, g[2 * apart] + sum[2] + (peephole ? peephole[2 * apart] * c : T(0))));
      const T candidate = apply<T>(p, direction, 1, clipped<T>(p, g[3 * apart] + sum[3]));
      c = forget * c + i * candidate;
      const T o = apply<T>(p, direction, 0, clipped<T>(p, g[apart] + sum[1] + (peephole ? peephole[apart] * c : T(0))));
      h = o * apply<T>(p, direction, 2, c);
    } else if constexpr (kPart == kRnnGruLinear) {
      const T z = apply<T>(p, direction, 0, clipped<T>(p, g[0] + sum[0])), r = apply<T>(p, direction, 0, clipped<T>(p, g[apart] + sum[1]));
      const T through = r * (sum[2] + (p.recurrent_bias ? static_cast<const T*>(p.recurrent_bias)[apart * direction + unit] : T(0)));
      const T candidate = apply<T>(p, direction, 1, clipped<T>(p, g[2 * apart] + through));
      h = (T(1) - z) * candidate + z * before;
    } else if constexpr (kPart == kRnnGruGates) {
      const T r = apply<T>(p, direction, 0, clipped<T>(p, g[apart] + sum[1]));
      update[own] = apply<T>(p, direction, 0, clipped<T>(p, g[0] + sum[0]));
      gated[own] = r * before;
    } else if constexpr (kPart == kRnnGruCandidate) {
      const T z = update[own], candidate = apply<T>(p, direction, 1, clipped<T>(p, g[2 * apart] + sum[0]));
      h = (T(1) - z) * candidate + z * before;
    } else {
      h = apply<T>(p, direction, 0, clipped<T>(p, g[0] + sum[0]));
    }
  }
  if constexpr (kPart != kRnnGruGates) {
    h_to[own] = h;
    if constexpr (kPart == kRnnLstm) cells[own] = c;
    if (p.y) store_number<T>(p.y, time * p.y_step + direction * p.y_direction + row * p.y_batch + unit, p.y_type, active ? h : T(0));
    if (p.last) {
      store_state<T>(p.last_h, direction, row, unit, h);
      if constexpr (kPart == kRnnLstm) store_state<T>(p.last_c, direction, row, unit, c);
    }
  }
}

template <class T, int kPart, int kRows>
__device__ inline void rnn_step(const RnnParams& p) {
  launch_dependents();
  wait_for_previous();
  const int unit = blockIdx.x * kRnnWarps + threadIdx.x / 32;
  if (unit < p.hidden) rnn_unit<T, kPart, kRows>(p, blockIdx.y, unit, blockIdx.z * kRows);
}

/// Before the first step: the states as the model gives them, zeros behind them. Where there are no steps, these are the last ones.
template <class T>
__device__ inline void rnn_begin(const RnnParams& p) {
  launch_dependents();
  wait_for_previous();
  const long long at = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x, rows = at / p.padded;
  const int unit = static_cast<int>(at - rows * p.padded), direction = static_cast<int>(rows / p.batch),
            row = static_cast<int>(rows - static_cast<long long>(direction) * p.batch);
  if (direction >= p.directions) return;
  const auto initial = [&](const RnnState& s) {
    return s.data && unit < p.hidden ? load_number<T>(s.data, direction * s.direction + row * s.batch + unit, s.type) : T(0);
  };
  const T h = initial(p.initial_h), c = initial(p.initial_c);
  static_cast<T*>(p.h_to)[at] = h;
  // What the first step reads is the one; the other's padding is read from the second on.
  if (unit >= p.hidden) static_cast<T*>(const_cast<void*>(p.h_from))[at] = 0;
  if (p.c) static_cast<T*>(p.c)[at] = c;
  if (p.gated) static_cast<T*>(p.gated)[at] = 0;
  if (p.last && unit < p.hidden) {
    store_state<T>(p.last_h, direction, row, unit, h);
    store_state<T>(p.last_c, direction, row, unit, c);
  }
}

/// A warp a column, for few rows of x.
template <class T>
__device__ inline void rnn_project_rows(const RnnProjectParams& p) {
  launch_dependents();
  wait_for_previous();
  const int column = blockIdx.x * kRnnWarps + threadIdx.x / 32, lane = threadIdx.x & 31;
  const long long first = static_cast<long long>(blockIdx.y) * kRowsOf<T>;
  if (column >= p.columns) return;
  const int rows = static_cast<int>(min(static_cast<long long>(kRowsOf<T>), p.rows - first));
  T sums[1][kRowsOf<T>];
  const long long weights_at[1] = {static_cast<long long>(column) * p.padded};
  products<T, 1, kRowsOf<T>>(
      sums, p.w, p.weight_type, weights_at, p.x, p.x_type,
      [&](int b) {
        const long long row = first + b, outer = row / p.seconds;
        return outer * p.x_first + (row - outer * p.seconds) * p.x_second;
      },
      rows, p.depth, p.padded, p.vectors);
  if (lane >= rows) return;
  T sum = sums[0][0];
#pragma unroll
  for (int b = 1; b < kRowsOf<T>; ++b) sum = lane == b ? sums[0][b] : sum;
  static_cast<T*>(p.projected)[(first + lane) * p.columns + column] = sum + static_cast<const T*>(p.bias)[column];
}

/// Tiles of 64 rows and 64 columns, 4 x 4 a thread.
template <class T>
__device__ inline void rnn_project_tiles(const RnnProjectParams& p) {
  __shared__ T a[kRnnTileDepth][kRnnTile + 4], b[kRnnTileDepth][kRnnTile + 4];
  launch_dependents();
  wait_for_previous();
  const long long first_row = static_cast<long long>(blockIdx.x) * kRnnTile;
  const int first_column = blockIdx.y * kRnnTile, thread = threadIdx.x;
  // Loading: a thread brings 4 of the depth of one row of x, and of one of w.
  const int line = thread / 4, piece = thread % 4 * 4;
  const long long row = first_row + line, outer = row / p.seconds;
  const long long x_at = outer * p.x_first + (row - outer * p.seconds) * p.x_second;
  const long long w_at = static_cast<long long>(first_column + line) * p.padded;
  const int down = thread / 16 * 4, across = thread % 16 * 4;
  T sum[4][4] = {};
  for (int k = 0; k < p.depth; k += kRnnTileDepth) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int at = k + piece + e;
      a[piece + e][line] = row < p.rows && at < p.depth ? load_number<T>(p.x, x_at + at, p.x_type) : T(0);
      b[piece + e][line] = first_column + line < p.columns && at < p.depth ? load_number<T>(p.w, w_at + at, p.weight_type) : T(0);
    }
    __syncthreads();
#pragma unroll
    for (int d = 0; d < kRnnTileDepth; ++d) {
      T u[4], v[4];
#pragma unroll
      for (int e = 0; e < 4; ++e) u[e] = a[d][down + e], v[e] = b[d][across + e];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) sum[i][j] += u[i] * v[j];
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j)
      if (first_row + down + i < p.rows && first_column + across + j < p.columns)
        static_cast<T*>(p.projected)[(first_row + down + i) * p.columns + first_column + across + j] =
            sum[i][j] + static_cast<const T*>(p.bias)[first_column + across + j];
  }
}

template <class T>
__device__ inline void rnn_pack(const RnnPackParams& p) {
  launch_dependents();
  wait_for_previous();
  const long long at = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x, row = at / p.padded;
  const int column = static_cast<int>(at - row * p.padded);
  if (row >= p.rows) return;
  const long long outer = row / p.inner, from = outer * p.from_outer + (row - outer * p.inner) * p.from_inner + column * p.from_column;
  store_number<T>(p.to, at, p.to_type, column < p.columns ? load_number<T>(p.from, from, p.from_type) : T(0));
}

template <class T>
__device__ inline void rnn_bias(const RnnBiasParams& p) {
  launch_dependents();
  wait_for_previous();
  const int rows = p.gates * p.hidden, at = blockIdx.x * blockDim.x + threadIdx.x, direction = at / rows, row = at - direction * rows;
  if (direction >= p.directions) return;
  const auto get = [&](int i) { return p.from ? load_number<T>(p.from, direction * p.from_direction + i * p.from_column, p.from_type) : T(0); };
  const bool apart = p.linear && row >= 2 * p.hidden;
  static_cast<T*>(p.sums)[at] = get(row) + (apart ? 0.0f : get(rows + row));
  if (apart) static_cast<T*>(p.recurrent)[direction * p.hidden + row - 2 * p.hidden] = get(rows + row);
}

}  // namespace lathe::cuda

/// All kernels of a type, by a prefix: a step's of one row, and of several.
#define LATHE_RNN_STEP(prefix, T, name, part)                                                                                    \
  extern "C" __global__ void __launch_bounds__(128) prefix##_step_##name##_1(const __grid_constant__ lathe::cuda::RnnParams p) { \
    lathe::cuda::rnn_step<T, lathe::cuda::part, 1>(p);                                                                           \
  }                                                                                                                              \
  extern "C" __global__ void __launch_bounds__(128) prefix##_step_##name##_n(const __grid_constant__ lathe::cuda::RnnParams p) { \
    lathe::cuda::rnn_step<T, lathe::cuda::part, lathe::cuda::kRowsOf<T>>(p);                                                     \
  }
#define LATHE_RNN_OTHER(prefix, T, name, threads, Params) \
  extern "C" __global__ void __launch_bounds__(threads) prefix##_##name(const __grid_constant__ lathe::cuda::Params p) { lathe::cuda::rnn_##name<T>(p); }
#define LATHE_RNN_KERNELS(prefix, T)                               \
  LATHE_RNN_STEP(prefix, T, lstm, kRnnLstm)                        \
  LATHE_RNN_STEP(prefix, T, gru_linear, kRnnGruLinear)             \
  LATHE_RNN_STEP(prefix, T, gru_gates, kRnnGruGates)               \
  LATHE_RNN_STEP(prefix, T, gru_candidate, kRnnGruCandidate)       \
  LATHE_RNN_STEP(prefix, T, plain, kRnnPlain)                      \
  LATHE_RNN_OTHER(prefix, T, begin, 256, RnnParams)                \
  LATHE_RNN_OTHER(prefix, T, project_rows, 128, RnnProjectParams)  \
  LATHE_RNN_OTHER(prefix, T, project_tiles, 256, RnnProjectParams) \
  LATHE_RNN_OTHER(prefix, T, pack, 256, RnnPackParams)             \
  LATHE_RNN_OTHER(prefix, T, bias, 256, RnnBiasParams)
