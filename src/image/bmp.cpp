// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// BMP: 1, 4, 8 bits with a palette, 16, 24, 32 bits with or without masks, run-length coding; rows from the bottom or the top.
#include <array>
#include <bit>

#include "image/formats.h"

namespace lathe::image {
namespace {

struct Header {
  std::int64_t width, height;
  bool from_top;
  std::uint32_t bits, coding, colours, pixels_at, palette_at, palette_entry;
  std::array<std::uint32_t, 3> masks;  // red, green, blue
};

enum : std::uint32_t { kPlain = 0, kRuns8 = 1, kRuns4 = 2, kMasks = 3, kMasksAlpha = 6 };

Header read_header(const Reader& in) {
  Header h{};
  h.pixels_at = in.u32(10);
  const std::uint32_t size = in.u32(14);
  if (size == 12) {  // OS/2's
    h.width = in.u16(18);
    h.height = in.u16(20);
    h.bits = in.u16(24);
    h.palette_entry = 3;
  } else if (size >= 40) {
    h.width = in.i32(18);
    h.height = in.i32(22);
    h.bits = in.u16(28);
    h.coding = in.u32(30);
    h.colours = in.u32(46);
    h.palette_entry = 4;
  } else {
    broken("the BMP has a header of " + std::to_string(size) + " bytes");
  }
  h.from_top = h.height < 0;
  h.height = h.height < 0 ? -h.height : h.height;
  h.palette_at = 14 + size;
  if (h.bits == 16) h.masks = {0x7c00, 0x3e0, 0x1f};
  else h.masks = {0xff0000, 0xff00, 0xff};
  if (h.coding == kMasks || h.coding == kMasksAlpha) {
    if (h.bits != 16 && h.bits != 32) broken("the BMP has masks for " + std::to_string(h.bits) + " bits");
    for (std::uint32_t c = 0; c < 3; ++c) h.masks[c] = in.u32(54 + 4 * c);
    if (size == 40) h.palette_at += h.coding == kMasks ? 12 : 16;
  } else if (h.coding == kRuns8 || h.coding == kRuns4) {
    if (h.bits != (h.coding == kRuns8 ? 8u : 4u) || h.from_top) broken("the BMP has runs for " + std::to_string(h.bits) + " bits");
  } else if (h.coding != kPlain) {
    unsupported("the BMP has the coding " + std::to_string(h.coding));
  }
  if (h.bits != 1 && h.bits != 4 && h.bits != 8 && h.bits != 16 && h.bits != 24 && h.bits != 32)
    broken("the BMP has " + std::to_string(h.bits) + " bits a pixel");
  return h;
}

using Palette = std::array<std::array<std::uint8_t, 3>, 256>;

Palette read_palette(const Reader& in, const Header& h) {
  Palette palette{};
  const std::uint32_t most = 1u << h.bits, count = h.colours == 0 || h.colours > most ? most : h.colours;
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uint64_t at = h.palette_at + std::uint64_t{i} * h.palette_entry;
    if (at + 3 > h.pixels_at && h.pixels_at > h.palette_at) break;  // shorter than it says
    const Bytes bgr = in.bytes(at, 3);
    palette[i] = {bgr[2], bgr[1], bgr[0]};
  }
  return palette;
}

/// Indices into the palette, rows from the bottom.
std::vector<std::uint8_t> read_runs(const Reader& in, const Header& h) {
  std::vector<std::uint8_t> indices(static_cast<std::size_t>(h.width * h.height));
  std::uint64_t at = h.pixels_at;
  std::int64_t x = 0, y = 0;
  const auto put = [&](unsigned index) {
    if (x >= h.width || y >= h.height) broken("the BMP has runs beyond its pixels");
    indices[static_cast<std::size_t>(y * h.width + x++)] = static_cast<std::uint8_t>(index);
  };
  const bool halves = h.coding == kRuns4;
  while (true) {
    const unsigned count = in.u8(at), value = in.u8(at + 1);
    at += 2;
    if (count > 0) {
      for (unsigned i = 0; i < count; ++i) put(!halves ? value : i % 2 == 0 ? value >> 4 : value & 15);
    } else if (value == 0) {
      x = 0;
      ++y;
    } else if (value == 1) {
      return indices;
    } else if (value == 2) {
      x += in.u8(at);
      y += in.u8(at + 1);
      at += 2;
    } else {
      const std::uint64_t bytes = halves ? (value + 1) / 2 : value;
      for (unsigned i = 0; i < value; ++i) {
        const unsigned byte = in.u8(at + (halves ? i / 2 : i));
        put(!halves ? byte : i % 2 == 0 ? byte >> 4 : byte & 15);
      }
      at += bytes + bytes % 2;
    }
  }
}

std::uint8_t masked(std::uint32_t value, std::uint32_t mask) {
  if (mask == 0) return 0;
  const std::uint64_t most = mask >> std::countr_zero(mask), part = (value & mask) >> std::countr_zero(mask);
  return static_cast<std::uint8_t>(part * 255 / most);
}

}  // namespace

Picture decode_bmp(Bytes file) {
  const Reader in(file, "BMP");
  const Header h = read_header(in);
  Picture picture = make_picture("BMP", h.width, h.height, 3);
  const Palette palette = h.bits <= 8 ? read_palette(in, h) : Palette{};
  const bool runs = h.coding == kRuns8 || h.coding == kRuns4;
  const auto indices = runs ? read_runs(in, h) : std::vector<std::uint8_t>();
  const std::uint64_t row_bytes = (static_cast<std::uint64_t>(h.width) * h.bits + 31) / 32 * 4;
  for (std::int64_t row = 0; row < h.height; ++row) {
    std::uint8_t* to = picture.pixels.data() + (h.from_top ? row : h.height - 1 - row) * h.width * 3;
    const Bytes data = runs ? Bytes(indices).subspan(static_cast<std::size_t>(row * h.width), static_cast<std::size_t>(h.width))
                            : in.bytes(h.pixels_at + static_cast<std::uint64_t>(row) * row_bytes, (static_cast<std::uint64_t>(h.width) * h.bits + 7) / 8);
    for (std::int64_t x = 0; x < h.width; ++x, to += 3) {
      const auto i = static_cast<std::size_t>(x);
      if (h.bits <= 8) {
        const unsigned in_byte = runs ? 1 : 8 / h.bits, shift = runs ? 0 : 8 - h.bits * (static_cast<unsigned>(i % in_byte) + 1);
        const auto& rgb = palette[runs ? data[i] : data[i / in_byte] >> shift & ((1u << h.bits) - 1)];
        for (std::size_t c = 0; c < 3; ++c) to[c] = rgb[c];
      } else if (h.bits == 24) {
        for (std::size_t c = 0; c < 3; ++c) to[c] = data[3 * i + 2 - c];
      } else {
        std::uint32_t value = 0;
        for (std::size_t b = h.bits / 8; b-- > 0;) value = value << 8 | data[i * (h.bits / 8) + b];
        for (std::size_t c = 0; c < 3; ++c) to[c] = masked(value, h.masks[c]);
      }
    }
  }
  return picture;
}

}  // namespace lathe::image
