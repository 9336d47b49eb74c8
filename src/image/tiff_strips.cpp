// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Strips and tiles of TIFF files, unpacked.
#include <zlib.h>

#include <array>

#include "image/tiff.h"

namespace lathe::image {
namespace {

enum : std::uint32_t { kNone = 1, kLzw = 5, kDeflate = 8, kPackBits = 32773, kOldDeflate = 32946 };

[[noreturn]] void too_short() { broken("the TIFF has a strip that is too short"); }

std::vector<std::uint8_t> unpack_bits(Bytes data, std::size_t size) {
  std::vector<std::uint8_t> out;
  out.reserve(size);
  for (std::size_t at = 0; out.size() < size;) {
    if (at >= data.size()) too_short();
    const auto n = static_cast<std::int8_t>(data[at++]);
    if (n == -128) continue;
    const std::size_t count = n >= 0 ? static_cast<std::size_t>(n) + 1 : static_cast<std::size_t>(1 - n);
    const std::size_t taken = n >= 0 ? count : 1;
    if (taken > data.size() - at) too_short();
    for (std::size_t i = 0; i < count && out.size() < size; ++i) out.push_back(data[at + (n >= 0 ? i : 0)]);
    at += taken;
  }
  return out;
}

/// Codes of 9 to 12 bits, high bits first; the width grows one code early.
std::vector<std::uint8_t> unpack_lzw(Bytes data, std::size_t size) {
  constexpr unsigned kClear = 256, kEnd = 257, kTable = 4096;
  struct Entry {
    std::uint16_t before;
    std::uint8_t last;
    std::uint16_t length;
  };
  std::array<Entry, kTable> table{};
  for (unsigned i = 0; i < 256; ++i) table[i] = {0, static_cast<std::uint8_t>(i), 1};
  std::vector<std::uint8_t> out;
  out.reserve(size);
  unsigned next = kEnd + 1, width = 9, previous = kTable;
  std::uint64_t bits = 0;
  unsigned held = 0;
  std::size_t at = 0;
  const auto first_of = [&table](unsigned code) {
    while (table[code].length > 1) code = table[code].before;
    return table[code].last;
  };
  while (out.size() < size) {
    while (held < width) {
      if (at >= data.size()) too_short();
      bits = bits << 8 | data[at++];
      held += 8;
    }
    const auto code = static_cast<unsigned>(bits >> (held - width) & ((1u << width) - 1));
    held -= width;
    if (code == kEnd) too_short();
    if (code == kClear) {
      next = kEnd + 1;
      width = 9;
      previous = kTable;
      continue;
    }
    if (previous == kTable ? code > 255 : code > next) broken("the TIFF has an LZW code that is not defined yet");
    if (previous != kTable && next < kTable) {
      table[next] = {static_cast<std::uint16_t>(previous), first_of(code == next ? previous : code), static_cast<std::uint16_t>(table[previous].length + 1)};
      ++next;
      if (next + 1 >= 1u << width && width < 12) ++width;
    } else if (previous != kTable && code >= next) {
      broken("the TIFF has an LZW code that is not defined yet");
    }
    const std::size_t begin = out.size(), length = table[code].length;
    out.resize(begin + length);
    unsigned link = code;
    for (std::size_t i = length; i-- > 0; link = table[link].before) out[begin + i] = table[link].last;
    previous = code;
  }
  out.resize(size);
  return out;
}

std::vector<std::uint8_t> inflate_strip(Bytes data, std::size_t size) {
  std::vector<std::uint8_t> out(size);
  uLongf length = size;
  const int result = uncompress(out.data(), &length, data.data(), data.size());
  // A strip may hold more than is asked for: Z_BUF_ERROR with all of `out` written.
  if ((result != Z_OK && result != Z_BUF_ERROR) || length < size) too_short();
  return out;
}

}  // namespace

bool can_unpack(std::uint32_t compression) {
  return compression == kNone || compression == kLzw || compression == kDeflate || compression == kPackBits || compression == kOldDeflate;
}

std::vector<std::uint8_t> unpack_strip(Bytes data, std::uint32_t compression, std::size_t size) {
  if (size == 0) return {};
  if (compression == kPackBits) return unpack_bits(data, size);
  if (compression == kLzw) return unpack_lzw(data, size);
  if (compression == kDeflate || compression == kOldDeflate) return inflate_strip(data, size);
  if (data.size() < size) too_short();
  return {data.begin(), data.begin() + static_cast<std::ptrdiff_t>(size)};
}

}  // namespace lathe::image
