// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Scalar semantics of the region language. Transcendental functions are the C library's in double: far inside the tolerance that
// any float32 emitter is held to.
#include "loops/scalar.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/half.h"

namespace lathe::loops {
namespace {

bool is_unsigned64(DType type) { return type == DType::kUint64; }

Scalar truth(bool value) { return Scalar::of(static_cast<std::int64_t>(value)); }

std::int64_t integer_power(std::int64_t base, std::int64_t exponent) {
  if (exponent < 0) return base == 1 ? 1 : base == -1 ? (exponent % 2 ? -1 : 1) : 0;
  std::uint64_t result = 1, b = static_cast<std::uint64_t>(base);
  for (auto e = static_cast<std::uint64_t>(exponent); e; e >>= 1, b *= b) {
    if (e & 1) result *= b;
  }
  return static_cast<std::int64_t>(result);
}

double real_binary(ExprOp op, double a, double b) {
  switch (op) {
    case ExprOp::kAdd: return a + b;
    case ExprOp::kSub: return a - b;
    case ExprOp::kMul: return a * b;
    case ExprOp::kDiv: return a / b;
    case ExprOp::kFloorDiv: return std::floor(a / b);
    case ExprOp::kMod: {
      const double r = std::fmod(a, b);
      if (r == 0) return std::copysign(0.0, b);
      return (r < 0) != (b < 0) ? r + b : r;
    }
    case ExprOp::kFmod: return std::fmod(a, b);
    case ExprOp::kPow: return std::pow(a, b);
    case ExprOp::kMin: return std::isnan(a) ? a : std::isnan(b) ? b : std::min(a, b);
    case ExprOp::kMax: return std::isnan(a) ? a : std::isnan(b) ? b : std::max(a, b);
    default: return std::numeric_limits<double>::quiet_NaN();
  }
}

template <class T>
bool compare(ExprOp op, T a, T b) {
  switch (op) {
    case ExprOp::kLess: return a < b;
    case ExprOp::kLessEqual: return a <= b;
    case ExprOp::kGreater: return a > b;
    case ExprOp::kGreaterEqual: return a >= b;
    case ExprOp::kEqual: return a == b;
    default: return a != b;
  }
}

std::int64_t whole_binary(ExprOp op, DType type, std::int64_t a, std::int64_t b) {
  const auto ua = static_cast<std::uint64_t>(a), ub = static_cast<std::uint64_t>(b);
  const bool u64 = is_unsigned64(type);
  switch (op) {
    case ExprOp::kAdd: return static_cast<std::int64_t>(ua + ub);
    case ExprOp::kSub: return static_cast<std::int64_t>(ua - ub);
    case ExprOp::kMul: return static_cast<std::int64_t>(ua * ub);
    case ExprOp::kDiv:
      if (b == 0) return 0;
      if (u64) return static_cast<std::int64_t>(ua / ub);
      return b == -1 ? static_cast<std::int64_t>(0 - ua) : a / b;
    case ExprOp::kFloorDiv: {
      if (b == 0) return 0;
      if (u64) return static_cast<std::int64_t>(ua / ub);
      if (b == -1) return static_cast<std::int64_t>(0 - ua);
      return a / b - (a % b != 0 && (a < 0) != (b < 0));
    }
    case ExprOp::kMod: {
      if (b == 0) return 0;
      if (u64) return static_cast<std::int64_t>(ua % ub);
      if (b == -1) return 0;
      const std::int64_t r = a % b;
      return r != 0 && (r < 0) != (b < 0) ? r + b : r;
    }
    case ExprOp::kFmod:
      if (b == 0 || b == -1) return 0;
      return u64 ? static_cast<std::int64_t>(ua % ub) : a % b;
    case ExprOp::kPow: return integer_power(a, b);
    case ExprOp::kMin: return u64 ? static_cast<std::int64_t>(std::min(ua, ub)) : std::min(a, b);
    case ExprOp::kMax: return u64 ? static_cast<std::int64_t>(std::max(ua, ub)) : std::max(a, b);
    case ExprOp::kBitAnd: return a & b;
    case ExprOp::kBitOr: return a | b;
    case ExprOp::kBitXor: return a ^ b;
    case ExprOp::kShiftLeft: return b < 0 || b > 63 ? 0 : static_cast<std::int64_t>(ua << b);
    case ExprOp::kShiftRight:
      if (b < 0 || b > 63) return is_signed_integer(type) && a < 0 ? -1 : 0;
      return u64 ? static_cast<std::int64_t>(ua >> b) : a >> b;
    default: return 0;
  }
}

}  // namespace

std::int64_t wrap_integer(std::int64_t v, DType type) noexcept {
  switch (type) {
    case DType::kBool: return v != 0;
    case DType::kInt8: return static_cast<std::int8_t>(v);
    case DType::kUint8: return static_cast<std::uint8_t>(v);
    case DType::kInt16: return static_cast<std::int16_t>(v);
    case DType::kUint16: return static_cast<std::uint16_t>(v);
    case DType::kInt32: return static_cast<std::int32_t>(v);
    case DType::kUint32: return static_cast<std::uint32_t>(v);
    case DType::kInt4: return static_cast<std::int64_t>(static_cast<std::uint64_t>(v) << 60) >> 60;
    case DType::kUint4: return v & 15;
    case DType::kInt2: return static_cast<std::int64_t>(static_cast<std::uint64_t>(v) << 62) >> 62;
    case DType::kUint2: return v & 3;
    default: return v;
  }
}

double round_to(double value, DType type) noexcept {
  switch (type) {
    case DType::kFloat64: return value;
    case DType::kFloat32: return static_cast<float>(value);
    case DType::kFloat16: return half_to_float(float_to_half(static_cast<float>(value)));
    case DType::kBFloat16: return bfloat16_to_float(float_to_bfloat16(static_cast<float>(value)));
    default:
      if (!is_float(type)) return value;
      return float8_to_float(float_to_float8(static_cast<float>(value), type), type);
  }
}

Scalar cast_scalar(Scalar a, DType from, DType to) noexcept {
  if (is_float(from)) {
    if (is_float(to)) return Scalar::of(round_to(a.real, to));
    if (to == DType::kBool) return truth(a.real != 0);
    if (std::isnan(a.real)) return Scalar::of(std::int64_t{0});
    if (to == DType::kUint64 && a.real >= 0x1p63) {
      return Scalar::of(static_cast<std::int64_t>(a.real >= 0x1p64 ? ~0ull : static_cast<std::uint64_t>(a.real)));
    }
    constexpr auto kLargest = std::numeric_limits<std::int64_t>::max();
    return Scalar::of(wrap_integer(a.real >= 0x1p63 ? kLargest : static_cast<std::int64_t>(std::max(a.real, -0x1p63)), to));
  }
  if (is_float(to)) {
    const double value = is_unsigned64(from) ? static_cast<double>(static_cast<std::uint64_t>(a.whole)) : static_cast<double>(a.whole);
    return Scalar::of(round_to(value, to));
  }
  return Scalar::of(wrap_integer(a.whole, to));
}

Scalar apply_unary(ExprOp op, DType type, Scalar a) noexcept {
  if (is_float(type)) {
    const double x = a.real;
    switch (op) {
      case ExprOp::kNeg: return Scalar::of(-x);
      case ExprOp::kAbs: return Scalar::of(std::fabs(x));
      case ExprOp::kSign: return Scalar::of(std::isnan(x) ? x : x > 0 ? 1.0 : x < 0 ? -1.0 : 0.0);
      case ExprOp::kFloor: return Scalar::of(std::floor(x));
      case ExprOp::kCeil: return Scalar::of(std::ceil(x));
      case ExprOp::kRound: return Scalar::of(std::nearbyint(x));
      case ExprOp::kSqrt: return Scalar::of(std::sqrt(x));
      case ExprOp::kRsqrt: return Scalar::of(1.0 / std::sqrt(x));
      case ExprOp::kReciprocal: return Scalar::of(1.0 / x);
      case ExprOp::kExp: return Scalar::of(std::exp(x));
      case ExprOp::kLog: return Scalar::of(std::log(x));
      case ExprOp::kSin: return Scalar::of(std::sin(x));
      case ExprOp::kCos: return Scalar::of(std::cos(x));
      case ExprOp::kTan: return Scalar::of(std::tan(x));
      case ExprOp::kAsin: return Scalar::of(std::asin(x));
      case ExprOp::kAcos: return Scalar::of(std::acos(x));
      case ExprOp::kAtan: return Scalar::of(std::atan(x));
      case ExprOp::kSinh: return Scalar::of(std::sinh(x));
      case ExprOp::kCosh: return Scalar::of(std::cosh(x));
      case ExprOp::kTanh: return Scalar::of(std::tanh(x));
      case ExprOp::kAsinh: return Scalar::of(std::asinh(x));
      case ExprOp::kAcosh: return Scalar::of(std::acosh(x));
      case ExprOp::kAtanh: return Scalar::of(std::atanh(x));
      case ExprOp::kErf: return Scalar::of(std::erf(x));
      case ExprOp::kSigmoid: return Scalar::of(x >= 0 ? 1.0 / (1.0 + std::exp(-x)) : std::exp(x) / (1.0 + std::exp(x)));
      case ExprOp::kNot: return truth(x == 0);
      case ExprOp::kIsNan: return truth(std::isnan(x));
      case ExprOp::kIsInf: return truth(std::isinf(x));
      default: return Scalar::of(std::numeric_limits<double>::quiet_NaN());
    }
  }
  const std::int64_t v = a.whole;
  switch (op) {
    case ExprOp::kNeg: return Scalar::of(wrap_integer(static_cast<std::int64_t>(0 - static_cast<std::uint64_t>(v)), type));
    case ExprOp::kAbs: return Scalar::of(v < 0 && !is_unsigned64(type) ? wrap_integer(static_cast<std::int64_t>(0 - static_cast<std::uint64_t>(v)), type) : v);
    case ExprOp::kSign: return Scalar::of(is_unsigned64(type) ? std::int64_t{v != 0} : std::int64_t{(v > 0) - (v < 0)});
    case ExprOp::kFloor:
    case ExprOp::kCeil:
    case ExprOp::kRound: return a;
    case ExprOp::kNot: return truth(v == 0);
    case ExprOp::kBitNot: return Scalar::of(wrap_integer(~v, type));
    case ExprOp::kIsNan:
    case ExprOp::kIsInf: return truth(false);
    default: {  // an integer operand of a real function: as double, truncated
      const Scalar real = apply_unary(op, DType::kFloat64, cast_scalar(a, type, DType::kFloat64));
      return cast_scalar(real, DType::kFloat64, type);
    }
  }
}

Scalar apply_binary(ExprOp op, DType type, Scalar a, Scalar b) noexcept {
  switch (op) {
    case ExprOp::kAnd: return truth(is_float(type) ? a.real != 0 && b.real != 0 : a.whole && b.whole);
    case ExprOp::kOr: return truth(is_float(type) ? a.real != 0 || b.real != 0 : a.whole || b.whole);
    case ExprOp::kXor: return truth(is_float(type) ? (a.real != 0) != (b.real != 0) : (a.whole != 0) != (b.whole != 0));
    case ExprOp::kLess:
    case ExprOp::kLessEqual:
    case ExprOp::kGreater:
    case ExprOp::kGreaterEqual:
    case ExprOp::kEqual:
    case ExprOp::kNotEqual:
      if (is_float(type)) return truth(compare(op, a.real, b.real));
      if (is_unsigned64(type)) return truth(compare(op, static_cast<std::uint64_t>(a.whole), static_cast<std::uint64_t>(b.whole)));
      return truth(compare(op, a.whole, b.whole));
    default:
      if (is_float(type)) return Scalar::of(real_binary(op, a.real, b.real));
      return Scalar::of(wrap_integer(whole_binary(op, type, a.whole, b.whole), type));
  }
}

Scalar reduce_identity(Reduce reduce, DType type) noexcept {
  const bool real = is_float(type);
  constexpr double inf = std::numeric_limits<double>::infinity();
  using Limits = std::numeric_limits<std::int64_t>;
  switch (reduce) {
    case Reduce::kMax:
      if (real) return Scalar::of(-inf);
      if (type == DType::kBool || !is_signed_integer(type)) return Scalar::of(std::int64_t{0});
      return Scalar::of(dtype_bits(type) >= 64 ? Limits::min() : -(std::int64_t{1} << (dtype_bits(type) - 1)));
    case Reduce::kMin:
      if (real) return Scalar::of(inf);
      if (type == DType::kBool) return Scalar::of(std::int64_t{1});
      if (type == DType::kUint64) return Scalar::of(std::int64_t{-1});
      if (dtype_bits(type) >= 64) return Scalar::of(Limits::max());
      return Scalar::of((std::int64_t{1} << (dtype_bits(type) - (is_signed_integer(type) ? 1 : 0))) - 1);
    case Reduce::kProd:
    case Reduce::kAnd: return real ? Scalar::of(1.0) : Scalar::of(std::int64_t{1});
    default: return Scalar{};
  }
}

Scalar reduce_step(Reduce reduce, DType type, Scalar running, Scalar next) noexcept {
  switch (reduce) {
    case Reduce::kSum: return apply_binary(ExprOp::kAdd, type, running, next);
    case Reduce::kProd: return apply_binary(ExprOp::kMul, type, running, next);
    case Reduce::kMax: return apply_binary(ExprOp::kMax, type, running, next);
    case Reduce::kMin: return apply_binary(ExprOp::kMin, type, running, next);
    case Reduce::kAnd: return apply_binary(ExprOp::kAnd, type, running, next);
    case Reduce::kOr: return apply_binary(ExprOp::kOr, type, running, next);
    default: return next;
  }
}

}  // namespace lathe::loops
