// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a contraction or pooling kernel does to its fp32 result before storing it. All arithmetic is fp32; the stored type is the
// problem's dst type.

#include <cstdint>

namespace lathe::cpu {

enum class Activation : std::uint8_t {
  kNone,
  kRelu,
  kLeakyRelu,    ///< x < 0 ? alpha x : x
  kClip,         ///< min(max(x, alpha), beta)
  kSilu,         ///< x sigmoid(x)
  kHardSwish,    ///< x clip(x / 6 + 0.5, 0, 1)
  kHardSigmoid,  ///< clip(alpha x + beta, 0, 1)
  kSigmoid,
  kGeluErf,
  kGeluTanh,
  kTanh,
  kElu,   ///< x < 0 ? alpha (exp(x) - 1) : x
  kMish,  ///< x tanh(log(1 + exp(x)))
};
inline constexpr int kActivationCount = 13;

/// result = act(scale * contraction + bias [+ residual_scale * residual]) [+ residual_scale * residual]
struct Epilogue {
  Activation activation = Activation::kNone;
  float alpha = 0, beta = 0;    ///< the activation's parameters
  bool residual_after = false;  ///< the residual is added after the activation instead of before
  float scale = 1;              ///< factor on the contraction
  float residual_scale = 1;
};

}  // namespace lathe::cpu
