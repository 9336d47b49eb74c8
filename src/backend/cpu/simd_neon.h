// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The vector type V of the NEON files (64-bit Arm, every machine of it); see simd_avx512.h.

#include <arm_neon.h>

#include <cstdint>

namespace lathe::cpu {
namespace {

using V = float32x4_t;
using M = uint32x4_t;
constexpr int kVec = 4;

[[maybe_unused]] inline V load(const float* p) { return vld1q_f32(p); }
[[maybe_unused]] inline void store(float* p, V v) { vst1q_f32(p, v); }
[[maybe_unused]] inline V load_n(const float* p, std::int64_t n) {
  if (n >= 4) return load(p);
  V v = vdupq_n_f32(0);
  if (n > 0) v = vsetq_lane_f32(p[0], v, 0);
  if (n > 1) v = vsetq_lane_f32(p[1], v, 1);
  if (n > 2) v = vsetq_lane_f32(p[2], v, 2);
  return v;
}
[[maybe_unused]] inline void store_n(float* p, V v, std::int64_t n) {
  if (n >= 4) return store(p, v);
  if (n > 0) p[0] = vgetq_lane_f32(v, 0);
  if (n > 1) p[1] = vgetq_lane_f32(v, 1);
  if (n > 2) p[2] = vgetq_lane_f32(v, 2);
}
[[maybe_unused]] inline V load(const std::uint16_t* p) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16)); }
[[maybe_unused]] inline V load_n(const std::uint16_t* p, std::int64_t n) {
  if (n >= 4) return load(p);
  std::uint16_t t[4] = {};
  for (std::int64_t i = 0; i < n; ++i) t[i] = p[i];
  return load(t);
}
[[maybe_unused]] inline uint16x4_t narrow(V v) {
  const uint32x4_t u = vreinterpretq_u32_f32(v), odd = vandq_u32(vshrq_n_u32(u, 16), vdupq_n_u32(1));
  const uint32x4_t rounded = vaddq_u32(vaddq_u32(u, vdupq_n_u32(0x7fff)), odd), quiet = vorrq_u32(u, vdupq_n_u32(0x400000));
  return vshrn_n_u32(vbslq_u32(vceqq_f32(v, v), rounded, quiet), 16);
}
[[maybe_unused]] inline void store(std::uint16_t* p, V v) { vst1_u16(p, narrow(v)); }
[[maybe_unused]] inline void store_n(std::uint16_t* p, V v, std::int64_t n) {
  if (n >= 4) return store(p, v);
  std::uint16_t t[4];
  store(t, v);
  for (std::int64_t i = 0; i < n; ++i) p[i] = t[i];
}

[[maybe_unused]] inline V set1(float x) { return vdupq_n_f32(x); }
[[maybe_unused]] inline V add(V a, V b) { return vaddq_f32(a, b); }
[[maybe_unused]] inline V sub(V a, V b) { return vsubq_f32(a, b); }
[[maybe_unused]] inline V mul(V a, V b) { return vmulq_f32(a, b); }
[[maybe_unused]] inline V div(V a, V b) { return vdivq_f32(a, b); }
[[maybe_unused]] inline V fma(V a, V b, V c) { return vfmaq_f32(c, a, b); }
[[maybe_unused]] inline V fnma(V a, V b, V c) { return vfmsq_f32(c, a, b); }
[[maybe_unused]] inline V select(M m, V yes, V no) { return vbslq_f32(m, yes, no); }
[[maybe_unused]] inline M lt(V a, V b) { return vcltq_f32(a, b); }
[[maybe_unused]] inline M is_nan(V a) { return vmvnq_u32(vceqq_f32(a, a)); }
// Not FMAX and FMIN: they give NaN for a NaN in either place, and +0 for zeros of both signs.
[[maybe_unused]] inline V max_v(V a, V b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
[[maybe_unused]] inline V min_v(V a, V b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
[[maybe_unused]] inline V abs_v(V a) { return vabsq_f32(a); }
[[maybe_unused]] inline V copysign_v(V magnitude, V sign) { return vbslq_f32(vdupq_n_u32(0x80000000u), sign, magnitude); }
[[maybe_unused]] inline V round_v(V a) { return vrndnq_f32(a); }
[[maybe_unused]] inline V power2(int32x4_t n) { return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23)); }
[[maybe_unused]] inline V scale2(V a, V n) {  // in two halves, so that results may be denormal
  const int32x4_t i = vcvtq_s32_f32(n), half = vshrq_n_s32(i, 1);
  return mul(mul(a, power2(half)), power2(vsubq_s32(i, half)));
}
constexpr float kLeastExponent = -127.0f;  // see simd_avx2.h
struct Whole {
  V value, power;
};
[[maybe_unused]] inline Whole nearest_whole(V t) {
  const V value = vrndnq_f32(t);
  return {value, power2(vcvtq_s32_f32(value))};
}
[[maybe_unused]] inline V scale_by(V a, const Whole& n) { return mul(a, n.power); }
[[maybe_unused]] inline V scale_denormal(V a, V& shift) {
  const M tiny = vcltq_f32(a, set1(1.17549435e-38f));
  shift = vreinterpretq_f32_u32(vandq_u32(tiny, vreinterpretq_u32_f32(set1(24.0f))));
  return select(tiny, mul(a, set1(16777216.0f)), a);
}
[[maybe_unused]] inline V exponent_of(V a) {
  V shift;
  const uint32x4_t u = vreinterpretq_u32_f32(scale_denormal(a, shift));
  return sub(vcvtq_f32_s32(vsubq_s32(vreinterpretq_s32_u32(vshrq_n_u32(u, 23)), vdupq_n_s32(127))), shift);
}
[[maybe_unused]] inline V mantissa_of(V a) {
  V shift;
  const uint32x4_t u = vreinterpretq_u32_f32(scale_denormal(a, shift));
  return vreinterpretq_f32_u32(vorrq_u32(vandq_u32(u, vdupq_n_u32(0x007fffff)), vdupq_n_u32(0x3f800000)));
}
[[maybe_unused]] inline void prefetch(const void* p) { __builtin_prefetch(p); }

/// 16 x 16 floats; strides in bytes.
[[maybe_unused]] inline void transpose16(const char* src, std::int64_t src_stride, char* dst, std::int64_t dst_stride) {
  for (int r = 0; r < 16; r += 4) {
    for (int c = 0; c < 16; c += 4) {
      const char* from = src + r * src_stride + c * 4;
      char* to = dst + c * dst_stride + r * 4;
      float64x2_t pairs[4];  // columns 0 and 2 of rows 0, 1; columns 1 and 3; the same of rows 2, 3
      for (int half = 0; half < 2; ++half) {
        const V a = vld1q_f32(reinterpret_cast<const float*>(from + 2 * half * src_stride));
        const V b = vld1q_f32(reinterpret_cast<const float*>(from + (2 * half + 1) * src_stride));
        pairs[2 * half] = vreinterpretq_f64_f32(vtrn1q_f32(a, b));
        pairs[2 * half + 1] = vreinterpretq_f64_f32(vtrn2q_f32(a, b));
      }
      for (int odd = 0; odd < 2; ++odd) {
        vst1q_f32(reinterpret_cast<float*>(to + odd * dst_stride), vreinterpretq_f32_f64(vtrn1q_f64(pairs[odd], pairs[2 + odd])));
        vst1q_f32(reinterpret_cast<float*>(to + (2 + odd) * dst_stride), vreinterpretq_f32_f64(vtrn2q_f64(pairs[odd], pairs[2 + odd])));
      }
    }
  }
}

using Pairs = uint32x4_t;
[[maybe_unused]] inline Pairs load_pairs(const char* p) { return vreinterpretq_u32_u8(vld1q_u8(reinterpret_cast<const std::uint8_t*>(p))); }
[[maybe_unused]] inline Pairs broadcast_pair(const char* p) {
  std::uint32_t bits;
  __builtin_memcpy(&bits, p, 4);
  return vdupq_n_u32(bits);
}
[[maybe_unused]] inline V low_half(Pairs p) { return vreinterpretq_f32_u32(vshlq_n_u32(p, 16)); }
[[maybe_unused]] inline V high_half(Pairs p) { return vreinterpretq_f32_u32(vandq_u32(p, vdupq_n_u32(0xffff0000u))); }

}  // namespace
}  // namespace lathe::cpu
