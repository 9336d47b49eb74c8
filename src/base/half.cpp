// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// One routine rounds a float to any small format given its exponent and mantissa widths; one decodes. See half.h for sources.

#include "base/half.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace lathe {
namespace {

/// A small float: sign, `exponent` bits with `bias`, `mantissa` bits.
struct Format {
  int exponent, mantissa, bias;
  bool infinity;       ///< has infinities (IEEE style)
  bool fn;             ///< no infinity, NaN is all ones (E4M3FN)
  bool unsigned_zero;  ///< FNUZ: NaN is the code of -0
  bool finite_only;    ///< no NaN at all (FP4, FP6)
};

constexpr Format kHalf{5, 10, 15, true, false, false, false};

Format format_of(DType type) noexcept {
  switch (type) {
    case DType::kFloat8E4M3FN: return {4, 3, 7, false, true, false, false};
    case DType::kFloat8E4M3FNUZ: return {4, 3, 8, false, false, true, false};
    case DType::kFloat8E5M2: return {5, 2, 15, true, false, false, false};
    case DType::kFloat8E5M2FNUZ: return {5, 2, 16, false, false, true, false};
    case DType::kFloat4E2M1: return {2, 1, 1, false, false, false, true};
    case DType::kFloat6E2M3: return {2, 3, 1, false, false, false, true};
    case DType::kFloat6E3M2: return {3, 2, 3, false, false, false, true};
    default: return kHalf;
  }
}

std::uint32_t largest(const Format& f) noexcept {
  const std::uint32_t top = (1U << (f.exponent + f.mantissa)) - 1;
  if (f.infinity) return top - (1U << f.mantissa);  // exponent all ones is infinity and NaN
  if (f.fn) return top - 1;
  return top;
}

std::uint32_t encode(float value, const Format& f, bool saturate) noexcept {
  const std::uint32_t sign_bit = 1U << (f.exponent + f.mantissa);
  const std::uint32_t sign = std::signbit(value) ? sign_bit : 0;
  const std::uint32_t infinity = ((1U << f.exponent) - 1) << f.mantissa;
  const std::uint32_t nan = f.unsigned_zero ? sign_bit : f.infinity ? infinity | (1U << (f.mantissa - 1)) : f.fn ? sign_bit - 1 : sign_bit;
  // A format without NaN stores the code of -0, as ONNX's own conversions do.
  if (std::isnan(value)) return f.unsigned_zero || f.finite_only ? nan : sign | nan;
  const std::uint32_t overflow = saturate || f.finite_only ? largest(f) : f.infinity ? infinity : nan;
  const auto with_sign = [&](std::uint32_t code) {
    if (f.unsigned_zero && code == 0) return 0U;
    if (f.unsigned_zero && code == sign_bit) return sign_bit;
    return sign | code;
  };
  if (std::isinf(value)) return with_sign(overflow);
  const float magnitude = std::fabs(value);
  if (magnitude == 0) return with_sign(0);
  int exponent = 0;
  std::frexp(magnitude, &exponent);  // magnitude = m * 2^exponent, m in [0.5, 1)
  const int smallest = 1 - f.bias;   // exponent of the least normal number
  const int shift = std::max(exponent - 1, smallest) - f.mantissa;
  // Scaling by a power of two is exact, so the one rounding is nearbyint's (to even).
  const auto units = static_cast<std::uint32_t>(std::nearbyint(std::ldexp(static_cast<double>(magnitude), -shift)));
  const std::uint32_t one = 1U << f.mantissa;
  std::uint32_t code = 0;
  int field = std::max(exponent - 1, smallest) + f.bias;
  if (units < one) {
    code = units;  // subnormal
  } else if (units >= 2 * one) {
    code = static_cast<std::uint32_t>(field + 1) << f.mantissa;
  } else {
    code = (static_cast<std::uint32_t>(field) << f.mantissa) | (units - one);
  }
  return with_sign(code > largest(f) ? overflow : code);
}

float decode(std::uint32_t bits, const Format& f) noexcept {
  const std::uint32_t sign_bit = 1U << (f.exponent + f.mantissa);
  const bool negative = (bits & sign_bit) != 0;
  const std::uint32_t code = bits & (sign_bit - 1);
  if (f.unsigned_zero && (bits & (2 * sign_bit - 1)) == sign_bit) return std::numeric_limits<float>::quiet_NaN();
  const std::uint32_t mantissa = code & ((1U << f.mantissa) - 1), field = code >> f.mantissa;
  float magnitude = 0;
  if (f.infinity && field == (1U << f.exponent) - 1) {
    magnitude = mantissa ? std::numeric_limits<float>::quiet_NaN() : std::numeric_limits<float>::infinity();
  } else if (f.fn && code == sign_bit - 1) {
    magnitude = std::numeric_limits<float>::quiet_NaN();
  } else if (field == 0) {
    magnitude = std::ldexp(static_cast<float>(mantissa), 1 - f.bias - f.mantissa);
  } else {
    magnitude = std::ldexp(static_cast<float>(mantissa + (1U << f.mantissa)), static_cast<int>(field) - f.bias - f.mantissa);
  }
  return negative ? -magnitude : magnitude;
}

}  // namespace

std::uint16_t float_to_half(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000U, magnitude = bits & 0x7fffffffU;
  if (magnitude > 0x7f800000U) return static_cast<std::uint16_t>(sign | 0x7e00U | ((magnitude >> 13) & 0x3ffU));
  if (magnitude >= 0x47800000U) return static_cast<std::uint16_t>(sign | 0x7c00U);
  if (magnitude < 0x38800000U) return static_cast<std::uint16_t>(encode(value, kHalf, false));
  const std::uint32_t rounded = magnitude + 0xfffU + ((magnitude >> 13) & 1U) - 0x38000000U;
  return static_cast<std::uint16_t>(sign | (rounded >> 13));
}

float half_to_float(std::uint16_t bits) noexcept {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000U) << 16, magnitude = bits & 0x7fffU;
  if (magnitude >= 0x7c00U) return std::bit_cast<float>(sign | 0x7f800000U | ((magnitude & 0x3ffU) << 13));
  if (magnitude >= 0x400U) return std::bit_cast<float>(sign | ((magnitude << 13) + 0x38000000U));
  return std::bit_cast<float>(sign) + (sign ? -1.0F : 1.0F) * std::ldexp(static_cast<float>(magnitude), -24);
}

std::uint8_t float_to_float8(float value, DType type, bool saturate) noexcept {
  if (type == DType::kFloat8E8M0) {  // powers of two: 2^(code - 127), 255 is NaN
    if (std::isnan(value) || value < 0) return 255;
    if (std::isinf(value)) return saturate ? 254 : 255;
    if (value == 0) return 0;
    int exponent = 0;
    const float mantissa = std::frexp(value, &exponent);  // round to the nearest power, up at half
    const int power = exponent - 1 + (mantissa >= 0.75F ? 1 : 0);
    if (power > 127) return saturate ? 254 : 255;
    return static_cast<std::uint8_t>(power < -127 ? 0 : power + 127);
  }
  return static_cast<std::uint8_t>(encode(value, format_of(type), saturate));
}

float float8_to_float(std::uint8_t bits, DType type) noexcept {
  if (type == DType::kFloat8E8M0) return bits == 255 ? std::numeric_limits<float>::quiet_NaN() : std::ldexp(1.0F, static_cast<int>(bits) - 127);
  return decode(bits, format_of(type));
}

}  // namespace lathe
