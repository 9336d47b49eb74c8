// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Pictures that the test writes itself come back; what is cut or altered gives an Error or some picture, never anything else.
#include "image/decode.h"

#include <cstddef>
#include <cstdio>

#include <gtest/gtest.h>
#include <jpeglib.h>
#include <png.h>
#include <webp/encode.h>
#include <zlib.h>

#include <cstdlib>
#include <map>
#include <string>

#include "lathe/status.h"

namespace lathe::image {
namespace {

using File = std::vector<std::uint8_t>;

constexpr int kWidth = 13, kHeight = 7;

Picture sample(int channels) {
  Picture p{kHeight, kWidth, channels, {}};
  std::uint32_t bits = 1;
  for (int i = 0; i < kWidth * kHeight * channels; ++i) {
    bits = bits * 1664525u + 1013904223u;
    p.pixels.push_back(static_cast<std::uint8_t>(bits >> 24));
  }
  return p;
}

/// Little-endian numbers and text, one after the other.
class Writer {
 public:
  File file;
  Writer& text(std::string_view t) {
    file.insert(file.end(), t.begin(), t.end());
    return *this;
  }
  Writer& u16(std::uint32_t v) { return number(v, 2); }
  Writer& u32(std::uint32_t v) { return number(v, 4); }
  Writer& bytes(const File& b) {
    file.insert(file.end(), b.begin(), b.end());
    return *this;
  }

 private:
  Writer& number(std::uint32_t v, int count) {
    for (int i = 0; i < count; ++i) file.push_back(static_cast<std::uint8_t>(v >> (8 * i)));
    return *this;
  }
};

File png_of(const Picture& p, bool alpha = false) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<png_uint_32>(p.width);
  image.height = static_cast<png_uint_32>(p.height);
  image.format = alpha ? PNG_FORMAT_RGBA : p.channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB;
  File pixels;
  if (alpha)
    for (std::size_t i = 0; i < p.pixels.size(); ++i) {
      pixels.push_back(p.pixels[i]);
      if (i % 3 == 2) pixels.push_back(static_cast<std::uint8_t>(i));
    }
  else pixels = p.pixels;
  png_alloc_size_t size = 1 << 16;
  File file(size);
  EXPECT_TRUE(png_image_write_to_memory(&image, file.data(), &size, 0, pixels.data(), 0, nullptr));
  file.resize(size);
  return file;
}

File jpeg_of(const Picture& p, bool progressive) {
  jpeg_compress_struct jpeg{};
  jpeg_error_mgr errors{};
  jpeg.err = jpeg_std_error(&errors);
  jpeg_create_compress(&jpeg);
  unsigned char* to = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&jpeg, &to, &size);
  jpeg.image_width = static_cast<JDIMENSION>(p.width);
  jpeg.image_height = static_cast<JDIMENSION>(p.height);
  jpeg.input_components = p.channels;
  jpeg.in_color_space = p.channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
  jpeg_set_defaults(&jpeg);
  jpeg_set_quality(&jpeg, 100, TRUE);
  if (progressive) jpeg_simple_progression(&jpeg);
  jpeg_start_compress(&jpeg, TRUE);
  for (std::int64_t y = 0; y < p.height; ++y) {
    auto* row = const_cast<JSAMPLE*>(p.pixels.data() + y * p.width * p.channels);
    jpeg_write_scanlines(&jpeg, &row, 1);
  }
  jpeg_finish_compress(&jpeg);
  File file(to, to + size);
  std::free(to);
  jpeg_destroy_compress(&jpeg);
  return file;
}

File webp_of(const Picture& p) {
  std::uint8_t* to = nullptr;
  const std::size_t size = WebPEncodeLosslessRGB(p.pixels.data(), static_cast<int>(p.width), static_cast<int>(p.height), static_cast<int>(p.width * 3), &to);
  File file(to, to + size);
  WebPFree(to);
  return file;
}

File ppm_of(const Picture& p, bool text) {
  Writer w;
  w.text(p.channels == 3 ? text ? "P3" : "P6" : text ? "P2" : "P5").text("\n# a comment\n13 7\n255\n");
  if (!text) return w.bytes(p.pixels).file;
  for (const auto v : p.pixels) w.text(std::to_string(v) + "\n");
  return w.file;
}

File bmp_of(const Picture& p, bool from_top) {
  Writer w;
  w.text("BM").u32(0).u32(0).u32(54).u32(40).u32(kWidth).u32(static_cast<std::uint32_t>(from_top ? -kHeight : kHeight)).u16(1).u16(24);
  for (int i = 0; i < 6; ++i) w.u32(0);
  for (int row = 0; row < kHeight; ++row) {
    const auto* from = p.pixels.data() + (from_top ? row : kHeight - 1 - row) * kWidth * 3;
    for (int x = 0; x < kWidth; ++x) w.bytes({from[3 * x + 2], from[3 * x + 1], from[3 * x]});
    w.bytes({0});  // rows are whole words
  }
  return w.file;
}

/// One index for each pixel, a palette of 256 greys, runs of one pixel and one of three that lie apart.
File bmp_runs_of(const Picture& p) {
  Writer w;
  w.text("BM").u32(0).u32(0).u32(54 + 1024).u32(40).u32(kWidth).u32(kHeight).u16(1).u16(8).u32(1);
  for (int i = 0; i < 5; ++i) w.u32(0);
  for (std::uint32_t i = 0; i < 256; ++i) w.u32(i * 0x10101);
  for (int row = kHeight - 1; row >= 0; --row) {
    const auto* from = p.pixels.data() + row * kWidth;
    for (int x = 0; x < 10; ++x) w.bytes({1, from[x]});
    w.bytes({0, 3, from[10], from[11], from[12], 0}).bytes({0, 0});
  }
  return w.bytes({0, 1}).file;
}

File deflated(const File& data) {
  uLongf size = compressBound(data.size());
  File out(size);
  EXPECT_EQ(compress(out.data(), &size, data.data(), data.size()), Z_OK);
  out.resize(size);
  return out;
}

File tiff_of(const Picture& p, bool deflate, bool predicted) {
  File data = p.pixels;
  if (predicted)
    for (int y = 0; y < kHeight; ++y)
      for (int i = kWidth * 3 - 1; i >= 3; --i) {
        auto& at = data[static_cast<std::size_t>(y * kWidth * 3 + i)];
        at = static_cast<std::uint8_t>(at - data[static_cast<std::size_t>(y * kWidth * 3 + i - 3)]);
      }
  if (deflate) data = deflated(data);
  Writer w;
  w.text("II").u16(42).u32(static_cast<std::uint32_t>(14 + data.size())).u16(8).u16(8).u16(8).bytes(data);
  const std::map<std::uint32_t, std::array<std::uint32_t, 3>> entries{{256, {3, 1, kWidth}},
                                                                      {257, {3, 1, kHeight}},
                                                                      {258, {3, 3, 8}},
                                                                      {259, {3, 1, deflate ? 8u : 1u}},
                                                                      {262, {3, 1, 2}},
                                                                      {273, {4, 1, 14}},
                                                                      {277, {3, 1, 3}},
                                                                      {278, {3, 1, kHeight}},
                                                                      {279, {4, 1, static_cast<std::uint32_t>(data.size())}},
                                                                      {317, {3, 1, predicted ? 2u : 1u}}};
  w.u16(static_cast<std::uint32_t>(entries.size()));
  for (const auto& [tag, e] : entries) w.u16(tag).u16(e[0]).u32(e[1]).u32(e[2]);
  return w.u32(0).file;
}

std::map<std::string, File> exact_files() {
  return {{"png", png_of(sample(3))},
          {"png with alpha", png_of(sample(3), true)},
          {"webp", webp_of(sample(3))},
          {"ppm", ppm_of(sample(3), false)},
          {"ppm text", ppm_of(sample(3), true)},
          {"bmp", bmp_of(sample(3), false)},
          {"bmp from the top", bmp_of(sample(3), true)},
          {"tiff", tiff_of(sample(3), false, false)},
          {"tiff deflated", tiff_of(sample(3), true, false)},
          {"tiff predicted", tiff_of(sample(3), true, true)}};
}

TEST(Decode, GivesThePixels) {
  for (const auto& [name, file] : exact_files()) {
    const Picture p = to_rgb(decode(file));
    EXPECT_EQ(p.width, kWidth) << name;
    EXPECT_EQ(p.height, kHeight) << name;
    EXPECT_EQ(p.pixels, sample(3).pixels) << name;
  }
  for (const auto& [name, file] : std::map<std::string, File>{{"png", png_of(sample(1))}, {"pgm", ppm_of(sample(1), false)}})
    EXPECT_EQ(decode(file).pixels, sample(1).pixels) << name;
  EXPECT_EQ(to_grey(decode(bmp_runs_of(sample(1)))).pixels, sample(1).pixels);
}

TEST(Decode, JpegsAreClose) {
  Picture smooth{16, 16, 3, {}};
  for (int i = 0; i < 16 * 16; ++i)
    for (int c = 0; c < 3; ++c) smooth.pixels.push_back(static_cast<std::uint8_t>(8 * (i / 16) + 4 * (i % 16) + 10 * c));
  for (const bool progressive : {false, true}) {
    const Picture p = decode(jpeg_of(smooth, progressive));
    ASSERT_EQ(p.pixels.size(), smooth.pixels.size());
    for (std::size_t i = 0; i < p.pixels.size(); ++i) EXPECT_NEAR(p.pixels[i], smooth.pixels[i], 6) << i;
  }
  EXPECT_EQ(decode(jpeg_of(sample(1), false)).channels, 1);
}

TEST(Decode, BitmapsOfOneBit) {
  EXPECT_EQ(decode(Writer().text("P1 3 2 1 0 1 0#c\n11").file).pixels, (File{0, 255, 0, 255, 0, 0}));
  EXPECT_EQ(decode(Writer().text("P4 3 2\n").bytes({0xa0, 0x60}).file).pixels, (File{0, 255, 0, 255, 0, 0}));
}

TEST(Decode, WideSamplesKeepTheUpperBits) { EXPECT_EQ(decode(Writer().text("P5 2 1 65535\n").bytes({0xff, 0xff, 0x80, 0x00}).file).pixels, (File{255, 128})); }

std::string message_of(const File& file, Code code) {
  try {
    decode(file);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.message();
    return error.message();
  }
  return "no error";
}

TEST(Decode, SaysWhatIsWrong) {
  EXPECT_EQ(message_of({}, Code::kCorruptFile), "the data begin as no PNG, JPEG, WebP, JPEG 2000, TIFF, BMP or PNM does");
  EXPECT_EQ(message_of(Writer().text("P6 0 4 255\n").file, Code::kCorruptFile), "the PNM has 0 x 4 pixels");
  EXPECT_EQ(message_of(Writer().text("P6 100000 100000 255\n").file, Code::kUnsupported), "the PNM has 100000 x 100000 pixels; at most 67108864 are decoded");
  EXPECT_EQ(message_of(Writer().text("P6 4 4 255\nabc").file, Code::kCorruptFile), "the PNM ends too early");
  File png = png_of(sample(3));
  png[16] = 0x7f;  // the width, beyond its checksum
  EXPECT_EQ(message_of(png, Code::kCorruptFile), "the PNG is broken: IHDR: CRC error");
  File jpeg = jpeg_of(sample(3), false);
  jpeg.resize(jpeg.size() - 20);
  EXPECT_EQ(message_of(jpeg, Code::kCorruptFile), "the JPEG is broken: Corrupt JPEG data: premature end of data segment");
}

TEST(Decode, AlteredFilesAreNoHarm) {
  auto files = exact_files();
  files["jpeg"] = jpeg_of(sample(3), false);
  files["jpeg progressive"] = jpeg_of(sample(3), true);
  files["bmp runs"] = bmp_runs_of(sample(1));
  const auto attempt = [](const File& file) {
    try {
      to_grey(decode(file));
    } catch (const Error&) {
    }
  };
  std::uint32_t bits = 1;
  const auto next = [&bits] { return (bits = bits * 1664525u + 1013904223u) >> 8; };
  for (const auto& [name, file] : files) {
    for (std::size_t length = 0; length < file.size(); ++length) attempt(File(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(length)));
    for (int round = 0; round < 1000; ++round) {
      File altered = file;
      for (std::uint32_t k = 0; k <= round % 4u; ++k) altered[next() % altered.size()] = static_cast<std::uint8_t>(next());
      attempt(altered);
    }
  }
}

}  // namespace
}  // namespace lathe::image
