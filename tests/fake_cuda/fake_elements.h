// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Elements of the fake libraries' matrices and tensors: reading and writing by type, through the fake driver's memory.

#include <cmath>
#include <cstdint>
#include <cstring>

#include "base/half.h"

namespace fake_cuda {

enum class Element { kFloat32, kFloat16, kBFloat16 };
inline std::size_t bytes_of(Element type) { return type == Element::kFloat32 ? 4 : 2; }

inline double read(const void* base, Element type, std::int64_t at) {
  const auto* from = static_cast<const char*>(base) + at * static_cast<std::int64_t>(bytes_of(type));
  if (type == Element::kFloat32) {
    float value;
    std::memcpy(&value, from, 4);
    return value;
  }
  std::uint16_t bits;
  std::memcpy(&bits, from, 2);
  return type == Element::kFloat16 ? lathe::half_to_float(bits) : lathe::bfloat16_to_float(bits);
}

inline void write(void* base, Element type, std::int64_t at, double x) {
  auto* to = static_cast<char*>(base) + at * static_cast<std::int64_t>(bytes_of(type));
  const auto value = static_cast<float>(x);
  if (type == Element::kFloat32) {
    std::memcpy(to, &value, 4);
    return;
  }
  const std::uint16_t bits = type == Element::kFloat16 ? lathe::float_to_half(value) : lathe::float_to_bfloat16(value);
  std::memcpy(to, &bits, 2);
}

inline double gelu_tanh(double x) { return 0.5 * x * (1 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x))); }

}  // namespace fake_cuda
