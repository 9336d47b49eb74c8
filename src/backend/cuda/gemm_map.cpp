// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See gemm_map.h.

#include "backend/cuda/gemm_map.h"

namespace lathe::cuda {

void encode_map(const Driver& driver, PipeParams& p, int rows, int items) noexcept {
  constexpr unsigned kChunk = 64, kDimensions = 4;
  const unsigned inner = p.batch_inner.divisor, outer = static_cast<unsigned>(items) / inner;
  const auto bytes = [](long long elements) { return static_cast<std::uint64_t>(elements) * 2; };
  Result result = kSuccess;
  if (p.map_kind == kMapRows) {
    if (!driver.map_tiled) {
      p.map_kind = kGathered;
      return;
    }
    const std::uint64_t extents[kDimensions] = {static_cast<std::uint64_t>(p.channels), static_cast<std::uint64_t>(p.rows), inner, outer};
    // Dimensions of extent 1 need some legal stride all the same.
    const std::uint64_t strides[kDimensions - 1] = {bytes(p.a_pixel), inner > 1 ? bytes(p.a_inner) : 16, outer > 1 ? bytes(p.a_outer) : 16};
    const unsigned box[kDimensions] = {kChunk, static_cast<unsigned>(rows), 1, 1}, steps[kDimensions] = {1, 1, 1, 1};
    result = driver.map_tiled(p.map, kMapElements16, kDimensions, const_cast<void*>(p.a), extents, strides, box, steps, 0, kMapSwizzle128, kMapPromote256, 0);
  } else if (p.map_kind == kMapImage) {
    if (!driver.map_image) {
      p.map_kind = kGathered;
      return;
    }
    const int ow = static_cast<int>(p.out_width.divisor), oh = static_cast<int>(p.out_pixels.divisor) / ow;
    const std::uint64_t images = (static_cast<std::uint64_t>(p.rows) - 1) / p.out_pixels.divisor + 1;
    const std::uint64_t extents[kDimensions] = {static_cast<std::uint64_t>(p.channels) * inner, static_cast<std::uint64_t>(p.width),
                                                static_cast<std::uint64_t>(p.height), images};
    const std::uint64_t strides[kDimensions - 1] = {bytes(p.a_pixel), bytes(p.a_row), bytes(p.a_image)};
    // The box holds the places of the window's first tap; its end counts from the image's.
    const int lower[2] = {-p.pad_left, -p.pad_top};
    const int upper[2] = {(ow - 1) * p.stride_w + 1 - p.pad_left - p.width, (oh - 1) * p.stride_h + 1 - p.pad_top - p.height};
    const unsigned steps[kDimensions] = {1, static_cast<unsigned>(p.stride_w), static_cast<unsigned>(p.stride_h), 1};
    result = driver.map_image(p.map, kMapElements16, kDimensions, const_cast<void*>(p.a), extents, strides, lower, upper, kChunk, static_cast<unsigned>(rows),
                              steps, 0, kMapSwizzle128, kMapPromote256, 0);
  }
  if (result != kSuccess) p.map_kind = kGathered;
}

}  // namespace lathe::cuda
