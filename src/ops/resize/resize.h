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

/// `mode.axes`, none negative, or all. Throws Error(kInvalidModel).
std::vector<std::int64_t> resized_axes(const ResizeMode& mode, std::size_t rank);

struct Tap {
  std::int64_t index;
  double weight;
};

/// How one output position of an axis is made; `outside`: it takes the extrapolation value. All positions of an axis have as many taps.
struct Position {
  std::vector<Tap> taps;
  bool outside = false;
};
Position position_of(const ResizeMode& mode, std::int64_t at, double scale, std::int64_t in, std::int64_t out, double roi_start, double roi_end);

/// What is written to each axis: extents and scales.
struct ResizeTargets {
  Dims out;
  std::vector<double> scales;
};
/// Of an input with extents `in`; a tensor that is left out is undefined. Throws Error(kInvalidModel).
ResizeTargets resize_targets(const ResizeMode& mode, const Dims& in, const Tensor& scales, const Tensor& sizes);

bool resize_lower(const Node& node, loops::RegionBuilder& builder);
bool resize_expand(ExpandContext& ctx);

}  // namespace lathe::ops
