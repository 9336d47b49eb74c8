// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See cudnn.h.

#include "backend/cuda/cudnn.h"

#include <fmt/format.h>

#include "backend/cuda/library.h"

namespace lathe::cuda::cudnn {
namespace {

Code code_of(Result result) noexcept {
  if (result == 4003 || result == 4004) return Code::kOutOfMemory;
  return result / 1000 == kNotSupported / 1000 || result / 1000 == kInvalid / 1000 ? Code::kUnsupported : Code::kMachine;
}

}  // namespace

std::unique_ptr<const Library> Library::open(const std::string& asked, std::string& why) {
  static const OptionalLibrary which{"cuDNN", "LATHE_CUDNN", {"libcudnn.so.9"}, "nvidia-cudnn-cu13", {"cudnn/lib"}};
  const cuda::Library opened = open_optional(which, asked, why);
  if (!opened) return nullptr;
  auto library = std::make_unique<Library>();
  const char* missing = nullptr;
#define LATHE_CUDNN_LOOK_UP(member, symbol, result, parameters)                            \
  library->member = reinterpret_cast<result(*) parameters>(opened.symbol_or_null(symbol)); \
  if (!library->member && !missing) missing = symbol;
  LATHE_CUDNN(LATHE_CUDNN_LOOK_UP)
#undef LATHE_CUDNN_LOOK_UP
  if (missing) {
    why = fmt::format("cuDNN has no function {}; version 9 is needed (PyPI: nvidia-cudnn-cu13)", missing);
    return nullptr;
  }
  const std::size_t version = library->version();
  library->version_ = cuda::version_text(version);
  if (version / 10000 != 9) {
    why = fmt::format("cuDNN is version {}; 9 is needed (PyPI: nvidia-cudnn-cu13)", library->version_);
    return nullptr;
  }
  return library;
}

const Library* Library::find(std::string* why) { return find_once<Library>("LATHE_CUDNN", why); }

const Library& Library::get() {
  std::string why;
  if (const Library* library = find(&why)) return *library;
  throw Error(Code::kMachine, "a step by cuDNN cannot run: " + why)
      .with_remedy("Install it (pip install nvidia-cudnn-cu13), or build the engine again on this machine.");
}

Status Library::status(Result result, std::string_view call) const noexcept {
  if (result == kSuccess) return Status::ok();
  char text[220];
  const char* said = error_string(result);
  const auto end = fmt::format_to_n(text, sizeof text, "{}: {}", call, said ? said : "an error without a name");
  return {code_of(result), std::string_view(text, std::min(end.size, sizeof text))};
}

void Library::require(Result result, std::string_view call) const {
  if (const Status failed = status(result, call); !failed) throw Error(failed.code(), std::string(failed.message()));
}

Handles& Handles::of(Device& device) {
  return *static_cast<Handles*>(device.companion("cudnn handles", [] { return std::shared_ptr<void>(std::make_shared<Handles>()); }).get());
}

Handles::Handles() : library_(Library::get()) {
  Handle first = nullptr;
  library_.require(library_.create(&first), "cudnnCreate");
  idle_.push_back(first);
  made_ = 1;
}

Handles::~Handles() {
  for (const Handle handle : idle_) library_.destroy(handle);
}

Status Handles::take(Handle& handle) noexcept try {
  {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      handle = idle_.back();
      idle_.pop_back();
      return Status::ok();
    }
    idle_.reserve(++made_);  // giving back allocates nothing
  }
  return library_.status(library_.create(&handle), "cudnnCreate");
} catch (...) {
  return {Code::kOutOfMemory, "no memory for a handle of cuDNN"};
}

void Handles::give_back(Handle handle) noexcept {
  const std::lock_guard lock(mutex_);
  idle_.push_back(handle);
}

Descriptor::Descriptor(DescriptorType type) {
  const Library& library = Library::get();
  library.require(library.descriptor_create(type, &raw_), "cudnnBackendCreateDescriptor");
}

Descriptor::~Descriptor() {
  if (raw_) Library::get().descriptor_destroy(raw_);
}

void Descriptor::set(Attribute name, AttributeType type, std::int64_t count, const void* values) {
  const Library& library = Library::get();
  if (const Result result = library.set_attribute(raw_, name, type, count, values); result != kSuccess)
    library.require(result, fmt::format("cuDNN does not take attribute {}", static_cast<int>(name)));
}

void Descriptor::finalize(std::string_view what) {
  const Library& library = Library::get();
  if (const Result result = library.finalize(raw_); result != kSuccess) library.require(result, fmt::format("cuDNN does not take {}", what));
}

std::int64_t Descriptor::get(Attribute name, AttributeType type, std::int64_t count, void* values) const {
  const Library& library = Library::get();
  std::int64_t written = 0;
  if (const Result result = library.get_attribute(raw_, name, type, count, &written, values); result != kSuccess)
    library.require(result, fmt::format("cuDNN does not tell attribute {}", static_cast<int>(name)));
  return written;
}

}  // namespace lathe::cuda::cudnn
