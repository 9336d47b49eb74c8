// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Recurrent layers: the inputs of all steps are projected by one launch, then each step is one (a GRU whose reset gate stands before the product: two).
// In a step a warp computes one unit of one direction for some rows of the batch: its rows of R come from the second-level cache by 16 bytes a thread.
// Sums and states in float32.
//! limits rnn_step_*: registers 168, shared 0, spill 32
//! limits rnn_project_tiles: registers 96, shared 8704, spill 0
//! limits rnn_*: registers 96, shared 0, spill 0

#include "backend/cuda/kernels/ptx.cuh"
#include "regions/rnn/rnn_params.h"

namespace lathe::cuda {

/// 8 elements from place `k` of a row of `depth` that begins at `at`; zeros behind it.
__device__ inline void load_row(float (&v)[8], const void* p, long long at, int k, int depth, int type, bool vectors) {
  if (vectors) {
    load8(v, p, at + k, type);
    return;
  }
#pragma unroll
  for (int e = 0; e < 8; ++e) v[e] = k + e < depth ? load_element(p, at + k + e, type) : 0.0f;
}

__device__ inline float warp_sum(float v) {
#pragma unroll
  for (int apart = 16; apart > 0; apart /= 2) v += __shfl_xor_sync(0xffffffffu, v, apart);
  return v;
}

/// sum[g][b] over the lanes of weights' row g times vectors' row b, for b < rows; `at(b)`: where that begins.
template <int kGates, int kRows, class At>
__device__ inline void products(float (&sum)[kGates][kRows], const void* weights, int weight_type, const long long (&weights_at)[kGates], const void* x,
                                int x_type, At at, int rows, int depth, int padded, bool vectors) {
  const int lane = threadIdx.x & 31;
#pragma unroll
  for (int g = 0; g < kGates; ++g) {
#pragma unroll
    for (int b = 0; b < kRows; ++b) sum[g][b] = 0;
  }
  for (int k = lane * 8; k < padded; k += 256) {
    float w[kGates][8];
#pragma unroll
    for (int g = 0; g < kGates; ++g) load8(w[g], weights, weights_at[g] + k, weight_type);
#pragma unroll
    for (int b = 0; b < kRows; ++b) {
      if (b >= rows) break;
      float v[8];
      load_row(v, x, at(b), k, depth, x_type, vectors);
#pragma unroll
      for (int g = 0; g < kGates; ++g) {
#pragma unroll
        for (int e = 0; e < 8; ++e) sum[g][b] += w[g][e] * v[e];
      }
    }
  }
#pragma unroll
  for (int g = 0; g < kGates; ++g) {
#pragma unroll
    for (int b = 0; b < kRows; ++b) sum[g][b] = warp_sum(sum[g][b]);
  }
}

__device__ __noinline__ float rnn_function(float x, int kind, float alpha, float beta) {
  switch (kind) {
    case kRnnSigmoid: return 1.0f / (1.0f + expf(-x));
    case kRnnTanh: return tanhf(x);
    case kRnnRelu: return x < 0 ? 0.0f : x;
    case kRnnAffine: return alpha * x + beta;
    case kRnnLeakyRelu: return x < 0 ? alpha * x : x;
    case kRnnThresholdedRelu: return x > alpha ? x : 0.0f;
    case kRnnScaledTanh: return alpha * tanhf(beta * x);
    case kRnnHardSigmoid: {
      const float v = alpha * x + beta;
      return v < 0 ? 0.0f : v > 1 ? 1.0f : v;
    }
    case kRnnElu: return x < 0 ? alpha * expm1f(x) : x;
    case kRnnSoftsign: return x / (1.0f + fabsf(x));
    default: return x > 20 ? x : log1pf(expf(x));  // kRnnSoftplus
  }
}
__device__ inline float clipped(const RnnParams& p, float x) { return x < -p.clip ? -p.clip : x > p.clip ? p.clip : x; }
__device__ inline float apply(const RnnParams& p, int direction, int which, float x) {
  const RnnFunction& f = p.functions[direction][which];
  return rnn_function(x, f.kind, f.alpha, f.beta);
}

__device__ inline void store_state(const RnnState& s, int direction, int row, int unit, float value) {
  if (s.data) store_element(s.data, direction * s.direction + row * s.batch + unit, s.type, value);
}

/// One unit of one direction for batch rows from `first` on: lane b of the warp ends row b.
template <int kPart, int kRows>
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
  float sums[kGates][kRows];
  products<kGates, kRows>(
      sums, p.r, p.weight_type, weights_at, kPart == kRnnGruCandidate ? p.gated : p.h_from, kElementFloat32,
      [&](int b) { return states + static_cast<long long>(b) * p.padded; }, rows, p.padded, p.padded, true);
  if (lane >= rows) return;
  float sum[kGates];
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
  const float before = p.h_from[own];
  float h = before, c = 0;
  if constexpr (kPart == kRnnLstm) c = p.c[own];
  if (active) {
    const float* g = p.projected + time * p.projected_step + row * p.projected_batch + static_cast<long long>(direction) * p.gates * p.hidden + unit;
    const long long apart = p.hidden;
    if constexpr (kPart == kRnnLstm) {
      const float* peephole = p.peephole ? p.peephole + 3 * apart * direction + unit : nullptr;
      const float i = apply(p, direction, 0, clipped(p, g[0] + sum[0] + (peephole ? peephole[0] * c : 0.0f)));
      const float forget = p.coupled ? 1.0f - i : apply(p, direction, 0, clipped(p, g[2 * apart] + sum[2] + (peephole ? peephole[2 * apart] * c : 0.0f)));
      const float candidate = apply(p, direction, 1, clipped(p, g[3 * apart] + sum[3]));
      c = forget * c + i * candidate;
      const float o = apply(p, direction, 0, clipped(p, g[apart] + sum[1] + (peephole ? peephole[apart] * c : 0.0f)));
      h = o * apply(p, direction, 2, c);
    } else if constexpr (kPart == kRnnGruLinear) {
      const float z = apply(p, direction, 0, clipped(p, g[0] + sum[0])), r = apply(p, direction, 0, clipped(p, g[apart] + sum[1]));
      const float through = r * (sum[2] + (p.recurrent_bias ? p.recurrent_bias[apart * direction + unit] : 0.0f));
      const float candidate = apply(p, direction, 1, clipped(p, g[2 * apart] + through));
      h = (1.0f - z) * candidate + z * before;
    } else if constexpr (kPart == kRnnGruGates) {
      const float r = apply(p, direction, 0, clipped(p, g[apart] + sum[1]));
      p.update[own] = apply(p, direction, 0, clipped(p, g[0] + sum[0]));
      p.gated[own] = r * before;
    } else if constexpr (kPart == kRnnGruCandidate) {
      const float z = p.update[own], candidate = apply(p, direction, 1, clipped(p, g[2 * apart] + sum[0]));
      h = (1.0f - z) * candidate + z * before;
    } else {
      h = apply(p, direction, 0, clipped(p, g[0] + sum[0]));
    }
  }
  if constexpr (kPart != kRnnGruGates) {
    p.h_to[own] = h;
    if constexpr (kPart == kRnnLstm) p.c[own] = c;
    if (p.y) store_element(p.y, time * p.y_step + direction * p.y_direction + row * p.y_batch + unit, p.y_type, active ? h : 0.0f);
    if (p.last) {
      store_state(p.last_h, direction, row, unit, h);
      if constexpr (kPart == kRnnLstm) store_state(p.last_c, direction, row, unit, c);
    }
  }
}

template <int kPart, int kRows>
__device__ inline void rnn_step(const RnnParams& p) {
  launch_dependents();
  wait_for_previous();
  const int unit = blockIdx.x * kRnnWarps + threadIdx.x / 32;
  if (unit < p.hidden) rnn_unit<kPart, kRows>(p, blockIdx.y, unit, blockIdx.z * kRows);
}

/// Before the first step: the states as the model gives them, zeros behind them. Where there are no steps, these are the last ones.
__device__ inline void rnn_begin(const RnnParams& p) {
  launch_dependents();
  wait_for_previous();
  const long long at = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x, rows = at / p.padded;
  const int unit = static_cast<int>(at - rows * p.padded), direction = static_cast<int>(rows / p.batch),
            row = static_cast<int>(rows - static_cast<long long>(direction) * p.batch);
  if (direction >= p.directions) return;
  const auto initial = [&](const RnnState& s) {
    return s.data && unit < p.hidden ? load_element(s.data, direction * s.direction + row * s.batch + unit, s.type) : 0.0f;
  };
  const float h = initial(p.initial_h), c = initial(p.initial_c);
  p.h_to[at] = h;
  // What the first step reads is the one; the other's padding is read from the second on.
  if (unit >= p.hidden) const_cast<float*>(p.h_from)[at] = 0;
  if (p.c) p.c[at] = c;
  if (p.gated) p.gated[at] = 0;
  if (p.last && unit < p.hidden) {
    store_state(p.last_h, direction, row, unit, h);
    store_state(p.last_c, direction, row, unit, c);
  }
}

/// A warp a column, for few rows of x.
__device__ inline void rnn_project_rows(const RnnProjectParams& p) {
  launch_dependents();
  wait_for_previous();
  const int column = blockIdx.x * kRnnWarps + threadIdx.x / 32, lane = threadIdx.x & 31;
  const long long first = static_cast<long long>(blockIdx.y) * kRnnRows;
  if (column >= p.columns) return;
  const int rows = static_cast<int>(min(static_cast<long long>(kRnnRows), p.rows - first));
  float sums[1][kRnnRows];
  const long long weights_at[1] = {static_cast<long long>(column) * p.padded};
  products<1, kRnnRows>(
      sums, p.w, p.weight_type, weights_at, p.x, p.x_type,
      [&](int b) {
        const long long row = first + b, outer = row / p.seconds;
        return outer * p.x_first + (row - outer * p.seconds) * p.x_second;
      },
      rows, p.depth, p.padded, p.vectors);
  if (lane >= rows) return;
  float sum = sums[0][0];
#pragma unroll
  for (int b = 1; b < kRnnRows; ++b) sum = lane == b ? sums[0][b] : sum;
  p.projected[(first + lane) * p.columns + column] = sum + p.bias[column];
}

/// Tiles of 64 rows and 64 columns, 4 x 4 a thread.
__device__ inline void rnn_project_tiles(const RnnProjectParams& p) {
  __shared__ float a[kRnnTileDepth][kRnnTile + 4], b[kRnnTileDepth][kRnnTile + 4];
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
  float sum[4][4] = {};
  for (int k = 0; k < p.depth; k += kRnnTileDepth) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int at = k + piece + e;
      a[piece + e][line] = row < p.rows && at < p.depth ? load_element(p.x, x_at + at, p.x_type) : 0.0f;
      b[piece + e][line] = first_column + line < p.columns && at < p.depth ? load_element(p.w, w_at + at, p.weight_type) : 0.0f;
    }
    __syncthreads();
#pragma unroll
    for (int d = 0; d < kRnnTileDepth; ++d) {
      float u[4], v[4];
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
        p.projected[(first_row + down + i) * p.columns + first_column + across + j] = sum[i][j] + p.bias[first_column + across + j];
  }
}

__device__ inline void rnn_pack(const RnnPackParams& p) {
  launch_dependents();
  wait_for_previous();
  const long long at = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x, row = at / p.padded;
  const int column = static_cast<int>(at - row * p.padded);
  if (row >= p.rows) return;
  const long long outer = row / p.inner, from = outer * p.from_outer + (row - outer * p.inner) * p.from_inner + column * p.from_column;
  store_element(p.to, at, p.to_type, column < p.columns ? load_element(p.from, from, p.from_type) : 0.0f);
}

__device__ inline void rnn_bias(const RnnBiasParams& p) {
  launch_dependents();
  wait_for_previous();
  const int rows = p.gates * p.hidden, at = blockIdx.x * blockDim.x + threadIdx.x, direction = at / rows, row = at - direction * rows;
  if (direction >= p.directions) return;
  const auto get = [&](int i) { return p.from ? load_element(p.from, direction * p.from_direction + i * p.from_column, p.from_type) : 0.0f; };
  const bool apart = p.linear && row >= 2 * p.hidden;
  p.sums[at] = get(row) + (apart ? 0.0f : get(rows + row));
  if (apart) p.recurrent[direction * p.hidden + row - 2 * p.hidden] = get(rows + row);
}

}  // namespace lathe::cuda

#define LATHE_RNN_STEP(name, part)                                                                                          \
  extern "C" __global__ void __launch_bounds__(128) rnn_step_##name##_1(const __grid_constant__ lathe::cuda::RnnParams p) { \
    lathe::cuda::rnn_step<lathe::cuda::part, 1>(p);                                                                         \
  }                                                                                                                         \
  extern "C" __global__ void __launch_bounds__(128) rnn_step_##name##_8(const __grid_constant__ lathe::cuda::RnnParams p) { \
    lathe::cuda::rnn_step<lathe::cuda::part, 8>(p);                                                                         \
  }
LATHE_RNN_STEP(lstm, kRnnLstm)
LATHE_RNN_STEP(gru_linear, kRnnGruLinear)
LATHE_RNN_STEP(gru_gates, kRnnGruGates)
LATHE_RNN_STEP(gru_candidate, kRnnGruCandidate)
LATHE_RNN_STEP(plain, kRnnPlain)
#define LATHE_RNN_OTHER(name, threads, Params) \
  extern "C" __global__ void __launch_bounds__(threads) name(const __grid_constant__ lathe::cuda::Params p) { lathe::cuda::name(p); }
LATHE_RNN_OTHER(rnn_begin, 256, RnnParams)
LATHE_RNN_OTHER(rnn_project_rows, 128, RnnProjectParams)
LATHE_RNN_OTHER(rnn_project_tiles, 256, RnnProjectParams)
LATHE_RNN_OTHER(rnn_pack, 256, RnnPackParams)
LATHE_RNN_OTHER(rnn_bias, 256, RnnBiasParams)
