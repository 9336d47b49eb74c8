// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Pooling rows, channels-last: vectors over channels, taps clipped to the image. Taps come in row-major order because the maximum of a
// NaN and a number is the later of the two, as in the runtimes that models were trained and tested with.

#include "backend/cpu/kernel_table.h"

namespace lathe::cpu {
namespace {

template <class T, class D, int kN>
inline void pool_pixel(const PoolArgs& a, const T* src, D* dst, std::int64_t n, std::int64_t ky0, std::int64_t ky1, std::int64_t kx0,
                       std::int64_t kx1, V scale) {
  V acc[kN];
  const V start = a.average ? set1(0.0f) : set1(-__builtin_inff());
#pragma GCC unroll 4
  for (int v = 0; v < kN; ++v) acc[v] = start;
  for (std::int64_t ky = ky0; ky < ky1; ++ky) {
    for (std::int64_t kx = kx0; kx < kx1; ++kx) {
      const T* x = reinterpret_cast<const T*>(reinterpret_cast<const char*>(src) + ky * a.dilation_h * a.src_row + kx * a.dilation_w * a.src_pixel);
#pragma GCC unroll 4
      for (int v = 0; v < kN; ++v) {
        const V value = kN > 1 ? load(x + v * kVec) : load_n(x, n);
        acc[v] = a.average ? add(acc[v], value) : max_v(acc[v], value);
      }
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < kN; ++v) {
    const V value = a.average ? mul(acc[v], scale) : acc[v];
    if (kN > 1) {
      store(dst + v * kVec, value);
    } else {
      store_n(dst, value, n);
    }
  }
}

template <class T, class D>
void pool_row(const PoolArgs& a) {
  auto up = [](std::int64_t x, std::int64_t y) { return (x + y - 1) / y; };
  auto clip = [&](std::int64_t begin, std::int64_t extent, std::int64_t dilation, std::int64_t taps, std::int64_t& k0, std::int64_t& k1) {
    k0 = begin < 0 ? up(-begin, dilation) : 0;
    k1 = extent > begin ? up(extent - begin, dilation) : 0;
    if (k1 > taps) k1 = taps;
    if (k0 > k1) k0 = k1;
  };
  std::int64_t ky0, ky1, py0, py1;
  clip(a.iy0, a.h, a.dilation_h, a.kh, ky0, ky1);
  clip(0, a.pad_h_end - a.iy0, a.dilation_h, a.kh, py0, py1);
  for (std::int64_t ox = 0; ox < a.ow; ++ox) {
    const std::int64_t ix = a.ix0 + ox * a.stride_w;
    std::int64_t kx0, kx1, px0, px1;
    clip(ix, a.w, a.dilation_w, a.kw, kx0, kx1);
    clip(0, a.pad_w_end - ix, a.dilation_w, a.kw, px0, px1);
    const std::int64_t taps = a.count_include_pad ? (py1 - py0) * (px1 - px0) : (ky1 - ky0) * (kx1 - kx0);
    const V scale = set1(taps > 0 ? 1.0f / static_cast<float>(taps) : 0.0f);
    const char* src = a.src + a.iy0 * a.src_row + ix * a.src_pixel;
    D* dst = reinterpret_cast<D*>(a.dst + ox * a.dst_pixel);
    std::int64_t c = 0;
    for (; c + 4 * kVec <= a.c; c += 4 * kVec) {
      pool_pixel<T, D, 4>(a, reinterpret_cast<const T*>(src) + c, dst + c, 4 * kVec, ky0, ky1, kx0, kx1, scale);
    }
    for (; c < a.c; c += kVec) {
      pool_pixel<T, D, 1>(a, reinterpret_cast<const T*>(src) + c, dst + c, a.c - c < kVec ? a.c - c : kVec, ky0, ky1, kx0, kx1, scale);
    }
  }
}

void pool(const PoolArgs& a) {
  using Half = std::uint16_t;
  if (a.src_type == DType::kFloat32) return a.dst_type == DType::kFloat32 ? pool_row<float, float>(a) : pool_row<float, Half>(a);
  return a.dst_type == DType::kFloat32 ? pool_row<Half, float>(a) : pool_row<Half, Half>(a);
}

// Sums in blocks of 256 pixels, so that the error grows with the square root of the length at most.
template <class T>
V global_sum(const GlobalPoolArgs& a, std::int64_t c, std::int64_t n) {
  V total = set1(0.0f);
  for (std::int64_t p0 = 0; p0 < a.pixels; p0 += 256) {
    const std::int64_t end = p0 + 256 < a.pixels ? p0 + 256 : a.pixels;
    V part = set1(0.0f);
    for (std::int64_t p = p0; p < end; ++p) part = add(part, load_n(reinterpret_cast<const T*>(a.src + p * a.src_pixel) + c, n));
    total = add(total, part);
  }
  return div(total, set1(static_cast<float>(a.pixels)));
}

template <class T, class D>
void global_pool_typed(const GlobalPoolArgs& a) {
  for (std::int64_t c = 0; c < a.c; c += kVec) {
    const std::int64_t n = a.c - c < kVec ? a.c - c : kVec;
    V result;
    if (a.average) {
      result = global_sum<T>(a, c, n);
    } else {
      result = set1(-__builtin_inff());
      for (std::int64_t p = 0; p < a.pixels; ++p) result = max_v(result, load_n(reinterpret_cast<const T*>(a.src + p * a.src_pixel) + c, n));
    }
    store_n(reinterpret_cast<D*>(a.dst) + c, result, n);
  }
}

void global_pool(const GlobalPoolArgs& a) {
  using Half = std::uint16_t;
  if (a.src_type == DType::kFloat32) return a.dst_type == DType::kFloat32 ? global_pool_typed<float, float>(a) : global_pool_typed<float, Half>(a);
  return a.dst_type == DType::kFloat32 ? global_pool_typed<Half, float>(a) : global_pool_typed<Half, Half>(a);
}

}  // namespace
}  // namespace lathe::cpu
