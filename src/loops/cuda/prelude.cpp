// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The CUDA C++ in front of every emitted kernel. Functions follow src/loops/scalar.h: NaN goes through min and max, integer division by
// zero gives 0, shifts beyond the width give 0. The few lines that only a GPU understands stand under LATHE_ON_HOST, so that tests can
// compile the rest for the CPU.

#include "loops/cuda/emitter.h"

namespace lathe::loops::cuda {

std::string_view device_prelude() {
  static constexpr std::string_view text = R"cuda(
typedef long long i64;
typedef unsigned long long u64;
typedef unsigned int u32;
struct half_t { unsigned short bits; };
struct bf16_t { unsigned short bits; };
#ifndef LATHE_ON_HOST
#define LATHE_BEGIN asm volatile("griddepcontrol.wait;" ::: "memory"); asm volatile("griddepcontrol.launch_dependents;");
#if __CUDA_ARCH__ < 900
#undef LATHE_BEGIN
#define LATHE_BEGIN
#endif
#define DEVICE __device__ __forceinline__
DEVICE float widen(half_t h) { float f; asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h.bits)); return f; }
DEVICE half_t to_half(float f) { half_t h; asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h.bits) : "f"(f)); return h; }
#if __CUDA_ARCH__ >= 800
DEVICE bf16_t to_bf16(float f) { bf16_t h; asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(h.bits) : "f"(f)); return h; }
#else
DEVICE bf16_t to_bf16(float f) {
  bf16_t h;
  const u32 u = __float_as_uint(f);
  h.bits = f != f ? 0x7fc0 : (unsigned short)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
  return h;
}
#endif
DEVICE float widen(bf16_t h) { return __uint_as_float((u32)h.bits << 16); }
DEVICE u32 multiply_high(u32 a, u32 b) { return __umulhi(a, b); }
DEVICE float float_of(u32 bits) { return __uint_as_float(bits); }
DEVICE double double_of(u64 bits) { return __longlong_as_double((i64)bits); }
#endif
DEVICE float widen(float x) { return x; }
DEVICE double widen(double x) { return x; }
template <class T, int V> struct __attribute__((aligned(sizeof(T) * V < 16 ? sizeof(T) * V : 16))) Pack { T v[V]; };

// Quotient of a number below 2^31 by an extent, through a multiplication.
DEVICE int divide(int n, int magic, int shift) { return (int)((multiply_high((u32)n, (u32)magic) + (u32)n) >> shift); }

template <class T> DEVICE T low(T a, T b) { return a != a ? a : b != b ? b : a < b ? a : b; }
template <class T> DEVICE T high(T a, T b) { return a != a ? a : b != b ? b : a > b ? a : b; }
template <class T> DEVICE T sign_of(T x) { return x != x ? x : (T)((x > (T)0) - (x < (T)0)); }
DEVICE float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
DEVICE double sigmoid(double x) { return 1.0 / (1.0 + exp(-x)); }
DEVICE float real_mod(float a, float b) { const float r = fmodf(a, b); return r == 0 ? copysignf(0.0f, b) : (r < 0) != (b < 0) ? r + b : r; }
DEVICE double real_mod(double a, double b) { const double r = fmod(a, b); return r == 0 ? copysign(0.0, b) : (r < 0) != (b < 0) ? r + b : r; }

template <class T> DEVICE T whole_div(T a, T b) { return b == 0 ? (T)0 : (T)-1 < (T)0 && b == (T)-1 ? (T)(0 - (u64)a) : (T)(a / b); }
template <class T> DEVICE T whole_floordiv(T a, T b) {
  if (b == 0) return 0;
  if ((T)-1 < (T)0 && b == (T)-1) return (T)(0 - (u64)a);
  return (T)(a / b - (a % b != 0 && (a < 0) != (b < 0)));
}
template <class T> DEVICE T whole_mod(T a, T b) {
  if (b == 0 || ((T)-1 < (T)0 && b == (T)-1)) return 0;
  const T r = (T)(a % b);
  return r != 0 && (r < 0) != (b < 0) ? (T)(r + b) : r;
}
template <class T> DEVICE T whole_fmod(T a, T b) { return b == 0 || ((T)-1 < (T)0 && b == (T)-1) ? (T)0 : (T)(a % b); }
template <class T> DEVICE T whole_pow(T base, T exponent) {
  if (exponent < 0) return base == 1 ? (T)1 : base == (T)-1 ? (exponent % 2 ? (T)-1 : (T)1) : (T)0;
  u64 result = 1, b = (u64)(i64)base;
  for (u64 e = (u64)exponent; e; e >>= 1, b *= b)
    if (e & 1) result *= b;
  return (T)result;
}
template <class T> DEVICE T shift_left(T a, T b) { return b < 0 || b > 63 ? (T)0 : (T)((u64)(i64)a << (int)b); }
template <class T> DEVICE T shift_right(T a, T b) { return b < 0 || b > 63 ? ((T)-1 < (T)0 && a < 0 ? (T)-1 : (T)0) : (T)((T)-1 < (T)0 ? (u64)((i64)a >> (int)b) : (u64)a >> (int)b); }

// Float to integer: NaN is 0, the rest saturates at 64 bits and is then cut to the type.
DEVICE i64 to_i64(double x) { return x != x ? 0 : x >= 9223372036854775808.0 ? 9223372036854775807LL : x <= -9223372036854775808.0 ? (-9223372036854775807LL - 1) : (i64)x; }
DEVICE u64 to_u64(double x) { return x >= 18446744073709551616.0 ? ~0ull : x >= 9223372036854775808.0 ? (u64)x : (u64)to_i64(x); }

// Position of an extreme: NaN ranks first; of equals the earlier (or, with `last`, the later) position. -1: nothing seen yet.
template <class T> struct Best { T value; i64 at; };
template <bool kMax, bool kLast, class T> DEVICE Best<T> best_of(Best<T> a, Best<T> b) {
  if (a.at < 0) return b;
  if (b.at < 0) return a;
  const bool na = a.value != a.value, nb = b.value != b.value;
  if (na != nb) return na ? a : b;
  if (!na && a.value != b.value) return (kMax ? a.value > b.value : a.value < b.value) ? a : b;
  return (a.at < b.at) != kLast ? a : b;
}
)cuda";
  return text;
}

}  // namespace lathe::loops::cuda
