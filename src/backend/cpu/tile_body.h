// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The register tile that convolution and matrix product share, instantiated per ISA file for each height. On Zen 4 every height from
// 4 rows x 2 units on keeps the multipliers busy, so a row of pixels is cut into equal tiles and no tile is padded.

#include "backend/cpu/kernel_table.h"

namespace lathe::cpu {
namespace {

constexpr int kUnitVecs = 16 / kVec;

struct DotF32 {
  using W = V;
  static W weights(const char* p) { return load(reinterpret_cast<const float*>(p)); }
  template <int kN>
  static void row(const char* a, const W* w, V* acc) {
    float x;
    __builtin_memcpy(&x, a, 4);
    const V v = set1(x);
#pragma GCC unroll 8
    for (int n = 0; n < kN; ++n) acc[n] = fma(v, w[n], acc[n]);
  }
};

#if defined(LATHE_NATIVE_BF16)
struct DotBf16 {
  using W = Pairs;
  static W weights(const char* p) { return load_pairs(p); }
  template <int kN>
  static void row(const char* a, const W* w, V* acc) {
    const Pairs v = broadcast_pair(a);
#pragma GCC unroll 8
    for (int n = 0; n < kN; ++n) acc[n] = dot_pairs(acc[n], v, w[n]);
  }
};
#else
// bf16 storage, fp32 arithmetic: both halves of each pair become floats by a shift and a mask.
struct DotBf16 {
  struct W {
    V low, high;
  };
  static W weights(const char* p) {
    const Pairs w = load_pairs(p);
    return {low_half(w), high_half(w)};
  }
  template <int kN>
  static void row(const char* a, const W* w, V* acc) {
    const Pairs v = broadcast_pair(a);
    const V low = low_half(v), high = high_half(v);
#pragma GCC unroll 8
    for (int n = 0; n < kN; ++n) acc[n] = fma(high, w[n].high, fma(low, w[n].low, acc[n]));
  }
};
#endif

// Row m of a half tile lies m strides after its start; written so that three registers (s, 3s, 5s) address all of them.
template <int kM>
inline const char* row_address(const char* half, std::int64_t s, std::int64_t s3, std::int64_t s5) {
  if constexpr (kM == 0) return half;
  if constexpr (kM == 1) return half + s;
  if constexpr (kM == 2) return half + s * 2;
  if constexpr (kM == 3) return half + s3;
  if constexpr (kM == 4) return half + s * 4;
  if constexpr (kM == 5) return half + s5;
  return half + s3 * 2;
}

template <class Dot, int kRows, int kN, int kRow>
inline void tile_rows(const char* p, const char* q, std::int64_t s, std::int64_t s3, std::int64_t s5, const typename Dot::W* w, V (*acc)[kN]) {
  if constexpr (kRow < kRows) {
    constexpr int kHalf = (kRows + 1) / 2;
    if constexpr (kRow < kHalf) {
      Dot::template row<kN>(row_address<kRow>(p, s, s3, s5), w, acc[kRow]);
    } else {
      Dot::template row<kN>(row_address<kRow - kHalf>(q, s, s3, s5), w, acc[kRow]);
    }
    tile_rows<Dot, kRows, kN, kRow + 1>(p, q, s, s3, s5, w, acc);
  }
}

template <class Dot, int kRows, int kUnits>
void tile(const TileArgs& t) {
  constexpr int kN = kUnits * kUnitVecs;
  const std::int64_t s = t.a_stride, s3 = 3 * s, s5 = 5 * s, ws = t.w_stride, wu = t.w_unit, second = t.a1 - t.a0, bytes = t.k * 4;
  const char* a = t.a0;
  float* out = t.acc;
  for (std::int64_t left = t.tiles; left > 0; --left, a += t.tile_step, out += kRows * t.acc_stride) {
    V acc[kRows][kN];
#pragma GCC unroll 16
    for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 8
      for (int n = 0; n < kN; ++n) acc[m][n] = set1(0.0f);
    }
    const char* w = t.w;
    for (std::int64_t o = 0; o < t.outer; ++o) {
      for (std::int64_t i = 0; i < t.inner; ++i) {
        const char* p = a + o * t.outer_stride + i * t.inner_stride;
        const char* q = p + second;
        const char* const end = p + bytes;
        do {
          asm("" : "+r"(p), "+r"(q));  // two running pointers, no fourteen
          typename Dot::W wv[kN];
#pragma GCC unroll 8
          for (int n = 0; n < kN; ++n) wv[n] = Dot::weights(w + n / kUnitVecs * wu + n % kUnitVecs * kVec * 4);
          tile_rows<Dot, kRows, kN, 0>(p, q, s, s3, s5, wv, acc);
          p += 4;
          q += 4;
          w += ws;
        } while (p != end);
      }
    }
    if (t.accumulate) {
#pragma GCC unroll 16
      for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 8
        for (int n = 0; n < kN; ++n) acc[m][n] = acc[m][n] + load(out + m * t.acc_stride + n * kVec);
      }
    }
#pragma GCC unroll 16
    for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 8
      for (int n = 0; n < kN; ++n) store(out + m * t.acc_stride + n * kVec, acc[m][n]);
    }
  }
}

template <class Dot, int kUnits, int kRows>
constexpr void fill_tiles(TileFn (&table)[kMaxUnits + 1][kMaxTileRows + 1]) {
  if constexpr (kRows > 0) {
    table[kUnits][kRows] = tile<Dot, kRows, kUnits>;
    fill_tiles<Dot, kUnits, kRows - 1>(table);
  }
}

}  // namespace
}  // namespace lathe::cpu
