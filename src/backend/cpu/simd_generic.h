// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The vector type V of the portable files: four floats as a compiler vector (SSE2 on x86-64, NEON on aarch64); see simd_avx512.h.

#include <cstdint>

namespace lathe::cpu {
namespace {

typedef float V __attribute__((vector_size(16)));
typedef std::int32_t M __attribute__((vector_size(16)));
typedef std::uint32_t U __attribute__((vector_size(16)));
constexpr int kVec = 4;

[[maybe_unused]] inline V load(const float* p) {
  V v;
  __builtin_memcpy(&v, p, 16);
  return v;
}
[[maybe_unused]] inline void store(float* p, V v) { __builtin_memcpy(p, &v, 16); }
[[maybe_unused]] inline V load_n(const float* p, std::int64_t n) {
  if (n >= 4) return load(p);
  V v = {0, 0, 0, 0};
  for (int i = 0; i < n; ++i) v[i] = p[i];
  return v;
}
[[maybe_unused]] inline void store_n(float* p, V v, std::int64_t n) {
  if (n >= 4) return store(p, v);
  for (int i = 0; i < n; ++i) p[i] = v[i];
}
[[maybe_unused]] inline V load_n(const std::uint16_t* p, std::int64_t n) {
  U u = {0, 0, 0, 0};
  for (int i = 0; i < 4 && i < n; ++i) u[i] = static_cast<std::uint32_t>(p[i]) << 16;
  return (V)u;
}
[[maybe_unused]] inline V load(const std::uint16_t* p) { return load_n(p, 4); }
[[maybe_unused]] inline U narrow(V v) {
  const U u = (U)v;
  const U r = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  const M nan = v != v;
  return ((U)nan & ((u >> 16) | 0x40u)) | (~(U)nan & r);
}
[[maybe_unused]] inline void store_n(std::uint16_t* p, V v, std::int64_t n) {
  const U r = narrow(v);
  for (int i = 0; i < 4 && i < n; ++i) p[i] = static_cast<std::uint16_t>(r[i]);
}
[[maybe_unused]] inline void store(std::uint16_t* p, V v) { store_n(p, v, 4); }

[[maybe_unused]] inline V set1(float x) { return V{x, x, x, x}; }
[[maybe_unused]] inline V add(V a, V b) { return a + b; }
[[maybe_unused]] inline V sub(V a, V b) { return a - b; }
[[maybe_unused]] inline V mul(V a, V b) { return a * b; }
[[maybe_unused]] inline V div(V a, V b) { return a / b; }
[[maybe_unused]] inline V fma(V a, V b, V c) { return a * b + c; }
[[maybe_unused]] inline V fnma(V a, V b, V c) { return c - a * b; }
[[maybe_unused]] inline V select(M m, V yes, V no) { return (V)((m & (M)yes) | (~m & (M)no)); }
[[maybe_unused]] inline M lt(V a, V b) { return a < b; }
[[maybe_unused]] inline M is_nan(V a) { return a != a; }
[[maybe_unused]] inline V max_v(V a, V b) { return select(a > b, a, b); }
[[maybe_unused]] inline V min_v(V a, V b) { return select(a < b, a, b); }
[[maybe_unused]] inline V abs_v(V a) { return (V)((U)a & 0x7fffffffu); }
[[maybe_unused]] inline V copysign_v(V magnitude, V sign) { return (V)(((U)magnitude & 0x7fffffffu) | ((U)sign & 0x80000000u)); }
[[maybe_unused]] inline V round_v(V a) {  // values below 2^22 are rounded, larger ones are not used
  V magic = set1(12582912.0f), t = a + magic;
  asm("" : "+m"(t));  // keeps the pair of additions under any optimisation
  return t - magic;
}
[[maybe_unused]] inline M to_int(V n) { return __builtin_convertvector(n, M); }
[[maybe_unused]] inline V power2(M n) { return (V)((U)(n + 127) << 23); }
[[maybe_unused]] inline V scale2(V a, V n) {
  const M i = to_int(n), half = i >> 1;
  return a * power2(half) * power2(i - half);
}
constexpr float kLeastExponent = -127.0f;  // see simd_avx2.h
struct Whole {
  V value, power;
};
[[maybe_unused]] inline Whole nearest_whole(V t) {
  const V magic = set1(12583039.0f);
  V sum = t + magic;
  asm("" : "+m"(sum));
  return {sum - magic, (V)((U)sum << 23)};
}
[[maybe_unused]] inline V scale_by(V a, const Whole& n) { return a * n.power; }
[[maybe_unused]] inline V scale_denormal(V a, V& shift) {
  const M tiny = a < 1.17549435e-38f;
  shift = (V)(tiny & (M)set1(24.0f));
  return select(tiny, a * 16777216.0f, a);
}
[[maybe_unused]] inline V exponent_of(V a) {
  V shift;
  const M e = (M)((U)scale_denormal(a, shift) >> 23) - 127;
  return __builtin_convertvector(e, V) - shift;
}
[[maybe_unused]] inline V mantissa_of(V a) {
  V shift;
  return (V)(((U)scale_denormal(a, shift) & 0x007fffffu) | 0x3f800000u);
}
[[maybe_unused]] inline void prefetch(const void* p) { __builtin_prefetch(p); }

/// 16 x 16 floats; strides in bytes.
[[maybe_unused]] inline void transpose16(const char* src, std::int64_t src_stride, char* dst, std::int64_t dst_stride) {
  for (int c = 0; c < 16; ++c) {
    for (int r = 0; r < 16; ++r) __builtin_memcpy(dst + c * dst_stride + r * 4, src + r * src_stride + c * 4, 4);
  }
}

using Pairs = U;
[[maybe_unused]] inline Pairs load_pairs(const char* p) {
  U u;
  __builtin_memcpy(&u, p, 16);
  return u;
}
[[maybe_unused]] inline Pairs broadcast_pair(const char* p) {
  std::uint32_t bits;
  __builtin_memcpy(&bits, p, 4);
  return U{bits, bits, bits, bits};
}
[[maybe_unused]] inline V low_half(Pairs p) { return (V)(p << 16); }
[[maybe_unused]] inline V high_half(Pairs p) { return (V)(p & 0xffff0000u); }

}  // namespace
}  // namespace lathe::cpu
