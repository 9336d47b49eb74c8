// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See npy_texts.h.

#include "cli/npy_texts.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>

namespace lathe::cli {
namespace {

void append_utf8(std::string& text, std::uint32_t c) {
  if (c < 0x80) {
    text += static_cast<char>(c);
  } else if (c < 0x800) {
    text += static_cast<char>(0xC0 | (c >> 6));
    text += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    text += static_cast<char>(0xE0 | (c >> 12));
    text += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    text += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x110000) {
    text += static_cast<char>(0xF0 | (c >> 18));
    text += static_cast<char>(0x80 | ((c >> 12) & 0x3F));
    text += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    text += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    text += "\xEF\xBF\xBD";  // no character: the sign for one that is unknown
  }
}

/// The characters of UTF-8; nullopt where it is none.
std::optional<std::u32string> characters_of(std::string_view text) {
  std::u32string out;
  for (std::size_t i = 0; i < text.size();) {
    const auto first = static_cast<unsigned char>(text[i]);
    const std::size_t more = first < 0x80 ? 0 : (first >> 5) == 6 ? 1 : (first >> 4) == 14 ? 2 : (first >> 3) == 30 ? 3 : text.size();
    if (more >= text.size() - i) return std::nullopt;
    std::uint32_t c = more == 0 ? first : first & (0x3FU >> more);
    for (std::size_t k = 1; k <= more; ++k) {
      const auto next = static_cast<unsigned char>(text[i + k]);
      if ((next >> 6) != 2) return std::nullopt;
      c = (c << 6) | (next & 0x3FU);
    }
    out += static_cast<char32_t>(c);
    i += more + 1;
  }
  return out;
}

}  // namespace

std::optional<TextField> text_field(std::string_view descr) {
  if (descr.size() < 3 || (descr[1] != 'U' && descr[1] != 'S')) return std::nullopt;
  TextField field;
  field.wide = descr[1] == 'U';
  field.swapped = field.wide && descr[0] == '>';
  const auto [end, error] = std::from_chars(descr.data() + 2, descr.data() + descr.size(), field.characters);
  if (error != std::errc() || end != descr.data() + descr.size() || field.characters > (std::size_t{1} << 30)) return std::nullopt;
  return field;
}

std::vector<std::string> read_texts(const TextField& field, const std::byte* from, std::int64_t count) {
  std::vector<std::string> texts(static_cast<std::size_t>(count));
  for (std::string& text : texts) {
    if (field.wide) {
      for (std::size_t i = 0; i < field.characters; ++i) {
        std::uint32_t c = 0;
        std::memcpy(&c, from + 4 * i, 4);
        if (field.swapped) c = __builtin_bswap32(c);
        if (c == 0 && std::all_of(from + 4 * i, from + field.bytes(), [](std::byte b) { return b == std::byte{}; })) break;
        append_utf8(text, c);
      }
    } else {
      text.assign(reinterpret_cast<const char*>(from), field.characters);
      text.erase(text.find_last_not_of('\0') + 1);
    }
    from += field.bytes();
  }
  return texts;
}

NumpyTexts write_texts(const Tensor& texts) {
  std::vector<std::u32string> wide;
  std::size_t most = 1, most_bytes = 1;
  bool utf8 = true;
  for (const std::string& text : texts.string_data()) {
    most_bytes = std::max(most_bytes, text.size());
    auto characters = characters_of(text);
    utf8 &= characters.has_value();
    if (characters) most = std::max(most, characters->size());
    wide.push_back(std::move(characters).value_or(std::u32string()));
  }
  NumpyTexts out;
  if (!utf8) {
    out.descr = fmt::format("|S{}", most_bytes);
    for (const std::string& text : texts.string_data()) out.bytes += text + std::string(most_bytes - text.size(), '\0');
    return out;
  }
  out.descr = fmt::format("<U{}", most);
  for (std::u32string& text : wide) {
    text.resize(most, U'\0');
    out.bytes.append(reinterpret_cast<const char*>(text.data()), 4 * most);
  }
  return out;
}

}  // namespace lathe::cli
