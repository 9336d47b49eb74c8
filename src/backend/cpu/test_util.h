// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Helpers of the kernel tests: seeded data, tensors with pixel strides and guard bytes, ISA iteration, double-precision activations.

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "backend/cpu/epilogue.h"
#include "backend/cpu/kernel_table.h"
#include "base/half.h"
#include "base/thread_pool.h"

namespace lathe::cpu::testing {

inline constexpr DType kF32 = DType::kFloat32, kBF16 = DType::kBFloat16;

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 2654435761u + 88172645463325252ull) {}
  std::uint64_t next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_;
  }
  float uniform() { return static_cast<float>(static_cast<double>(next() >> 11) / 9007199254740992.0 * 2.0 - 1.0); }
  std::int64_t below(std::int64_t n) { return static_cast<std::int64_t>(next() % static_cast<std::uint64_t>(n)); }

 private:
  std::uint64_t state_;
};

/// rows x cols elements, `stride` elements apart, between guard zones; everything outside the elements holds a guard pattern.
class Buffer {
 public:
  static constexpr std::size_t kGuard = 256;
  Buffer(std::int64_t rows, std::int64_t cols, std::int64_t stride, DType type)
      : rows_(rows),
        cols_(cols),
        stride_(stride),
        type_(type),
        size_(type == kF32 ? 4 : 2),
        bytes_(static_cast<std::size_t>(rows * stride) * size_ + 2 * kGuard, std::byte{0xA5}) {}
  void* data() { return bytes_.data() + kGuard; }
  const void* data() const { return bytes_.data() + kGuard; }
  std::int64_t stride() const { return stride_; }
  DType type() const { return type_; }
  float at(std::int64_t r, std::int64_t c) const {
    const std::byte* p = bytes_.data() + kGuard + static_cast<std::size_t>(r * stride_ + c) * size_;
    if (type_ == kF32) {
      float f;
      std::memcpy(&f, p, 4);
      return f;
    }
    std::uint16_t h;
    std::memcpy(&h, p, 2);
    return bfloat16_to_float(h);
  }
  void set(std::int64_t r, std::int64_t c, float value) {
    std::byte* p = bytes_.data() + kGuard + static_cast<std::size_t>(r * stride_ + c) * size_;
    if (type_ == kF32) {
      std::memcpy(p, &value, 4);
    } else {
      const std::uint16_t h = float_to_bfloat16(value);
      std::memcpy(p, &h, 2);
    }
  }
  void fill(Random& random, float scale = 1.0f) {
    for (std::int64_t r = 0; r < rows_; ++r) {
      for (std::int64_t c = 0; c < cols_; ++c) set(r, c, random.uniform() * scale);
    }
  }
  /// True when nothing outside the elements was written.
  bool intact() const {
    std::vector<bool> inside(bytes_.size(), false);
    for (std::int64_t r = 0; r < rows_; ++r) {
      const std::size_t at = kGuard + static_cast<std::size_t>(r * stride_) * size_;
      for (std::size_t b = 0; b < static_cast<std::size_t>(cols_) * size_; ++b) inside[at + b] = true;
    }
    for (std::size_t i = 0; i < bytes_.size(); ++i) {
      if (!inside[i] && bytes_[i] != std::byte{0xA5}) return false;
    }
    return true;
  }

 private:
  std::int64_t rows_, cols_, stride_;
  DType type_;
  std::size_t size_;
  std::vector<std::byte> bytes_;
};

/// 64-byte aligned bytes with a guard behind.
class Scratch {
 public:
  explicit Scratch(std::size_t bytes) : bytes_(bytes), store_(bytes + 192, std::byte{0x5A}) {}
  void* data() { return reinterpret_cast<void*>((reinterpret_cast<std::uintptr_t>(store_.data()) + 63) & ~std::uintptr_t{63}); }
  bool intact() {
    const std::byte* end = static_cast<std::byte*>(data()) + bytes_;
    for (int i = 0; i < 64; ++i) {
      if (end[i] != std::byte{0x5A}) return false;
    }
    return true;
  }

 private:
  std::size_t bytes_;
  std::vector<std::byte> store_;
};

/// Calls f for each kernel level that this CPU has.
inline void for_each_isa(const std::function<void(Isa)>& f) {
  const Isa best = detect_cpu_features().isa();
  for (const Isa isa : kAllIsas) {
    if (!includes(best, isa)) continue;
    limit_kernel_isa(isa);
    f(isa);
  }
  limit_kernel_isa(std::nullopt);
}

inline double activate(const Epilogue& e, double x) {
  switch (e.activation) {
    case Activation::kNone: return x;
    case Activation::kRelu: return x > 0 ? x : 0;
    case Activation::kLeakyRelu: return x < 0 ? e.alpha * x : x;
    case Activation::kClip: return std::min<double>(std::max<double>(x, e.alpha), e.beta);
    case Activation::kSilu: return x / (1 + std::exp(-x));
    case Activation::kHardSwish: return x * std::min(1.0, std::max(0.0, x / 6 + 0.5));
    case Activation::kHardSigmoid: return std::min(1.0, std::max(0.0, e.alpha * x + e.beta));
    case Activation::kSigmoid: return 1 / (1 + std::exp(-x));
    case Activation::kGeluErf: return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case Activation::kGeluTanh: return 0.5 * x * (1 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
    case Activation::kTanh: return std::tanh(x);
    case Activation::kElu: return x < 0 ? e.alpha * std::expm1(x) : x;
    case Activation::kMish: return x * std::tanh(std::log1p(std::exp(x)));
  }
  return x;
}

inline Epilogue make_epilogue(Activation activation) {
  Epilogue e;
  e.activation = activation;
  if (activation == Activation::kLeakyRelu) e.alpha = 0.1f;
  if (activation == Activation::kClip) e.alpha = -0.3f, e.beta = 0.6f;
  if (activation == Activation::kHardSigmoid) e.alpha = 0.2f, e.beta = 0.5f;
  if (activation == Activation::kElu) e.alpha = 0.7f;
  return e;
}

/// What a sum with absolute mass `mass` over k terms may be off, and what storing adds.
inline double tolerance(double c, std::int64_t k, double mass, double result, DType stored) {
  const double eps = 1.0 / (1 << 23);
  return c * eps * std::sqrt(static_cast<double>(k) + 1) * mass + 1e-6 * (1 + std::fabs(result)) + (stored == kBF16 ? std::fabs(result) / 256 + 1e-30 : 0);
}

}  // namespace lathe::cpu::testing
