// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// One GPU: its primary context (shared with everything else in the process that uses CUDA, PyTorch included), its limits, and the
// modules loaded on it. Devices are independent; nothing here is global.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "backend/cuda/code_cache.h"
#include "backend/cuda/driver.h"
#include "backend/cuda/module.h"

namespace lathe::cuda {

struct DeviceInfo {
  int ordinal = 0;
  std::string name;          ///< "NVIDIA H100 80GB HBM3"
  int major = 0, minor = 0;  ///< compute capability
  int multiprocessors = 0;
  std::size_t memory_bytes = 0, l2_bytes = 0;
  std::size_t shared_per_block = 0, shared_per_multiprocessor = 0;
  int threads_per_multiprocessor = 0;
  double clock_hz = 0, memory_bytes_per_second = 0;  ///< by the driver's figures; 0 = not told
  bool memory_pools = false;
  int arch() const noexcept { return major * 10 + minor; }
  /// Dense products in float16 a second by the architecture's figures, for floors; 0 for an architecture that is not known.
  double half_flops() const noexcept;
  std::string arch_name() const;  ///< "sm_90"
  /// What to compile for: with the features of this very architecture where it has such ("sm_90a").
  std::string compile_arch() const;
};

/// Devices that the driver shows; empty without a driver, and `why` then says what is missing.
std::vector<DeviceInfo> list_devices(std::string* why = nullptr);

class Device {
 public:
  /// Retains the primary context. Throws Error(kMachine) when there is no driver or no such device.
  static std::shared_ptr<Device> open(int ordinal = 0);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  const DeviceInfo& info() const noexcept { return info_; }
  const Driver& driver() const noexcept { return driver_; }
  ContextHandle context() const noexcept { return context_; }

  /// Lathe's own kernels of this name, loaded by the first call. Throws Error(kMachine) when this build has none for the device.
  const Module& builtin_module(std::string_view name);
  /// One of their functions, allowed this much dynamic shared memory; looked up once.
  Function builtin_function(std::string_view module, std::string_view kernel, std::size_t shared_bytes = 0);
  /// Has this build such kernels for the device?
  bool has_builtin_module(std::string_view name) const noexcept { return choose_embedded(name, info_.major, info_.minor) != nullptr; }
  /// A module made elsewhere, loaded once for equal keys.
  std::shared_ptr<const Module> load_module(std::string_view key, std::span<const std::byte> image);
  /// The module of a source that Lathe wrote: of the code that was offered, else cached or compiled (code_cache.h). Loaded once.
  std::shared_ptr<const Module> compiled_module(std::string_view source);
  /// Machine code of one source for one architecture.
  struct Image {
    CodeKey key;
    std::string arch;
    std::span<const std::byte> code;
  };
  /// Code that need not be compiled; `owner` keeps the images. Whoever offers answers for it.
  void offer_code(std::span<const Image> list, std::shared_ptr<const void> owner);
  /// From now on the code of every source that is asked for is kept.
  void keep_code();
  /// What was kept, for compile_arch(); views that live as long as the device.
  std::vector<Image> kept_code() const;
  /// What a library keeps for this device (its handle), made by the first call of a name with the device's context current, destroyed before
  /// the device is closed.
  std::shared_ptr<void> companion(std::string_view name, const std::function<std::shared_ptr<void>()>& make);

 private:
  Device(const Driver& driver, DeviceInfo info, DeviceId id);
  const Driver& driver_;
  DeviceInfo info_;
  DeviceId id_;
  ContextHandle context_ = nullptr;
  mutable std::mutex mutex_;
  std::map<std::string, std::shared_ptr<const Module>, std::less<>> modules_;
  struct Known {
    Function function;
    std::size_t shared_bytes = 0;
  };
  std::map<std::string, Known, std::less<>> functions_;
  std::map<CodeKey, std::span<const std::byte>> offered_;
  std::vector<std::shared_ptr<const void>> offered_owners_;
  bool keep_code_ = false;
  std::map<CodeKey, std::vector<std::byte>> kept_;
  std::mutex companions_mutex_;
  std::map<std::string, std::shared_ptr<void>, std::less<>> companions_;
};

/// Makes a device's context current in this thread for as long as it lives; what was current before comes back.
class Current {
 public:
  explicit Current(const Device& device) noexcept : driver_(device.driver()), result_(driver_.context_push(device.context())) {}
  ~Current() {
    ContextHandle ignored = nullptr;
    if (result_ == kSuccess) driver_.context_pop(&ignored);
  }
  Current(const Current&) = delete;
  Current& operator=(const Current&) = delete;
  Status status() const noexcept { return driver_.status(result_, "cuCtxPushCurrent"); }

 private:
  const Driver& driver_;
  Result result_;
};

/// Does what was timed at `tuned` rows serve `now` of them, within a factor of two? Both may be any number of a file; 0: nothing was timed.
inline bool near_tuned(std::int64_t now, std::int64_t tuned) noexcept { return tuned > 0 && now - now / 2 <= tuned && now >= tuned - tuned / 2; }

}  // namespace lathe::cuda
