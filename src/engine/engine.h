// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The engine file: write, read, check. docs/engine_format.md defines it; EngineData is the same thing in memory. A file may come from a
// stranger: reading ends with a sound engine or with one Error(kCorruptFile, kUnsupported, kIo) that names the file and the remedy.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/engine_data.h"

namespace lathe::engine {

inline constexpr std::uint32_t kFormatMajor = 1;
inline constexpr std::uint16_t kFormatMinor = 2;

/// Writes atomically: the target appears only when complete. Weights are streamed from where they lie; no second copy is made.
void write_engine(const EngineData& data, const std::filesystem::path& path);
std::vector<std::byte> write_engine(const EngineData& data);

/// Maps the file, checks it (section 9 of the format) and returns views of its weights; nothing of the weights is read or copied.
EngineData read_engine(const std::filesystem::path& path);
/// From memory that `owner` keeps alive; bytes that are not aligned to 64 are copied once.
EngineData read_engine(std::span<const std::byte> bytes, std::shared_ptr<const void> owner, const std::string& source = "engine in memory");

/// Hash of all that a run depends on: sections and their programs (without the times measured), precision, weights by their hashes.
Hash128 run_hash(const EngineData& data);

/// Reads every weight and all native code and compares them with their hashes. Throws Error(kCorruptFile) naming the blob. About 0.1 s a GB.
void check_weights(const EngineData& data);

/// A section as the file's table names it.
struct SectionInfo {
  std::string kind;                 ///< "program", "native code", "portable graph", "report", "weights", "unknown (9)"
  std::string device;               ///< of programs and native code
  std::uint64_t at = 0, bytes = 0;  ///< from the beginning of the file
  Hash128 hash;                     ///< as stored; of weights none
};
struct FileInfo {
  std::uint32_t major = 0;
  std::uint16_t minor = 0;
  std::uint64_t bytes = 0, metadata_bytes = 0;
  Hash128 metadata_hash;
  std::vector<SectionInfo> sections;  ///< in the order of the table
};
/// What a file that read_engine() takes is made of. Throws as that does.
FileInfo describe_engine(const std::filesystem::path& path);

/// True for bytes that begin like an engine file.
bool looks_like_engine(std::span<const std::byte> head) noexcept;

}  // namespace lathe::engine
