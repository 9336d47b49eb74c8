// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Kernels for i32, i64 and f64 registers: plain loops that the compiler vectorises for the target around them. Integer arithmetic
// wraps at the register's width; narrower element types are wrapped by a cast that the compiler of tile programs inserts.

#if defined(LATHE_LOOPS_KERNELS_PLAIN_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef LATHE_LOOPS_KERNELS_PLAIN_INL_H
#undef LATHE_LOOPS_KERNELS_PLAIN_INL_H
#else
#define LATHE_LOOPS_KERNELS_PLAIN_INL_H
#endif

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "hwy/highway.h"
#include "loops/cpu/kernels.h"
#include "loops/scalar.h"

HWY_BEFORE_NAMESPACE();
namespace lathe::loops::HWY_NAMESPACE {

using cpu::KernelFn;
using cpu::Mode;
using cpu::VmType;

template <class T, class R, class F>
KernelFn plain_binary(Mode mode, F) {
  switch (mode) {
    case Mode::kVectors:
      return [](void* d, const void* a, const void* b, const void*, std::size_t n) {
        R* out = static_cast<R*>(d);
        const T *x = static_cast<const T*>(a), *y = static_cast<const T*>(b);
#pragma GCC ivdep
        for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<R>(F()(x[i], y[i]));
      };
    case Mode::kScalarRight:
      return [](void* d, const void* a, const void* b, const void*, std::size_t n) {
        R* out = static_cast<R*>(d);
        const T* x = static_cast<const T*>(a);
        const T y = *static_cast<const T*>(b);
#pragma GCC ivdep
        for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<R>(F()(x[i], y));
      };
    default:
      return [](void* d, const void* a, const void* b, const void*, std::size_t n) {
        R* out = static_cast<R*>(d);
        const T x = *static_cast<const T*>(a);
        const T* y = static_cast<const T*>(b);
#pragma GCC ivdep
        for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<R>(F()(x, y[i]));
      };
  }
}

template <class T>
using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;

template <class T>
constexpr DType kTypeOf = std::is_same_v<T, double> ? DType::kFloat64
                          : sizeof(T) == 4          ? DType::kInt32
                                                    : DType::kInt64;

/// Rare operators by way of the definition of the language.
template <class T, ExprOp kOp>
T defined_binary(T a, T b) {
  if constexpr (std::is_same_v<T, double>) {
    return apply_binary(kOp, DType::kFloat64, Scalar::of(a), Scalar::of(b)).real;
  } else {
    return static_cast<T>(apply_binary(kOp, kTypeOf<T>, Scalar::of(static_cast<std::int64_t>(a)), Scalar::of(static_cast<std::int64_t>(b))).whole);
  }
}
template <class T, ExprOp kOp>
T defined_unary(T a) {
  if constexpr (std::is_same_v<T, double>) {
    return apply_unary(kOp, DType::kFloat64, Scalar::of(a)).real;
  } else {
    return static_cast<T>(apply_unary(kOp, kTypeOf<T>, Scalar::of(static_cast<std::int64_t>(a))).whole);
  }
}

#define LATHE_DEFINED(op) \
  case ExprOp::op: return plain_binary<T, T>(mode, [](T a, T b) { return defined_binary<T, ExprOp::op>(a, b); })
template <class T>
KernelFn binary_plain(ExprOp op, Mode mode) {
  switch (op) {
    case ExprOp::kLess: return plain_binary<T, std::int32_t>(mode, [](T a, T b) { return a < b; });
    case ExprOp::kLessEqual: return plain_binary<T, std::int32_t>(mode, [](T a, T b) { return a <= b; });
    case ExprOp::kGreater: return plain_binary<T, std::int32_t>(mode, [](T a, T b) { return a > b; });
    case ExprOp::kGreaterEqual: return plain_binary<T, std::int32_t>(mode, [](T a, T b) { return a >= b; });
    case ExprOp::kEqual: return plain_binary<T, std::int32_t>(mode, [](T a, T b) { return a == b; });
    case ExprOp::kNotEqual:
      return plain_binary<T, std::int32_t>(mode, [](T a, T b) { return a != b; });
      LATHE_DEFINED(kDiv);
      LATHE_DEFINED(kFloorDiv);
      LATHE_DEFINED(kMod);
      LATHE_DEFINED(kFmod);
      LATHE_DEFINED(kPow);
    default: break;
  }
  if constexpr (std::is_same_v<T, double>) {
    switch (op) {
      case ExprOp::kAdd: return plain_binary<T, T>(mode, [](T a, T b) { return a + b; });
      case ExprOp::kSub: return plain_binary<T, T>(mode, [](T a, T b) { return a - b; });
      case ExprOp::kMul: return plain_binary<T, T>(mode, [](T a, T b) { return a * b; });
      case ExprOp::kMin: return plain_binary<T, T>(mode, [](T a, T b) { return a != a ? a : b != b ? b : a < b ? a : b; });
      case ExprOp::kMax: return plain_binary<T, T>(mode, [](T a, T b) { return a != a ? a : b != b ? b : a > b ? a : b; });
      default: return nullptr;
    }
  } else {
    using U = Bits<T>;
    switch (op) {
      case ExprOp::kAdd: return plain_binary<T, T>(mode, [](T a, T b) { return static_cast<T>(static_cast<U>(a) + static_cast<U>(b)); });
      case ExprOp::kSub: return plain_binary<T, T>(mode, [](T a, T b) { return static_cast<T>(static_cast<U>(a) - static_cast<U>(b)); });
      case ExprOp::kMul: return plain_binary<T, T>(mode, [](T a, T b) { return static_cast<T>(static_cast<U>(a) * static_cast<U>(b)); });
      case ExprOp::kMin: return plain_binary<T, T>(mode, [](T a, T b) { return a < b ? a : b; });
      case ExprOp::kMax: return plain_binary<T, T>(mode, [](T a, T b) { return a > b ? a : b; });
      case ExprOp::kAnd: return plain_binary<T, std::int32_t>(mode, [](T a, T b) { return (a != 0) & (b != 0); });
      case ExprOp::kOr: return plain_binary<T, std::int32_t>(mode, [](T a, T b) { return (a != 0) | (b != 0); });
      case ExprOp::kXor: return plain_binary<T, std::int32_t>(mode, [](T a, T b) { return (a != 0) ^ (b != 0); });
      case ExprOp::kBitAnd: return plain_binary<T, T>(mode, [](T a, T b) { return a & b; });
      case ExprOp::kBitOr: return plain_binary<T, T>(mode, [](T a, T b) { return a | b; });
      case ExprOp::kBitXor:
        return plain_binary<T, T>(mode, [](T a, T b) { return a ^ b; });
        LATHE_DEFINED(kShiftLeft);
        LATHE_DEFINED(kShiftRight);
      default: return nullptr;
    }
  }
}
#undef LATHE_DEFINED

template <class T, class R, class F>
KernelFn plain_unary(F) {
  return [](void* d, const void* a, const void*, const void*, std::size_t n) {
    R* out = static_cast<R*>(d);
    const T* x = static_cast<const T*>(a);
#pragma GCC ivdep
    for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<R>(F()(x[i]));
  };
}

#define LATHE_DEFINED(op) \
  case ExprOp::op: return plain_unary<T, T>([](T a) { return defined_unary<T, ExprOp::op>(a); })
template <class T>
KernelFn unary_plain(ExprOp op) {
  if (op == ExprOp::kNot) return plain_unary<T, std::int32_t>([](T a) { return a == 0; });
  if constexpr (std::is_same_v<T, double>) {
    switch (op) {
      case ExprOp::kNeg: return plain_unary<T, T>([](T a) { return -a; });
      case ExprOp::kAbs: return plain_unary<T, T>([](T a) { return std::fabs(a); });
      case ExprOp::kSqrt: return plain_unary<T, T>([](T a) { return std::sqrt(a); });
      case ExprOp::kIsNan: return plain_unary<T, std::int32_t>([](T a) { return a != a; });
      case ExprOp::kIsInf:
        return plain_unary<T, std::int32_t>([](T a) { return std::fabs(a) == std::numeric_limits<T>::infinity(); });
        LATHE_DEFINED(kSign);
        LATHE_DEFINED(kFloor);
        LATHE_DEFINED(kCeil);
        LATHE_DEFINED(kRound);
        LATHE_DEFINED(kRsqrt);
        LATHE_DEFINED(kReciprocal);
        LATHE_DEFINED(kExp);
        LATHE_DEFINED(kLog);
        LATHE_DEFINED(kSin);
        LATHE_DEFINED(kCos);
        LATHE_DEFINED(kTan);
        LATHE_DEFINED(kAsin);
        LATHE_DEFINED(kAcos);
        LATHE_DEFINED(kAtan);
        LATHE_DEFINED(kSinh);
        LATHE_DEFINED(kCosh);
        LATHE_DEFINED(kTanh);
        LATHE_DEFINED(kAsinh);
        LATHE_DEFINED(kAcosh);
        LATHE_DEFINED(kAtanh);
        LATHE_DEFINED(kErf);
        LATHE_DEFINED(kSigmoid);
      default: return nullptr;
    }
  } else {
    using U = Bits<T>;
    switch (op) {
      case ExprOp::kNeg: return plain_unary<T, T>([](T a) { return static_cast<T>(U{0} - static_cast<U>(a)); });
      case ExprOp::kAbs: return plain_unary<T, T>([](T a) { return a < 0 ? static_cast<T>(U{0} - static_cast<U>(a)) : a; });
      case ExprOp::kSign: return plain_unary<T, T>([](T a) { return (a > 0) - (a < 0); });
      case ExprOp::kBitNot:
        return plain_unary<T, T>([](T a) { return ~a; });
        // A real function of an integer goes through double and truncates.
        LATHE_DEFINED(kSqrt);
        LATHE_DEFINED(kExp);
        LATHE_DEFINED(kLog);
        LATHE_DEFINED(kErf);
        LATHE_DEFINED(kTanh);
        LATHE_DEFINED(kSigmoid);
        LATHE_DEFINED(kReciprocal);
        LATHE_DEFINED(kRsqrt);
      default: return nullptr;
    }
  }
}
#undef LATHE_DEFINED

/// Real to integer: truncates, limited to int64's range, then wraps; NaN becomes 0.
template <class From>
std::int64_t truncate(From x) {
  if (x != x) return 0;
  if (x >= static_cast<From>(0x1p63)) return std::numeric_limits<std::int64_t>::max();
  if (x <= static_cast<From>(-0x1p63)) return std::numeric_limits<std::int64_t>::min();
  return static_cast<std::int64_t>(x);
}

template <class From, class To, class Narrow>
KernelFn whole_cast() {
  return plain_unary<From, To>([](From x) {
    if constexpr (std::is_floating_point_v<From>) return static_cast<To>(static_cast<Narrow>(truncate(x)));
    else return static_cast<To>(static_cast<Narrow>(x));
  });
}

template <class From>
KernelFn cast_from(DType to) {
  switch (to) {
    case DType::kFloat32: return std::is_same_v<From, float> ? nullptr : plain_unary<From, float>([](From x) { return static_cast<float>(x); });
    case DType::kFloat64: return std::is_same_v<From, double> ? nullptr : plain_unary<From, double>([](From x) { return static_cast<double>(x); });
    case DType::kFloat16:
    case DType::kBFloat16:
      return to == DType::kFloat16 ? plain_unary<From, float>([](From x) { return static_cast<float>(round_to(static_cast<double>(x), DType::kFloat16)); })
                                   : plain_unary<From, float>([](From x) { return static_cast<float>(round_to(static_cast<double>(x), DType::kBFloat16)); });
    case DType::kBool: return plain_unary<From, std::int32_t>([](From x) { return x != 0; });
    case DType::kInt8: return whole_cast<From, std::int32_t, std::int8_t>();
    case DType::kUint8: return whole_cast<From, std::int32_t, std::uint8_t>();
    case DType::kInt16: return whole_cast<From, std::int32_t, std::int16_t>();
    case DType::kUint16: return whole_cast<From, std::int32_t, std::uint16_t>();
    case DType::kInt32: return std::is_same_v<From, std::int32_t> ? nullptr : whole_cast<From, std::int32_t, std::int32_t>();
    case DType::kUint32: return whole_cast<From, std::int64_t, std::uint32_t>();
    default: return std::is_same_v<From, std::int64_t> ? nullptr : whole_cast<From, std::int64_t, std::int64_t>();
  }
}

template <class T>
KernelFn select_8_bytes(int scalars) {
  switch (scalars) {
#define LATHE_SELECT(bits, A, B)                                                     \
  case bits:                                                                         \
    return [](void* d, const void* m, const void* a, const void* b, std::size_t n) { \
      T* out = static_cast<T*>(d);                                                   \
      const std::int32_t* c = static_cast<const std::int32_t*>(m);                   \
      const T *x = static_cast<const T*>(a), *y = static_cast<const T*>(b);          \
      for (std::size_t i = 0; i < n; ++i) out[i] = c[i] ? x[A] : y[B];               \
    };
    LATHE_SELECT(0, i, i)
    LATHE_SELECT(1, 0, i)
    LATHE_SELECT(2, i, 0)
    default: LATHE_SELECT(3, 0, 0)
#undef LATHE_SELECT
  }
}

template <class T>
void fill_plain(void* d, const void* a, const void*, const void*, std::size_t n) {
  std::fill_n(static_cast<T*>(d), n, *static_cast<const T*>(a));
}

}  // namespace lathe::loops::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
