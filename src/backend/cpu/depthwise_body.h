// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Depthwise convolution of one output row: vectors run over channels, weights are fp32 [tap][channel]. Pixels whose window lies inside
// the image's width go several at a time, the others one by one with clipped taps.

#include "backend/cpu/kernel_table.h"

namespace lathe::cpu {
namespace {

inline std::int64_t div_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

template <class T, int kPixels, int kN, bool kTail>
inline void depthwise_tile(const DepthwiseArgs& d, std::int64_t ox, std::int64_t c, std::int64_t n, std::int64_t ky0, std::int64_t ky1, std::int64_t kx0,
                           std::int64_t kx1, float* out, std::int64_t out_stride) {
  V acc[kPixels][kN];
#pragma GCC unroll 8
  for (int p = 0; p < kPixels; ++p) {
#pragma GCC unroll 4
    for (int v = 0; v < kN; ++v) acc[p][v] = set1(0.0f);
  }
  const std::int64_t step = d.stride_w * d.src_pixel;
  for (std::int64_t ky = ky0; ky < ky1; ++ky) {
    const char* row = d.src + (d.iy0 + ky * d.dilation_h) * d.src_row;
    for (std::int64_t kx = kx0; kx < kx1; ++kx) {
      const char* x = row + (d.ix0 + ox * d.stride_w + kx * d.dilation_w) * d.src_pixel;
      const float* w = d.weights + (ky * d.kw + kx) * d.c + c;
      V wv[kN];
#pragma GCC unroll 4
      for (int v = 0; v < kN; ++v) wv[v] = kTail ? load_n(w + v * kVec, n) : load(w + v * kVec);
#pragma GCC unroll 8
      for (int p = 0; p < kPixels; ++p) {
        const T* px = reinterpret_cast<const T*>(x + p * step) + c;
#pragma GCC unroll 4
        for (int v = 0; v < kN; ++v) acc[p][v] = fma(kTail ? load_n(px + v * kVec, n) : load(px + v * kVec), wv[v], acc[p][v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int p = 0; p < kPixels; ++p) {
#pragma GCC unroll 4
    for (int v = 0; v < kN; ++v) store(out + (ox + p) * out_stride + v * kVec, acc[p][v]);
  }
}

template <class T, int kN, bool kTail>
void depthwise_channels(const DepthwiseArgs& d, std::int64_t c, std::int64_t n) {
  float* out = const_cast<float*>(d.epilogue.acc);
  constexpr std::int64_t kStride = kN * kVec;
  const std::int64_t ky0 = d.iy0 < 0 ? div_up(-d.iy0, d.dilation_h) : 0;
  const std::int64_t room_y = d.h - d.iy0;
  const std::int64_t last_y = room_y > 0 ? div_up(room_y, d.dilation_h) : 0;
  const std::int64_t ky1 = last_y < d.kh ? last_y : d.kh;
  // Output columns [inside, outside) have all taps within the row.
  std::int64_t inside = d.ix0 < 0 ? div_up(-d.ix0, d.stride_w) : 0;
  const std::int64_t room = d.w - 1 - (d.kw - 1) * d.dilation_w - d.ix0;
  std::int64_t outside = room < 0 ? 0 : room / d.stride_w + 1;
  if (outside > d.ow) outside = d.ow;
  if (inside > outside) inside = outside;
  auto edge = [&](std::int64_t ox) {
    const std::int64_t ix = d.ix0 + ox * d.stride_w, room_x = d.w - ix;
    const std::int64_t kx0 = ix < 0 ? div_up(-ix, d.dilation_w) : 0;
    const std::int64_t last = room_x > 0 ? div_up(room_x, d.dilation_w) : 0;
    depthwise_tile<T, 1, kN, kTail>(d, ox, c, n, ky0, ky1, kx0, last < d.kw ? last : d.kw, out, kStride);
  };
  std::int64_t ox = 0;
  for (; ox < inside; ++ox) edge(ox);
  for (; ox + 7 <= outside; ox += 7) depthwise_tile<T, 7, kN, kTail>(d, ox, c, n, ky0, ky1, 0, d.kw, out, kStride);
  for (; ox + 3 <= outside; ox += 3) depthwise_tile<T, 3, kN, kTail>(d, ox, c, n, ky0, ky1, 0, d.kw, out, kStride);
  for (; ox < d.ow; ++ox) edge(ox);

  EpilogueArgs e = d.epilogue;
  e.acc_stride = kStride;
  e.rows = d.ow;
  e.cols = n < kStride ? n : kStride;
  if (e.bias) e.bias += c;
  if (e.residual) e.residual += c * (e.residual_type == DType::kFloat32 ? 4 : 2);
  e.dst += c * (e.dst_type == DType::kFloat32 ? 4 : 2);
  epilogue(e);
}

template <class T>
void depthwise_row(const DepthwiseArgs& d) {
  std::int64_t c = 0;
  for (; c + 2 * kVec <= d.c; c += 2 * kVec) depthwise_channels<T, 2, false>(d, c, 2 * kVec);
  for (; c + kVec <= d.c; c += kVec) depthwise_channels<T, 1, false>(d, c, kVec);
  if (c < d.c) depthwise_channels<T, 1, true>(d, c, d.c - c);
}

void depthwise(const DepthwiseArgs& d) {
  if (d.src_type == DType::kFloat32) {
    depthwise_row<float>(d);
  } else {
    depthwise_row<std::uint16_t>(d);
  }
}

}  // namespace
}  // namespace lathe::cpu
