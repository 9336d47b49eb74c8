// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// JPEG by libjpeg-turbo, with its exact integer transform and its smooth chroma. Errors come by longjmp: between setjmp and the end of
// such a function only things without destructors are made.
#include <cstddef>
#include <cstdio>

#include <jpeglib.h>

#include <jerror.h>

#include <csetjmp>

#include "image/formats.h"

namespace lathe::image {
namespace {

// A progressive file may go over the whole picture once for each few bytes.
constexpr int kMostScans = 200;

class JpegReader {
 public:
  JpegReader() = default;
  ~JpegReader() {
    if (created_) jpeg_destroy_decompress(&jpeg_);
  }
  JpegReader(const JpegReader&) = delete;
  JpegReader& operator=(const JpegReader&) = delete;

  Picture decode(Bytes file) {
    if (!read_header(file)) fail();
    const bool inks = jpeg_.out_color_space == JCS_CMYK;
    Picture picture = make_picture("JPEG", jpeg_.image_width, jpeg_.image_height, jpeg_.out_color_space == JCS_GRAYSCALE ? 1 : 3);
    std::vector<std::uint8_t> row(inks ? static_cast<std::size_t>(picture.width) * 4 : 0);
    if (!start()) fail();
    for (std::int64_t y = 0; y < picture.height; ++y) {
      std::uint8_t* to = picture.pixels.data() + y * picture.width * picture.channels;
      if (!read_row(inks ? row.data() : to)) fail();
      if (inks) without_ink(row, to);
    }
    if (!finish() || truncated_) fail();
    return picture;
  }

 private:
  struct Errors : jpeg_error_mgr {
    std::jmp_buf place;
    JpegReader* reader;
  };

  [[noreturn]] void fail() const { broken(std::string("the JPEG is broken: ") + (message_[0] ? message_ : "it ends too early")); }

  bool read_header(Bytes file) {
    jpeg_.err = jpeg_std_error(&errors_);
    errors_.reader = this;
    errors_.error_exit = on_error;
    errors_.emit_message = on_message;
    errors_.output_message = [](j_common_ptr) {};
    if (setjmp(errors_.place)) return false;
    jpeg_create_decompress(&jpeg_);
    created_ = true;
    progress_.progress_monitor = on_progress;
    jpeg_.progress = &progress_;
    jpeg_mem_src(&jpeg_, file.data(), file.size());
    jpeg_read_header(&jpeg_, TRUE);
    if (jpeg_.jpeg_color_space == JCS_CMYK || jpeg_.jpeg_color_space == JCS_YCCK) jpeg_.out_color_space = JCS_CMYK;
    else jpeg_.out_color_space = jpeg_.num_components == 1 ? JCS_GRAYSCALE : JCS_RGB;
    return true;
  }
  bool start() {
    if (setjmp(errors_.place)) return false;
    return jpeg_start_decompress(&jpeg_) == TRUE;
  }
  bool read_row(std::uint8_t* to) {
    if (setjmp(errors_.place)) return false;
    JSAMPROW rows[1] = {to};
    return jpeg_read_scanlines(&jpeg_, rows, 1) == 1;
  }
  bool finish() {
    if (setjmp(errors_.place)) return false;
    return jpeg_finish_decompress(&jpeg_) == TRUE;
  }
  /// Adobe writes how much of an ink is left out, others how much there is.
  void without_ink(const std::vector<std::uint8_t>& row, std::uint8_t* to) const {
    const unsigned flip = jpeg_.saw_Adobe_marker ? 0 : 255;
    for (std::size_t i = 0; i < row.size(); i += 4) {
      const unsigned black = row[i + 3] ^ flip;
      for (std::size_t c = 0; c < 3; ++c) *to++ = static_cast<std::uint8_t>(((row[i + c] ^ flip) * black + 127) / 255);
    }
  }

  static void on_error(j_common_ptr jpeg) {
    auto* errors = static_cast<Errors*>(jpeg->err);
    errors->format_message(jpeg, errors->reader->message_);
    std::longjmp(errors->place, 1);
  }
  static void on_message(j_common_ptr jpeg, int level) {
    if (level >= 0) return;
    auto* errors = static_cast<Errors*>(jpeg->err);
    // What is guessed from here on is no picture.
    if (errors->msg_code == JWRN_JPEG_EOF || errors->msg_code == JWRN_HIT_MARKER || errors->msg_code == JWRN_HUFF_BAD_CODE) {
      errors->reader->truncated_ = true;
      errors->format_message(jpeg, errors->reader->message_);
    }
  }
  static void on_progress(j_common_ptr jpeg) {
    if (jpeg->is_decompressor && reinterpret_cast<j_decompress_ptr>(jpeg)->input_scan_number > kMostScans) {
      auto* errors = static_cast<Errors*>(jpeg->err);
      std::snprintf(errors->reader->message_, sizeof errors->reader->message_, "it has more than %d scans", kMostScans);
      std::longjmp(errors->place, 1);
    }
  }

  jpeg_decompress_struct jpeg_{};
  jpeg_progress_mgr progress_{};
  Errors errors_{};
  bool created_ = false, truncated_ = false;
  char message_[JMSG_LENGTH_MAX] = {};
};

}  // namespace

Picture decode_jpeg(Bytes file) {
  JpegReader reader;
  return reader.decode(file);
}

}  // namespace lathe::image
