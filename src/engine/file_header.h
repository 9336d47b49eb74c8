// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The 64 bytes at the front of an engine file, and the constants of its layout. Private to src/engine.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/hash.h"
#include "engine/engine.h"

namespace lathe::engine {

inline constexpr std::size_t kHeaderBytes = 64;
inline constexpr std::uint64_t kPage = 4096;
inline constexpr std::uint64_t kBlobAlignment = 64;

enum class SectionKind : std::uint8_t { kWeights = 1, kPortableGraph = 2, kReport = 3, kProgram = 4, kNativeCode = 5 };

struct FileHeader {
  std::uint32_t major = kFormatMajor;
  std::uint16_t minor = kFormatMinor, least_minor = 0;
  std::uint64_t file_bytes = 0, metadata_bytes = 0;
  Hash128 metadata_hash;

  /// First byte of the sections.
  std::uint64_t base() const noexcept { return (kHeaderBytes + metadata_bytes + kPage - 1) / kPage * kPage; }
  std::array<std::byte, kHeaderBytes> encode() const noexcept;
  /// Throws Error(kCorruptFile) for what is no engine or damaged, Error(kUnsupported) for a newer version. Checks sizes against the file's.
  static FileHeader decode(std::span<const std::byte> file);
};

}  // namespace lathe::engine
