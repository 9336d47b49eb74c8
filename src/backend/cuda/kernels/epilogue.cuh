// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What happens to a tile of float32 sums before it is stored: scale, bias, activation, residual. The tile lies in shared memory; sums of a
// split depth come from the cluster's other blocks or from device memory and are added in the order of the splits, so that a result does
// not depend on which block finished first.

#include "backend/cuda/kernels/ptx.cuh"

namespace lathe::cuda {

/// 1 / (1 + exp(-x)) in two of the special function unit's operations; to about 2e-7.
__device__ inline float sigmoid(float x) {
  float e, r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(e) : "f"(-1.44269504f * x));
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(1.0f + e));
  return r;
}

template <int kCount, class Function>
__device__ inline void each(float (&v)[kCount], Function f) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) v[i] = f(v[i]);
}

/// |error| < 2e-7 (Abramowitz and Stegun 7.1.26); no branches.
__device__ inline float error_function(float x) {
  const float a = fabsf(x), t = __fdividef(1.0f, 1.0f + 0.3275911f * a);
  const float polynomial = t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
  return copysignf(1.0f - polynomial * __expf(-a * a), x);
}

/// Rarer ones, called rather than repeated for every value of a vector: that would be most of a kernel's code.
__device__ __noinline__ float rare_activation(float x, int kind, float alpha, float beta) {
  switch (kind) {
    case kActLeakyRelu: return x < 0 ? alpha * x : x;
    case kActHardSigmoid: return __saturatef(alpha * x + beta);
    case kActGeluTanh: return x * sigmoid(1.59576912f * (x + 0.044715f * x * x * x));
    case kActTanh: return tanhf(x);
    case kActElu: return x < 0 ? alpha * expm1f(x) : x;
    default: {  // kActMish: tanh(log(1 + e)) = (e^2 + 2e) / (e^2 + 2e + 2); from 20 on it is 1 in float32
      const float e = __expf(fminf(x, 20.0f)), n = e * (e + 2);
      return x * __fdividef(n, n + 2);
    }
  }
}

/// Switches on `kind` once for all values.
template <int kCount>
__device__ inline void activate(float (&v)[kCount], int kind, float alpha, float beta) {
  switch (kind) {
    case kActNone: break;
    case kActRelu: each(v, [](float x) { return x < 0 ? 0.0f : x; }); break;  // NaN stays
    case kActClip: each(v, [=](float x) { return x < alpha ? alpha : x > beta ? beta : x; }); break;
    case kActSilu: each(v, [](float x) { return x * sigmoid(x); }); break;
    case kActSigmoid: each(v, [](float x) { return sigmoid(x); }); break;
    case kActHardSwish: each(v, [](float x) { return x * __saturatef(x * (1.0f / 6) + 0.5f); }); break;
    case kActGeluErf: each(v, [](float x) { return 0.5f * x * (1.0f + error_function(x * 0.70710678f)); }); break;
    default: each(v, [=](float x) { return rare_activation(x, kind, alpha, beta); }); break;
  }
}

template <int kCount>
__device__ inline void finish(float (&v)[kCount], const float (&bias)[kCount], const float (&residual)[kCount], const EpilogueParams& e) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) v[i] = e.scale * v[i] + bias[i] + (e.residual_after ? 0.0f : e.residual_scale * residual[i]);
  activate(v, e.activation, e.alpha, e.beta);
  if (e.residual_after) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) v[i] += e.residual_scale * residual[i];
  }
}

/// Where a tile of C lies.
struct TileTarget {
  int row, column;        ///< first of the tile
  long long c, residual;  ///< element offset of the batch item
  int bias;
};

/// The tensor that a tile of C lies in; `at`: of the tile's first column in row 0.
struct TilePlace {
  void* c;
  int pixel;
  long long at;
};
__device__ inline TilePlace place_of(const GemmParams& p, const TileTarget& t) {
  if (t.column < p.first_columns) return {p.c, p.c_pixel, t.c + t.column};
  return {p.c_second, p.c_second_pixel, t.c + t.column - p.first_columns};
}

/// The bias of the thread's column of a tile: asked for before the kernel in front has ended, put into shared memory when the sums are.
template <int kTileN>
__device__ inline float load_bias(const GemmParams& p, const TileTarget& t) {
  const int column = t.column + threadIdx.x;
  return p.bias && threadIdx.x < kTileN && column < p.columns ? p.bias[t.bias + column] : 0.0f;
}

/// Eight stored values as they come from memory: little to hold while others are on their way.
struct Stored8 {
  uint4 low, high;  // high: float32 only
  __device__ void load(const void* p, long long i, int type) {
    if (type == kElementFloat32) {
      low = reinterpret_cast<const uint4*>(static_cast<const float*>(p) + i)[0];
      high = reinterpret_cast<const uint4*>(static_cast<const float*>(p) + i)[1];
    } else {
      low = *reinterpret_cast<const uint4*>(static_cast<const u16*>(p) + i);
    }
  }
  __device__ float get(int i, int type) const {
    const u32 words[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
    if (type == kElementFloat32) return __uint_as_float(words[i]);
    const u32 w = words[i / 2];
    if (type == kElementFloat16) return half_to_float(static_cast<u16>(i % 2 ? w >> 16 : w & 0xffffu));
    return __uint_as_float(i % 2 ? w & 0xffff0000u : w << 16);
  }
};

/// Rows [first, last) of the tile of sums (rows of kTileN + 8 floats in shared memory) -> C. A thread takes several pieces at a time: the
/// residual's loads and the exponentials of all are under way together.
template <int kTileM, int kTileN, int kThreads>
__device__ inline void store_tile(const GemmParams& p, const TileTarget& t, const float* tile, const float* bias, int first, int last) {
  constexpr int kPitch = kTileN + 8;
  const EpilogueParams& e = p.epilogue;
  const int columns = min(kTileN, p.columns - t.column);
  const TilePlace place = place_of(p, t);
  last = min(last, p.rows - t.row);
  if (e.vectors) {  // rows are then a multiple of 8 elements apart, so that pieces never leave their row
    constexpr int kPieces = kTileN / 8, kEach = kTileM * kPieces / kThreads, kBatch = kEach < 4 ? kEach : 4;
#pragma unroll 1
    for (int base = first * kPieces + threadIdx.x; base < last * kPieces; base += kThreads * kBatch) {
      float v[kBatch * 8];
      Stored8 residual[kBatch];
#pragma unroll
      for (int b = 0; b < kBatch; ++b) {
        const int i = base + b * kThreads, row = i / kPieces, column = (i % kPieces) * 8;
        residual[b].low = residual[b].high = make_uint4(0, 0, 0, 0);
        if (p.residual && row < last && column < columns)
          residual[b].load(p.residual, t.residual + static_cast<long long>(t.row + row) * p.residual_pixel + t.column + column, e.stored_type);
      }
#pragma unroll
      for (int b = 0; b < kBatch; ++b) {
        const int i = base + b * kThreads, row = min(i / kPieces, kTileM - 1), column = (i % kPieces) * 8;
        float sum[8], add[8];
        load8(sum, tile, row * kPitch + column, kElementFloat32);
        load8(add, bias, column, kElementFloat32);
#pragma unroll
        for (int k = 0; k < 8; ++k) v[b * 8 + k] = e.scale * sum[k] + add[k];
      }
      if (p.residual && !e.residual_after) {
#pragma unroll
        for (int k = 0; k < kBatch * 8; ++k) v[k] += e.residual_scale * residual[k / 8].get(k % 8, e.stored_type);
      }
      activate(v, e.activation, e.alpha, e.beta);
      if (p.residual && e.residual_after) {
#pragma unroll
        for (int k = 0; k < kBatch * 8; ++k) v[k] += e.residual_scale * residual[k / 8].get(k % 8, e.stored_type);
      }
#pragma unroll
      for (int b = 0; b < kBatch; ++b) {
        const int i = base + b * kThreads, row = i / kPieces, column = (i % kPieces) * 8;
        float piece[8];
#pragma unroll
        for (int k = 0; k < 8; ++k) piece[k] = v[b * 8 + k];
        const long long at = place.at + static_cast<long long>(t.row + row) * place.pixel + column;
        if (row >= last) continue;
        if (column + 8 <= columns) {
          store8(place.c, at, e.stored_type, piece);
        } else {
#pragma unroll
          for (int k = 0; k < 8; ++k)
            if (column + k < columns) store_element(place.c, at + k, e.stored_type, piece[k]);
        }
      }
    }
    return;
  }
  constexpr int kBatch = 8;
#pragma unroll 1
  for (int base = first * kTileN + threadIdx.x; base < last * kTileN; base += kThreads * kBatch) {
    float v[kBatch], residual[kBatch];
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      const int i = base + b * kThreads, row = min(i / kTileN, kTileM - 1), column = i % kTileN;
      const bool valid = i < last * kTileN && column < columns;
      residual[b] = p.residual && valid
                        ? e.residual_scale *
                              load_element(p.residual, t.residual + static_cast<long long>(t.row + row) * p.residual_pixel + t.column + column, e.stored_type)
                        : 0.0f;
      v[b] = e.scale * tile[row * kPitch + column] + bias[column] + (e.residual_after ? 0.0f : residual[b]);
    }
    activate(v, e.activation, e.alpha, e.beta);
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      const int i = base + b * kThreads, row = i / kTileN, column = i % kTileN;
      if (i < last * kTileN && column < columns)
        store_element(place.c, place.at + static_cast<long long>(t.row + row) * place.pixel + column, e.stored_type,
                      v[b] + (e.residual_after ? residual[b] : 0.0f));
    }
  }
}

__device__ inline void add4(float4& sum, const float4& v) { sum.x += v.x, sum.y += v.y, sum.z += v.z, sum.w += v.w; }

/// The splits of a tile are one cluster of at most 8 blocks: each adds its share of the rows, read from all of them, in place.
template <int kTileN, int kThreads>
__device__ inline void add_cluster(float* tile, int splits, int first, int last) {
  constexpr int kPitch = kTileN + 8, kPieces = kTileN / 4;
  cluster_barrier();
  for (int i = first * kPieces + threadIdx.x; i < last * kPieces; i += kThreads) {
    float* at = tile + (i / kPieces) * kPitch + (i % kPieces) * 4;
    const u32 address = shared_address(at);
    float4 parts[8];
#pragma unroll
    for (int s = 0; s < 8; ++s) parts[s] = s < splits ? load_cluster16(address, s) : make_float4(0, 0, 0, 0);
    float4 sum = parts[0];
#pragma unroll
    for (int s = 1; s < 8; ++s) add4(sum, parts[s]);
    *reinterpret_cast<float4*>(at) = sum;  // no other block reads these rows
  }
  __syncwarp();
  cluster_arrive();  // nobody leaves while others read: see cluster_wait at the end
}

/// Every block leaves its sums in device memory; the last to come adds all. False for the others.
template <int kTileM, int kTileN, int kThreads>
__device__ inline bool add_partials(const GemmParams& p, float* tile, unsigned tile_index) {
  constexpr int kPitch = kTileN + 8, kPieces = kTileN / 4;
  const long long item = static_cast<long long>(blockIdx.z) * gridDim.x + tile_index;
  float4* partials = reinterpret_cast<float4*>(p.partials) + item * p.splits * (kTileM * kPieces);
  for (int i = threadIdx.x; i < kTileM * kPieces; i += kThreads)
    __stcg(partials + blockIdx.y * (kTileM * kPieces) + i, *reinterpret_cast<const float4*>(tile + (i / kPieces) * kPitch + (i % kPieces) * 4));
  __threadfence();
  __syncthreads();
  unsigned* arrived = reinterpret_cast<unsigned*>(tile);
  if (threadIdx.x == 0) *arrived = atomicAdd(p.counters + item, 1u);
  __syncthreads();
  const bool last = *arrived + 1 == static_cast<unsigned>(p.splits);
  __syncthreads();
  if (!last) return false;
  if (threadIdx.x == 0) p.counters[item] = 0;
  __threadfence();
  for (int i = threadIdx.x; i < kTileM * kPieces; i += kThreads) {
    float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll 4
    for (int s = 0; s < p.splits; ++s) add4(sum, __ldcg(partials + s * (kTileM * kPieces) + i));
    *reinterpret_cast<float4*>(tile + (i / kPieces) * kPitch + (i % kPieces) * 4) = sum;
  }
  return true;
}

/// The tile's sums stand in `tile`, its bias in `bias`; every thread of the block has passed a barrier since.
template <int kTileM, int kTileN, int kThreads>
__device__ inline void finish_tile(const GemmParams& p, const TileTarget& t, float* tile, const float* bias, unsigned tile_index) {
  int first = 0, last = kTileM;
  if (p.splits > 1) {
    if (p.cluster) {
      const int share = (kTileM + p.splits - 1) / p.splits;
      first = min(kTileM, static_cast<int>(blockIdx.y) * share);
      last = min(kTileM, first + share);
      add_cluster<kTileN, kThreads>(tile, p.splits, first, last);
    } else if (!add_partials<kTileM, kTileN, kThreads>(p, tile, tile_index)) {
      return;
    }
    __syncthreads();
  }
  store_tile<kTileM, kTileN, kThreads>(p, t, tile, bias, first, last);
  if (p.cluster) {
    __syncwarp();
    cluster_wait();
  }
}

}  // namespace lathe::cuda
