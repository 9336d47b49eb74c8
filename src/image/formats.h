// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the decoders share.

#include <string>

#include "image/decode.h"
#include "lathe/status.h"

namespace lathe::image {

Picture decode_png(Bytes file);
Picture decode_jpeg(Bytes file);
Picture decode_webp(Bytes file);
Picture decode_jpeg2000(Bytes file);
Picture decode_bmp(Bytes file);
Picture decode_pnm(Bytes file);
Picture decode_tiff(Bytes file);

[[noreturn]] inline void broken(const std::string& what) { throw Error(Code::kCorruptFile, what); }
[[noreturn]] inline void unsupported(const std::string& what) { throw Error(Code::kUnsupported, what); }

/// Checks the extents and gives the picture its pixels, all zero.
Picture make_picture(const char* format, std::int64_t width, std::int64_t height, int channels);

/// Numbers at places of the file; what lies outside is broken().
class Reader {
 public:
  Reader(Bytes file, const char* format, bool big_endian = false) : file_(file), format_(format), big_endian_(big_endian) {}
  Bytes bytes(std::uint64_t at, std::uint64_t count) const {
    if (at > file_.size() || count > file_.size() - at) broken(std::string("the ") + format_ + " ends too early");
    return file_.subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(count));
  }
  std::uint8_t u8(std::uint64_t at) const { return bytes(at, 1)[0]; }
  std::uint32_t u16(std::uint64_t at) const { return number(at, 2); }
  std::uint32_t u32(std::uint64_t at) const { return number(at, 4); }
  std::int32_t i32(std::uint64_t at) const { return static_cast<std::int32_t>(u32(at)); }
  std::size_t size() const noexcept { return file_.size(); }

 private:
  std::uint32_t number(std::uint64_t at, unsigned count) const {
    const Bytes b = bytes(at, count);
    std::uint32_t value = 0;
    for (unsigned i = 0; i < count; ++i) value = value << 8 | b[big_endian_ ? i : count - 1 - i];
    return value;
  }
  Bytes file_;
  const char* format_;
  bool big_endian_;
};

}  // namespace lathe::image
