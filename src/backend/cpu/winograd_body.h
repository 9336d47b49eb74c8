// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Winograd transforms F(2x2,3x3) and F(4x4,3x3), vectors over channels. Interpolation points 0, 1, -1, inf and 0, 1, -1, 2, -2, inf
// (Lavin and Gray, 2015).

#include "backend/cpu/kernel_table.h"

namespace lathe::cpu {
namespace {

template <int kM>
struct Winograd;

template <>
struct Winograd<2> {
  static constexpr int kTile = 4;
  static inline void input(const V* d, V* o, int s) {
    o[0 * s] = sub(d[0 * s], d[2 * s]);
    o[3 * s] = sub(d[1 * s], d[3 * s]);
    const V d1 = d[1 * s], d2 = d[2 * s];
    o[1 * s] = add(d1, d2);
    o[2 * s] = sub(d2, d1);
  }
  static inline void output(const V* m, V* o, int s_in, int s_out) {
    const V m1 = m[1 * s_in], m2 = m[2 * s_in];
    const V sum = add(m1, m2), dif = sub(m1, m2);
    o[0 * s_out] = add(m[0 * s_in], sum);
    o[1 * s_out] = sub(dif, m[3 * s_in]);
  }
};

template <>
struct Winograd<4> {
  static constexpr int kTile = 6;
  static inline void input(const V* d, V* o, int s) {
    const V d0 = d[0 * s], d1 = d[1 * s], d2 = d[2 * s], d3 = d[3 * s], d4 = d[4 * s], d5 = d[5 * s];
    const V four = set1(4.0f), five = set1(5.0f), two = set1(2.0f);
    const V a = fnma(four, d2, d4), b = fnma(four, d1, d3);
    const V c = sub(d4, d2), e = sub(d3, d1);
    o[0 * s] = fma(four, d0, fnma(five, d2, d4));
    o[1 * s] = add(a, b);
    o[2 * s] = sub(a, b);
    o[3 * s] = fma(two, e, c);
    o[4 * s] = fnma(two, e, c);
    o[5 * s] = fma(four, d1, fnma(five, d3, d5));
  }
  static inline void output(const V* m, V* o, int s_in, int s_out) {
    const V m1 = m[1 * s_in], m2 = m[2 * s_in], m3 = m[3 * s_in], m4 = m[4 * s_in];
    const V s1 = add(m1, m2), d1 = sub(m1, m2), s2 = add(m3, m4), d2 = sub(m3, m4);
    o[0 * s_out] = add(add(m[0 * s_in], s1), s2);
    o[1 * s_out] = fma(set1(2.0f), d2, d1);
    o[2 * s_out] = fma(set1(4.0f), s2, s1);
    o[3 * s_out] = add(fma(set1(8.0f), d2, d1), m[5 * s_in]);
  }
};

template <int kM, class T>
void winograd_input_typed(const WinogradInput& a) {
  constexpr int kT = Winograd<kM>::kTile;
  for (std::int64_t c = 0; c < a.c_padded; c += kVec) {
    V d[kT * kT];
    const std::int64_t n = a.c - c;
    if (n >= kVec) {
#pragma GCC unroll 36
      for (int i = 0; i < kT * kT; ++i) d[i] = load(reinterpret_cast<const T*>(a.pixels[i]) + c);
    } else {
      for (int i = 0; i < kT * kT; ++i) d[i] = n > 0 ? load_n(reinterpret_cast<const T*>(a.pixels[i]) + c, n) : set1(0.0f);
    }
#pragma GCC unroll 6
    for (int x = 0; x < kT; ++x) Winograd<kM>::input(d + x, d + x, kT);
#pragma GCC unroll 6
    for (int y = 0; y < kT; ++y) Winograd<kM>::input(d + y * kT, d + y * kT, 1);
#pragma GCC unroll 36
    for (int i = 0; i < kT * kT; ++i) store(a.dst + i * a.plane + c, d[i]);
  }
}

template <int kM>
void winograd_input(const WinogradInput& a) {
  if (a.type == DType::kFloat32) {
    winograd_input_typed<kM, float>(a);
  } else {
    winograd_input_typed<kM, std::uint16_t>(a);
  }
}

template <int kM>
void winograd_output(const WinogradOutput& a) {
  constexpr int kT = Winograd<kM>::kTile;
  for (std::int64_t c = 0; c < a.units * 16; c += kVec) {
    V half[kM * kT], out[kM * kM];
#pragma GCC unroll 6
    for (int x = 0; x < kT; ++x) {
      V column[kT];
#pragma GCC unroll 6
      for (int y = 0; y < kT; ++y) column[y] = load(a.src + (y * kT + x) * a.plane + c);
      Winograd<kM>::output(column, half + x, 1, kT);
    }
#pragma GCC unroll 4
    for (int y = 0; y < kM; ++y) Winograd<kM>::output(half + y * kT, out + y * kM, 1, 1);
#pragma GCC unroll 16
    for (int i = 0; i < kM * kM; ++i) store(a.dst + i * a.dst_stride + c, out[i]);
  }
}

}  // namespace
}  // namespace lathe::cpu
