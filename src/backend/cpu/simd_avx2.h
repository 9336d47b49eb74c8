// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The vector type V of the AVX2 files; see simd_avx512.h.

#include <immintrin.h>

#include <cstdint>

namespace lathe::cpu {
namespace {

using V = __m256;
using M = __m256;
constexpr int kVec = 8;

[[maybe_unused]] inline __m256i first(std::int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
[[maybe_unused]] inline V load(const float* p) { return _mm256_loadu_ps(p); }
[[maybe_unused]] inline void store(float* p, V v) { _mm256_storeu_ps(p, v); }
[[maybe_unused]] inline V load_n(const float* p, std::int64_t n) { return n >= 8 ? load(p) : _mm256_maskload_ps(p, first(n)); }
[[maybe_unused]] inline void store_n(float* p, V v, std::int64_t n) {
  if (n >= 8) {
    store(p, v);
  } else {
    _mm256_maskstore_ps(p, first(n), v);
  }
}
[[maybe_unused]] inline V widen(__m128i h) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16)); }
[[maybe_unused]] inline V load(const std::uint16_t* p) { return widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
[[maybe_unused]] inline V load_n(const std::uint16_t* p, std::int64_t n) {
  if (n >= 8) return load(p);
  alignas(16) std::uint16_t t[8] = {};
  for (std::int64_t i = 0; i < n; ++i) t[i] = p[i];
  return load(t);
}
[[maybe_unused]] inline __m128i narrow(V v) {
  const __m256i u = _mm256_castps_si256(v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
  const __m256i r = _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd), 16);
  const __m256i quiet = _mm256_or_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(0x40));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
  const __m256i s = _mm256_blendv_epi8(r, quiet, nan);
  return _mm_packus_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
}
[[maybe_unused]] inline void store(std::uint16_t* p, V v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow(v)); }
[[maybe_unused]] inline void store_n(std::uint16_t* p, V v, std::int64_t n) {
  if (n >= 8) return store(p, v);
  alignas(16) std::uint16_t t[8];
  store(t, v);
  for (std::int64_t i = 0; i < n; ++i) p[i] = t[i];
}

[[maybe_unused]] inline V set1(float x) { return _mm256_set1_ps(x); }
[[maybe_unused]] inline V add(V a, V b) { return _mm256_add_ps(a, b); }
[[maybe_unused]] inline V sub(V a, V b) { return _mm256_sub_ps(a, b); }
[[maybe_unused]] inline V mul(V a, V b) { return _mm256_mul_ps(a, b); }
[[maybe_unused]] inline V div(V a, V b) { return _mm256_div_ps(a, b); }
[[maybe_unused]] inline V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
[[maybe_unused]] inline V fnma(V a, V b, V c) { return _mm256_fnmadd_ps(a, b, c); }
[[maybe_unused]] inline V max_v(V a, V b) { return _mm256_max_ps(a, b); }
[[maybe_unused]] inline V min_v(V a, V b) { return _mm256_min_ps(a, b); }
[[maybe_unused]] inline V abs_v(V a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
[[maybe_unused]] inline V round_v(V a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
[[maybe_unused]] inline V power2(__m256i n) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23)); }
[[maybe_unused]] inline V scale2(V a, V n) {  // in two halves, so that results may be denormal
  const __m256i i = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(i, 1);
  return _mm256_mul_ps(_mm256_mul_ps(a, power2(half)), power2(_mm256_sub_epi32(i, half)));
}
/// The whole number next to t in [kLeastExponent, 128], and 2 to its power as a factor: adding 2^23 * 1.5 + 127 leaves the biased
/// exponent in the low bits of the sum.
constexpr float kLeastExponent = -127.0f;
struct Whole {
  V value, power;
};
[[maybe_unused]] inline Whole nearest_whole(V t) {
  const V magic = _mm256_set1_ps(12583039.0f), sum = _mm256_add_ps(t, magic);
  return {_mm256_sub_ps(sum, magic), _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(sum), 23))};
}
[[maybe_unused]] inline V scale_by(V a, const Whole& n) { return _mm256_mul_ps(a, n.power); }
[[maybe_unused]] inline M lt(V a, V b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
[[maybe_unused]] inline M is_nan(V a) { return _mm256_cmp_ps(a, a, _CMP_UNORD_Q); }
[[maybe_unused]] inline V select(M m, V yes, V no) { return _mm256_blendv_ps(no, yes, m); }
[[maybe_unused]] inline V copysign_v(V magnitude, V sign) {
  const V s = _mm256_set1_ps(-0.0f);
  return _mm256_or_ps(_mm256_andnot_ps(s, magnitude), _mm256_and_ps(s, sign));
}
[[maybe_unused]] inline V scale_denormal(V a, V& shift) {
  const V tiny = _mm256_cmp_ps(a, _mm256_set1_ps(1.17549435e-38f), _CMP_LT_OQ);
  shift = _mm256_and_ps(tiny, _mm256_set1_ps(24.0f));
  return _mm256_blendv_ps(a, _mm256_mul_ps(a, _mm256_set1_ps(16777216.0f)), tiny);
}
[[maybe_unused]] inline V exponent_of(V a) {
  V shift;
  const __m256i u = _mm256_castps_si256(scale_denormal(a, shift));
  return _mm256_sub_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_srli_epi32(u, 23), _mm256_set1_epi32(127))), shift);
}
[[maybe_unused]] inline V mantissa_of(V a) {
  V shift;
  const __m256i u = _mm256_castps_si256(scale_denormal(a, shift));
  return _mm256_castsi256_ps(_mm256_or_si256(_mm256_and_si256(u, _mm256_set1_epi32(0x007fffff)), _mm256_set1_epi32(0x3f800000)));
}
[[maybe_unused]] inline void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

[[maybe_unused]] inline void transpose8(const char* src, std::int64_t src_stride, char* dst, std::int64_t dst_stride) {
  __m256 a[8], b[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) a[i] = _mm256_loadu_ps(reinterpret_cast<const float*>(src + i * src_stride));
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
    b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    a[i] = _mm256_shuffle_ps(b[i], b[i + 2], 0x44);
    a[i + 1] = _mm256_shuffle_ps(b[i], b[i + 2], 0xee);
    a[i + 2] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0x44);
    a[i + 3] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    _mm256_storeu_ps(reinterpret_cast<float*>(dst + j * dst_stride), _mm256_permute2f128_ps(a[j], a[4 + j], 0x20));
    _mm256_storeu_ps(reinterpret_cast<float*>(dst + (4 + j) * dst_stride), _mm256_permute2f128_ps(a[j], a[4 + j], 0x31));
  }
}
/// 16 x 16 floats; strides in bytes.
[[maybe_unused]] inline void transpose16(const char* src, std::int64_t src_stride, char* dst, std::int64_t dst_stride) {
  for (int i = 0; i < 2; ++i) {
    for (int j = 0; j < 2; ++j) transpose8(src + i * 8 * src_stride + j * 32, src_stride, dst + j * 8 * dst_stride + i * 32, dst_stride);
  }
}

using Pairs = __m256i;
[[maybe_unused]] inline Pairs load_pairs(const char* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
[[maybe_unused]] inline Pairs broadcast_pair(const char* p) {
  int bits;
  __builtin_memcpy(&bits, p, 4);
  return _mm256_set1_epi32(bits);
}
[[maybe_unused]] inline V low_half(Pairs p) { return _mm256_castsi256_ps(_mm256_slli_epi32(p, 16)); }
[[maybe_unused]] inline V high_half(Pairs p) { return _mm256_castsi256_ps(_mm256_and_si256(p, _mm256_set1_epi32(static_cast<int>(0xffff0000u)))); }

}  // namespace
}  // namespace lathe::cpu
