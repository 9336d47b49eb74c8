// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// LinearAttention: the columns of a head's state depend on nothing but themselves, so a block takes some of them through all steps. A column's
// elements are in the registers of its lanes, neighbours in a warp; keys, queries, values and decays of several steps at once come to shared
// memory. Where the registers do not hold a column, a warp walks it in memory.
//! limits linear_attention_memory: registers 64, shared 0, spill 0
//! limits linear_attention_*: registers 96, shared 0, spill 64

#include "backend/cuda/kernels/ptx.cuh"
#include "ops/linear_attention/linear_attention_params.h"

namespace lathe::cuda {

struct __align__(16) LinearFour {
  float at[4];
};

/// What of the work is a thread's.
struct LinearPlace {
  int batch, head, lane, own, column;  ///< own: of the block's columns
  bool real;                           ///< not behind the last column
  __device__ explicit LinearPlace(const LinearAttentionParams& p) {
    const int item = static_cast<int>(blockIdx.x) / p.slices, slice = static_cast<int>(blockIdx.x) - item * p.slices;
    batch = item / p.heads;
    head = item - batch * p.heads;
    own = static_cast<int>(threadIdx.x) / p.lanes;
    lane = static_cast<int>(threadIdx.x) - own * p.lanes;
    column = slice * p.columns + own;
    real = column < p.value_size;
  }
};

/// The sum of all lanes' values, for all of them.
__device__ inline float add_lanes(float value, int lanes) {
  for (int apart = lanes / 2; apart > 0; apart /= 2) value += __shfl_xor_sync(0xffffffffu, value, apart);
  return value;
}

__device__ inline float load_state(const LinearState& s, const LinearPlace& at, int key) {
  return load_element(s.data, at.batch * s.batch + at.head * s.head + key * s.key + at.column * s.along, s.type);
}
__device__ inline void store_state(const LinearState& s, const LinearPlace& at, int key, float value) {
  store_element(s.data, at.batch * s.batch + at.head * s.head + key * s.key + at.column * s.along, s.type, value);
}
/// A row's element, the row being those of one step.
__device__ inline float load_row(const LinearRows& r, int batch, int step, long long i) {
  return load_element(r.data, batch * r.batch + step * r.step + i * r.along, r.type);
}

/// Elements [first, first + width) of `count` rows come to shared memory, into rows of 2^shift with zeros behind, `pitch` apart.
template <int kType, bool kExponential>
__device__ inline void bring_as(float* to, int pitch, const LinearRows& r, int batch, int step, int count, long long first, int width, int shift) {
  const long long from = batch * r.batch + step * r.step + first * r.along;
  const int all = count << shift;
#pragma unroll 4
  for (int i = static_cast<int>(threadIdx.x); i < all; i += static_cast<int>(blockDim.x)) {
    const int row = i >> shift, at = i - (row << shift);
    float value = 0;
    if (at < width) {
      value = load_element(r.data, from + row * r.step + at * r.along, kType);
      if constexpr (kExponential) value = expf(value);
    }
    to[row * pitch + at] = value;
  }
}
/// Not inlined: what it needs of registers would be beside the state's.
template <bool kExponential>
__device__ __noinline__ void bring(float* to, int pitch, const LinearRows& r, int batch, int step, int count, long long first, int width, int shift) {
  switch (r.type) {
    case kElementFloat32: bring_as<kElementFloat32, kExponential>(to, pitch, r, batch, step, count, first, width, shift); break;
    case kElementFloat16: bring_as<kElementFloat16, kExponential>(to, pitch, r, batch, step, count, first, width, shift); break;
    default: bring_as<kElementBFloat16, kExponential>(to, pitch, r, batch, step, count, first, width, shift); break;
  }
}

/// Calls each(i, element of the row) for the keys of a lane: four neighbours, then four behind those of all other lanes.
template <class Each>
__device__ inline void for_keys(const float* row, int lane, int lanes, Each each) {
  const LinearFour* from = reinterpret_cast<const LinearFour*>(row) + lane;
#pragma unroll
  for (int j = 0; j < kLinearKeys / 4; ++j) {
    const LinearFour four = from[j * lanes];
#pragma unroll
    for (int e = 0; e < 4; ++e) each(4 * j + e, four.at[e]);
  }
}

extern __shared__ __align__(16) unsigned char linear_attention_storage[];

/// kWhole: the lanes' registers are as many as there are keys. What is behind the last key stays zero, whatever it is multiplied with.
template <bool kWhole>
__device__ inline void attend_in_registers(const LinearAttentionParams& p) {
  launch_dependents();
  const LinearPlace at(p);
  const int lane = at.lane, lanes = p.lanes, room = lanes * kLinearKeys, chunk = p.chunk, decay_room = p.decay_per_key ? room : 1;
  int shift = 0, column_shift = 0;
  while ((1 << shift) < room) ++shift;
  while ((1 << column_shift) < p.columns) ++column_shift;
  float* const keys = reinterpret_cast<float*>(linear_attention_storage);
  float* const queries = keys + chunk * room;
  float* const decays = queries + chunk * p.group * room;
  float* const values = decays + chunk * decay_room;
  float* const betas = values + chunk * p.columns;
  const auto key_of = [=](int i) { return (i / 4 * lanes + lane) * 4 + i % 4; };
  const auto is_key = [=, &p](int i) { return kWhole || key_of(i) < p.key_size; };
  wait_for_previous();
  float state[kLinearKeys];
#pragma unroll
  for (int i = 0; i < kLinearKeys; ++i) state[i] = p.past.data && at.real && is_key(i) ? load_state(p.past, at, key_of(i)) : 0.0f;
  for (int begin = 0; begin < p.steps; begin += chunk) {
    const int count = min(chunk, p.steps - begin);
    const long long first_key = static_cast<long long>(at.head) * p.key_size, first_query = first_key * p.group;
    const int first_column = at.column - at.own;
    __syncthreads();  // what was there has been read
    bring<false>(keys, room, p.key, at.batch, begin, count, first_key, p.key_size, shift);
    for (int g = 0; g < p.group; ++g)
      bring<false>(queries + g * room, p.group * room, p.query, at.batch, begin, count, first_query + static_cast<long long>(g) * p.key_size, p.key_size,
                   shift);
    bring<false>(values, p.columns, p.value, at.batch, begin, count, static_cast<long long>(at.head) * p.value_size + first_column, p.value_size - first_column,
                 column_shift);
    if (p.gated) {
      if (p.decay_per_key) bring<true>(decays, room, p.decay, at.batch, begin, count, first_key, p.key_size, shift);
      else bring<true>(decays, 1, p.decay, at.batch, begin, count, at.head, 1, 0);
    }
    if (p.delta) bring<false>(betas, 1, p.beta, at.batch, begin, count, p.beta_per_head ? at.head : 0, 1, 0);
    __syncthreads();
    for (int s = 0; s < count; ++s) {
      const float* const key = keys + s * room;
      if (p.gated) {
        if (p.decay_per_key) {
          for_keys(decays + s * room, lane, lanes, [&](int i, float factor) {
            if (is_key(i)) state[i] *= factor;
          });
        } else {
          const float factor = decays[s];
#pragma unroll
          for (int i = 0; i < kLinearKeys; ++i)
            if (is_key(i)) state[i] *= factor;
        }
      }
      float written = values[s * p.columns + at.own];
      if (p.delta) {
        float known = 0;
        for_keys(key, lane, lanes, [&](int i, float k) { known += state[i] * k; });
        written = betas[s] * (written - add_lanes(known, lanes));
      }
      for_keys(key, lane, lanes, [&](int i, float k) {
        if (is_key(i)) state[i] += k * written;
      });
      for (int g = 0; g < p.group; ++g) {
        float sum = 0;
        for_keys(queries + (s * p.group + g) * room, lane, lanes, [&](int i, float q) { sum += state[i] * q; });
        sum = add_lanes(sum, lanes);
        if (lane == 0 && at.real && p.y.data) {
          const long long column = (static_cast<long long>(at.head) * p.group + g) * p.value_size + at.column;
          store_element(p.y.data, at.batch * p.y.batch + (begin + s) * p.y.step + column * p.y.along, p.y.type, p.scale * sum);
        }
      }
    }
  }
  if (!p.present.data || !at.real) return;
#pragma unroll
  for (int i = 0; i < kLinearKeys; ++i)
    if (is_key(i)) store_state(p.present, at, key_of(i), state[i]);
}

/// A warp for each column; a lane reads and writes the elements of its own keys only.
__device__ inline void attend_in_memory(const LinearAttentionParams& p) {
  launch_dependents();
  const LinearPlace at(p);
  float* const state = p.in_memory + ((static_cast<long long>(at.batch) * p.heads + at.head) * p.value_size + at.column) * p.key_size;
  const long long first_key = static_cast<long long>(at.head) * p.key_size, first_query = first_key * p.group;
  wait_for_previous();
  if (!at.real) return;  // as a whole warp
  for (int d = at.lane; d < p.key_size; d += 32) state[d] = p.past.data ? load_state(p.past, at, d) : 0.0f;
  for (int s = 0; s < p.steps; ++s) {
    float written = load_row(p.value, at.batch, s, static_cast<long long>(at.head) * p.value_size + at.column);
    if (p.gated || p.delta) {
      const float of_head = p.gated && !p.decay_per_key ? expf(load_row(p.decay, at.batch, s, at.head)) : 1.0f;
      float known = 0;
      for (int d = at.lane; d < p.key_size; d += 32) {
        float element = state[d];
        if (p.gated) state[d] = element *= p.decay_per_key ? expf(load_row(p.decay, at.batch, s, first_key + d)) : of_head;
        if (p.delta) known += element * load_row(p.key, at.batch, s, first_key + d);
      }
      if (p.delta) written = load_row(p.beta, at.batch, s, p.beta_per_head ? at.head : 0) * (written - add_lanes(known, 32));
    }
    for (int d = at.lane; d < p.key_size; d += 32) state[d] += load_row(p.key, at.batch, s, first_key + d) * written;
    for (int g = 0; p.y.data && g < p.group; ++g) {
      float sum = 0;
      for (int d = at.lane; d < p.key_size; d += 32) sum += state[d] * load_row(p.query, at.batch, s, first_query + static_cast<long long>(g) * p.key_size + d);
      sum = add_lanes(sum, 32);
      if (at.lane == 0) {
        const long long column = (static_cast<long long>(at.head) * p.group + g) * p.value_size + at.column;
        store_element(p.y.data, at.batch * p.y.batch + s * p.y.step + column * p.y.along, p.y.type, p.scale * sum);
      }
    }
  }
  if (!p.present.data) return;
  for (int d = at.lane; d < p.key_size; d += 32) store_state(p.present, at, d, state[d]);
}

}  // namespace lathe::cuda

extern "C" __global__ void __launch_bounds__(128) linear_attention_whole(const __grid_constant__ lathe::cuda::LinearAttentionParams p) {
  lathe::cuda::attend_in_registers<true>(p);
}
extern "C" __global__ void __launch_bounds__(128) linear_attention_part(const __grid_constant__ lathe::cuda::LinearAttentionParams p) {
  lathe::cuda::attend_in_registers<false>(p);
}
extern "C" __global__ void __launch_bounds__(128) linear_attention_memory(const __grid_constant__ lathe::cuda::LinearAttentionParams p) {
  lathe::cuda::attend_in_memory(p);
}
