// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Fused attention on mma.sync: the scores of 16 queries a warp stay in registers, softmax runs beside the products (Milakov and Gimelshein,
// "Online normalizer calculation for softmax", 2018; Dao, "FlashAttention-2", 2023), nothing but q, k, v and the result meets memory.
//
// A block is kRowWarps x kKeyWarps warps: 16 queries for each row of warps, 64 keys a step for each column. Long sequences and full batches
// run fastest with all warps over the queries; few queries with the keys dealt to the warps, which halves or quarters the chain of steps. The
// partial results of the columns are added in a fixed order at the end.

#include "backend/cuda/kernels/ptx.cuh"
#include "regions/attention/attention_params.h"

namespace lathe::cuda {

constexpr float kLog2E = 1.44269504f;
constexpr int kKeysPerWarp = 64;

__device__ inline float infinity() { return __int_as_float(0x7f800000); }

__device__ inline float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// Rows [first, first + kCount) of a matrix of kDepth columns to shared memory: blocks of 64 columns, rows of 128 bytes, the 16-byte pieces of
/// a row at piece ^ (row & 7). What lies outside becomes zero.
template <int kCount, int kDepth, int kThreads>
__device__ inline void load_rows(u32 to, const u16* from, long long stride, int first, int limit, int depth, int vectors) {
  constexpr int kPieces = kDepth / 8, kRowStep = kThreads / kPieces;
  static_assert(kCount % kRowStep == 0 && kRowStep % 8 == 0);  // a thread stays at its piece
  const int own = threadIdx.x / kPieces, piece = threadIdx.x % kPieces, left = depth - piece * 8;
  to += (piece >> 3) * (kCount * 128) + own * 128 + (((piece & 7) ^ (own & 7)) << 4);
  from += static_cast<long long>(first + own) * stride + piece * 8;
  const int rows = limit - first - own;
  if (vectors) {
    const int bytes = left > 0 ? 16 : 0;  // whole pieces: the depth is a multiple of them
#pragma unroll
    for (int i = 0; i < kCount / kRowStep; ++i) copy16(to + i * kRowStep * 128, from + i * kRowStep * stride, i * kRowStep < rows ? bytes : 0);
    return;
  }
#pragma unroll 1
  for (int i = 0; i < kCount / kRowStep; ++i) {
    u32 packed[4] = {};
#pragma unroll
    for (int e = 0; e < 8; ++e)
      if (e < left && i * kRowStep < rows) packed[e / 2] |= static_cast<u32>(from[i * kRowStep * stride + e]) << (16 * (e & 1));
    store_shared16(to + i * kRowStep * 128, make_uint4(packed[0], packed[1], packed[2], packed[3]));
  }
}

/// The thread's scores: rows `row` and row + 8, columns first_key + 8 j and the next. The mask's type is asked once.
template <int kType, int kCount>
__device__ inline void add_mask(float (&score)[kCount][4], const AttentionParams& p, long long item, int row, int first_key) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (row + half * 8 >= p.queries) continue;
    const long long line = item + (row + half * 8) * p.mask_at.row;
#pragma unroll
    for (int j = 0; j < kCount; ++j)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int key = first_key + j * 8 + e;
        if (key < p.keys) score[j][half * 2 + e] += load_element(p.mask, line + static_cast<long long>(key) * p.mask_column, kType);
      }
  }
}

/// The scores of keys that exist, in whole groups of 16.
template <int kCount, class Visit>
__device__ inline void each_score(float (&score)[kCount][4], int keys, Visit visit) {
#pragma unroll
  for (int j = 0; j < kCount; ++j) {
    if ((j & ~1) * 8 >= keys) break;
#pragma unroll
    for (int e = 0; e < 4; ++e) visit(score[j][e], j, e);
  }
}

template <int kDepth, int kRowWarps, int kKeyWarps, int kStages>
struct AttentionMemory {
  static constexpr int kRows = 16 * kRowWarps, kKeys = kKeysPerWarp * kKeyWarps;
  static constexpr int kPitch = kDepth + 4;  ///< floats between rows of partial results
  static constexpr int kQ = kRows * kDepth * 2, kK = kKeys * kDepth * 2, kStage = 2 * kK;
};

/// A thread's part of the 16 queries of its warp: rows `first` and first + 8, of the result the columns of its fragments.
template <int kDepth>
struct WarpRows {
  float result[kDepth / 8][4], maximum[2], sum[2];
  float scale, to_exponent;
  int first;

  __device__ void start(const AttentionParams& p, int row) {
#pragma unroll
    for (int n = 0; n < kDepth / 8; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) result[n][e] = 0;
    maximum[0] = maximum[1] = -infinity();
    sum[0] = sum[1] = 0;
    first = row;
    // Without a mask scores are kept in units of log2(e). With one they are not: a mask of the largest negative number would become infinite.
    scale = p.mask ? p.scale : p.scale * kLog2E;
    to_exponent = p.mask ? kLog2E : 1.0f;
  }
};

/// The 64 keys of a warp in one step: the first one's number, its row in the tile, and how many exist from it on.
struct WarpKeys {
  int first, tile_row, count;
};

/// Scores of the warp's keys, and what they change in what was summed before. kFull: all keys exist and the head fills kDepth, so that nothing
/// is asked between the products.
template <bool kFull, int kType, int kDepth, int kKeys>
__device__ inline void add_keys(const AttentionParams& p, const WarpKeys& keys, WarpRows<kDepth>& row, long long mask_item, u32 k_tile,
                                const u32 (&queries)[kDepth / 16][4], float (&score)[kKeysPerWarp / 8][4]) {
  constexpr int kStored = kType == kProductF16 ? kElementFloat16 : kElementBFloat16;
  const int lane = threadIdx.x & 31, count = kFull ? kKeysPerWarp : keys.count;
#pragma unroll
  for (int j = 0; j < kKeysPerWarp / 8; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e) score[j][e] = 0;
#pragma unroll
  for (int s = 0; s < kDepth / 16; ++s) {
    if (!kFull && s * 16 >= p.depth) break;
#pragma unroll
    for (int j = 0; j < kKeysPerWarp / 8; j += 2) {
      if (j * 8 >= count) break;
      const int n = keys.tile_row + j * 8 + (lane & 7) + ((lane >> 4) << 3), piece = (s & 3) * 2 + ((lane >> 3) & 1);
      u32 r[4];
      load_matrices(r, k_tile + (s >> 2) * (kKeys * 128) + n * 128 + ((piece ^ (n & 7)) << 4));
      multiply<kType>(score[j], queries[s], r[0], r[1]);
      multiply<kType>(score[j + 1], queries[s], r[2], r[3]);
    }
  }

  const int first_key = keys.first + (lane & 3) * 2;
  each_score(score, count, [&](float& x, int, int) { x *= row.scale; });
  if (p.mask) {
    if (p.mask_type == kElementFloat32) add_mask<kElementFloat32>(score, p, mask_item, row.first, first_key);
    else add_mask<kStored>(score, p, mask_item, row.first, first_key);
  }
  if (!kFull && keys.count < kKeysPerWarp) {
    each_score(score, count, [&](float& x, int j, int e) {
      if (first_key + j * 8 + (e & 1) >= p.keys) x = -infinity();
    });
  }
  float largest[2] = {row.maximum[0], row.maximum[1]}, base[2];
  each_score(score, count, [&](float& x, int, int e) { largest[e >> 1] = fmaxf(largest[e >> 1], x); });
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    largest[half] = fmaxf(largest[half], __shfl_xor_sync(0xffffffffu, largest[half], 1));
    largest[half] = fmaxf(largest[half], __shfl_xor_sync(0xffffffffu, largest[half], 2));
    base[half] = largest[half] == -infinity() ? 0.0f : largest[half];  // a row that is masked so far
    const float shrink = exp2_fast((row.maximum[half] - base[half]) * row.to_exponent);
    row.maximum[half] = largest[half];
    row.sum[half] *= shrink;
#pragma unroll
    for (int n = 0; n < kDepth / 8; ++n) {
      row.result[n][half * 2] *= shrink;
      row.result[n][half * 2 + 1] *= shrink;
    }
  }
  each_score(score, count, [&](float& x, int, int e) { x -= base[e >> 1]; });
  if (p.mask) each_score(score, count, [&](float& x, int, int) { x *= kLog2E; });
  each_score(score, count, [&](float& x, int, int e) {
    x = exp2_fast(x);
    row.sum[e >> 1] += x;
  });
}

/// The warp's values, weighted by what add_keys() left in `score`.
template <bool kFull, int kType, int kDepth, int kKeys>
__device__ inline void add_values(const AttentionParams& p, const WarpKeys& keys, WarpRows<kDepth>& row, u32 v_tile,
                                  const float (&score)[kKeysPerWarp / 8][4]) {
  constexpr int kStored = kType == kProductF16 ? kElementFloat16 : kElementBFloat16;
  const int lane = threadIdx.x & 31;
#pragma unroll
  for (int s = 0; s < kKeysPerWarp / 16; ++s) {
    if (!kFull && s * 16 >= keys.count) break;
    const u32 weights[4] = {pack2(score[2 * s][0], score[2 * s][1], kStored), pack2(score[2 * s][2], score[2 * s][3], kStored),
                            pack2(score[2 * s + 1][0], score[2 * s + 1][1], kStored), pack2(score[2 * s + 1][2], score[2 * s + 1][3], kStored)};
#pragma unroll
    for (int j = 0; j < kDepth / 8; j += 2) {
      if (!kFull && j * 8 >= p.value_depth) break;
      const int line = keys.tile_row + s * 16 + (lane & 7) + (((lane >> 3) & 1) << 3), column = j * 8 + ((lane >> 4) << 3);
      u32 r[4];
      load_matrices_transposed(r, v_tile + (column >> 6) * (kKeys * 128) + line * 128 + ((((column & 63) >> 3) ^ (line & 7)) << 4));
      multiply<kType>(row.result[j], weights, r[0], r[1]);
      multiply<kType>(row.result[j + 1], weights, r[2], r[3]);
    }
  }
}

template <int kType, int kDepth, int kRowWarps, int kKeyWarps, int kStages>
__device__ inline void attention(const AttentionParams& p) {
  using Memory = AttentionMemory<kDepth, kRowWarps, kKeyWarps, kStages>;
  constexpr int kThreads = 32 * kRowWarps * kKeyWarps, kRows = Memory::kRows, kKeys = Memory::kKeys;
  constexpr int kStored = kType == kProductF16 ? kElementFloat16 : kElementBFloat16;
  extern __shared__ __align__(1024) char shared[];
  __shared__ float row_max[kKeyWarps][kRows], row_sum[kKeyWarps][kRows];
  launch_dependents();

  const unsigned outer = divide(blockIdx.y, p.batch_inner), inner = blockIdx.y - outer * p.batch_inner.divisor;
  const auto item = [&](const void* base, const AttentionStrides& at) {
    return static_cast<const u16*>(base) + static_cast<long long>(outer) * at.outer + static_cast<long long>(inner) * at.inner;
  };
  const u16 *q = item(p.q, p.q_at), *k = item(p.k, p.k_at), *v = item(p.v, p.v_at);
  const long long mask_item = static_cast<long long>(outer) * p.mask_at.outer + static_cast<long long>(inner) * p.mask_at.inner;
  const int first_query = blockIdx.x * kRows;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, row_warp = warp / kKeyWarps, key_warp = warp % kKeyWarps;
  const u32 q_tile = shared_address(shared), tiles = q_tile + Memory::kQ;
  const int steps = (p.keys + kKeys - 1) / kKeys;
  const auto load_k = [&](int step) {
    if (step < steps) load_rows<kKeys, kDepth, kThreads>(tiles + step % kStages * Memory::kStage, k, p.k_at.row, step * kKeys, p.keys, p.depth, p.vectors);
    copies_commit();
  };
  const auto load_v = [&](int step) {
    if (step < steps)
      load_rows<kKeys, kDepth, kThreads>(tiles + step % kStages * Memory::kStage + Memory::kK, v, p.v_at.row, step * kKeys, p.keys, p.value_depth, p.vectors);
    copies_commit();
  };

  wait_for_previous();
  load_rows<kRows, kDepth, kThreads>(q_tile, q, p.q_at.row, first_query, p.queries, p.depth, p.vectors);
  load_k(0);  // one group with q
  load_v(0);

  u32 queries[kDepth / 16][4];
  WarpRows<kDepth> row;
  row.start(p, first_query + row_warp * 16 + (lane >> 2));
  const bool whole = p.depth == kDepth && p.value_depth == kDepth;
  const bool active = first_query + row_warp * 16 < p.queries;  // a warp without queries loads for the others only
  for (int step = 0; step < steps; ++step) {
    const u32 k_tile = tiles + step % kStages * Memory::kStage, v_tile = k_tile + Memory::kK;
    if constexpr (kStages > 1) {
      load_k(step + 1);
      load_v(step + 1);
      copies_wait<3>();
    } else {
      copies_wait<1>();
    }
    __syncthreads();  // q and k are here
    // Of the last keys only as many groups of 16 as there are.
    const int own_keys = active ? p.keys - step * kKeys - key_warp * kKeysPerWarp : 0;
    if (step == 0) {
#pragma unroll
      for (int s = 0; s < kDepth / 16; ++s) {
        const int r = row_warp * 16 + (lane & 15), piece = (s & 3) * 2 + (lane >> 4);
        load_matrices(queries[s], q_tile + (s >> 2) * (kRows * 128) + r * 128 + ((piece ^ (r & 7)) << 4));
      }
    }
    float score[kKeysPerWarp / 8][4];
    const WarpKeys keys{step * kKeys + key_warp * kKeysPerWarp, key_warp * kKeysPerWarp, own_keys};
    const bool full = whole && own_keys >= kKeysPerWarp;
    if (full) add_keys<true, kType, kDepth, kKeys>(p, keys, row, mask_item, k_tile, queries, score);
    else if (own_keys > 0) add_keys<false, kType, kDepth, kKeys>(p, keys, row, mask_item, k_tile, queries, score);
    copies_wait<kStages == 1 ? 0 : 2>();
    __syncthreads();  // v is here
    if (full) add_values<true, kType, kDepth, kKeys>(p, keys, row, v_tile, score);
    else add_values<false, kType, kDepth, kKeys>(p, keys, row, v_tile, score);
    __syncthreads();  // the stage may be filled again
    if constexpr (kStages == 1) {
      if (step + 1 < steps) {
        load_k(step + 1);
        load_v(step + 1);
      }
    }
  }
  copies_wait<0>();

  // Partial results to shared memory, where k and v were; then every thread adds and stores eight columns at a time.
  float* partial = reinterpret_cast<float*>(shared + Memory::kQ);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float sum = row.sum[half];
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    const int r = row_warp * 16 + (lane >> 2) + half * 8;
    if ((lane & 3) == 0) {
      row_max[key_warp][r] = row.maximum[half];
      row_sum[key_warp][r] = sum;
    }
#pragma unroll
    for (int n = 0; n < kDepth / 8; ++n)
      *reinterpret_cast<float2*>(partial + (key_warp * kRows + r) * Memory::kPitch + n * 8 + (lane & 3) * 2) =
          make_float2(row.result[n][half * 2], row.result[n][half * 2 + 1]);
  }
  __syncthreads();
  u16* out = static_cast<u16*>(p.out) + static_cast<long long>(outer) * p.out_at.outer + static_cast<long long>(inner) * p.out_at.inner;
  constexpr int kPieces = kDepth / 8;
  for (int i = threadIdx.x; i < kRows * kPieces; i += kThreads) {
    const int r = i / kPieces, column = i % kPieces * 8;
    if (first_query + r >= p.queries || column >= p.value_depth) continue;
    float most = row_max[0][r];
#pragma unroll
    for (int w = 1; w < kKeyWarps; ++w) most = fmaxf(most, row_max[w][r]);
    const float common = most == -infinity() ? 0.0f : most;
    float total = 0, value[8] = {};
#pragma unroll
    for (int w = 0; w < kKeyWarps; ++w) {
      const float shrink = kKeyWarps == 1 ? 1.0f : exp2_fast((row_max[w][r] - common) * row.to_exponent);
      total += row_sum[w][r] * shrink;
      const float4* from = reinterpret_cast<const float4*>(partial + (w * kRows + r) * Memory::kPitch + column);
      const float4 a = from[0], b = from[1];
      value[0] += a.x * shrink, value[1] += a.y * shrink, value[2] += a.z * shrink, value[3] += a.w * shrink;
      value[4] += b.x * shrink, value[5] += b.y * shrink, value[6] += b.z * shrink, value[7] += b.w * shrink;
    }
    // A row whose keys are all masked by -inf is 0 / 0, as Softmax has it.
    const bool zero = p.zeroes && !(total > 0);
#pragma unroll
    for (int e = 0; e < 8; ++e) value[e] = zero ? 0.0f : __fdividef(value[e], total);
    const long long at = static_cast<long long>(first_query + r) * p.out_at.row + column;
    if (p.vectors) {
      store8(out, at, kStored, value);
    } else {
#pragma unroll
      for (int e = 0; e < 8; ++e)
        if (column + e < p.value_depth) store_element(out, at + e, kStored, value[e]);
    }
  }
}

#define LATHE_ATTENTION(type_name, type, depth, row_warps, key_warps, stages, blocks)                                       \
  extern "C" __global__ void __launch_bounds__(row_warps* key_warps * 32, blocks)                                           \
      attention_##type_name##_##depth##_##row_warps##x##key_warps(const __grid_constant__ lathe::cuda::AttentionParams p) { \
    lathe::cuda::attention<lathe::cuda::type, depth, row_warps, key_warps, stages>(p);                                      \
  }

}  // namespace lathe::cuda
