// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// File format: one line "hash seconds" per entry; an unreadable line is skipped.

#include "builder/tuning_cache.h"

#include <fmt/format.h>

#include <charconv>
#include <fstream>

#include "base/hash.h"
#include "base/log.h"
#include "base/os.h"
#include "lathe/status.h"

namespace lathe::builder {
namespace {

void read_entries(const std::filesystem::path& path, std::unordered_map<std::uint64_t, double>& into) {
  std::ifstream file(path);
  std::string hash, seconds;
  while (file >> hash >> seconds) {
    std::uint64_t key = 0;
    double value = 0;
    const auto a = std::from_chars(hash.data(), hash.data() + hash.size(), key, 16);
    const auto b = std::from_chars(seconds.data(), seconds.data() + seconds.size(), value);
    if (a.ec == std::errc() && b.ec == std::errc() && value > 0) into.emplace(key, value);
  }
}

}  // namespace

TuningCache::TuningCache(bool enabled) : enabled_(enabled) {
  if (!enabled_) return;
  try {
    path_ = os::cache_dir() / "tuning-v1.txt";
    read_entries(path_, seconds_);
  } catch (const Error& error) {
    log(LogLevel::kWarning, "the tuning cache is not used: {}", error.what());
    enabled_ = false;
  }
}

TuningCache::~TuningCache() { save(); }

std::optional<double> TuningCache::find(const std::string& key) const {
  const auto found = seconds_.find(hash64(key));
  if (found == seconds_.end()) return std::nullopt;
  return found->second;
}

void TuningCache::store(const std::string& key, double seconds) {
  seconds_[hash64(key)] = seconds;
  dirty_ = true;
}

void TuningCache::save() noexcept {
  if (!enabled_ || !dirty_) return;
  try {
    read_entries(path_, seconds_);  // ours win: emplace keeps what is there
    std::filesystem::create_directories(path_.parent_path());
    os::AtomicFile file(path_);
    for (const auto& [key, seconds] : seconds_) file.write(fmt::format("{:016x} {:.9g}\n", key, seconds));
    file.commit();
    dirty_ = false;
  } catch (const std::exception& error) {
    log(LogLevel::kWarning, "the tuning cache could not be written: {}", error.what());
  }
}

}  // namespace lathe::builder
