// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See driver.h.

#include "backend/cuda/driver.h"

#include <fmt/format.h>

#include "backend/cuda/library.h"
#include "base/knobs.h"

namespace lathe::cuda {
namespace {

struct Opened {
  Driver driver;
  std::string why;  // empty when usable
};

Opened open_driver() {
  Opened opened;
  const std::string asked = knob("LATHE_CUDA_DRIVER");
  if (asked == "none") {
    opened.why = "the knob LATHE_CUDA_DRIVER is 'none'";
    return opened;
  }
  std::string reason;
  const Library library = Library::open({asked.empty() ? "libcuda.so.1" : asked}, &reason);
  if (!library) {
    opened.why =
        fmt::format("the NVIDIA driver's library libcuda.so.1 cannot be opened ({}); it comes with the NVIDIA driver (Debian: package libcuda1)", reason);
    return opened;
  }
  const char* missing = nullptr;
#define LATHE_CUDA_LOOK_UP(member, symbol, parameters)                                           \
  opened.driver.member = reinterpret_cast<Result(*) parameters>(library.symbol_or_null(symbol)); \
  if (!opened.driver.member && !missing) missing = symbol;
  LATHE_CUDA_DRIVER(LATHE_CUDA_LOOK_UP)
#undef LATHE_CUDA_LOOK_UP
#define LATHE_CUDA_LOOK_UP(member, symbol, parameters) opened.driver.member = reinterpret_cast<Result(*) parameters>(library.symbol_or_null(symbol));
  LATHE_CUDA_DRIVER_OPTIONAL(LATHE_CUDA_LOOK_UP)
#undef LATHE_CUDA_LOOK_UP
  if (missing) {
    opened.why = fmt::format("the NVIDIA driver has no function {}; a driver of CUDA 11.8 or newer is needed", missing);
    return opened;
  }
  if (const Result result = opened.driver.init(0); result != kSuccess) {
    opened.why = fmt::format("the NVIDIA driver finds no usable GPU ({})", opened.driver.status(result, "cuInit").message());
    return opened;
  }
  opened.driver.driver_version(&opened.driver.version);
  return opened;
}

const Opened& opened() {
  static const Opened once = open_driver();
  return once;
}

}  // namespace

Code code_of(Result result) noexcept {
  switch (result) {
    case kSuccess: return Code::kOk;
    case kErrorOutOfMemory: return Code::kOutOfMemory;
    case kErrorNoDevice:
    case kErrorInvalidDevice:
    case kErrorNoBinaryForGpu:
    case kErrorInvalidPtx:
    case kErrorUnsupportedPtxVersion: return Code::kMachine;
    default: return Code::kInternal;
  }
}

const Driver* Driver::find(std::string* why) {
  const Opened& state = opened();
  if (state.why.empty()) return &state.driver;
  if (why) *why = state.why;
  return nullptr;
}

const Driver& Driver::get() {
  std::string why;
  if (const Driver* driver = find(&why)) return *driver;
  throw Error(Code::kMachine, "the device cuda cannot be used: " + why).with_remedy("Use --device cpu, or run on a machine with an NVIDIA GPU and its driver.");
}

Status Driver::status(Result result, std::string_view call) const noexcept {
  if (result == kSuccess) return Status::ok();
  const char *name = nullptr, *text = nullptr;
  if (error_name) error_name(result, &name);
  if (error_string) error_string(result, &text);
  char buffer[254];
  const auto end = fmt::format_to_n(buffer, sizeof buffer, "{}: {} ({})", call, text ? text : "unknown error", name ? name : "no name");
  return {code_of(result), std::string_view(buffer, std::min(end.size, sizeof buffer))};
}

void Driver::require(Result result, std::string_view call) const {
  if (result == kSuccess) return;
  const Status failure = status(result, call);
  throw Error(failure.code(), std::string(failure.message()));
}

}  // namespace lathe::cuda
