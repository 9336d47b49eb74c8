// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// A transposed convolution as a convolution with stride 1 whose output channels are the phases of the result: output pixel (s q + r) of
// channel c is pixel q of channel (r, c). On each axis
//
//   y[s q + r] = sum over taps k with (r + pad - k d) divisible by s of x[q + (r + pad - k d) / s] w[k]
//
// so tap k belongs to phase (k d - pad) mod s, and reads the input at a fixed offset from q. The window spans the offsets of all phases.

#include <algorithm>

#include "backend/cpu/conv_transpose.h"
#include "backend/cuda/kernels/gemm_plan.h"

namespace lathe::regions {

struct PhaseAxis {
  std::int64_t stride = 1, dilation = 1, pad = 0, taps = 1;
  std::int64_t first = 0, window = 1;  ///< offset of the window's first tap from q; taps in the window

  static std::int64_t floor_div(std::int64_t a, std::int64_t b) noexcept { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }
  std::int64_t phase_of(std::int64_t tap) const noexcept {
    const std::int64_t at = tap * dilation - pad;
    return at - floor_div(at, stride) * stride;
  }
  /// Where tap k reads, relative to q.
  std::int64_t offset_of(std::int64_t tap) const noexcept { return (phase_of(tap) + pad - tap * dilation) / stride; }

  PhaseAxis(std::int64_t stride, std::int64_t dilation, std::int64_t pad, std::int64_t taps) noexcept
      : stride(stride), dilation(dilation), pad(pad), taps(taps) {
    std::int64_t least = offset_of(0), most = least;
    for (std::int64_t k = 1; k < taps; ++k) least = std::min(least, offset_of(k)), most = std::max(most, offset_of(k));
    // Padding in front is not negative: a window that begins behind q is begun at q.
    first = std::min<std::int64_t>(least, 0);
    window = most - first + 1;
  }
};

struct TransposePhases {
  PhaseAxis y, x;
  cuda::ConvShape shape;  ///< of the convolution; its channels are (phase along y, phase along x, channel)
};

/// Of one group.
inline TransposePhases transpose_phases(const cpu::ConvTransposeProblem& p) noexcept {
  TransposePhases t{{p.stride_h, p.dilation_h, p.pad_top, p.kh}, {p.stride_w, p.dilation_w, p.pad_left, p.kw}, {}};
  cuda::ConvShape& s = t.shape;
  s.n = p.n;
  s.h = p.h;
  s.w = p.w;
  s.cin = p.cin;
  s.cout = p.cout * p.stride_h * p.stride_w;
  s.kh = t.y.window;
  s.kw = t.x.window;
  s.pad_top = -t.y.first;
  s.pad_left = -t.x.first;
  // Whole periods of the output: the surplus is cut off.
  const std::int64_t rows = (p.oh() + p.stride_h - 1) / p.stride_h, columns = (p.ow() + p.stride_w - 1) / p.stride_w;
  s.pad_bottom = rows - 1 + s.kh - s.h - s.pad_top;
  s.pad_right = columns - 1 + s.kw - s.w - s.pad_left;
  return t;
}

}  // namespace lathe::regions
