// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The sliding window that convolutions and poolings share: attributes, output extents (symbolic and concrete), effective pads.

#include <utility>
#include <vector>

#include "ops/op_def.h"

namespace lathe::ops {

struct Window {
  std::vector<std::int64_t> kernel, strides, dilations;
  std::vector<std::int64_t> pads_begin, pads_end;  ///< explicit pads; concrete() fills them in for SAME_*
  enum class Auto : std::uint8_t { kNotSet, kSameUpper, kSameLower, kValid } automatic = Auto::kNotSet;
  bool ceil_mode = false;

  std::size_t rank() const noexcept { return kernel.size(); }
  /// Extent that the dilated kernel covers on `axis`.
  std::int64_t reach(std::size_t axis) const { return (kernel[axis] - 1) * dilations[axis] + 1; }
  /// Output extent on a spatial axis. ceil_mode: the last window must start inside the input or its left pad.
  Dim output(std::size_t axis, const Dim& input) const;
  std::int64_t output(std::size_t axis, std::int64_t input) const;
  /// Pads before and behind on an axis of this extent, SAME_* included. Allocates nothing.
  std::pair<std::int64_t, std::int64_t> pads(std::size_t axis, std::int64_t input) const;
  /// The same window with the pads that SAME_* means for this input.
  Window concrete(const Dims& spatial_input) const;
};

/// Reads kernel_shape (or `kernel` where the op takes it from the weight), strides, dilations, pads, auto_pad, ceil_mode. Throws
/// Error(kInvalidModel) on lists of the wrong length or values that make no sense; the caller adds the node.
Window read_window(const Attrs& attrs, const std::vector<std::int64_t>& kernel, std::size_t spatial_rank);

}  // namespace lathe::ops
