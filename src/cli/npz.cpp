// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See npz.h. The ZIP writer stores entries uncompressed, with ZIP64 records for arrays of 4 GiB and more.

#include "cli/npz.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstring>

#include "base/os.h"
#include "cli/npy_texts.h"
#include "lathe/status.h"

namespace lathe::cli {
namespace {

static_assert(std::endian::native == std::endian::little, "npy files are written in the machine's little-endian order");

struct Kind {
  DType dtype;
  std::string_view descr;
};
constexpr std::array<Kind, 14> kKinds{{{DType::kFloat32, "<f4"},
                                       {DType::kFloat64, "<f8"},
                                       {DType::kFloat16, "<f2"},
                                       {DType::kInt64, "<i8"},
                                       {DType::kInt32, "<i4"},
                                       {DType::kInt16, "<i2"},
                                       {DType::kInt8, "|i1"},
                                       {DType::kUint64, "<u8"},
                                       {DType::kUint32, "<u4"},
                                       {DType::kUint16, "<u2"},
                                       {DType::kUint8, "|u1"},
                                       {DType::kBool, "|b1"},
                                       {DType::kComplex64, "<c8"},
                                       {DType::kComplex128, "<c16"}}};

[[noreturn]] void bad(const std::string& path, const std::string& what) {
  throw Error(Code::kCorruptFile, what).in_source(path).with_remedy("Write the array with numpy.save(path, array).");
}

std::string npy_header(const Tensor& tensor, std::string_view descr = {}) {
  for (const Kind& kind : kKinds)
    if (kind.dtype == tensor.dtype()) descr = kind.descr;
  if (tensor.dtype() == DType::kBFloat16) descr = "<u2";
  if (descr.empty()) throw Error(Code::kUnsupported, fmt::format("NumPy files have no element type for {}", dtype_name(tensor.dtype())));
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

/// An array as the file holds it. Texts become fields of one width, other elements stay where they are.
struct Content {
  std::string header, texts;
  std::span<const std::byte> bytes;
};

Content content_of(const Tensor& tensor) {
  Content content;
  if (tensor.dtype() != DType::kString) {
    content.header = npy_header(tensor);
    content.bytes = {tensor.raw(), tensor.bytes()};
    return content;
  }
  NumpyTexts texts = write_texts(tensor);
  content.header = npy_header(tensor, texts.descr);
  content.texts = std::move(texts.bytes);
  return content;
}

std::span<const std::byte> bytes_of(const Content& content) { return content.texts.empty() ? content.bytes : std::as_bytes(std::span(content.texts)); }

/// The header's dictionary, taken apart no further than needed.
struct Header {
  DType dtype = DType::kUndefined;
  bool swapped = false, fortran = false;
  std::optional<TextField> texts;  ///< dtype is then kString
  Dims dims;
};

Header parse_header(const std::string& path, std::string_view text) {
  const auto field = [&](std::string_view name) {
    const auto at = text.find(fmt::format("'{}'", name));
    const auto colon = at == std::string_view::npos ? at : text.find(':', at);
    if (colon == std::string_view::npos) bad(path, fmt::format("the .npy header has no '{}'", name));
    std::string_view rest = text.substr(colon + 1);
    rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
    return rest;
  };
  Header header;
  std::string_view descr = field("descr");
  if (descr.empty() || descr[0] != '\'')
    throw Error(Code::kUnsupported, "the array has a structured element type").in_source(path).with_remedy("Save an array of plain numbers.");
  descr = descr.substr(1, descr.find('\'', 1) - 1);
  for (const Kind& kind : kKinds)
    if (descr.size() > 1 && descr.substr(1) == kind.descr.substr(1)) header.dtype = kind.dtype;
  header.texts = text_field(descr);
  if (header.texts) header.dtype = DType::kString;
  if (header.dtype == DType::kUndefined)
    throw Error(Code::kUnsupported, fmt::format("arrays of element type '{}' are not supported", descr))
        .in_source(path)
        .with_remedy("Save an array of plain numbers, for example array.astype('float32').");
  header.swapped = !header.texts && descr[0] == '>' && dtype_bits(header.dtype) > 8;
  const std::string_view order = field("fortran_order");
  header.fortran = order.starts_with("True");
  if (!header.fortran && !order.starts_with("False")) bad(path, "the .npy header has no readable 'fortran_order'");
  std::string_view shape = field("shape");
  const auto close = shape.find(')');
  if (!shape.starts_with('(') || close == std::string_view::npos) bad(path, "the .npy header has no readable shape");
  shape = shape.substr(1, close - 1);
  const char* at = shape.data();
  const char* end = at + shape.size();
  std::int64_t count = 1;
  while (at < end) {
    while (at < end && (*at == ' ' || *at == ',')) ++at;
    if (at == end) break;
    std::int64_t extent = 0;
    const auto [next, error] = std::from_chars(at, end, extent);
    if (error != std::errc() || extent < 0 || (extent > 0 && count > (std::int64_t{1} << 56) / extent)) bad(path, "the .npy header has no readable shape");
    header.dims.push_back(extent);
    count *= std::max<std::int64_t>(extent, 1);
    at = next;
    if (at < end && *at == 'L') ++at;
  }
  return header;
}

/// The elements in row-major order and native byte order. Complex numbers are swapped by halves.
Tensor straightened(const Header& header, const std::byte* from) {
  Tensor result(header.dtype, header.dims);
  const std::size_t width = static_cast<std::size_t>(dtype_bits(header.dtype)) / 8;
  const std::size_t number = header.dtype == DType::kComplex64 || header.dtype == DType::kComplex128 ? width / 2 : width;
  std::vector<std::int64_t> index(header.dims.size(), 0), strides(header.dims.size());
  std::int64_t stride = 1;
  for (std::size_t i = 0; i < strides.size(); ++i) {
    const std::size_t axis = header.fortran ? i : strides.size() - 1 - i;
    strides[axis] = stride;
    stride *= header.dims[axis];
  }
  std::byte* to = result.mutable_raw();
  std::int64_t offset = 0;
  for (std::int64_t i = 0; i < result.size(); ++i, to += width) {
    std::memcpy(to, from + static_cast<std::size_t>(offset) * width, width);
    if (header.swapped)
      for (std::size_t part = 0; part < width; part += number) std::reverse(to + part, to + part + number);
    for (std::size_t axis = index.size(); axis-- > 0;) {
      offset += strides[axis];
      if (++index[axis] < header.dims[axis]) break;
      offset -= strides[axis] * header.dims[axis];
      index[axis] = 0;
    }
  }
  return result;
}

}  // namespace

Tensor read_npy(const std::string& path) {
  const auto file = os::MappedFile::open(path);
  const auto bytes = file->bytes();
  const char* text = reinterpret_cast<const char*>(bytes.data());
  if (bytes.size() >= 4 && std::memcmp(text, "PK\x03\x04", 4) == 0)
    throw Error(Code::kUnsupported, "this is an archive (.npz) of arrays")
        .in_source(path)
        .with_remedy("Give one .npy file for each input: numpy.save(path, archive[name]).");
  if (bytes.size() < 12 || std::memcmp(text, "\x93NUMPY", 6) != 0) bad(path, "this is not a .npy file");
  const int major = text[6];
  if (major < 1 || major > 3) bad(path, fmt::format("version {} of .npy files is not known", major));
  std::uint32_t length = 0;
  std::memcpy(&length, text + 8, major == 1 ? 2 : 4);
  const std::size_t start = (major == 1 ? 10 : 12) + std::size_t{length};
  if (start > bytes.size()) bad(path, "the .npy header is cut off");
  const Header header = parse_header(path, std::string_view(text, start).substr(start - length));
  const std::int64_t count = element_count(header.dims);
  std::size_t need = 0;
  const std::size_t have = bytes.size() - start;
  if (!header.texts) need = dtype_bytes(header.dtype, count);
  else if (__builtin_mul_overflow(header.texts->bytes(), static_cast<std::size_t>(count), &need)) need = ~std::size_t{0};
  if (have < need) bad(path, fmt::format("the array of shape {} needs {} bytes, the file holds {}", to_string(header.dims), need, have));
  if (header.texts) {
    if (header.texts->bytes() == 0 && count > static_cast<std::int64_t>(bytes.size())) bad(path, "the array holds more empty texts than the file has bytes");
    if (header.fortran && header.dims.size() > 1)
      throw Error(Code::kUnsupported, "the texts lie in Fortran order").in_source(path).with_remedy("Save numpy.ascontiguousarray(array).");
    return Tensor::strings(header.dims, read_texts(*header.texts, bytes.data() + start, count));
  }
  // Kernels read whole elements: where a file's data is not aligned for that, it moves as well.
  const bool aligned = reinterpret_cast<std::uintptr_t>(bytes.data() + start) % 16 == 0;
  if (header.swapped || header.fortran || !aligned) return straightened(header, bytes.data() + start);
  return Tensor::view(header.dtype, header.dims, bytes.data() + start, need, file);
}

void write_npy(const std::string& path, const Tensor& tensor) {
  os::AtomicFile file(path);
  const Content content = content_of(tensor);
  file.write(content.header);
  file.write(bytes_of(content));
  file.commit();
}

void write_npz(const std::string& path, const std::vector<std::pair<std::string, Tensor>>& arrays) {
  os::AtomicFile file(path);
  std::string directory;
  constexpr std::uint16_t kVersion = 45;
  for (const auto& [name, tensor] : arrays) {
    const Content content = content_of(tensor);
    const std::string &header = content.header, entry = name + ".npy";
    const std::span<const std::byte> bytes = bytes_of(content);
    const std::uint64_t size = header.size() + bytes.size(), at = file.position();
    std::uint32_t crc = crc32(0, reinterpret_cast<const unsigned char*>(header.data()), header.size());
    crc = crc32(crc, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
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
    file.write(bytes);

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
