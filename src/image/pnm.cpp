// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The portable formats: P1 to P3 as text, P4 to P6 as bytes (16-bit samples with the high byte first). Of several pictures the first.
#include "image/formats.h"

namespace lathe::image {
namespace {

/// Numbers separated by white space, with comments from # to the end of a line.
class Text {
 public:
  explicit Text(Bytes file) : file_(file) {}
  std::size_t at = 2;

  void skip_space() {
    while (at < file_.size()) {
      if (file_[at] == '#') {
        while (at < file_.size() && file_[at] != '\n' && file_[at] != '\r') ++at;
      } else if (is_space(file_[at])) {
        ++at;
      } else {
        return;
      }
    }
  }
  std::int64_t number() {
    skip_space();
    std::int64_t value = 0;
    const std::size_t begin = at;
    for (; at < file_.size() && file_[at] >= '0' && file_[at] <= '9'; ++at) {
      value = value * 10 + (file_[at] - '0');
      if (value > std::int64_t{1} << 31) broken("the PNM has a number that is too large");
    }
    if (at == begin) broken(at == file_.size() ? "the PNM ends too early" : "the PNM has no number where one is due");
    return value;
  }
  /// A bit of P1, which needs no space around it.
  bool bit() {
    skip_space();
    if (at == file_.size()) broken("the PNM ends too early");
    const std::uint8_t c = file_[at++];
    if (c != '0' && c != '1') broken("the PNM has a bit that is neither 0 nor 1");
    return c == '1';
  }
  static bool is_space(std::uint8_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

 private:
  Bytes file_;
};

}  // namespace

Picture decode_pnm(Bytes file) {
  const int kind = file[1] - '0';
  const bool bits = kind == 1 || kind == 4, binary = kind > 3;
  Text text(file);
  const std::int64_t width = text.number(), height = text.number(), most = bits ? 1 : text.number();
  if (most < 1 || most > 65535) broken("the PNM has the largest value " + std::to_string(most));
  if (binary && (text.at >= file.size() || !Text::is_space(file[text.at++]))) broken("the PNM ends too early");
  const Reader reader(file, "PNM", true);
  Picture picture = make_picture("PNM", width, height, kind == 3 || kind == 6 ? 3 : 1);
  const std::uint64_t samples = picture.pixels.size(), bytes_each = most > 255 ? 2 : 1, row_bytes = static_cast<std::uint64_t>(width + 7) / 8;
  const Bytes data = !binary ? Bytes() : reader.bytes(text.at, kind == 4 ? row_bytes * static_cast<std::uint64_t>(height) : samples * bytes_each);
  for (std::uint64_t i = 0; i < samples; ++i) {
    std::int64_t value = 0;
    if (kind == 1) {
      value = text.bit() ? 0 : 1;  // one is black
    } else if (kind == 4) {
      const std::uint64_t x = i % static_cast<std::uint64_t>(width), y = i / static_cast<std::uint64_t>(width);
      value = data[y * row_bytes + x / 8] >> (7 - x % 8) & 1 ? 0 : 1;
    } else if (!binary) {
      value = text.number();
    } else {
      value = bytes_each == 2 ? data[2 * i] << 8 | data[2 * i + 1] : data[i];
    }
    if (value > most) broken("the PNM has a sample above its largest value");
    picture.pixels[i] = static_cast<std::uint8_t>((value * 255 + most / 2) / most);
  }
  return picture;
}

}  // namespace lathe::image
