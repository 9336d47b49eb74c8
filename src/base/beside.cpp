// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See beside.h.

#include "base/beside.h"

#include <algorithm>

#include "base/os.h"

namespace lathe::os {

std::filesystem::path own_folder() {
  std::error_code error;
  const std::filesystem::path binary = std::filesystem::canonical(own_binary(), error);
  return error ? std::filesystem::path() : binary.parent_path();
}

std::vector<std::filesystem::path> files_beside(std::string_view name) {
  std::vector<std::filesystem::path> files;
  const std::filesystem::path folder = own_folder(), lib = folder.parent_path() / "lib";
  if (folder.empty()) return files;
  for (const std::filesystem::path& place : {folder, folder / "lib", folder / "lathe", lib, lib / "lathe"}) {
    std::error_code error;
    const std::filesystem::path file = std::filesystem::canonical(place / name, error);
    if (!error && std::filesystem::is_regular_file(file, error) && std::find(files.begin(), files.end(), file) == files.end()) files.push_back(file);
  }
  return files;
}

}  // namespace lathe::os
