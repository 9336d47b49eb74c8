// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// PNG by libpng. Its errors come by longjmp: between setjmp and the end of `read` only things without destructors are made.
#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstring>

#include "image/formats.h"

namespace lathe::image {
namespace {

class PngReader {
 public:
  explicit PngReader(Bytes file) : rest_(file) {
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, on_error, on_warning);
    info_ = png_ ? png_create_info_struct(png_) : nullptr;
  }
  ~PngReader() { png_destroy_read_struct(&png_, &info_, nullptr); }
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;

  Picture decode() {
    if (!info_) throw Error(Code::kOutOfMemory, "no memory for a PNG decoder");
    Picture picture;
    if (!read_header()) broken(std::string("the PNG is broken: ") + message_);
    picture = make_picture("PNG", png_get_image_width(png_, info_), png_get_image_height(png_, info_), png_get_channels(png_, info_));
    if (!read_rows(picture.pixels.data(), picture.height, picture.width * picture.channels)) broken(std::string("the PNG is broken: ") + message_);
    return picture;
  }

 private:
  bool read_header() {
    if (setjmp(png_jmpbuf(png_))) return false;
    png_set_read_fn(png_, this, on_read);
    png_set_user_limits(png_, 0x7fffffff, 0x7fffffff);  // make_picture has the limit
    png_set_chunk_malloc_max(png_, 1 << 26);
    png_read_info(png_, info_);
    const std::int64_t width = png_get_image_width(png_, info_), height = png_get_image_height(png_, info_);
    if (width > kMostPixels / std::max<std::int64_t>(height, 1)) return true;  // refused before libpng makes a row
    png_set_expand(png_);
    png_set_strip_16(png_);
    png_set_strip_alpha(png_);
    passes_ = png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
    const int channels = png_get_channels(png_, info_);
    if (png_get_bit_depth(png_, info_) != 8 || (channels != 1 && channels != 3)) png_error(png_, "a form that there is not");
    return true;
  }
  bool read_rows(std::uint8_t* pixels, std::int64_t height, std::int64_t row) {
    if (setjmp(png_jmpbuf(png_))) return false;
    for (int pass = 0; pass < passes_; ++pass)
      for (std::int64_t y = 0; y < height; ++y) png_read_row(png_, pixels + y * row, nullptr);
    png_read_end(png_, nullptr);
    return true;
  }

  static void on_read(png_structp png, png_bytep to, std::size_t count) {
    auto* self = static_cast<PngReader*>(png_get_io_ptr(png));
    if (count > self->rest_.size()) png_error(png, "it ends too early");
    std::memcpy(to, self->rest_.data(), count);
    self->rest_ = self->rest_.subspan(count);
  }
  [[noreturn]] static void on_error(png_structp png, png_const_charp text) {
    auto* self = static_cast<PngReader*>(png_get_error_ptr(png));
    std::strncpy(self->message_, text, sizeof self->message_ - 1);
    png_longjmp(png, 1);
  }
  static void on_warning(png_structp, png_const_charp) {}

  Bytes rest_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  int passes_ = 1;
  char message_[160] = {};
};

}  // namespace

Picture decode_png(Bytes file) { return PngReader(file).decode(); }

}  // namespace lathe::image
