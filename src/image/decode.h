// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Pictures from encoded files: PNG, JPEG, WebP, JPEG 2000, TIFF, BMP, PBM/PGM/PPM.

#include <cstdint>
#include <span>
#include <vector>

namespace lathe::image {

/// Rows from the top, pixels from the left, channels together. One channel is grey, three are red, green, blue.
struct Picture {
  std::int64_t height = 0, width = 0;
  int channels = 3;
  std::vector<std::uint8_t> pixels;
};

/// More are refused: a file of a few bytes can claim any number.
inline constexpr std::int64_t kMostPixels = std::int64_t{1} << 26;

using Bytes = std::span<const std::uint8_t>;

/// Throws Error(kCorruptFile) for what is no picture or a broken one, Error(kUnsupported) for a form that is not read here and for a
/// picture of more than kMostPixels. Transparency is left out; 16 bits are cut to the upper 8.
Picture decode(Bytes file);

Picture to_rgb(Picture picture);
/// (19595 R + 38470 G + 7471 B) / 65536, rounded: luma of ITU-R BT.601.
Picture to_grey(Picture picture);

}  // namespace lathe::image
