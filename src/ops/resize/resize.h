// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What Resize's definition and its lowering share: the attributes read once, and how one axis maps output positions to input ones.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ops/op_def.h"

namespace lathe::loops {
class RegionBuilder;
}

namespace lathe::ops {

struct ResizeMode {
  enum class Kind : std::uint8_t { kNearest, kLinear, kCubic } kind = Kind::kNearest;
  /// half_pixel, half_pixel_symmetric, pytorch_half_pixel, align_corners, asymmetric, tf_half_pixel_for_nn, tf_crop_and_resize
  std::string coordinates = "half_pixel";
  /// round_prefer_floor, round_prefer_ceil, floor, ceil
  std::string nearest = "round_prefer_floor";
  double cubic_a = -0.75, extrapolation = 0;
  bool exclude_outside = false, antialias = false;
  std::vector<std::int64_t> axes;  ///< empty: all
  std::string aspect = "stretch";  ///< stretch, not_larger, not_smaller
};

/// Throws Error(kInvalidModel) on an unknown mode; the caller adds the node.
ResizeMode read_resize_mode(const Attrs& attrs);

/// p / q when `scale` is that close to such a fraction with a small q.
std::optional<std::pair<std::int64_t, std::int64_t>> as_fraction(double scale);

bool resize_lower(const Node& node, loops::RegionBuilder& builder);

}  // namespace lathe::ops
