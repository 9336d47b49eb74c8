// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See library.h.

#include "backend/cuda/library.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <filesystem>

#include "base/beside.h"

namespace lathe::cuda {
namespace {

namespace fs = std::filesystem;

}  // namespace

std::vector<fs::path> package_folders() {
  std::vector<fs::path> folders;
  const auto add = [&](const fs::path& site) {
    std::error_code error;
    if (fs::is_directory(site / "nvidia", error)) folders.push_back(site / "nvidia");
  };
  fs::path at = os::own_folder();
  for (int up = 0; up < 3 && at.has_relative_path(); ++up, at = at.parent_path()) {
    add(at);
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(at / "lib", error))
      if (entry.path().filename().string().starts_with("python3")) add(entry.path() / "site-packages");
  }
  return folders;
}

Library Library::open(const std::vector<std::string>& names, std::string* why) {
  Library library;
  for (const std::string& name : names) {
    library.handle_ = dlopen(name.c_str(), RTLD_NOW | RTLD_GLOBAL);
    if (library.handle_) break;
    const char* reason = dlerror();
    if (why && reason) *why = reason;
  }
  return library;
}

void* Library::symbol_or_null(const char* name) const noexcept { return handle_ ? dlsym(handle_, name) : nullptr; }

std::string Library::folder_of(const char* symbol) const {
  void* const address = symbol_or_null(symbol);
  Dl_info info{};
  if (!address || dladdr(address, &info) == 0 || !info.dli_fname) return {};
  return std::filesystem::path(info.dli_fname).parent_path().string();
}

Library open_optional(const OptionalLibrary& which, const std::string& asked, std::string& why) {
  Library library;
  if (asked == "none") {
    why = fmt::format("the knob {} is 'none'", which.knob);
    return library;
  }
  std::string reason;
  const auto open = [&](const std::string& name, int flags) {
    if (!library.handle_) library.handle_ = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL | flags);
    if (const char* text = dlerror(); text && reason.empty() && flags == 0) reason = text;
  };
  if (!asked.empty()) {
    open(asked, 0);
  } else {
    for (const std::string& name : which.names) open(name, RTLD_NOLOAD);
    for (const fs::path& packages : package_folders())
      for (const std::string& folder : which.in_package)
        for (const std::string& name : which.names)
          if (std::error_code error; fs::exists(packages / folder / name, error)) open((packages / folder / name).string(), 0);
    for (const std::string& name : which.names) open(name, 0);
  }
  if (!library.handle_)
    why = fmt::format("{}'s library {} cannot be opened ({}); the PyPI package {} brings it (point {} at its {})", which.title, which.names.front(),
                      reason.empty() ? "not found" : reason, which.package, which.knob, which.names.front());
  return library;
}

}  // namespace lathe::cuda
