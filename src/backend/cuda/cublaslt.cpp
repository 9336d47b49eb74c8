// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See cublaslt.h.

#include "backend/cuda/cublaslt.h"

#include <fmt/format.h>

#include "backend/cuda/library.h"

namespace lathe::cuda::cublaslt {

std::unique_ptr<const Library> Library::open(const std::string& asked, std::string& why) {
  static const OptionalLibrary which{"cuBLASLt", "LATHE_CUBLASLT", {"libcublasLt.so.13", "libcublasLt.so.12"}, "nvidia-cublas", {"cu13/lib", "cublas/lib"}};
  const cuda::Library opened = open_optional(which, asked, why);
  if (!opened) return nullptr;
  auto library = std::make_unique<Library>();
  const char* missing = nullptr;
#define LATHE_CUBLASLT_LOOK_UP(member, symbol, result, parameters)                         \
  library->member = reinterpret_cast<result(*) parameters>(opened.symbol_or_null(symbol)); \
  if (!library->member && !missing) missing = symbol;
  LATHE_CUBLASLT(LATHE_CUBLASLT_LOOK_UP)
#undef LATHE_CUBLASLT_LOOK_UP
  if (missing) {
    why = fmt::format("cuBLASLt has no function {}; version 12 or newer is needed (PyPI: nvidia-cublas)", missing);
    return nullptr;
  }
  const std::size_t version = library->version();
  library->version_ = cuda::version_text(version);
  if (version < 120000) {
    why = fmt::format("cuBLASLt is version {}; 12 or newer is needed (PyPI: nvidia-cublas)", library->version_);
    return nullptr;
  }
  return library;
}

const Library* Library::find(std::string* why) { return find_once<Library>("LATHE_CUBLASLT", why); }

const Library& Library::get() {
  std::string why;
  if (const Library* library = find(&why)) return *library;
  throw Error(Code::kMachine, "a step by cuBLASLt cannot run: " + why)
      .with_remedy("Install it (pip install nvidia-cublas), or build the engine again on this machine.");
}

Handle handle_of(Device& device) {
  const auto make = [] {
    const Library& library = Library::get();
    Handle handle = nullptr;
    require(library.create(&handle), "cublasLtCreate");
    return std::shared_ptr<void>(handle, [&library](void* made) { library.destroy(static_cast<Handle>(made)); });
  };
  return static_cast<Handle>(device.companion("cublaslt", make).get());
}

Status status(Result result, std::string_view call) noexcept {
  if (result == kSuccess) return Status::ok();
  char text[200];
  const auto end = fmt::format_to_n(text, sizeof text, "{} failed with status {}", call, result);
  const std::string_view message(text, std::min(end.size, sizeof text));
  return {result == kAllocationFailed ? Code::kOutOfMemory : result == kNotSupported ? Code::kUnsupported : Code::kInternal, message};
}

void require(Result result, std::string_view call) {
  if (const Status failed = status(result, call); !failed) throw Error(failed.code(), std::string(failed.message()));
}

}  // namespace lathe::cuda::cublaslt
