// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See window.h. Formulas: ONNX operator documentation of Conv, AveragePool and MaxPool.

#include "ops/window.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

namespace lathe::ops {

Dim Window::output(std::size_t axis, const Dim& input) const {
  const Dim stride(strides[axis]), covered(reach(axis)), one(1);
  switch (automatic) {
    case Auto::kSameUpper:
    case Auto::kSameLower: return Dim::ceildiv(input, stride);
    case Auto::kValid: return ceil_mode ? Dim::ceildiv(input - covered, stride) + one : Dim::floordiv(input - covered, stride) + one;
    case Auto::kNotSet: break;
  }
  const Dim begin(pads_begin[axis]), room = input + begin + Dim(pads_end[axis]) - covered;
  if (!ceil_mode) return Dim::floordiv(room, stride) + one;
  const Dim all = Dim::ceildiv(room, stride) + one, inside = Dim::floordiv(input + begin - one, stride) + one;
  // With no stride, or one that the pads cannot overshoot, the two agree.
  if (strides[axis] == 1) return all;
  return Dim::min(all, inside);
}

std::int64_t Window::output(std::size_t axis, std::int64_t input) const { return *output(axis, Dim(input)).constant(); }

std::pair<std::int64_t, std::int64_t> Window::pads(std::size_t axis, std::int64_t input) const {
  if (automatic == Auto::kNotSet) return {pads_begin[axis], pads_end[axis]};
  if (automatic == Auto::kValid) return {0, 0};
  const std::int64_t stride = strides[axis], windows = input > 0 ? (input - 1) / stride + 1 : 0;
  const std::int64_t total = std::max<std::int64_t>(0, (windows - 1) * stride + reach(axis) - input), half = total / 2;
  return automatic == Auto::kSameUpper ? std::pair(half, total - half) : std::pair(total - half, half);
}

Window Window::concrete(const Dims& spatial_input) const {
  Window window = *this;
  for (std::size_t axis = 0; axis < rank(); ++axis) std::tie(window.pads_begin[axis], window.pads_end[axis]) = pads(axis, spatial_input[axis]);
  return window;
}

Window read_window(const Attrs& attrs, const std::vector<std::int64_t>& kernel, std::size_t spatial_rank) {
  Window window;
  const auto fail = [](std::string text) { throw Error(Code::kInvalidModel, std::move(text)); };
  const auto list = [&](const char* name, std::size_t length, std::int64_t fallback, std::int64_t least) {
    std::vector<std::int64_t> values = attrs.get_ints(name);
    if (values.empty()) values.assign(length, fallback);
    if (values.size() != length) fail(fmt::format("attribute '{}' has {} values, the input has {} spatial axes", name, values.size(), spatial_rank));
    for (const std::int64_t value : values)
      if (value < least) fail(fmt::format("attribute '{}' holds {}, the least that makes sense is {}", name, value, least));
    return values;
  };
  window.kernel = attrs.get_ints("kernel_shape");
  if (window.kernel.empty()) window.kernel = kernel;
  if (window.kernel.size() != spatial_rank)
    fail(fmt::format("attribute 'kernel_shape' has {} values, the input has {} spatial axes", window.kernel.size(), spatial_rank));
  if (!kernel.empty() && window.kernel != kernel) fail("attribute 'kernel_shape' differs from the weight's shape");
  for (const std::int64_t extent : window.kernel)
    if (extent < 1) fail(fmt::format("the kernel has the extent {}", extent));
  window.strides = list("strides", spatial_rank, 1, 1);
  window.dilations = list("dilations", spatial_rank, 1, 1);
  // Negative pads crop; ONNX allows them for poolings and convolutions alike.
  const auto pads = list("pads", 2 * spatial_rank, 0, INT64_MIN / 4);
  window.pads_begin.assign(pads.begin(), pads.begin() + static_cast<std::ptrdiff_t>(spatial_rank));
  window.pads_end.assign(pads.begin() + static_cast<std::ptrdiff_t>(spatial_rank), pads.end());
  const std::string automatic = attrs.get_string("auto_pad", "NOTSET");
  if (automatic == "SAME_UPPER") window.automatic = Window::Auto::kSameUpper;
  else if (automatic == "SAME_LOWER") window.automatic = Window::Auto::kSameLower;
  else if (automatic == "VALID") window.automatic = Window::Auto::kValid;
  else if (automatic != "NOTSET") fail(fmt::format("attribute 'auto_pad' is '{}'; expected NOTSET, SAME_UPPER, SAME_LOWER or VALID", automatic));
  window.ceil_mode = attrs.get_int("ceil_mode", 0) != 0;
  return window;
}

}  // namespace lathe::ops
