// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the CUDA candidates of conv_block and their kernels share beside conv_params.h.

#include "regions/conv_block/conv_params.h"
#include "regions/cuda_params.h"

namespace lathe::regions {

/// How a convolution reads its image. Where a network's input is stored with surplus channels that are zero (ValuePlan::row), they take part in
/// the product: as the second half of pairs of pixels, or as channels of their own.
enum class ImageMode : std::int64_t { kAsIs = 0, kPairs = 1, kWidened = 2 };

inline cuda::ConvShape cuda_shape(const cpu::ConvProblem& p) {
  return {p.n,        p.h,       p.w,        p.cin,        p.cout,      p.kh,         p.kw,         p.stride_h,
          p.stride_w, p.pad_top, p.pad_left, p.pad_bottom, p.pad_right, p.dilation_h, p.dilation_w, p.groups};
}

/// The convolution that the kernels run; `pixel`: elements between the image's pixels.
inline cuda::ConvShape executed_shape(cuda::ConvShape shape, ImageMode mode, std::int64_t pixel) noexcept {
  if (mode == ImageMode::kPairs) return cuda::paired_shape(shape);
  if (mode == ImageMode::kWidened) shape.cin = pixel;
  return shape;
}

}  // namespace lathe::regions
