// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The vector type V of the AVX-512 files. Included once per ISA file, before the kernel bodies; everything is internal to that file.
// max_v(a, b) and min_v(a, b) return b when either is NaN, on every level.

// GCC 12 reports the undefined operands inside its own AVX-512 intrinsics.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#include <immintrin.h>

#include <cstdint>

namespace lathe::cpu {
namespace {

using V = __m512;
using M = __mmask16;
constexpr int kVec = 16;

[[maybe_unused]] inline V load(const float* p) { return _mm512_loadu_ps(p); }
[[maybe_unused]] inline void store(float* p, V v) { _mm512_storeu_ps(p, v); }
[[maybe_unused]] inline M first(std::int64_t n) { return static_cast<M>(n >= 16 ? 0xffffu : (1u << n) - 1u); }
[[maybe_unused]] inline V load_n(const float* p, std::int64_t n) { return _mm512_maskz_loadu_ps(first(n), p); }
[[maybe_unused]] inline void store_n(float* p, V v, std::int64_t n) { _mm512_mask_storeu_ps(p, first(n), v); }
[[maybe_unused]] inline V widen(__m256i h) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16)); }
[[maybe_unused]] inline V load(const std::uint16_t* p) { return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
[[maybe_unused]] inline V load_n(const std::uint16_t* p, std::int64_t n) { return widen(_mm256_maskz_loadu_epi16(first(n), p)); }
[[maybe_unused]] inline __m256i narrow(V v) {
  // Round to nearest even by hand: vcvtneps2bf16 flushes denormals, copies and conversions must not depend on the level.
  const __m512i u = _mm512_castps_si512(v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
  __m512i r = _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd), 16);
  const M nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  r = _mm512_mask_or_epi32(r, nan, _mm512_srli_epi32(u, 16), _mm512_set1_epi32(0x40));
  return _mm512_cvtepi32_epi16(r);
}
[[maybe_unused]] inline void store(std::uint16_t* p, V v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow(v)); }
[[maybe_unused]] inline void store_n(std::uint16_t* p, V v, std::int64_t n) { _mm256_mask_storeu_epi16(p, first(n), narrow(v)); }

[[maybe_unused]] inline V set1(float x) { return _mm512_set1_ps(x); }
[[maybe_unused]] inline V add(V a, V b) { return _mm512_add_ps(a, b); }
[[maybe_unused]] inline V sub(V a, V b) { return _mm512_sub_ps(a, b); }
[[maybe_unused]] inline V mul(V a, V b) { return _mm512_mul_ps(a, b); }
[[maybe_unused]] inline V div(V a, V b) { return _mm512_div_ps(a, b); }
[[maybe_unused]] inline V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
[[maybe_unused]] inline V fnma(V a, V b, V c) { return _mm512_fnmadd_ps(a, b, c); }
[[maybe_unused]] inline V max_v(V a, V b) { return _mm512_max_ps(a, b); }
[[maybe_unused]] inline V min_v(V a, V b) { return _mm512_min_ps(a, b); }
[[maybe_unused]] inline V abs_v(V a) { return _mm512_abs_ps(a); }
[[maybe_unused]] inline V round_v(V a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
[[maybe_unused]] inline V scale2(V a, V n) { return _mm512_scalef_ps(a, n); }  ///< a * 2^n, n whole
constexpr float kLeastExponent = -150.0f;                                      // see simd_avx2.h
struct Whole {
  V value;
};
[[maybe_unused]] inline Whole nearest_whole(V t) { return {round_v(t)}; }
[[maybe_unused]] inline V scale_by(V a, const Whole& n) { return _mm512_scalef_ps(a, n.value); }
[[maybe_unused]] inline M lt(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
[[maybe_unused]] inline M is_nan(V a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
[[maybe_unused]] inline V select(M m, V yes, V no) { return _mm512_mask_blend_ps(m, no, yes); }
[[maybe_unused]] inline V copysign_v(V magnitude, V sign) {
  return _mm512_castsi512_ps(
      _mm512_ternarylogic_epi32(_mm512_castps_si512(magnitude), _mm512_castps_si512(sign), _mm512_set1_epi32(static_cast<int>(0x80000000u)), 0xd8));
}
/// Whole exponent and mantissa in [1, 2) of positive finite values, denormals included.
[[maybe_unused]] inline V exponent_of(V a) { return _mm512_getexp_ps(a); }
[[maybe_unused]] inline V mantissa_of(V a) { return _mm512_getmant_ps(a, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_src); }
[[maybe_unused]] inline void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

/// 16 x 16 floats; strides in bytes.
[[maybe_unused]] inline void transpose16(const char* src, std::int64_t src_stride, char* dst, std::int64_t dst_stride) {
  __m512 a[16], b[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) a[i] = _mm512_loadu_ps(reinterpret_cast<const float*>(src + i * src_stride));
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
    b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {  // a[i + j]: column j of each 4-column group, rows i .. i + 3
    a[i] = _mm512_shuffle_ps(b[i], b[i + 2], 0x44);
    a[i + 1] = _mm512_shuffle_ps(b[i], b[i + 2], 0xee);
    a[i + 2] = _mm512_shuffle_ps(b[i + 1], b[i + 3], 0x44);
    a[i + 3] = _mm512_shuffle_ps(b[i + 1], b[i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const __m512 even01 = _mm512_shuffle_f32x4(a[j], a[4 + j], 0x88), odd01 = _mm512_shuffle_f32x4(a[j], a[4 + j], 0xdd);
    const __m512 even23 = _mm512_shuffle_f32x4(a[8 + j], a[12 + j], 0x88), odd23 = _mm512_shuffle_f32x4(a[8 + j], a[12 + j], 0xdd);
    b[j] = _mm512_shuffle_f32x4(even01, even23, 0x88);
    b[4 + j] = _mm512_shuffle_f32x4(odd01, odd23, 0x88);
    b[8 + j] = _mm512_shuffle_f32x4(even01, even23, 0xdd);
    b[12 + j] = _mm512_shuffle_f32x4(odd01, odd23, 0xdd);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) _mm512_storeu_ps(reinterpret_cast<float*>(dst + i * dst_stride), b[i]);
}

// Pairs of bf16 along k, one pair per 32-bit lane.
using Pairs = __m512i;
[[maybe_unused]] inline Pairs load_pairs(const char* p) { return _mm512_loadu_si512(p); }
[[maybe_unused]] inline Pairs broadcast_pair(const char* p) {
  int bits;
  __builtin_memcpy(&bits, p, 4);
  return _mm512_set1_epi32(bits);
}
[[maybe_unused]] inline V low_half(Pairs p) { return _mm512_castsi512_ps(_mm512_slli_epi32(p, 16)); }
[[maybe_unused]] inline V high_half(Pairs p) { return _mm512_castsi512_ps(_mm512_and_si512(p, _mm512_set1_epi32(static_cast<int>(0xffff0000u)))); }
#if defined(__AVX512BF16__)
#define LATHE_NATIVE_BF16 1
/// For sums of products: the instruction's own rounding, which takes denormal results for zero.
[[maybe_unused]] inline void store_sum(std::uint16_t* p, V v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v)));
}
[[maybe_unused]] inline V dot_pairs(V acc, Pairs a, Pairs b) { return _mm512_dpbf16_ps(acc, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b)); }
#endif

}  // namespace
}  // namespace lathe::cpu
