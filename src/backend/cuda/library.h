// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// A shared library opened at run time. It stays open until the process ends: its functions may be called from anywhere.

#include <initializer_list>
#include <string>
#include <vector>

namespace lathe::cuda {

class Library {
 public:
  Library() = default;
  /// The first of `names` that opens (names that the linker searches, or paths); `why` takes the last reason.
  static Library open(const std::vector<std::string>& names, std::string* why);
  explicit operator bool() const noexcept { return handle_ != nullptr; }
  void* symbol_or_null(const char* name) const noexcept;
  /// Folder of the file that `symbol` lives in; "" when unknown.
  std::string folder_of(const char* symbol) const;

 private:
  void* handle_ = nullptr;
};

}  // namespace lathe::cuda
