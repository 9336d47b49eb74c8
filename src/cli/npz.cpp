// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See npz.h. The ZIP writer stores entries uncompressed, with ZIP64 records for arrays of 4 GiB and more.

#include "cli/npz.h"

#include <fmt/format.h>

#include <array>
#include <bit>
#include <charconv>
#include <cstring>

#include "base/os.h"
#include "lathe/status.h"

namespace lathe::cli {
namespace {

static_assert(std::endian::native == std::endian::little, "npy files are written in the machine's little-endian order");

struct Kind {
  DType dtype;
  std::string_view descr;
};
constexpr std::array<Kind, 14> kKinds{{{DType::kFloat32, "<f4"}, {DType::kFloat64, "<f8"}, {DType::kFloat16, "<f2"}, {DType::kInt64, "<i8"},
                                       {DType::kInt32, "<i4"}, {DType::kInt16, "<i2"}, {DType::kInt8, "|i1"}, {DType::kUint64, "<u8"},
                                       {DType::kUint32, "<u4"}, {DType::kUint16, "<u2"}, {DType::kUint8, "|u1"}, {DType::kBool, "|b1"},
                                       {DType::kComplex64, "<c8"}, {DType::kComplex128, "<c16"}}};

[[noreturn]] void bad(const std::string& path, const std::string& what) {
  throw Error(Code::kCorruptFile, what).in_source(path).with_remedy("Write the array with numpy.save(path, numpy.ascontiguousarray(array)).");
}

std::string npy_header(const Tensor& tensor) {
  std::string_view descr;
  for (const Kind& kind : kKinds)
    if (kind.dtype == tensor.dtype()) descr = kind.descr;
  if (tensor.dtype() == DType::kBFloat16) descr = "<u2";
  if (descr.empty())
    throw Error(Code::kUnsupported, fmt::format("NumPy files have no element type for {}", dtype_name(tensor.dtype())));
  std::string shape;
  for (const std::int64_t extent : tensor.dims()) shape += fmt::format("{},", extent);
  std::string text = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}", descr, shape);
  while ((10 + text.size() + 1) % 64 != 0) text += ' ';
  text += '\n';
  std::string header("\x93NUMPY\x01\x00", 8);
  header += static_cast<char>(text.size() & 0xff);
  header += static_cast<char>(text.size() >> 8);
  return header + text;
}

std::uint32_t crc32(std::uint32_t crc, const unsigned char* data, std::size_t bytes) {
  static const auto kTable = [] {
    std::array<std::uint32_t, 256> table{};
    for (std::uint32_t i = 0; i < 256; ++i) {
      std::uint32_t value = i;
      for (int k = 0; k < 8; ++k) value = (value >> 1) ^ ((value & 1U) ? 0xEDB88320U : 0U);
      table[i] = value;
    }
    return table;
  }();
  crc = ~crc;
  for (std::size_t i = 0; i < bytes; ++i) crc = kTable[(crc ^ data[i]) & 0xffU] ^ (crc >> 8);
  return ~crc;
}

template <class T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

}  // namespace

Tensor read_npy(const std::string& path) {
  const auto file = os::MappedFile::open(path);
  const auto bytes = file->bytes();
  const char* text = reinterpret_cast<const char*>(bytes.data());
  if (bytes.size() < 12 || std::memcmp(text, "\x93NUMPY", 6) != 0) bad(path, "this is not a .npy file");
  const int major = text[6];
  std::size_t length = 0, start = 0;
  if (major == 1) {
    length = static_cast<unsigned char>(text[8]) | static_cast<std::size_t>(static_cast<unsigned char>(text[9])) << 8;
    start = 10;
  } else {
    std::uint32_t wide = 0;
    std::memcpy(&wide, text + 8, 4);
    length = wide;
    start = 12;
  }
  if (start + length > bytes.size()) bad(path, "the .npy header is cut off");
  const std::string_view header(text + start, length);
  const auto field = [&](std::string_view name) {
    const auto at = header.find(fmt::format("'{}'", name));
    if (at == std::string_view::npos) bad(path, fmt::format("the .npy header has no '{}'", name));
    return header.substr(header.find(':', at) + 1);
  };
  std::string_view descr = field("descr");
  descr.remove_prefix(std::min(descr.find('\'') + 1, descr.size()));
  descr = descr.substr(0, descr.find('\''));
  DType dtype = DType::kUndefined;
  for (const Kind& kind : kKinds)
    if (kind.descr == descr || (descr.size() == 3 && descr.substr(1) == kind.descr.substr(1) && descr[0] != '>')) dtype = kind.dtype;
  if (dtype == DType::kUndefined) bad(path, fmt::format("element type '{}' is not supported", descr));
  const std::string_view order = field("fortran_order");
  if (order.find("True") < order.find(',')) bad(path, "the array is in Fortran order");
  std::string_view shape = field("shape");
  const auto open = shape.find('('), close = shape.find(')');
  if (open == std::string_view::npos || close == std::string_view::npos || close < open) bad(path, "the .npy header has no readable shape");
  shape = shape.substr(open + 1, close - open - 1);
  Dims dims;
  const char* at = shape.data();
  const char* end = at + shape.size();
  while (at < end) {
    std::int64_t extent = 0;
    while (at < end && (*at == ' ' || *at == ',')) ++at;
    if (at == end) break;
    const auto [next, error] = std::from_chars(at, end, extent);
    if (error != std::errc() || extent < 0) bad(path, "the .npy header has no readable shape");
    dims.push_back(extent);
    at = next;
    if (at < end && *at == 'L') ++at;
  }
  const std::size_t need = dtype_bytes(dtype, element_count(dims)), have = bytes.size() - start - length;
  if (have < need) bad(path, fmt::format("the array of shape {} needs {} bytes, the file holds {}", to_string(dims), need, have));
  return Tensor::view(dtype, std::move(dims), bytes.data() + start + length, need, file);
}

void write_npy(const std::string& path, const Tensor& tensor) {
  os::AtomicFile file(path);
  file.write(npy_header(tensor));
  file.write(std::span(tensor.raw(), tensor.bytes()));
  file.commit();
}

void write_npz(const std::string& path, const std::vector<std::pair<std::string, Tensor>>& arrays) {
  os::AtomicFile file(path);
  std::string directory;
  constexpr std::uint16_t kVersion = 45;
  for (const auto& [name, tensor] : arrays) {
    const std::string header = npy_header(tensor), entry = name + ".npy";
    const std::uint64_t size = header.size() + tensor.bytes(), at = file.position();
    std::uint32_t crc = crc32(0, reinterpret_cast<const unsigned char*>(header.data()), header.size());
    crc = crc32(crc, reinterpret_cast<const unsigned char*>(tensor.raw()), tensor.bytes());
    std::string extra;  // ZIP64: sizes (and in the directory the offset) in 64 bits
    put<std::uint16_t>(extra, 1);
    put<std::uint16_t>(extra, 16);
    put<std::uint64_t>(extra, size);
    put<std::uint64_t>(extra, size);
    std::string local;
    put<std::uint32_t>(local, 0x04034b50);
    for (const std::uint16_t v : {kVersion, std::uint16_t{0x800}, std::uint16_t{0}, std::uint16_t{0}, std::uint16_t{0x21}}) put(local, v);
    put(local, crc);
    put<std::uint32_t>(local, 0xffffffff);
    put<std::uint32_t>(local, 0xffffffff);
    put(local, static_cast<std::uint16_t>(entry.size()));
    put(local, static_cast<std::uint16_t>(extra.size()));
    file.write(local + entry + extra);
    file.write(header);
    file.write(std::span(tensor.raw(), tensor.bytes()));

    std::string wide;
    put<std::uint16_t>(wide, 1);
    put<std::uint16_t>(wide, 24);
    put<std::uint64_t>(wide, size);
    put<std::uint64_t>(wide, size);
    put<std::uint64_t>(wide, at);
    put<std::uint32_t>(directory, 0x02014b50);
    for (const std::uint16_t v : {kVersion, kVersion, std::uint16_t{0x800}, std::uint16_t{0}, std::uint16_t{0}, std::uint16_t{0x21}}) put(directory, v);
    put(directory, crc);
    put<std::uint32_t>(directory, 0xffffffff);
    put<std::uint32_t>(directory, 0xffffffff);
    put(directory, static_cast<std::uint16_t>(entry.size()));
    put(directory, static_cast<std::uint16_t>(wide.size()));
    for (int i = 0; i < 3; ++i) put<std::uint16_t>(directory, 0);
    put<std::uint32_t>(directory, 0);
    put<std::uint32_t>(directory, 0xffffffff);
    directory += entry + wide;
  }
  const std::uint64_t at = file.position(), count = arrays.size();
  std::string end;
  put<std::uint32_t>(end, 0x06064b50);  // ZIP64 end of central directory
  put<std::uint64_t>(end, 44);
  put(end, kVersion);
  put(end, kVersion);
  put<std::uint32_t>(end, 0);
  put<std::uint32_t>(end, 0);
  put(end, count);
  put(end, count);
  put<std::uint64_t>(end, directory.size());
  put(end, at);
  put<std::uint32_t>(end, 0x07064b50);  // its locator
  put<std::uint32_t>(end, 0);
  put<std::uint64_t>(end, at + directory.size());
  put<std::uint32_t>(end, 1);
  put<std::uint32_t>(end, 0x06054b50);
  for (int i = 0; i < 4; ++i) put<std::uint16_t>(end, 0xffff);
  put<std::uint32_t>(end, 0xffffffff);
  put<std::uint32_t>(end, 0xffffffff);
  put<std::uint16_t>(end, 0);
  file.write(directory + end);
  file.commit();
}

}  // namespace lathe::cli
