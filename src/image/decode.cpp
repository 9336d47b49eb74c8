// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#include "image/decode.h"

#include <algorithm>
#include <string_view>

#include "image/formats.h"

namespace lathe::image {

Picture make_picture(const char* format, std::int64_t width, std::int64_t height, int channels) {
  const std::string name = std::string("the ") + format;
  if (width < 1 || height < 1) broken(name + " has " + std::to_string(width) + " x " + std::to_string(height) + " pixels");
  if (width > kMostPixels || height > kMostPixels || width * height > kMostPixels)
    unsupported(name + " has " + std::to_string(width) + " x " + std::to_string(height) + " pixels; at most " + std::to_string(kMostPixels) + " are decoded");
  Picture picture{height, width, channels, {}};
  picture.pixels.resize(static_cast<std::size_t>(width * height * channels));
  return picture;
}

Picture decode(Bytes file) {
  const auto begins = [&file](std::string_view magic, std::size_t at = 0) {
    return file.size() >= at + magic.size() && std::equal(magic.begin(), magic.end(), file.begin() + static_cast<std::ptrdiff_t>(at),
                                                          [](char a, std::uint8_t b) { return static_cast<std::uint8_t>(a) == b; });
  };
  using namespace std::string_view_literals;
  if (begins("\x89PNG\r\n\x1a\n"sv)) return decode_png(file);
  if (begins("\xff\xd8\xff"sv)) return decode_jpeg(file);
  if (begins("RIFF"sv) && begins("WEBP"sv, 8)) return decode_webp(file);
  if (begins("\0\0\0\x0cjP  \r\n\x87\n"sv) || begins("\xff\x4f\xff\x51"sv)) return decode_jpeg2000(file);
  if (begins("II*\0"sv) || begins("MM\0*"sv)) return decode_tiff(file);
  if (begins("BM"sv)) return decode_bmp(file);
  if (file.size() > 2 && file[0] == 'P' && file[1] >= '1' && file[1] <= '6') return decode_pnm(file);
  broken("the data begin as no PNG, JPEG, WebP, JPEG 2000, TIFF, BMP or PNM does");
}

Picture to_rgb(Picture picture) {
  if (picture.channels == 3) return picture;
  std::vector<std::uint8_t> pixels(picture.pixels.size() * 3);
  for (std::size_t i = 0; i < picture.pixels.size(); ++i) std::fill_n(pixels.begin() + static_cast<std::ptrdiff_t>(3 * i), 3, picture.pixels[i]);
  return {picture.height, picture.width, 3, std::move(pixels)};
}

Picture to_grey(Picture picture) {
  if (picture.channels == 1) return picture;
  std::vector<std::uint8_t> pixels(picture.pixels.size() / 3);
  for (std::size_t i = 0; i < pixels.size(); ++i) {
    const std::uint8_t* p = picture.pixels.data() + 3 * i;
    pixels[i] = static_cast<std::uint8_t>((p[0] * 19595u + p[1] * 38470u + p[2] * 7471u + 0x8000u) >> 16);
  }
  return {picture.height, picture.width, 1, std::move(pixels)};
}

}  // namespace lathe::image
