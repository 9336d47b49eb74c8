// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See picture.h.

#include "picture.h"

#include <png.h>

#include <algorithm>
#include <cctype>
#include <fstream>
#include <iterator>

namespace yolov5 {
namespace {

constexpr int kMostPixelsASide = 1 << 15;

std::string ending(const std::filesystem::path& file) {
  std::string text = file.extension().string();
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

[[noreturn]] void fail(const std::filesystem::path& file, const std::string& what) { throw PictureError("'" + file.string() + "': " + what); }

Picture empty_picture(const std::filesystem::path& file, std::uint64_t width, std::uint64_t height) {
  if (width == 0 || height == 0) fail(file, "the picture is empty");
  if (width > kMostPixelsASide || height > kMostPixelsASide) fail(file, "the picture is too large");
  return Picture(static_cast<int>(width), static_cast<int>(height), 0);
}

Picture read_png(const std::filesystem::path& file) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  if (!png_image_begin_read_from_file(&image, file.c_str())) fail(file, image.message);
  // RGBA first: asked for RGB, libpng would blend transparent parts with a background; their stored colours are wanted.
  image.format = PNG_FORMAT_RGBA;
  std::vector<std::uint8_t> rgba;
  Picture picture;
  try {
    picture = empty_picture(file, image.width, image.height);
    rgba.resize(PNG_IMAGE_SIZE(image));
  } catch (...) {
    png_image_free(&image);
    throw;
  }
  if (!png_image_finish_read(&image, nullptr, rgba.data(), 0, nullptr)) fail(file, image.message);
  for (std::size_t i = 0; i < rgba.size() / 4; ++i) std::copy_n(rgba.data() + 4 * i, 3, picture.rgb.data() + 3 * i);
  return picture;
}

/// "P6 width height 255" with comments, one blank, then the bytes.
Picture read_ppm(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
  if (bytes.compare(0, 2, "P6") != 0) fail(file, "not a binary PPM (P6) file");
  std::size_t at = 2;
  const auto number = [&] {
    while (at < bytes.size() && (std::isspace(static_cast<unsigned char>(bytes[at])) || bytes[at] == '#')) {
      if (bytes[at] == '#') at = std::min(bytes.find('\n', at), bytes.size());
      else ++at;
    }
    std::uint64_t value = 0;
    const std::size_t begin = at;
    for (; at < bytes.size() && std::isdigit(static_cast<unsigned char>(bytes[at])) && at - begin < 9; ++at)
      value = 10 * value + static_cast<std::uint64_t>(bytes[at] - '0');
    if (at == begin) fail(file, "the PPM header is damaged");
    return value;
  };
  const std::uint64_t width = number(), height = number(), most = number();
  if (most != 255) fail(file, "only PPM files with 8 bits a channel are read");
  Picture picture = empty_picture(file, width, height);
  if (bytes.size() < at + 1 + picture.rgb.size()) fail(file, "the file ends early");
  std::copy_n(bytes.data() + at + 1, picture.rgb.size(), reinterpret_cast<char*>(picture.rgb.data()));
  return picture;
}

}  // namespace

bool is_picture(const std::filesystem::path& file) { return ending(file) == ".png" || ending(file) == ".ppm"; }

Picture read_picture(const std::filesystem::path& file) {
  if (!std::ifstream(file)) fail(file, "the file cannot be opened");
  if (ending(file) == ".png") return read_png(file);
  if (ending(file) == ".ppm") return read_ppm(file);
  fail(file, "only .png and .ppm pictures are read here; detect.py reads more");
}

void write_png(const Picture& picture, const std::filesystem::path& file) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<png_uint_32>(picture.width);
  image.height = static_cast<png_uint_32>(picture.height);
  image.format = PNG_FORMAT_RGB;
  if (!png_image_write_to_file(&image, file.c_str(), 0, picture.rgb.data(), 0, nullptr)) fail(file, image.message);
}

}  // namespace yolov5
