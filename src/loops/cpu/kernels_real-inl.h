// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// float32 kernels: arithmetic and the common functions on Highway vectors, rare functions through the C library.

#if defined(LATHE_LOOPS_KERNELS_REAL_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef LATHE_LOOPS_KERNELS_REAL_INL_H
#undef LATHE_LOOPS_KERNELS_REAL_INL_H
#else
#define LATHE_LOOPS_KERNELS_REAL_INL_H
#endif

#include "loops/cpu/kernels.h"
#include "loops/cpu/vmath-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lathe::loops::HWY_NAMESPACE {

using cpu::KernelFn;
using cpu::Mode;
using F32 = hn::ScalableTag<float>;
using I32 = hn::ScalableTag<std::int32_t>;
using VF = Vec<F32>;
using VI = Vec<I32>;

/// Operand i..i+lanes of a register, or its one element everywhere.
template <bool kScalar>
struct Operand {
  const float* p;
  VF all;
  explicit Operand(const void* pointer) : p(static_cast<const float*>(pointer)) {
    if constexpr (kScalar) all = hn::Set(F32(), *p);
  }
  HWY_INLINE VF at(std::size_t i) const {
    if constexpr (kScalar) return all;
    else return hn::LoadU(F32(), p + i);
  }
  HWY_INLINE VF tail(std::size_t i, hn::Mask<F32> mask) const {
    if constexpr (kScalar) return all;
    else return hn::MaskedLoad(mask, F32(), p + i);
  }
};

template <bool kB, bool kC, class F>
HWY_INLINE void each3(void* dst, const void* a, const void* b, const void* c, std::size_t n, F f) {
  const F32 d;
  const std::size_t lanes = hn::Lanes(d);
  const Operand<false> oa(a);
  const Operand<kB> ob(b);
  const Operand<kC> oc(c);
  float* out = static_cast<float*>(dst);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(f(oa.at(i), ob.at(i), oc.at(i)), d, out + i);
  if (i < n) {
    const auto mask = hn::FirstN(d, n - i);
    hn::BlendedStore(f(oa.tail(i, mask), ob.tail(i, mask), oc.tail(i, mask)), mask, d, out + i);
  }
}

template <bool kA, bool kB, class F>
HWY_INLINE void each2(void* dst, const void* a, const void* b, std::size_t n, F f) {
  const F32 d;
  const std::size_t lanes = hn::Lanes(d);
  const Operand<kA> oa(a);
  const Operand<kB> ob(b);
  float* out = static_cast<float*>(dst);
  std::size_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    const VF x = f(oa.at(i), ob.at(i)), y = f(oa.at(i + lanes), ob.at(i + lanes));
    hn::StoreU(x, d, out + i);
    hn::StoreU(y, d, out + i + lanes);
  }
  for (; i + lanes <= n; i += lanes) hn::StoreU(f(oa.at(i), ob.at(i)), d, out + i);
  if (i < n) {
    const auto mask = hn::FirstN(d, n - i);
    hn::BlendedStore(f(oa.tail(i, mask), ob.tail(i, mask)), mask, d, out + i);
  }
}

template <class F>
HWY_INLINE void each1(void* dst, const void* a, std::size_t n, F f) {
  const F32 d;
  const std::size_t lanes = hn::Lanes(d);
  const float* in = static_cast<const float*>(a);
  float* out = static_cast<float*>(dst);
  std::size_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    const VF x = f(hn::LoadU(d, in + i)), y = f(hn::LoadU(d, in + i + lanes));
    hn::StoreU(x, d, out + i);
    hn::StoreU(y, d, out + i + lanes);
  }
  for (; i + lanes <= n; i += lanes) hn::StoreU(f(hn::LoadU(d, in + i)), d, out + i);
  if (i < n) {
    const auto mask = hn::FirstN(d, n - i);
    hn::BlendedStore(f(hn::MaskedLoad(mask, d, in + i)), mask, d, out + i);
  }
}

/// Comparison of f32 giving i32 0 or 1.
HWY_INLINE VF as_flag(hn::Mask<F32> m) {
  const F32 d;
  const I32 di;
  return hn::IfThenElseZero(m, hn::BitCast(d, hn::Set(di, 1)));
}

// A NaN operand wins, on the left first.
HWY_INLINE VF min_nan(VF a, VF b) { return hn::IfThenElse(hn::IsNaN(a), a, hn::IfThenElse(hn::IsNaN(b), b, hn::Min(a, b))); }
HWY_INLINE VF max_nan(VF a, VF b) { return hn::IfThenElse(hn::IsNaN(a), a, hn::IfThenElse(hn::IsNaN(b), b, hn::Max(a, b))); }

struct FAdd {
  HWY_INLINE VF operator()(VF a, VF b) const { return hn::Add(a, b); }
};
struct FSub {
  HWY_INLINE VF operator()(VF a, VF b) const { return hn::Sub(a, b); }
};
struct FMul {
  HWY_INLINE VF operator()(VF a, VF b) const { return hn::Mul(a, b); }
};
struct FDiv {
  HWY_INLINE VF operator()(VF a, VF b) const { return hn::Div(a, b); }
};
struct FMin {
  HWY_INLINE VF operator()(VF a, VF b) const { return min_nan(a, b); }
};
struct FMax {
  HWY_INLINE VF operator()(VF a, VF b) const { return max_nan(a, b); }
};
struct FLess {
  HWY_INLINE VF operator()(VF a, VF b) const { return as_flag(hn::Lt(a, b)); }
};
struct FLessEqual {
  HWY_INLINE VF operator()(VF a, VF b) const { return as_flag(hn::Le(a, b)); }
};
struct FEqual {
  HWY_INLINE VF operator()(VF a, VF b) const { return as_flag(hn::Eq(a, b)); }
};
struct FNotEqual {
  HWY_INLINE VF operator()(VF a, VF b) const { return as_flag(hn::Not(hn::Eq(a, b))); }
};
struct FGreater {
  HWY_INLINE VF operator()(VF a, VF b) const { return as_flag(hn::Lt(b, a)); }
};
struct FGreaterEqual {
  HWY_INLINE VF operator()(VF a, VF b) const { return as_flag(hn::Le(b, a)); }
};

template <class F>
KernelFn binary_modes(Mode mode) {
  switch (mode) {
    case Mode::kVectors: return [](void* d, const void* a, const void* b, const void*, std::size_t n) { each2<false, false>(d, a, b, n, F()); };
    case Mode::kScalarRight: return [](void* d, const void* a, const void* b, const void*, std::size_t n) { each2<false, true>(d, a, b, n, F()); };
    default: return [](void* d, const void* a, const void* b, const void*, std::size_t n) { each2<true, false>(d, a, b, n, F()); };
  }
}

// Functions of the C library, lane by lane.
template <float (*kF)(float, float)>
KernelFn library_binary(Mode mode) {
  switch (mode) {
    case Mode::kVectors:
      return [](void* d, const void* a, const void* b, const void*, std::size_t n) {
        for (std::size_t i = 0; i < n; ++i) static_cast<float*>(d)[i] = kF(static_cast<const float*>(a)[i], static_cast<const float*>(b)[i]);
      };
    case Mode::kScalarRight:
      return [](void* d, const void* a, const void* b, const void*, std::size_t n) {
        const float y = *static_cast<const float*>(b);
        for (std::size_t i = 0; i < n; ++i) static_cast<float*>(d)[i] = kF(static_cast<const float*>(a)[i], y);
      };
    default:
      return [](void* d, const void* a, const void* b, const void*, std::size_t n) {
        const float x = *static_cast<const float*>(a);
        for (std::size_t i = 0; i < n; ++i) static_cast<float*>(d)[i] = kF(x, static_cast<const float*>(b)[i]);
      };
  }
}
inline float mod_f32(float a, float b) {
  const float r = std::fmod(a, b);
  if (r == 0) return std::copysign(0.0f, b);
  return (r < 0) != (b < 0) ? r + b : r;
}
inline float fmod_f32(float a, float b) { return std::fmod(a, b); }
inline float floordiv_f32(float a, float b) { return std::floor(a / b); }
inline float pow_f32(float a, float b) { return std::pow(a, b); }

template <float (*kF)(float)>
void library_unary(void* d, const void* a, const void*, const void*, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) static_cast<float*>(d)[i] = kF(static_cast<const float*>(a)[i]);
}
inline float tan_f32(float x) { return std::tan(x); }
inline float asin_f32(float x) { return std::asin(x); }
inline float acos_f32(float x) { return std::acos(x); }
inline float atan_f32(float x) { return std::atan(x); }
inline float sinh_f32(float x) { return std::sinh(x); }
inline float cosh_f32(float x) { return std::cosh(x); }
inline float asinh_f32(float x) { return std::asinh(x); }
inline float acosh_f32(float x) { return std::acosh(x); }
inline float atanh_f32(float x) { return std::atanh(x); }

/// Range reduction in float is good up to 8192; a block with a larger argument goes to the library.
template <int kShift>
void sincos_kernel(void* dst, const void* a, const void*, const void*, std::size_t n) {
  const float* in = static_cast<const float*>(a);
  bool small = true;
  for (std::size_t i = 0; i < n; ++i) small &= std::fabs(in[i]) <= 8192.0f;
  if (!small) {
    for (std::size_t i = 0; i < n; ++i) static_cast<float*>(dst)[i] = kShift ? std::cos(in[i]) : std::sin(in[i]);
    return;
  }
  each1(dst, a, n, [](VF x) { return vsincos<kShift>(F32(), x); });
}

#define LATHE_UNARY(expression)                                                  \
  return [](void* dst, const void* a, const void*, const void*, std::size_t n) { \
    each1(dst, a, n, [](VF x) HWY_ATTR {                                         \
      const F32 d;                                                               \
      (void)d;                                                                   \
      return expression;                                                         \
    });                                                                          \
  }

inline KernelFn unary_f32(ExprOp op) {
  switch (op) {
    case ExprOp::kNeg: LATHE_UNARY(hn::Neg(x));
    case ExprOp::kAbs: LATHE_UNARY(hn::Abs(x));
    case ExprOp::kSign:
      LATHE_UNARY(hn::IfThenElse(hn::Gt(hn::Abs(x), hn::Zero(d)), hn::CopySign(hn::Set(d, 1.0f), x), hn::IfThenElse(hn::Eq(x, x), hn::Zero(d), x)));
    case ExprOp::kFloor: LATHE_UNARY(hn::Floor(x));
    case ExprOp::kCeil: LATHE_UNARY(hn::Ceil(x));
    case ExprOp::kRound: LATHE_UNARY(hn::Round(x));
    case ExprOp::kSqrt: LATHE_UNARY(hn::Sqrt(x));
    case ExprOp::kRsqrt: LATHE_UNARY(hn::Div(hn::Set(d, 1.0f), hn::Sqrt(x)));
    case ExprOp::kReciprocal: LATHE_UNARY(hn::Div(hn::Set(d, 1.0f), x));
    case ExprOp::kExp: LATHE_UNARY(vexp(d, x));
    case ExprOp::kLog: LATHE_UNARY(vlog(d, x));
    case ExprOp::kTanh: LATHE_UNARY(vtanh(d, x));
    case ExprOp::kErf: LATHE_UNARY(verf(d, x));
    case ExprOp::kSigmoid: LATHE_UNARY(vsigmoid(d, x));
    case ExprOp::kIsNan: LATHE_UNARY(as_flag(hn::IsNaN(x)));
    case ExprOp::kIsInf: LATHE_UNARY(as_flag(hn::Eq(hn::Abs(x), hn::Set(d, INFINITY))));
    case ExprOp::kNot: LATHE_UNARY(as_flag(hn::Eq(x, hn::Zero(d))));
    case ExprOp::kSin: return sincos_kernel<0>;
    case ExprOp::kCos: return sincos_kernel<1>;
    case ExprOp::kTan: return library_unary<tan_f32>;
    case ExprOp::kAsin: return library_unary<asin_f32>;
    case ExprOp::kAcos: return library_unary<acos_f32>;
    case ExprOp::kAtan: return library_unary<atan_f32>;
    case ExprOp::kSinh: return library_unary<sinh_f32>;
    case ExprOp::kCosh: return library_unary<cosh_f32>;
    case ExprOp::kAsinh: return library_unary<asinh_f32>;
    case ExprOp::kAcosh: return library_unary<acosh_f32>;
    case ExprOp::kAtanh: return library_unary<atanh_f32>;
    default: return nullptr;
  }
}

inline KernelFn binary_f32(ExprOp op, Mode mode) {
  switch (op) {
    case ExprOp::kAdd: return binary_modes<FAdd>(mode);
    case ExprOp::kSub: return binary_modes<FSub>(mode);
    case ExprOp::kMul: return binary_modes<FMul>(mode);
    case ExprOp::kDiv: return binary_modes<FDiv>(mode);
    case ExprOp::kMin: return binary_modes<FMin>(mode);
    case ExprOp::kMax: return binary_modes<FMax>(mode);
    case ExprOp::kLess: return binary_modes<FLess>(mode);
    case ExprOp::kLessEqual: return binary_modes<FLessEqual>(mode);
    case ExprOp::kGreater: return binary_modes<FGreater>(mode);
    case ExprOp::kGreaterEqual: return binary_modes<FGreaterEqual>(mode);
    case ExprOp::kEqual: return binary_modes<FEqual>(mode);
    case ExprOp::kNotEqual: return binary_modes<FNotEqual>(mode);
    case ExprOp::kPow: return library_binary<pow_f32>(mode);
    case ExprOp::kMod: return library_binary<mod_f32>(mode);
    case ExprOp::kFmod: return library_binary<fmod_f32>(mode);
    case ExprOp::kFloorDiv: return library_binary<floordiv_f32>(mode);
    default: return nullptr;
  }
}

inline KernelFn silu_f32() { LATHE_UNARY(hn::Div(x, hn::Add(hn::Set(d, 1.0f), vexp<true>(d, x)))); }
#undef LATHE_UNARY

struct FMulAdd {
  HWY_INLINE VF operator()(VF a, VF b, VF c) const { return hn::MulAdd(a, b, c); }
};

inline KernelFn mul_add_f32(int scalars) {
  switch (scalars) {
    case 0: return [](void* d, const void* a, const void* b, const void* c, std::size_t n) { each3<false, false>(d, a, b, c, n, FMulAdd()); };
    case 1: return [](void* d, const void* a, const void* b, const void* c, std::size_t n) { each3<true, false>(d, a, b, c, n, FMulAdd()); };
    case 2: return [](void* d, const void* a, const void* b, const void* c, std::size_t n) { each3<false, true>(d, a, b, c, n, FMulAdd()); };
    default: return [](void* d, const void* a, const void* b, const void* c, std::size_t n) { each3<true, true>(d, a, b, c, n, FMulAdd()); };
  }
}

struct FSelect {
  HWY_INLINE VF operator()(VF c, VF a, VF b) const {
    const I32 di;
    return hn::IfThenElse(hn::RebindMask(F32(), hn::Ne(hn::BitCast(di, c), hn::Zero(di))), a, b);
  }
};
/// Any 4-byte type: only bits move.
inline KernelFn select_4_bytes(int scalars) {
  switch (scalars) {
    case 0: return [](void* d, const void* a, const void* b, const void* c, std::size_t n) { each3<false, false>(d, a, b, c, n, FSelect()); };
    case 1: return [](void* d, const void* a, const void* b, const void* c, std::size_t n) { each3<true, false>(d, a, b, c, n, FSelect()); };
    case 2: return [](void* d, const void* a, const void* b, const void* c, std::size_t n) { each3<false, true>(d, a, b, c, n, FSelect()); };
    default: return [](void* d, const void* a, const void* b, const void* c, std::size_t n) { each3<true, true>(d, a, b, c, n, FSelect()); };
  }
}

}  // namespace lathe::loops::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
