// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the random operators make of attributes and of a stream's numbers: for the references, and for kernels that have the numbers of a seed.

#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>

#include "ops/random/stream.h"
#include "ops/ref_util.h"

namespace lathe::ops {

/// Of the seed, which the format makes a float, the integer part counts, modulo 2^32. NaN is no seed, nor is infinity, which is an error of the model.
inline std::optional<std::uint32_t> seed_of(const ir::Attrs& attrs) {
  const double seed = attrs.has("seed") ? static_cast<double>(attrs.get_float("seed", 0)) : std::numeric_limits<double>::quiet_NaN();
  if (!std::isfinite(seed)) return std::nullopt;
  double rest = std::fmod(std::trunc(seed), 4294967296.0);
  if (rest < 0) rest += 4294967296.0;
  return static_cast<std::uint32_t>(rest);
}
inline bool has_infinite_seed(const ir::Attrs& attrs) { return attrs.has("seed") && std::isinf(attrs.get_float("seed", 0)); }

/// RandomNormal and RandomUniform: draw * scale + offset; each step is computed in float32, or double for double, and rounded to the result's type.
struct Drawing {
  DType dtype = DType::kFloat32;
  bool normal = false;
  double scale = 1, offset = 0;

  static Drawing normal_of(const ir::Attrs& attrs, DType dtype) {
    return {dtype, true, static_cast<double>(attrs.get_float("scale", 1)), static_cast<double>(attrs.get_float("mean", 0))};
  }
  static Drawing uniform_of(const ir::Attrs& attrs, DType dtype) {
    const float low = attrs.get_float("low", 0), high = attrs.get_float("high", 1);
    return {dtype, false, static_cast<double>(high - low), static_cast<double>(low)};
  }
  double next(RandomStream& stream) const {
    const auto rounded = [this](double value) { return dtype == DType::kFloat64 ? value : round_as(dtype, static_cast<float>(value)); };
    const double value = round_as(dtype, normal ? stream.normal() : stream.uniform());
    return rounded(rounded(value * scale) + offset);
  }
};

}  // namespace lathe::ops
