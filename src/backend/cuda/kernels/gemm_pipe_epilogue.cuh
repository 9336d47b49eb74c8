// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The end of a tile whose sums stay in registers, because the ring of operand tiles is already being filled for the next one. A warp
// takes slices of 16 rows x 32 columns: scale, bias, activation and residual as in epilogue.cuh, then the slice passes through 1 KB of shared
// memory of its own, so that rows leave in pieces of 16 bytes. The common ends are unrolled over the slices; one rolled copy of the code
// serves all others.

#include "backend/cuda/kernels/epilogue.cuh"

namespace lathe::cuda {

/// d -> 1 / d for four numbers of at least 1 with a finite product: one operation of the special function unit, of which a tile needs many.
__device__ inline void reciprocals(float (&d)[4]) {
  const float ab = d[0] * d[1], cd = d[2] * d[3];
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(ab * cd));
  const float r_ab = r * cd, r_cd = r * ab, a = r_ab * d[1], c = r_cd * d[3];
  d[1] = r_ab * d[0], d[3] = r_cd * d[2];
  d[0] = a, d[2] = c;
}
/// NaN where one is.
__device__ inline float larger(float x, float y) {
  float r;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(x), "f"(y));
  return r;
}
__device__ inline float exp2_fast(float x) {
  float e;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(e) : "f"(x));
  return e;
}

/// v -> f(v, 1 / denominator(v)), four at a time. A NaN must not reach a denominator: it would spoil its neighbours.
template <int kCount, class Denominator, class Function>
__device__ inline void each_over(float (&v)[kCount], Denominator denominator, Function f) {
#pragma unroll
  for (int i = 0; i < kCount; i += 4) {
    float d[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) d[k] = denominator(v[i + k]);
    reciprocals(d);
#pragma unroll
    for (int k = 0; k < 4; ++k) v[i + k] = f(v[i + k], d[k]);
  }
}
/// 1 + exp(-scale x); up to 2^31, so that the product of four is finite. fminf of a NaN is the other number.
__device__ inline float one_plus_exp(float x, float scale) { return 1.0f + exp2_fast(fminf(-1.44269504f * scale * x, 31.0f)); }

/// The activations without calls: a call would keep the compiler from giving the warp groups different numbers of registers. What is left of
/// tanh and exp near 0 is exact to 1e-7 of 1, enough for results of 16 bits.
template <int kCount>
__device__ inline void activate_inline(float (&v)[kCount], int kind, float alpha, float beta) {
  switch (kind) {
    case kActNone: break;
    case kActRelu: each(v, [](float x) { return x < 0 ? 0.0f : x; }); break;
    case kActLeakyRelu: each(v, [=](float x) { return x < 0 ? alpha * x : x; }); break;
    case kActClip: each(v, [=](float x) { return x < alpha ? alpha : x > beta ? beta : x; }); break;
    case kActHardSigmoid: each(v, [=](float x) { return __saturatef(alpha * x + beta); }); break;
    case kActHardSwish: each(v, [](float x) { return x * __saturatef(x * (1.0f / 6) + 0.5f); }); break;
    case kActSilu:
      each_over(
          v, [](float x) { return one_plus_exp(x, 1); }, [](float x, float r) { return x * r; });
      break;
    case kActSigmoid:
      each_over(
          v, [](float x) { return one_plus_exp(x, 1); }, [](float x, float r) { return x == x ? r : x; });
      break;
    case kActTanh:
      each_over(
          v, [](float x) { return one_plus_exp(x, 2); }, [](float x, float r) { return x == x ? 2 * r - 1 : x; });
      break;
    case kActGeluTanh:
      each_over(
          v, [](float x) { return one_plus_exp(1.59576912f * (x + 0.044715f * x * x * x), 1); }, [](float x, float r) { return x * r; });
      break;
    case kActGeluErf:  // as error_function() of epilogue.cuh; the part lost to x (or to 0) is even, and 0 from far before 20 on
      each_over(
          v, [](float x) { return 1.0f + 0.3275911f * 0.70710678f * fminf(fabsf(x), 20.0f); },
          [](float x, float t) {
            const float a = fminf(fabsf(x), 20.0f), p = t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
            const float lost = 0.5f * a * p * exp2_fast(-0.72134752f * a * a);
            return x < 0 ? -lost : x - lost;
          });
      break;
    case kActElu: each(v, [=](float x) { return x < 0 ? alpha * (exp2_fast(1.44269504f * x) - 1) : x; }); break;
    default:  // kActMish, see rare_activation(); 1 / (n + 2) is at least 2^-60
      each(v, [](float x) {
        const float e = exp2_fast(1.44269504f * fminf(x, 20.0f)), n = e * (e + 2);
        return x * __fdividef(n, n + 2);
      });
  }
}

__device__ inline void store_matrices(u32 to, const u32 (&r)[4]) {
#if __CUDA_ARCH__ >= 900
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(to), "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3]) : "memory");
#endif
}
__device__ inline uint4 load_shared16(u32 from) {
  uint4 v;
  asm volatile("ld.shared.v4.b32 {%0,%1,%2,%3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(from) : "memory");
  return v;
}

constexpr int kRowBuffer = 2048;  ///< bytes of shared memory of a consumer warp: two slices

/// The sums of one warp group: kM blocks of 64 rows (16 a warp) x kTileN columns, as wgmma leaves them.
template <int kType, int kM, int kTileN>
struct RegisterTile {
  static constexpr int kAcross = kTileN / 32, kSlices = kM * kAcross;
  static constexpr int kStored = kType == kProductF16 ? kElementFloat16 : kElementBFloat16;

  float sum[kM][kTileN / 2];
  uint4 ahead[2];  ///< of the residual, for the slice that comes next

  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < kM; ++i)
#pragma unroll
      for (int j = 0; j < kTileN / 2; ++j) sum[i][j] = 0;
  }

  /// Two blocks have multiplied a part of this tile's depth each. Whoever comes first leaves the warp's sums at `place` and is done (false); the
  /// other adds them to its own. `state` is 0 before and after: +1 from each that comes, +4 when the sums are there.
  __device__ bool merge(float4* place, u32* state) {
    const int lane = threadIdx.x & 31;
    u32 old = 0;
    if (lane == 0) old = atomicAdd(state, 1u);
    old = __shfl_sync(~0u, old, 0);
    place += lane;
    if (old == 0) {
#pragma unroll
      for (int i = 0; i < kM; ++i)
#pragma unroll
        for (int j = 0; j < kTileN / 8; ++j)
          __stcg(place + (i * (kTileN / 8) + j) * 32, make_float4(sum[i][j * 4], sum[i][j * 4 + 1], sum[i][j * 4 + 2], sum[i][j * 4 + 3]));
      __threadfence();
      __syncwarp();
      if (lane == 0) atomicAdd(state, 4u);
      return false;
    }
    for (u32 tries = 0; !(old & 4); ++tries) {  // the other is writing
      asm volatile("ld.acquire.gpu.u32 %0, [%1];" : "=r"(old) : "l"(state) : "memory");
      if (tries >> 24) asm volatile("trap;");  // seconds: an error rather than a device that hangs
    }
    __threadfence();
#pragma unroll
    for (int i = 0; i < kM; ++i)
#pragma unroll
      for (int j = 0; j < kTileN / 8; ++j) {
        float4 v;
        asm volatile("ld.global.cg.v4.f32 {%0,%1,%2,%3}, [%4];"
                     : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
                     : "l"(place + (i * (kTileN / 8) + j) * 32)
                     : "memory");
        sum[i][j * 4] += v.x, sum[i][j * 4 + 1] += v.y, sum[i][j * 4 + 2] += v.z, sum[i][j * 4 + 3] += v.w;
      }
    __syncwarp();
    if (lane == 0) *state = 0;
    return true;
  }

  /// The sums of slices [kEach group, + kEach): a branch per group, so that the rest exists once.
  template <int kEach, int kGroup = 0>
  __device__ void pick(float (&v)[kEach][16], int group) const {
    if ((kGroup + 1) * kEach == kSlices || group == kGroup) {
#pragma unroll
      for (int s = 0; s < kEach; ++s)
#pragma unroll
        for (int k = 0; k < 16; ++k) v[s][k] = sum[(kGroup * kEach + s) / kAcross][(kGroup * kEach + s) % kAcross * 16 + k];
    } else if constexpr ((kGroup + 1) * kEach < kSlices) {
      pick<kEach, kGroup + 1>(v, group);
    }
  }

  __device__ static bool by_pieces(const EpilogueParams& e) { return e.vectors && e.stored_type != kElementFloat32; }

  /// `row`: the warp's first. A lane's two pieces of a slice: 8 columns of rows lane / 4 and lane / 4 + 8.
  __device__ void load_residual(const GemmParams& p, const TileTarget& t, int row, int slice) {
    const int lane = threadIdx.x & 31, m = row + slice / kAcross * 64 + (lane >> 2), n = t.column + slice % kAcross * 32 + (lane & 3) * 8;
    const u16* from = static_cast<const u16*>(p.residual) + t.residual + static_cast<long long>(m) * p.residual_pixel + n;
    const bool column = n < p.columns;
    ahead[0] = column && m < p.rows ? *reinterpret_cast<const uint4*>(from) : make_uint4(0, 0, 0, 0);
    ahead[1] = column && m + 8 < p.rows ? *reinterpret_cast<const uint4*>(from + 8ll * p.residual_pixel) : make_uint4(0, 0, 0, 0);
  }
  /// Asks for what the end needs first.
  __device__ void prefetch(const GemmParams& p, const TileTarget& t, int row) {
    if (p.residual && by_pieces(p.epilogue)) load_residual(p, t, row, 0);
  }

  __device__ static float stored_value(u32 word, int half, int type) {
    if (type == kElementFloat16) return half_to_float(static_cast<u16>(half ? word >> 16 : word & 0xffffu));
    return __uint_as_float(half ? word & 0xffff0000u : word << 16);
  }
  __device__ static void store_piece(const GemmParams& p, const TileTarget& t, int m, int n, uint4 piece) {
    if (m >= p.rows || n >= p.columns) return;
    const TilePlace place = place_of(p, t);
    u16* to = static_cast<u16*>(place.c) + place.at + static_cast<long long>(m) * place.pixel + (n - t.column);
    if (n + 8 <= p.columns) {
      *reinterpret_cast<uint4*>(to) = piece;
    } else {
      const u32 words[4] = {piece.x, piece.y, piece.z, piece.w};
#pragma unroll
      for (int k = 0; k < 8; ++k)
        if (n + k < p.columns) to[k] = static_cast<u16>(words[k / 2] >> (16 * (k % 2)));
    }
  }

  /// The common ends without a branch: whole pieces of the product's own type. kAct is known; kActRelu stands for none too. kEach slices
  /// at a time, which overlap each other: all of them where it pays most.
  template <int kAct, bool kResidual, int kEach>
  __device__ void store_known(const GemmParams& p, const TileTarget& t, int row, const float* bias, u32 buffer) {
    const int lane = threadIdx.x & 31, m = row + (lane >> 2), n = t.column + (lane & 3) * 8, columns = p.columns;
    const u32 own = buffer + (lane >> 2) * 64 + (((lane & 3) ^ ((lane >> 3) & 3)) << 4);
    const u32 matrix = buffer + (lane & 7) * 64 + (((lane >> 3) ^ ((lane >> 1) & 3)) << 4);
    const float scale = p.epilogue.scale, residual_scale = p.epilogue.residual_scale;
    const bool after = p.epilogue.residual_after;
    const float floor = p.epilogue.activation == kActRelu ? 0.0f : -__int_as_float(0x7f800000);
    const TilePlace place = place_of(p, t);
    u16* c = static_cast<u16*>(place.c) + place.at + static_cast<long long>(m) * place.pixel + (lane & 3) * 8;
    const long long c_low = 8ll * place.pixel, c_block = 64ll * place.pixel;
    const float* add = bias + (lane & 3) * 2;
#pragma unroll 1
    for (int group = 0; group < kSlices / kEach; ++group) {
      float values[kEach][16];
      pick(values, kEach == kSlices ? 0 : group);
#pragma unroll
      for (int s = 0; s < kEach; ++s) {
        float(&v)[16] = values[s];
        const int slice = (kEach == kSlices ? 0 : group * kEach) + s, i = slice / kAcross, q = slice % kAcross;
        const u32 half = (s & 1) * (kRowBuffer / 2);
        u32 residual[2][4];
        if constexpr (kResidual) {
          store_shared16(own + half, ahead[0]);
          store_shared16(own + half + 512, ahead[1]);
          __syncwarp();
          load_matrices(residual[0], matrix + half);
          load_matrices(residual[1], matrix + half + 512);
          if (slice + 1 < kSlices) load_residual(p, t, row, slice + 1);
          __syncwarp();
        }
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const float2 b = *reinterpret_cast<const float2*>(add + q * 32 + j * 8);
#pragma unroll
          for (int h = 0; h < 4; ++h) v[j * 4 + h] = scale * v[j * 4 + h] + (h % 2 ? b.y : b.x);
        }
        if (kResidual && !after) {
#pragma unroll
          for (int k = 0; k < 16; ++k) v[k] += residual_scale * stored_value(residual[k / 2 % 2][k / 4], k % 2, kStored);
        }
        if constexpr (kAct == kActRelu) each(v, [=](float x) { return larger(x, floor); });
        else activate_inline(v, kAct, 0, 0);
        if (kResidual && after) {
#pragma unroll
          for (int k = 0; k < 16; ++k) v[k] += residual_scale * stored_value(residual[k / 2 % 2][k / 4], k % 2, kStored);
        }
        u32 words[2][4];
#pragma unroll
        for (int h = 0; h < 2; ++h)
#pragma unroll
          for (int j = 0; j < 4; ++j) words[h][j] = pack2(v[j * 4 + h * 2], v[j * 4 + h * 2 + 1], kStored);
        store_matrices(matrix + half, words[0]);
        store_matrices(matrix + half + 512, words[1]);
        __syncwarp();  // two places in turn: whoever writes here again has passed the next slice's barrier, after these loads
        const uint4 high = load_shared16(own + half), low = load_shared16(own + half + 512);
        u16* to = c + i * c_block + q * 32;
        if (n + q * 32 < columns) {
          if (m + i * 64 < p.rows) *reinterpret_cast<uint4*>(to) = high;
          if (m + i * 64 + 8 < p.rows) *reinterpret_cast<uint4*>(to + c_low) = low;
        }
      }
    }
  }

  __device__ void store(const GemmParams& p, const TileTarget& t, int row, const float* bias, u32 buffer) {
    const EpilogueParams& e = p.epilogue;
    if (e.vectors && e.stored_type == kStored && p.columns % 8 == 0) {
      const int act = e.activation == kActNone ? static_cast<int>(kActRelu) : e.activation;
      if (p.residual) {
        if (act == kActRelu) return store_known<kActRelu, true, 2>(p, t, row, bias, buffer);
        if (act == kActSilu) return store_known<kActSilu, true, 2>(p, t, row, bias, buffer);
      } else {
        if (act == kActRelu) return store_known<kActRelu, false, kSlices>(p, t, row, bias, buffer);
        if (act == kActSilu) return store_known<kActSilu, false, kSlices>(p, t, row, bias, buffer);
        if (act == kActGeluErf) return store_known<kActGeluErf, false, 2>(p, t, row, bias, buffer);
      }
    }
    store_any(p, t, row, bias, buffer);  // its only call: it is long
  }

  /// Everything else. `bias`: of the tile's columns, in shared memory; `buffer`: the warp's.
  __device__ void store_any(const GemmParams& p, const TileTarget& t, int row, const float* bias, u32 buffer) {
    const EpilogueParams& e = p.epilogue;
    const int lane = threadIdx.x & 31, type = e.stored_type;
    const bool pieces = by_pieces(e);
    // Rows of 64 bytes, four pieces each; the piece's place changes every second row: neither way of access meets bank conflicts.
    const u32 own = buffer + (lane >> 2) * 64 + (((lane & 3) ^ ((lane >> 3) & 3)) << 4);
    const u32 matrix = buffer + (lane & 7) * 64 + (((lane >> 3) ^ ((lane >> 1) & 3)) << 4);
#pragma unroll 1
    for (int slice = 0; slice < kSlices; ++slice) {
      float one[1][16];
      pick(one, slice);
      float(&v)[16] = one[0];
      const int m = row + slice / kAcross * 64 + (lane >> 2), across = slice % kAcross * 32;
      u32 residual[2][4];
      if (p.residual && pieces) {
        store_shared16(own, ahead[0]);
        store_shared16(own + 512, ahead[1]);
        __syncwarp();
        load_matrices(residual[0], matrix);
        load_matrices(residual[1], matrix + 512);
        if (slice + 1 < kSlices) load_residual(p, t, row, slice + 1);
      }
      // v[4 j + 2 h + k]: row lane / 4 + 8 h, column 8 j + 2 (lane % 4) + k.
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float2 add = *reinterpret_cast<const float2*>(bias + across + j * 8 + (lane & 3) * 2);
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          v[j * 4 + h * 2] = e.scale * v[j * 4 + h * 2] + add.x;
          v[j * 4 + h * 2 + 1] = e.scale * v[j * 4 + h * 2 + 1] + add.y;
        }
      }
      float other[16] = {};
      if (p.residual && pieces) {
#pragma unroll
        for (int k = 0; k < 16; ++k) other[k] = e.residual_scale * stored_value(residual[k / 2 % 2][k / 4], k % 2, type);
      } else if (p.residual) {
#pragma unroll
        for (int k = 0; k < 16; ++k) {
          const int at_m = m + k / 2 % 2 * 8, n = t.column + across + k / 4 * 8 + (lane & 3) * 2 + k % 2;
          if (at_m < p.rows && n < p.columns)
            other[k] = e.residual_scale * load_element(p.residual, t.residual + static_cast<long long>(at_m) * p.residual_pixel + n, type);
        }
      }
      if (!e.residual_after) {
#pragma unroll
        for (int k = 0; k < 16; ++k) v[k] += other[k];
      }
      activate_inline(v, e.activation, e.alpha, e.beta);
      if (e.residual_after) {
#pragma unroll
        for (int k = 0; k < 16; ++k) v[k] += other[k];
      }
      if (pieces) {
        u32 words[2][4];
#pragma unroll
        for (int h = 0; h < 2; ++h)
#pragma unroll
          for (int j = 0; j < 4; ++j) words[h][j] = pack2(v[j * 4 + h * 2], v[j * 4 + h * 2 + 1], type);
        __syncwarp();
        store_matrices(matrix, words[0]);
        store_matrices(matrix + 512, words[1]);
        __syncwarp();
        const uint4 low = load_shared16(own), high = load_shared16(own + 512);
        __syncwarp();  // all have read: the next slice may come
        const int n = t.column + across + (lane & 3) * 8;
        store_piece(p, t, m, n, low);
        store_piece(p, t, m + 8, n, high);
      } else {
#pragma unroll
        for (int k = 0; k < 16; ++k) {
          const int at_m = m + k / 2 % 2 * 8, n = t.column + across + k / 4 * 8 + (lane & 3) * 2 + k % 2;
          const TilePlace place = place_of(p, t);
          if (at_m < p.rows && n < p.columns) store_element(place.c, place.at + static_cast<long long>(at_m) * place.pixel + (n - t.column), type, v[k]);
        }
      }
    }
  }
};

}  // namespace lathe::cuda
