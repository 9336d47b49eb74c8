// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Conversions between float and the 16-, 8- and 4-bit floating types: round to nearest even, portable and exact.
// Sources: IEEE 754-2019; OCP 8-bit Floating Point Specification 1.0; ONNX "Float stored in 8 bits", FN/FNUZ variants.

#include <bit>
#include <cstdint>

#include "lathe/dtype.h"

namespace lathe {

std::uint16_t float_to_half(float value) noexcept;  ///< binary16, overflow to infinity
float half_to_float(std::uint16_t bits) noexcept;

inline std::uint16_t float_to_bfloat16(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);  // keep NaN quiet
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
inline float bfloat16_to_float(std::uint16_t bits) noexcept { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }

/// 8-, 6- and 4-bit types (kFloat8*, kFloat6*, kFloat4E2M1). `saturate`: out-of-range becomes the largest finite value (ONNX Cast's default).
std::uint8_t float_to_float8(float value, DType type, bool saturate = true) noexcept;
float float8_to_float(std::uint8_t bits, DType type) noexcept;

}  // namespace lathe
