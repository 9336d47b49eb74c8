// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What was timed before, by content: key = everything that the time depends on (region, shapes, types, layouts, candidate variant,
// CPU model, threads, library version). One text file per machine under the cache folder, shared by all builds.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <unordered_map>

namespace lathe::builder {

class TuningCache {
 public:
  /// `enabled` false: remembers within this build only, touches no file.
  explicit TuningCache(bool enabled);
  ~TuningCache();                                            ///< saves
  std::optional<double> find(const std::string& key) const;  ///< seconds
  void store(const std::string& key, double seconds);
  /// Merges with what other builds wrote meanwhile and replaces the file. Failing to write is logged, never an error.
  void save() noexcept;

 private:
  std::filesystem::path path_;
  bool enabled_, dirty_ = false;
  std::unordered_map<std::uint64_t, double> seconds_;
};

}  // namespace lathe::builder
