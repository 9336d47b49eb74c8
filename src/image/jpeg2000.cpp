// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// JPEG 2000 by OpenJPEG: JP2 files and bare codestreams.
#include <openjpeg.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "image/formats.h"

namespace lathe::image {
namespace {

// OpenJPEG keeps 4 bytes of each sample of each component, twice.
constexpr std::int64_t kMostSamples = std::int64_t{1} << 26;

struct Source {
  Bytes file;
  std::size_t at = 0;
  static std::size_t read(void* to, std::size_t count, void* data) {
    auto* self = static_cast<Source*>(data);
    count = std::min(count, self->file.size() - self->at);
    if (count == 0) return static_cast<std::size_t>(-1);
    std::memcpy(to, self->file.data() + self->at, count);
    self->at += count;
    return count;
  }
  static OPJ_OFF_T skip(OPJ_OFF_T count, void* data) {
    auto* self = static_cast<Source*>(data);
    const auto rest = static_cast<OPJ_OFF_T>(self->file.size() - self->at);
    if (count < 0 || count > rest) return -1;
    self->at += static_cast<std::size_t>(count);
    return count;
  }
  static OPJ_BOOL seek(OPJ_OFF_T to, void* data) {
    auto* self = static_cast<Source*>(data);
    if (to < 0 || static_cast<std::size_t>(to) > self->file.size()) return OPJ_FALSE;
    self->at = static_cast<std::size_t>(to);
    return OPJ_TRUE;
  }
};

struct Free {
  void operator()(opj_codec_t* codec) const { opj_destroy_codec(codec); }
  void operator()(opj_image_t* image) const { opj_image_destroy(image); }
};

std::string without_newline(const char* text) {
  std::string line(text);
  while (!line.empty() && line.back() == '\n') line.pop_back();
  return line;
}

/// A component in 8 bits at the pixels of the picture, however coarse it is.
void place(const opj_image_t& image, const opj_image_comp_t& component, Picture& picture, int channel) {
  if (!component.data || component.w == 0 || component.h == 0) broken("the JPEG 2000 lacks a component's data");
  const int bits = static_cast<int>(component.prec);
  if (bits < 1 || bits > 31) unsupported("the JPEG 2000 has samples of " + std::to_string(bits) + " bits");
  const std::int64_t offset = component.sgnd ? std::int64_t{1} << (bits - 1) : 0, most = (std::int64_t{1} << bits) - 1;
  for (std::int64_t y = 0; y < picture.height; ++y)
    for (std::int64_t x = 0; x < picture.width; ++x) {
      const std::int64_t cx = std::min<std::int64_t>((image.x0 + x) / component.dx - component.x0, component.w - 1);
      const std::int64_t cy = std::min<std::int64_t>((image.y0 + y) / component.dy - component.y0, component.h - 1);
      std::int64_t value =
          std::clamp<std::int64_t>(component.data[std::max<std::int64_t>(cy, 0) * component.w + std::max<std::int64_t>(cx, 0)] + offset, 0, most);
      if (bits > 8) value >>= bits - 8;
      else if (bits < 8) value = value * 255 / most;
      picture.pixels[static_cast<std::size_t>((y * picture.width + x) * picture.channels + channel)] = static_cast<std::uint8_t>(value);
    }
}

/// Luma and two differences of colour, around 128, to red, green, blue.
void from_sycc(Picture& picture) {
  const auto byte = [](double v) { return static_cast<std::uint8_t>(std::clamp(v + 0.5, 0.0, 255.0)); };
  for (std::size_t i = 0; i + 2 < picture.pixels.size(); i += 3) {
    std::uint8_t* p = picture.pixels.data() + i;
    const double y = p[0], b = p[1] - 128.0, r = p[2] - 128.0;
    p[0] = byte(y + 1.402 * r);
    p[1] = byte(y - 0.344136 * b - 0.714136 * r);
    p[2] = byte(y + 1.772 * b);
  }
}

}  // namespace

Picture decode_jpeg2000(Bytes file) {
  std::string message = "it cannot be read";
  const std::unique_ptr<opj_codec_t, Free> codec(opj_create_decompress(file[0] == 0xff ? OPJ_CODEC_J2K : OPJ_CODEC_JP2));
  const std::unique_ptr<opj_stream_t, decltype(&opj_stream_destroy)> stream(opj_stream_create(1 << 16, OPJ_TRUE), opj_stream_destroy);
  if (!codec || !stream) throw Error(Code::kOutOfMemory, "no memory for a JPEG 2000 decoder");
  const auto fail = [&message] { broken("the JPEG 2000 is broken: " + message); };
  opj_set_error_handler(
      codec.get(), [](const char* text, void* to) { *static_cast<std::string*>(to) = without_newline(text); }, &message);
  opj_set_warning_handler(
      codec.get(), [](const char*, void*) {}, nullptr);
  opj_set_info_handler(
      codec.get(), [](const char*, void*) {}, nullptr);
  Source source{file};
  opj_stream_set_user_data(stream.get(), &source, nullptr);
  opj_stream_set_user_data_length(stream.get(), file.size());
  opj_stream_set_read_function(stream.get(), Source::read);
  opj_stream_set_skip_function(stream.get(), Source::skip);
  opj_stream_set_seek_function(stream.get(), Source::seek);
  opj_dparameters_t parameters;
  opj_set_default_decoder_parameters(&parameters);
  if (!opj_setup_decoder(codec.get(), &parameters)) fail();
  opj_decoder_set_strict_mode(codec.get(), OPJ_TRUE);
  opj_image_t* made = nullptr;
  if (!opj_read_header(stream.get(), codec.get(), &made)) fail();
  const std::unique_ptr<opj_image_t, Free> image(made);
  if (image->x1 <= image->x0 || image->y1 <= image->y0 || image->numcomps < 1) broken("the JPEG 2000 has no pixels");
  const std::int64_t width = std::int64_t{image->x1} - image->x0, height = std::int64_t{image->y1} - image->y0;
  if (width > kMostSamples || height > kMostSamples || width * height > kMostSamples / image->numcomps)
    unsupported("the JPEG 2000 has " + std::to_string(width) + " x " + std::to_string(height) + " pixels of " + std::to_string(image->numcomps) +
                " components; at most " + std::to_string(kMostSamples) + " samples are decoded");
  if (!opj_decode(codec.get(), stream.get(), image.get()) || !opj_end_decompress(codec.get(), stream.get())) fail();
  const bool grey = image->numcomps < 3;
  Picture picture = make_picture("JPEG 2000", width, height, grey ? 1 : 3);
  for (int c = 0; c < picture.channels; ++c) {
    if (image->comps[c].dx < 1 || image->comps[c].dy < 1) broken("the JPEG 2000 has a component without extent");
    place(*image, image->comps[c], picture, c);
  }
  if (!grey && image->color_space == OPJ_CLRSPC_SYCC) from_sycc(picture);
  return picture;
}

}  // namespace lathe::image
