// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// TIFF (revision 6): the first picture of a file, in strips or tiles, samples together or apart, of 1 to 16 bits; black, white, grey,
// palette, RGB, inks.
#include "image/tiff.h"

#include <algorithm>
#include <map>

namespace lathe::image {
namespace {

enum Tag : std::uint32_t {
  kWidth = 256,
  kHeight = 257,
  kBits = 258,
  kCompression = 259,
  kPhotometric = 262,
  kFillOrder = 266,
  kStripAt = 273,
  kSamples = 277,
  kRowsPerStrip = 278,
  kStripBytes = 279,
  kPlanar = 284,
  kPredictor = 317,
  kColours = 320,
  kTileWidth = 322,
  kTileHeight = 323,
  kTileAt = 324,
  kTileBytes = 325,
  kFormat = 339,
};
enum Photometric : std::uint32_t { kWhiteIsZero = 0, kBlackIsZero = 1, kRgb = 2, kPalette = 3, kInks = 5 };

/// The entries of a directory, as numbers.
class Directory {
 public:
  explicit Directory(const Reader& in) : in_(in) {
    const std::uint32_t at = in.u32(4), count = in.u16(at);
    for (std::uint32_t i = 0; i < count; ++i) entries_.emplace(in.u16(at + 2 + std::uint64_t{12} * i), at + 2 + std::uint64_t{12} * i);
  }
  std::uint32_t get(Tag tag, std::uint32_t otherwise) const {
    const auto all = list(tag);
    return all.empty() ? otherwise : all.front();
  }
  std::vector<std::uint32_t> list(Tag tag) const {
    const auto it = entries_.find(tag);
    if (it == entries_.end()) return {};
    const std::uint32_t type = in_.u16(it->second + 2), count = in_.u32(it->second + 4);
    const unsigned bytes = type == 1 ? 1 : type == 3 ? 2 : type == 4 ? 4 : 0;
    if (bytes == 0) broken("the TIFF's entry " + std::to_string(tag) + " has the type " + std::to_string(type));
    const std::uint64_t at = std::uint64_t{count} * bytes <= 4 ? it->second + 8 : in_.u32(it->second + 8);
    in_.bytes(at, std::uint64_t{count} * bytes);
    std::vector<std::uint32_t> values(count);
    for (std::uint32_t i = 0; i < count; ++i) {
      const std::uint64_t place = at + std::uint64_t{i} * bytes;
      values[i] = bytes == 1 ? in_.u8(place) : bytes == 2 ? in_.u16(place) : in_.u32(place);
    }
    return values;
  }

 private:
  const Reader& in_;
  std::map<std::uint32_t, std::uint64_t> entries_;
};

/// How samples become pixels.
struct Form {
  std::int64_t width, height;
  std::uint32_t bits, samples, compression, photometric, predictor;
  bool apart, low_bits_first, big_endian;
  std::vector<std::uint32_t> colours;  // palette: reds, greens, blues of 16 bits
};

Form read_form(const Directory& in, bool big_endian) {
  Form f{};
  f.width = in.get(kWidth, 0);
  f.height = in.get(kHeight, 0);
  f.samples = in.get(kSamples, 1);
  f.compression = in.get(kCompression, 1);
  f.photometric = in.get(kPhotometric, f.samples >= 3 ? kRgb : kBlackIsZero);
  f.predictor = in.get(kPredictor, 1);
  f.apart = in.get(kPlanar, 1) == 2;
  f.low_bits_first = in.get(kFillOrder, 1) == 2;
  f.big_endian = big_endian;
  f.colours = in.list(kColours);
  const auto bits = in.list(kBits);
  f.bits = bits.empty() ? 1 : bits.front();
  for (const std::uint32_t b : bits)
    if (b != f.bits) unsupported("the TIFF has samples of different numbers of bits");
  for (const std::uint32_t format : in.list(kFormat))
    if (format != 1) unsupported("the TIFF has samples that are no unsigned numbers");
  if (f.bits != 1 && f.bits != 2 && f.bits != 4 && f.bits != 8 && f.bits != 16) unsupported("the TIFF has samples of " + std::to_string(f.bits) + " bits");
  if (!can_unpack(f.compression)) unsupported("the TIFF has the compression " + std::to_string(f.compression));
  if (f.predictor != 1 && (f.predictor != 2 || f.bits < 8)) unsupported("the TIFF has the predictor " + std::to_string(f.predictor));
  const bool colour = f.photometric == kRgb || f.photometric == kInks;
  if (!colour && f.photometric != kPalette && f.photometric > kBlackIsZero) unsupported("the TIFF has the colours " + std::to_string(f.photometric));
  const std::uint32_t least = f.photometric == kRgb ? 3 : f.photometric == kInks ? 4 : 1;
  if (f.samples < least || f.samples > 16) broken("the TIFF has " + std::to_string(f.samples) + " samples a pixel");
  if (f.photometric == kPalette && (f.bits > 8 || f.colours.size() != 3u << f.bits))
    broken("the TIFF has a palette of " + std::to_string(f.colours.size()) + " numbers");
  return f;
}

/// A strip or tile: `width` x `height` pixels of `samples` samples.
struct Block {
  const Form& form;
  std::int64_t width, height;
  std::uint32_t samples;
  std::vector<std::uint8_t> data;
  std::size_t row_bytes() const { return (static_cast<std::size_t>(width) * samples * form.bits + 7) / 8; }

  void undo_predictor() {
    const std::size_t row = row_bytes(), step = samples;
    for (std::int64_t y = 0; y < height; ++y) {
      std::uint8_t* p = data.data() + static_cast<std::size_t>(y) * row;
      if (form.bits == 8) {
        for (std::size_t i = step; i < row; ++i) p[i] = static_cast<std::uint8_t>(p[i] + p[i - step]);
      } else {
        for (std::size_t i = step; i < row / 2; ++i) {
          const unsigned sum = wide(p, i) + wide(p, i - step);
          p[2 * i + (form.big_endian ? 1 : 0)] = static_cast<std::uint8_t>(sum);
          p[2 * i + (form.big_endian ? 0 : 1)] = static_cast<std::uint8_t>(sum >> 8);
        }
      }
    }
  }
  unsigned wide(const std::uint8_t* row, std::size_t i) const {
    return form.big_endian ? unsigned{row[2 * i]} << 8 | row[2 * i + 1] : unsigned{row[2 * i + 1]} << 8 | row[2 * i];
  }
  /// The sample as it is stored, of 16 bits the upper 8.
  unsigned at(std::int64_t x, std::int64_t y, std::uint32_t sample) const {
    const std::uint8_t* row = data.data() + static_cast<std::size_t>(y) * row_bytes();
    const std::size_t i = static_cast<std::size_t>(x) * samples + sample;
    if (form.bits == 8) return row[i];
    if (form.bits == 16) return wide(row, i) >> 8;
    const std::size_t bit = i * form.bits, within = bit % 8;
    const unsigned shift = static_cast<unsigned>(form.low_bits_first ? within : 8 - form.bits - within);
    return row[bit / 8] >> shift & ((1u << form.bits) - 1);
  }
};

/// Turns a pixel's samples into grey or RGB.
void put_pixel(const Form& f, const unsigned* samples, std::uint8_t* to) {
  const unsigned most = f.bits >= 8 ? 255 : (1u << f.bits) - 1;
  const auto byte = [most](unsigned v) { return static_cast<std::uint8_t>(v * 255 / most); };
  if (f.photometric == kPalette) {
    for (std::size_t c = 0; c < 3; ++c) to[c] = static_cast<std::uint8_t>(f.colours[(c << f.bits) + samples[0]] >> 8);
  } else if (f.photometric == kRgb) {
    for (std::size_t c = 0; c < 3; ++c) to[c] = byte(samples[c]);
  } else if (f.photometric == kInks) {
    for (std::size_t c = 0; c < 3; ++c) to[c] = static_cast<std::uint8_t>((255u - byte(samples[c])) * (255u - byte(samples[3])) / 255);
  } else {
    to[0] = f.photometric == kWhiteIsZero ? static_cast<std::uint8_t>(255 - byte(samples[0])) : byte(samples[0]);
  }
}

}  // namespace

Picture decode_tiff(Bytes file) {
  const bool big_endian = file[0] == 'M';
  const Reader in(file, "TIFF", big_endian);
  const Directory directory(in);
  const Form form = read_form(directory, big_endian);
  Picture picture = make_picture("TIFF", form.width, form.height, form.photometric <= kBlackIsZero ? 1 : 3);
  const bool tiled = !directory.list(kTileAt).empty();
  const auto places = directory.list(tiled ? kTileAt : kStripAt), sizes = directory.list(tiled ? kTileBytes : kStripBytes);
  const std::int64_t block_width = tiled ? directory.get(kTileWidth, 0) : form.width;
  const std::int64_t block_height =
      std::min<std::int64_t>(tiled ? directory.get(kTileHeight, 0) : directory.get(kRowsPerStrip, 0xffffffff), tiled ? 1 << 20 : form.height);
  if (block_width < 1 || block_height < 1 || block_width > kMostPixels || block_width * block_height > kMostPixels)
    broken("the TIFF has tiles of no sensible size");
  if (block_width * block_height / 8 * form.bits * form.samples > std::int64_t{1} << 29) unsupported("the TIFF has strips or tiles of more than 512 MiB");
  const std::int64_t across = (form.width + block_width - 1) / block_width, down = (form.height + block_height - 1) / block_height;
  const std::uint32_t planes = form.apart ? form.samples : 1;
  if (static_cast<std::int64_t>(places.size()) < across * down * planes || sizes.size() != places.size()) broken("the TIFF lists too few strips");
  std::vector<unsigned> samples(form.samples);
  for (std::int64_t row = 0; row < down; ++row)
    for (std::int64_t column = 0; column < across; ++column) {
      std::vector<Block> blocks;  // one, or one a plane
      const std::int64_t rows = std::min(block_height, form.height - row * block_height), columns = std::min(block_width, form.width - column * block_width);
      for (std::uint32_t plane = 0; plane < planes; ++plane) {
        Block block{form, block_width, rows, form.apart ? 1 : form.samples, {}};
        const auto index = static_cast<std::size_t>((plane * down + row) * across + column);
        block.data = unpack_strip(in.bytes(places[index], sizes[index]), form.compression, block.row_bytes() * static_cast<std::size_t>(rows));
        if (form.predictor == 2) block.undo_predictor();
        blocks.push_back(std::move(block));
      }
      for (std::int64_t y = 0; y < rows; ++y)
        for (std::int64_t x = 0; x < columns; ++x) {
          for (std::uint32_t s = 0; s < form.samples; ++s) samples[s] = form.apart ? blocks[s].at(x, y, 0) : blocks[0].at(x, y, s);
          const std::int64_t pixel = (row * block_height + y) * form.width + column * block_width + x;
          put_pixel(form, samples.data(), picture.pixels.data() + pixel * picture.channels);
        }
    }
  return picture;
}

}  // namespace lathe::image
