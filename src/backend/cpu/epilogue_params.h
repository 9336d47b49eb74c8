// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Names of activations in step parameters.

#include <optional>
#include <string_view>

#include "backend/cpu/epilogue.h"

namespace lathe::cpu {

/// "relu", "leaky_relu", "clip", "silu", "hard_swish", "hard_sigmoid", "sigmoid", "gelu", "gelu_tanh", "tanh", "elu", "mish"; "" = none.
inline std::optional<Activation> find_activation(std::string_view name) {
  constexpr std::string_view kNames[kActivationCount] = {"",        "relu", "leaky_relu", "clip", "silu", "hard_swish", "hard_sigmoid",
                                                         "sigmoid", "gelu", "gelu_tanh",  "tanh", "elu",  "mish"};
  for (int i = 0; i < kActivationCount; ++i)
    if (kNames[i] == name) return static_cast<Activation>(i);
  return std::nullopt;
}

}  // namespace lathe::cpu
