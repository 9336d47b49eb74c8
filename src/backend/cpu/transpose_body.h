// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Transposition of a block, dst[c][r] = src[r][c]: 8 x 8 elements at a time through a small buffer that the compiler vectorises, in
// an order that keeps both sides on few pages.

#include "backend/cpu/kernel_table.h"

namespace lathe::cpu {
namespace {

template <class T>
inline float to_float(T v) {
  if constexpr (sizeof(T) == 4) return v;
  const std::uint32_t bits = static_cast<std::uint32_t>(v) << 16;
  float f;
  __builtin_memcpy(&f, &bits, 4);
  return f;
}
template <class T>
inline T from_float(float f) {
  if constexpr (sizeof(T) == 4) return f;
  std::uint32_t u;
  __builtin_memcpy(&u, &f, 4);
  if ((u & 0x7fffffffu) > 0x7f800000u) return static_cast<T>((u >> 16) | 0x40u);
  return static_cast<T>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

template <class S, class D>
void transpose_typed(const TransposeArgs& t) {
  constexpr std::int64_t kB = 16;
  for (std::int64_t r0 = 0; r0 < t.rows; r0 += kB) {
    const std::int64_t nr = t.rows - r0 < kB ? t.rows - r0 : kB;
    for (std::int64_t c0 = 0; c0 < t.cols; c0 += kB) {
      const std::int64_t nc = t.cols - c0 < kB ? t.cols - c0 : kB;
      const char* src = t.src + r0 * t.src_stride;
      char* dst = t.dst + c0 * t.dst_stride;
      if constexpr (sizeof(S) == 4 && sizeof(D) == 4) {
        if (nr == kB && nc == kB) {
          transpose16(src + c0 * 4, t.src_stride, dst + r0 * 4, t.dst_stride);
          continue;
        }
      }
      for (std::int64_t c = 0; c < nc; ++c) {
        D* out = reinterpret_cast<D*>(dst + c * t.dst_stride) + r0;
        for (std::int64_t r = 0; r < nr; ++r) {
          const S value = reinterpret_cast<const S*>(src + r * t.src_stride)[c0 + c];
          if constexpr (sizeof(S) == 2 && sizeof(D) == 2) {
            out[r] = value;
          } else {
            out[r] = from_float<D>(to_float<S>(value));
          }
        }
      }
    }
  }
}

void transpose(const TransposeArgs& t) {
  if (t.src_type == DType::kFloat32) {
    return t.dst_type == DType::kFloat32 ? transpose_typed<float, float>(t) : transpose_typed<float, std::uint16_t>(t);
  }
  return t.dst_type == DType::kFloat32 ? transpose_typed<std::uint16_t, float>(t) : transpose_typed<std::uint16_t, std::uint16_t>(t);
}

template <class S>
void pair_rows_typed(const PairArgs& a) {
  const S *low = reinterpret_cast<const S*>(a.low), *high = reinterpret_cast<const S*>(a.high);
  std::uint32_t* __restrict dst = a.dst;
  const auto bits = [](S v) -> std::uint32_t {
    if constexpr (sizeof(S) == 2) {
      return v;
    } else {
      return from_float<std::uint16_t>(v);
    }
  };
  if (high) {
    for (std::int64_t c = 0; c < a.cols; ++c) dst[c] = bits(low[c]) | bits(high[c]) << 16;
  } else {
    for (std::int64_t c = 0; c < a.cols; ++c) dst[c] = bits(low[c]);
  }
}

void pair_rows(const PairArgs& a) {
  if (a.src_type == DType::kFloat32) {
    pair_rows_typed<float>(a);
  } else {
    pair_rows_typed<std::uint16_t>(a);
  }
}

}  // namespace
}  // namespace lathe::cpu
