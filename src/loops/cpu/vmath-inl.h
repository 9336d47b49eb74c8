// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// float32 transcendental functions on Highway vectors. Included once per target inside HWY_NAMESPACE (no include guard of the usual
// kind). Polynomials are our own weighted least-squares fits on Chebyshev nodes, iterated towards minimax; vmath_test.cpp holds each
// function to its bound over a sweep of all exponents: exp, sigmoid, erf, log 4 ulp; tanh 4 ulp; sin, cos 4 ulp up to |x| = 8192
// (absolute 1e-6 near their zeros), beyond that the C library lane by lane.

#if defined(LATHE_LOOPS_VMATH_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef LATHE_LOOPS_VMATH_INL_H
#undef LATHE_LOOPS_VMATH_INL_H
#else
#define LATHE_LOOPS_VMATH_INL_H
#endif

#include <cmath>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lathe::loops::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

template <class D>
using Vec = hn::Vec<D>;

/// 2^n for integers n in [-126, 127].
template <class D>
HWY_INLINE Vec<D> power_of_two(D d, hn::Vec<hn::RebindToSigned<D>> n) {
  const hn::RebindToSigned<D> di;
  return hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(n, hn::Set(di, 127))));
}

/// exp(x), or exp(-x) at the same price: 2^n * p(r) with n = round(x / ln 2), |r| <= ln 2 / 2.
template <bool kNegate = false, class D>
HWY_INLINE Vec<D> vexp(D d, Vec<D> x) {
  // Outside of these bounds the result is 0 or infinity; the scaling makes both, and denormals. A NaN is the second operand of Min and
  // Max, which x86 hands on; Arm's instructions, as Highway uses them, take the number instead.
  const auto low = hn::Set(d, kNegate ? -89.0f : -104.0f), high = hn::Set(d, kNegate ? 104.0f : 89.0f);
#if !HWY_ARCH_X86 || HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
  const auto v = hn::IfThenElse(hn::IsNaN(x), x, hn::Min(high, hn::Max(low, x)));
#else
  const auto v = hn::Min(high, hn::Max(low, x));
#endif
  const auto n = hn::Round(hn::Mul(v, hn::Set(d, kNegate ? -1.44269504088896341f : 1.44269504088896341f)));
  // Of exp(-x), r is the negative of the remainder: the odd coefficients change their sign.
  auto r = kNegate ? hn::MulAdd(n, hn::Set(d, 0.693145751953125f), v) : hn::NegMulAdd(n, hn::Set(d, 0.693145751953125f), v);
  r = kNegate ? hn::MulAdd(n, hn::Set(d, 1.42860682030941723212e-6f), r) : hn::NegMulAdd(n, hn::Set(d, 1.42860682030941723212e-6f), r);
  constexpr float kSign = kNegate ? -1.0f : 1.0f;
  auto p = hn::MulAdd(hn::Set(d, 1.394111150e-3f), r, hn::Set(d, kSign * 8.363176361e-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 4.166637528e-2f));
  p = hn::MulAdd(p, r, hn::Set(d, kSign * 1.666657700e-1f));
  p = hn::MulAdd(p, r, hn::Set(d, 5.000000027e-1f));
  p = hn::MulAdd(p, r, hn::Set(d, kSign));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
#if HWY_TARGET == HWY_AVX3
  if constexpr (sizeof(Vec<D>) == 64) return Vec<D>{_mm512_scalef_ps(p.raw, n.raw)};
#endif
  const hn::RebindToSigned<D> di;
  const auto i = hn::ConvertTo(di, n);
  const auto half = hn::ShiftRight<1>(i);
  return hn::Mul(hn::Mul(p, power_of_two(d, half)), power_of_two(d, hn::Sub(i, half)));
}

template <class D>
HWY_INLINE Vec<D> vsigmoid(D d, Vec<D> x) {
  const auto one = hn::Set(d, 1.0f);
  return hn::Div(one, hn::Add(one, vexp<true>(d, x)));
}

template <class D>
HWY_INLINE Vec<D> vtanh(D d, Vec<D> x) {
  const auto a = hn::Abs(x);
  const auto z = hn::Mul(x, x);
  auto p = hn::MulAdd(hn::Set(d, -6.062231063e-3f), z, hn::Set(d, 2.097501335e-2f));
  p = hn::MulAdd(p, z, hn::Set(d, -5.384669531e-2f));
  p = hn::MulAdd(p, z, hn::Set(d, 1.333274644e-1f));
  p = hn::MulAdd(p, z, hn::Set(d, -3.333332878e-1f));
  const auto small = hn::MulAdd(hn::Mul(p, z), x, x);
  const auto one = hn::Set(d, 1.0f);
  // 1 - 2 / (exp(2a) + 1); the exponential saturates to infinity, the quotient to 0.
  const auto e = vexp(d, hn::Add(a, a));
  const auto large = hn::CopySign(hn::Sub(one, hn::Div(hn::Set(d, 2.0f), hn::Add(e, one))), x);
  return hn::IfThenElse(hn::Lt(a, hn::Set(d, 0.625f)), small, large);
}

template <class D>
HWY_INLINE Vec<D> verf(D d, Vec<D> x) {
  const auto a = hn::Min(hn::Abs(x), hn::Set(d, 4.05f));  // erf(4.05) rounds to 1
  const auto z = hn::Mul(x, x);
  auto p = hn::MulAdd(hn::Set(d, 8.362302976e-5f), z, hn::Set(d, -8.141479156e-4f));
  p = hn::MulAdd(p, z, hn::Set(d, 5.200989853e-3f));
  p = hn::MulAdd(p, z, hn::Set(d, -2.685941342e-2f));
  p = hn::MulAdd(p, z, hn::Set(d, 1.128369649e-1f));
  p = hn::MulAdd(p, z, hn::Set(d, -3.761263386e-1f));
  const auto small = hn::MulAdd(hn::MulAdd(p, z, hn::Set(d, 1.28379167e-1f)), x, x);  // x + x * (q - 1)
  auto q = hn::MulAdd(hn::Set(d, -1.862813794e-5f), a, hn::Set(d, 4.019870180e-4f));
  q = hn::MulAdd(q, a, hn::Set(d, -3.993796202e-3f));
  q = hn::MulAdd(q, a, hn::Set(d, 2.459916011e-2f));
  q = hn::MulAdd(q, a, hn::Set(d, -1.073929220e-1f));
  q = hn::MulAdd(q, a, hn::Set(d, -6.342265097e-1f));
  q = hn::MulAdd(q, a, hn::Set(d, -1.129044955f));
  q = hn::MulAdd(q, a, hn::Set(d, 7.016510572e-5f));
  const auto large = hn::CopySign(hn::Sub(hn::Set(d, 1.0f), vexp(d, q)), x);
  const auto result = hn::IfThenElse(hn::Lt(hn::Abs(x), hn::Set(d, 0.922f)), small, large);
  return hn::IfThenElse(hn::IsNaN(x), x, result);
}

template <class D>
HWY_INLINE Vec<D> vlog(D d, Vec<D> x) {
  const hn::RebindToSigned<D> di;
  const auto tiny = hn::Lt(x, hn::Set(d, 1.17549435e-38f));
  const auto scaled = hn::IfThenElse(tiny, hn::Mul(x, hn::Set(d, 8388608.0f)), x);
  // m in [sqrt(1/2), sqrt(2)): subtracting the bits of sqrt(1/2) makes the exponent field round the right way.
  const auto bits = hn::Sub(hn::BitCast(di, scaled), hn::Set(di, 0x3f3504f3));
  const auto exponent = hn::ShiftRight<23>(bits);
  const auto m = hn::BitCast(d, hn::Add(hn::And(bits, hn::Set(di, 0x007fffff)), hn::Set(di, 0x3f3504f3)));
  const auto e = hn::Sub(hn::ConvertTo(d, exponent), hn::IfThenElseZero(tiny, hn::Set(d, 23.0f)));
  const auto f = hn::Sub(m, hn::Set(d, 1.0f));
  auto p = hn::MulAdd(hn::Set(d, 7.332525474e-2f), f, hn::Set(d, -1.165999915e-1f));
  p = hn::MulAdd(p, f, hn::Set(d, 1.163469437e-1f));
  p = hn::MulAdd(p, f, hn::Set(d, -1.239669303e-1f));
  p = hn::MulAdd(p, f, hn::Set(d, 1.425115197e-1f));
  p = hn::MulAdd(p, f, hn::Set(d, -1.666915121e-1f));
  p = hn::MulAdd(p, f, hn::Set(d, 2.000068819e-1f));
  p = hn::MulAdd(p, f, hn::Set(d, -2.499998118e-1f));
  p = hn::MulAdd(p, f, hn::Set(d, 3.333333126e-1f));
  const auto ff = hn::Mul(f, f);
  auto r = hn::Mul(hn::Mul(p, ff), f);
  r = hn::MulAdd(e, hn::Set(d, -2.12194440e-4f), r);
  r = hn::NegMulAdd(hn::Set(d, 0.5f), ff, r);
  r = hn::Add(f, r);
  r = hn::MulAdd(e, hn::Set(d, 0.693359375f), r);
  const auto inf = hn::Set(d, INFINITY);
  r = hn::IfThenElse(hn::Eq(x, inf), x, r);
  r = hn::IfThenElse(hn::Eq(x, hn::Zero(d)), hn::Neg(inf), r);
  return hn::IfThenElse(hn::Ge(x, hn::Zero(d)), r, hn::Set(d, NAN));  // negative or NaN
}

/// sin (shift 0) or cos (shift 1) for |x| <= 8192.
template <int kShift, class D>
HWY_INLINE Vec<D> vsincos(D d, Vec<D> x) {
  const hn::RebindToSigned<D> di;
  const auto n = hn::Round(hn::Mul(x, hn::Set(d, 0.636619772367581343f)));
  auto r = hn::NegMulAdd(n, hn::Set(d, 1.5703125f), x);  // pi/2 in four pieces, the first three exact in products
  r = hn::NegMulAdd(n, hn::Set(d, 4.83751296997e-4f), r);
  r = hn::NegMulAdd(n, hn::Set(d, 7.54953362047672e-8f), r);
  r = hn::NegMulAdd(n, hn::Set(d, 2.56334406825708960298e-12f), r);
  const auto quadrant = hn::Add(hn::ConvertTo(di, n), hn::Set(di, kShift));
  const auto z = hn::Mul(r, r);
  auto s = hn::MulAdd(hn::Set(d, 2.724997633e-6f), z, hn::Set(d, -1.984008724e-4f));
  s = hn::MulAdd(s, z, hn::Set(d, 8.333331876e-3f));
  s = hn::MulAdd(s, z, hn::Set(d, -1.666666666e-1f));
  s = hn::MulAdd(hn::Mul(s, z), r, r);
  auto c = hn::MulAdd(hn::Set(d, -2.730057829e-7f), z, hn::Set(d, 2.480059624e-5f));
  c = hn::MulAdd(c, z, hn::Set(d, -1.388888766e-3f));
  c = hn::MulAdd(c, z, hn::Set(d, 4.166666666e-2f));
  c = hn::MulAdd(hn::Mul(c, z), z, hn::NegMulAdd(hn::Set(d, 0.5f), z, hn::Set(d, 1.0f)));
  const auto odd = hn::RebindMask(d, hn::Ne(hn::And(quadrant, hn::Set(di, 1)), hn::Zero(di)));
  const auto sign = hn::BitCast(d, hn::ShiftLeft<30>(hn::And(quadrant, hn::Set(di, 2))));
  return hn::Xor(hn::IfThenElse(odd, c, s), sign);
}

}  // namespace lathe::loops::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
