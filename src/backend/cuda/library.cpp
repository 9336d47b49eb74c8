// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See library.h.

#include "backend/cuda/library.h"

#include <dlfcn.h>

#include <filesystem>

namespace lathe::cuda {

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

}  // namespace lathe::cuda
