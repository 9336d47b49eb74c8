// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Vector mathematics over the V of a simd_*.h (include that first). Bounds, held by epilogue_test.cpp on every level: exp_v 2 ulp and
// log_v 2 ulp (4 without FMA), over all floats; sigmoid_v, tanh_v, erf_v 3e-7 absolute; tanh_v also 4 ulp near 0. NaN gives NaN; overflow
// gives infinity, underflow denormals or zero. Polynomials: own weighted least-squares minimax fits.

#include <cstdint>

namespace lathe::cpu {
namespace {

[[maybe_unused]] inline V exp_v(V x) {
  x = max_v(set1(-104.0f), min_v(set1(89.0f), x));  // keeps NaN: the second operand
  const V n = round_v(mul(x, set1(1.44269504f)));
  V f = fnma(n, set1(0.693145752f), x);  // ln 2 in two parts; the first has 16 bits, so n * part is exact
  f = fnma(n, set1(1.42860677e-6f), f);
  V p = fma(set1(0.00139015269f), f, set1(0.00836373301f));
  p = fma(p, f, set1(0.0416668609f));
  p = fma(p, f, set1(0.166665737f));
  p = fma(p, f, set1(0.5f));
  p = fma(mul(p, f), f, f);
  return scale2(add(p, set1(1.0f)), n);
}

/// exp2(t), 1e-7 relative and 1e-9 on average (an error that leans to one side adds up over the layers of a network); infinity from 128 on, zero or a denormal
/// below -126.
[[maybe_unused]] inline V exp2_fast(V t) {
  t = max_v(set1(kLeastExponent), min_v(set1(128.0f), t));
  const Whole n = nearest_whole(t);
  const V f = sub(t, n.value);
  V p = fma(set1(0.00015353362f), f, set1(0.0013398875f));
  p = fma(p, f, set1(0.00961843692f));
  p = fma(p, f, set1(0.0555033237f));
  p = fma(p, f, set1(0.240226477f));
  p = fma(p, f, set1(0.693147182f));
  p = fma(p, f, set1(1.0f));
  return scale_by(p, n);
}

[[maybe_unused]] inline V sigmoid_v(V x) { return div(set1(1.0f), add(set1(1.0f), exp2_fast(mul(x, set1(-1.44269504f))))); }
[[maybe_unused]] inline V silu_v(V x) { return div(x, add(set1(1.0f), exp2_fast(mul(x, set1(-1.44269504f))))); }

[[maybe_unused]] inline V tanh_v(V x) {
  const V a = abs_v(x);
  const V u = mul(x, x);
  V p = fma(set1(-0.00609634194f), u, set1(0.0209968288f));
  p = fma(p, u, set1(-0.0538507979f));
  p = fma(p, u, set1(0.133327684f));
  p = fma(p, u, set1(-0.333333289f));
  const V small = fma(mul(p, u), x, x);
  const V e = exp2_fast(mul(a, set1(2.88539008f)));
  const V big = sub(set1(1.0f), div(set1(2.0f), add(e, set1(1.0f))));
  return select(lt(a, set1(0.625f)), small, copysign_v(big, x));
}

[[maybe_unused]] inline V erf_v(V x) {
  x = max_v(set1(-4.0f), min_v(set1(4.0f), x));
  const V u = mul(x, x);
  V p = fma(set1(1.98678254e-06f), u, set1(0.000284567072f));
  p = fma(p, u, set1(0.00388337594f));
  p = fma(p, u, set1(0.0531018425f));
  p = fma(p, u, set1(0.193545747f));
  p = fma(p, u, set1(1.12837914f));
  V q = fma(set1(3.74202392e-05f), u, set1(0.00118557981f));
  q = fma(q, u, set1(0.0152073135f));
  q = fma(q, u, set1(0.115350289f));
  q = fma(q, u, set1(0.504858008f));
  q = fma(q, u, set1(1.0f));
  return div(mul(x, p), q);
}

[[maybe_unused]] inline V log_v(V x) {
  V e = exponent_of(x), m = mantissa_of(x);
  const M high = lt(set1(1.41421356f), m);
  m = select(high, mul(m, set1(0.5f)), m);
  e = select(high, add(e, set1(1.0f)), e);
  const V f = sub(m, set1(1.0f));
  V p = fma(set1(-0.0785954587f), f, set1(0.128816224f));
  p = fma(p, f, set1(-0.131287676f));
  p = fma(p, f, set1(0.141811961f));
  p = fma(p, f, set1(-0.166245531f));
  p = fma(p, f, set1(0.200022861f));
  p = fma(p, f, set1(-0.250008104f));
  p = fma(p, f, set1(0.333333167f));
  const V f2 = mul(f, f);
  V r = fma(mul(p, f), f2, mul(e, set1(1.42860677e-6f)));
  r = fnma(set1(0.5f), f2, r);
  r = add(r, f);
  r = fma(e, set1(0.693145752f), r);
  const V inf = set1(__builtin_inff());
  r = select(lt(x, inf), r, x);                                       // +inf and NaN stay
  r = select(lt(x, set1(1.40129846e-45f)), sub(set1(0.0f), inf), r);  // zero
  return select(lt(x, set1(0.0f)), set1(__builtin_nanf("")), r);
}

}  // namespace
}  // namespace lathe::cpu
