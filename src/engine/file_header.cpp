// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See file_header.h. Fields are put together byte by byte, so that the machine's own order does not matter.

#include "engine/file_header.h"

#include <fmt/format.h>

#include <algorithm>
#include <type_traits>

#include "lathe/status.h"

namespace lathe::engine {
namespace {

constexpr std::array<std::uint8_t, 8> kMagic{0x89, 'L', 'A', 'T', 'H', 'E', '\r', '\n'};
constexpr const char* kBuildAgain = "Build the engine again from its model with `lathe build`.";

template <class T>
void put(std::byte* at, T value) noexcept {
  for (std::size_t i = 0; i < sizeof(T); ++i) at[i] = static_cast<std::byte>(static_cast<std::uint64_t>(value) >> (8 * i));
}

template <class T>
T get(const std::byte* at) noexcept {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) value |= static_cast<std::uint64_t>(at[i]) << (8 * i);
  return static_cast<T>(value);
}

}  // namespace

bool looks_like_engine(std::span<const std::byte> head) noexcept {
  if (head.size() < kMagic.size()) return false;
  for (std::size_t i = 0; i < kMagic.size(); ++i)
    if (head[i] != static_cast<std::byte>(kMagic[i])) return false;
  return true;
}

std::array<std::byte, kHeaderBytes> FileHeader::encode() const noexcept {
  std::array<std::byte, kHeaderBytes> out{};
  for (std::size_t i = 0; i < kMagic.size(); ++i) out[i] = static_cast<std::byte>(kMagic[i]);
  put(&out[8], major);
  put(&out[12], minor);
  put(&out[14], least_minor);
  put(&out[16], file_bytes);
  put(&out[24], metadata_bytes);
  put(&out[32], metadata_hash.low);
  put(&out[40], metadata_hash.high);
  put(&out[48], std::uint64_t{0});
  put(&out[56], hash64(out.data(), 56));
  return out;
}

FileHeader FileHeader::decode(std::span<const std::byte> file) {
  if (!looks_like_engine(file))
    throw Error(Code::kCorruptFile, file.empty() ? "the file is empty" : "this is not an engine file: its first bytes are others")
        .with_remedy("Engines are made by `lathe build`; an ONNX file is built first.");
  if (file.size() < kHeaderBytes)
    throw Error(Code::kCorruptFile, fmt::format("the engine file is cut short: {} bytes do not even hold its header", file.size())).with_remedy(kBuildAgain);
  FileHeader header;
  header.major = get<std::uint32_t>(&file[8]);
  header.minor = get<std::uint16_t>(&file[12]);
  header.least_minor = get<std::uint16_t>(&file[14]);
  if (header.major > kFormatMajor || (header.major == kFormatMajor && header.least_minor > kFormatMinor))
    throw Error(Code::kUnsupported, fmt::format("the engine file has format {}.{}, this library reads up to {}.{}", header.major,
                                                header.major > kFormatMajor ? header.minor : header.least_minor, kFormatMajor, kFormatMinor))
        .with_remedy("Use the version of Lathe that made the file, or build it again with this one.");
  if (get<std::uint64_t>(&file[56]) != hash64(file.data(), 56) || header.major == 0)
    throw Error(Code::kCorruptFile, "the engine file's header is damaged (its hash differs)").with_remedy(kBuildAgain);
  header.file_bytes = get<std::uint64_t>(&file[16]);
  header.metadata_bytes = get<std::uint64_t>(&file[24]);
  header.metadata_hash = {get<std::uint64_t>(&file[32]), get<std::uint64_t>(&file[40])};
  if (header.file_bytes != file.size())
    throw Error(Code::kCorruptFile, fmt::format("the engine file has {} bytes, but its header says {}: it was {}", file.size(), header.file_bytes,
                                                file.size() < header.file_bytes ? "cut short" : "added to"))
        .with_remedy("Copy the file again, or build it again from its model.");
  if (header.metadata_bytes == 0 || header.metadata_bytes > file.size() - kHeaderBytes || header.metadata_bytes >= (std::uint64_t{1} << 31) ||
      header.base() > file.size())
    throw Error(Code::kCorruptFile, "the engine file's metadata lies outside the file").with_remedy(kBuildAgain);
  return header;
}

}  // namespace lathe::engine
