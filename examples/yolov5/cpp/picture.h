// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// RGB pictures in memory and in files: PNG (libpng) and binary PPM.

#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

namespace yolov5 {

/// What is wrong with a picture file, ready for the user.
struct PictureError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Picture {
  int width = 0, height = 0;
  std::vector<std::uint8_t> rgb;  ///< rows from the top, three bytes a pixel

  Picture() = default;
  Picture(int w, int h, std::uint8_t fill) : width(w), height(h), rgb(static_cast<std::size_t>(w) * static_cast<std::size_t>(h) * 3, fill) {}
  std::uint8_t* pixel(int x, int y) { return rgb.data() + (static_cast<std::size_t>(y) * static_cast<std::size_t>(width) + static_cast<std::size_t>(x)) * 3; }
  const std::uint8_t* pixel(int x, int y) const { return const_cast<Picture*>(this)->pixel(x, y); }
};

/// True for the endings that read_picture knows.
bool is_picture(const std::filesystem::path& file);
/// Grey, palette, 16-bit and transparent PNG files come out as plain RGB (transparent parts as stored). Throws PictureError.
Picture read_picture(const std::filesystem::path& file);
/// Throws PictureError.
void write_png(const Picture& picture, const std::filesystem::path& file);

}  // namespace yolov5
