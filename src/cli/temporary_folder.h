// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// A folder under the system's temporary one that goes with all it holds.

#include <filesystem>

#include "base/os.h"

namespace lathe::cli {

class TemporaryFolder {
 public:
  TemporaryFolder() : path_(os::make_temp_dir()) {}
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const noexcept { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace lathe::cli
