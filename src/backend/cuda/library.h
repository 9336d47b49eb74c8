// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// A shared library opened at run time. It stays open until the process ends: its functions may be called from anywhere.

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace lathe::cuda {

struct OptionalLibrary;

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
  friend Library open_optional(const OptionalLibrary& which, const std::string& asked, std::string& why);
  void* handle_ = nullptr;
};

/// A library of NVIDIA's that Lathe uses where it is found.
struct OptionalLibrary {
  std::string_view title;               ///< "cuBLASLt"
  std::string_view knob;                ///< "LATHE_CUBLASLT"
  std::vector<std::string> names;       ///< as the loader knows it, newest first
  std::string_view package;             ///< of PyPI
  std::vector<std::string> in_package;  ///< its folders under site-packages/nvidia
};
/// Opens what the knob's value `asked` names (a path; "none": nothing), else one that the process has loaded already, the PyPI package beside
/// Lathe's own, what the loader finds; its symbols stay its own. Where there is none, `why` says what is missing and which package brings it.
Library open_optional(const OptionalLibrary& which, const std::string& asked, std::string& why);

}  // namespace lathe::cuda
