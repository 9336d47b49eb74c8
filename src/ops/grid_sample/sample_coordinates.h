// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Sampling of an image at real positions: what GridSample does at and beyond the borders, shared by its reference and lowering.

#include <cmath>
#include <cstdint>
#include <string>

#include "ir/attribute.h"

namespace lathe::ops {

enum class SampleMode : std::uint8_t { kNearest, kLinear, kCubic };
enum class SamplePadding : std::uint8_t { kZeros, kBorder, kReflection };

struct Sampling {
  SampleMode mode = SampleMode::kLinear;
  SamplePadding padding = SamplePadding::kZeros;
  bool align_corners = false;
};

/// From a node's attributes; `defect` names a word that the format does not know.
Sampling sampling_of(const ir::Attrs& attrs, std::string& defect);

inline constexpr double kCubicAlpha = -0.75;  ///< of the cubic convolution (Keys 1981, with the constant that PyTorch chose)
/// Positions beyond this many pixels are as good as this far away; NaN counts as outside.
inline constexpr double kFarAway = 1 << 24;

/// Weights of the 4 pixels around a position with the fraction `t` in [0, 1).
template <class T>
void cubic_weights(T t, T (&w)[4]) {
  const T a = static_cast<T>(kCubicAlpha), one = 1;
  w[0] = ((a * (t + one) - 5 * a) * (t + one) + 8 * a) * (t + one) - 4 * a;
  w[1] = ((a + 2) * t - (a + 3)) * t * t + one;
  w[2] = ((a + 2) * (one - t) - (a + 3)) * (one - t) * (one - t) + one;
  w[3] = ((a * (2 - t) - 5 * a) * (2 - t) + 8 * a) * (2 - t) - 4 * a;
}

}  // namespace lathe::ops
