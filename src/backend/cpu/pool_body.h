// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Pooling rows, channels-last: vectors over channels, taps clipped to the image. Taps come in row-major order because the maximum of a
// NaN and a number is the later of the two, as in the runtimes that models were trained and tested with.

#include "backend/cpu/kernel_table.h"

namespace lathe::cpu {
namespace {

struct PoolWindow {
  std::int64_t ky0, ky1, kx0, kx1;
};

template <class T, class D, bool kAverage, int kN>
inline void pool_pixel(const PoolArgs& a, const T* src, D* dst, std::int64_t n, const PoolWindow& w, V scale) {
  V acc[kN];
  const V start = kAverage ? set1(0.0f) : set1(-__builtin_inff());
#pragma GCC unroll 8
  for (int v = 0; v < kN; ++v) acc[v] = start;
  const std::int64_t row_step = a.dilation_h * a.src_row, pixel_step = a.dilation_w * a.src_pixel;
  const char* row = reinterpret_cast<const char*>(src) + w.ky0 * row_step + w.kx0 * pixel_step;
  for (std::int64_t ky = w.ky0; ky < w.ky1; ++ky, row += row_step) {
    const char* pixel = row;
    for (std::int64_t kx = w.kx0; kx < w.kx1; ++kx, pixel += pixel_step) {
      const T* x = reinterpret_cast<const T*>(pixel);
#pragma GCC unroll 8
      for (int v = 0; v < kN; ++v) {
        const V value = kN > 1 ? load(x + v * kVec) : load_n(x, n);
        acc[v] = kAverage ? add(acc[v], value) : max_v(acc[v], value);
      }
    }
  }
#pragma GCC unroll 8
  for (int v = 0; v < kN; ++v) {
    const V value = kAverage ? mul(acc[v], scale) : acc[v];
    if (kN > 1) {
      store(dst + v * kVec, value);
    } else {
      store_n(dst, value, n);
    }
  }
}

template <class T, class D, bool kAverage>
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
    const PoolWindow window{ky0, ky1, kx0, kx1};
    for (; c + 8 * kVec <= a.c; c += 8 * kVec) {
      pool_pixel<T, D, kAverage, 8>(a, reinterpret_cast<const T*>(src) + c, dst + c, 8 * kVec, window, scale);
    }
    for (; c + 2 * kVec <= a.c; c += 2 * kVec) {
      pool_pixel<T, D, kAverage, 2>(a, reinterpret_cast<const T*>(src) + c, dst + c, 2 * kVec, window, scale);
    }
    for (; c < a.c; c += kVec) {
      pool_pixel<T, D, kAverage, 1>(a, reinterpret_cast<const T*>(src) + c, dst + c, a.c - c < kVec ? a.c - c : kVec, window, scale);
    }
  }
}

template <class T, class D>
void pool_typed(const PoolArgs& a) {
  if (a.average) {
    pool_row<T, D, true>(a);
  } else {
    pool_row<T, D, false>(a);
  }
}

void pool(const PoolArgs& a) {
  using Half = std::uint16_t;
  if (a.src_type == DType::kFloat32) return a.dst_type == DType::kFloat32 ? pool_typed<float, float>(a) : pool_typed<float, Half>(a);
  return a.dst_type == DType::kFloat32 ? pool_typed<Half, float>(a) : pool_typed<Half, Half>(a);
}

// kN vectors of channels over all pixels. Sums in blocks of 256 pixels, so that the error grows with the square root of the length at most.
template <class T, class D, bool kAverage, int kN>
inline void global_channels(const GlobalPoolArgs& a, std::int64_t c, std::int64_t n) {
  V total[kN];
  const V start = kAverage ? set1(0.0f) : set1(-__builtin_inff());
#pragma GCC unroll 8
  for (int v = 0; v < kN; ++v) total[v] = start;
  const std::int64_t block = kAverage ? 256 : a.pixels;
  for (std::int64_t p0 = 0; p0 < a.pixels; p0 += block) {
    const std::int64_t end = p0 + block < a.pixels ? p0 + block : a.pixels;
    V part[kN];
#pragma GCC unroll 8
    for (int v = 0; v < kN; ++v) part[v] = start;
    for (std::int64_t p = p0; p < end; ++p) {
      const T* x = reinterpret_cast<const T*>(a.src + p * a.src_pixel) + c;
#pragma GCC unroll 8
      for (int v = 0; v < kN; ++v) {
        const V value = kN > 1 ? load(x + v * kVec) : load_n(x, n);
        part[v] = kAverage ? add(part[v], value) : max_v(part[v], value);
      }
    }
#pragma GCC unroll 8
    for (int v = 0; v < kN; ++v) total[v] = kAverage ? add(total[v], part[v]) : part[v];
  }
#pragma GCC unroll 8
  for (int v = 0; v < kN; ++v) {
    if (kAverage) total[v] = div(total[v], set1(static_cast<float>(a.pixels)));
    store_n(reinterpret_cast<D*>(a.dst) + c + v * kVec, total[v], kN > 1 ? kVec : n);
  }
}

template <class T, class D, bool kAverage>
void global_pool_kind(const GlobalPoolArgs& a) {
  std::int64_t c = 0;
  for (; c + 8 * kVec <= a.c; c += 8 * kVec) global_channels<T, D, kAverage, 8>(a, c, kVec);
  for (; c < a.c; c += kVec) global_channels<T, D, kAverage, 1>(a, c, a.c - c < kVec ? a.c - c : kVec);
}

template <class T, class D>
void global_pool_typed(const GlobalPoolArgs& a) {
  if (a.average) {
    global_pool_kind<T, D, true>(a);
  } else {
    global_pool_kind<T, D, false>(a);
  }
}

void global_pool(const GlobalPoolArgs& a) {
  using Half = std::uint16_t;
  if (a.src_type == DType::kFloat32) return a.dst_type == DType::kFloat32 ? global_pool_typed<float, float>(a) : global_pool_typed<float, Half>(a);
  return a.dst_type == DType::kFloat32 ? global_pool_typed<Half, float>(a) : global_pool_typed<Half, Half>(a);
}

}  // namespace
}  // namespace lathe::cpu
