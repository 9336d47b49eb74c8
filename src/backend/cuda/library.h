// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// A shared library opened at run time. It stays open until the process ends: its functions may be called from anywhere.

#include <cstddef>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/knobs.h"

namespace lathe::cuda {

struct OptionalLibrary;

/// site-packages/nvidia, where NVIDIA's PyPI packages put their libraries, of the environment that Lathe is installed in: extension and command
/// are in site-packages/lathe, or the command is in its bin.
std::vector<std::filesystem::path> package_folders();

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

/// The process's own `Table` of such a library's functions, opened by Table::open when first asked for, with the value of `knob`; nullptr and, in
/// `why`, the reason.
template <class Table>
const Table* find_once(const char* knob_name, std::string* why) {
  struct Opened {
    std::string why;  // before the table: opening writes it
    std::unique_ptr<const Table> table;
    explicit Opened(const char* name) : table(Table::open(knob(name), why)) {}
  };
  static const Opened& once = *new Opened(knob_name);  // devices of static storage may outlive every static
  if (!once.table && why) *why = once.why;
  return once.table.get();
}

/// "9.19.0" of 91900: as NVIDIA's libraries count since 2023.
inline std::string version_text(std::size_t version) {
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." + std::to_string(version % 100);
}

}  // namespace lathe::cuda
