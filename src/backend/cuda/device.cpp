// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See device.h.

#include "backend/cuda/device.h"

#include <fmt/format.h>

#include "base/log.h"

namespace lathe::cuda {
namespace {

DeviceInfo describe(const Driver& driver, int ordinal, DeviceId& id) {
  DeviceInfo info;
  info.ordinal = ordinal;
  driver.require(driver.device_get(&id, ordinal), "cuDeviceGet");
  char name[256] = {};
  driver.require(driver.device_name(name, sizeof name, id), "cuDeviceGetName");
  info.name = name;
  driver.require(driver.device_memory(&info.memory_bytes, id), "cuDeviceTotalMem");
  const auto attribute = [&](DeviceAttribute which) {
    int value = 0;
    driver.require(driver.device_attribute(&value, which, id), "cuDeviceGetAttribute");
    return value;
  };
  info.major = attribute(kComputeCapabilityMajor);
  info.minor = attribute(kComputeCapabilityMinor);
  info.multiprocessors = attribute(kMultiprocessorCount);
  info.l2_bytes = static_cast<std::size_t>(attribute(kL2CacheBytes));
  info.shared_per_block = static_cast<std::size_t>(attribute(kMaxSharedMemoryPerBlockOptin));
  info.shared_per_multiprocessor = static_cast<std::size_t>(attribute(kMaxSharedMemoryPerMultiprocessor));
  info.threads_per_multiprocessor = attribute(kMaxThreadsPerMultiprocessor);
  info.clock_hz = 1e3 * attribute(kClockRate);
  // Two transfers a clock.
  info.memory_bytes_per_second = 2e3 * attribute(kMemoryClockRate) * attribute(kMemoryBusWidth) / 8;
  info.memory_pools = attribute(kMemoryPoolsSupported) != 0;
  return info;
}

}  // namespace

double DeviceInfo::half_flops() const noexcept {
  // Floating-point operations of one multiprocessor's tensor cores in a clock.
  double per_clock = 0;
  switch (arch()) {
    case 75: per_clock = 1024; break;
    case 80: per_clock = 2048; break;
    case 86:
    case 87:
    case 89:
    case 120: per_clock = 1024; break;
    case 90: per_clock = 4096; break;
    case 100: per_clock = 8192; break;
    default: break;
  }
  return per_clock * multiprocessors * clock_hz;
}

std::string DeviceInfo::arch_name() const { return fmt::format("sm_{}", arch()); }
std::string DeviceInfo::compile_arch() const { return arch() >= 90 ? arch_name() + "a" : arch_name(); }

std::vector<DeviceInfo> list_devices(std::string* why) {
  std::vector<DeviceInfo> devices;
  const Driver* driver = Driver::find(why);
  if (!driver) return devices;
  int count = 0;
  driver->require(driver->device_count(&count), "cuDeviceGetCount");
  if (count == 0 && why) *why = "the NVIDIA driver finds no GPU";
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    DeviceId id = 0;
    devices.push_back(describe(*driver, ordinal, id));
  }
  return devices;
}

std::shared_ptr<Device> Device::open(int ordinal) {
  const Driver& driver = Driver::get();
  int count = 0;
  driver.require(driver.device_count(&count), "cuDeviceGetCount");
  if (ordinal < 0 || ordinal >= count)
    throw Error(Code::kMachine, fmt::format("there is no device cuda:{}; the driver shows {} GPU(s)", ordinal, count))
        .with_remedy("`lathe devices` lists what this machine offers.");
  DeviceId id = 0;
  DeviceInfo info = describe(driver, ordinal, id);
  return std::shared_ptr<Device>(new Device(driver, std::move(info), id));
}

Device::Device(const Driver& driver, DeviceInfo info, DeviceId id) : driver_(driver), info_(std::move(info)), id_(id) {
  driver_.require(driver_.primary_retain(&context_, id_), "cuDevicePrimaryCtxRetain");
}

Device::~Device() {
  {
    const Current current(*this);
    companions_.clear();
    modules_.clear();
  }
  driver_.primary_release(id_);
}

const Module& Device::builtin_module(std::string_view name) {
  const std::lock_guard lock(mutex_);
  const std::string key = fmt::format("builtin {}", name);
  auto found = modules_.find(key);
  if (found == modules_.end()) {
    const EmbeddedModule* image = choose_embedded(name, info_.major, info_.minor);
    if (!image)
      throw Error(Code::kMachine, fmt::format("this build of Lathe has no kernels '{}' for {} ({})", name, info_.arch_name(), info_.name))
          .with_remedy("Build Lathe with LATHE_CUDA_ARCHS=all.");
    const Current current(*this);
    found = modules_.emplace(key, std::make_shared<const Module>(driver_, image->image)).first;
  }
  return *found->second;
}

Function Device::builtin_function(std::string_view module, std::string_view kernel, std::size_t shared_bytes) {
  const Module& code = builtin_module(module);
  const std::lock_guard lock(mutex_);
  auto found = functions_.find(kernel);
  if (found == functions_.end()) {
    const std::string name(kernel);
    const Current current(*this);
    found = functions_.emplace(name, Known{code.function(name.c_str()), 0}).first;
  }
  Known& known = found->second;
  if (shared_bytes > known.shared_bytes) {
    const Current current(*this);
    known.function.allow_shared(shared_bytes);
    known.shared_bytes = shared_bytes;
  }
  return known.function;
}

std::shared_ptr<const Module> Device::load_module(std::string_view key, std::span<const std::byte> image) {
  const std::lock_guard lock(mutex_);
  auto found = modules_.find(key);
  if (found == modules_.end()) {
    const Current current(*this);
    found = modules_.emplace(std::string(key), std::make_shared<const Module>(driver_, image)).first;
  }
  return found->second;
}

std::shared_ptr<const Module> Device::compiled_module(std::string_view source) {
  const std::string arch = info_.compile_arch();
  const CodeKey key = code_key(source, arch);
  const std::string name = "region " + trust::hex(key);
  std::span<const std::byte> offered;
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = modules_.find(name); found != modules_.end()) return found->second;
    if (const auto found = offered_.find(key); found != offered_.end()) offered = found->second;
  }
  const auto keep = [&](std::span<const std::byte> image) {
    const std::lock_guard lock(mutex_);
    if (keep_code_) kept_.emplace(key, std::vector<std::byte>(image.begin(), image.end()));
  };
  if (!offered.empty()) {
    try {
      auto module = load_module(name, offered);
      keep(offered);
      return module;
    } catch (const Error& error) {
      if (error.code() == Code::kOutOfMemory) throw;
      log(LogLevel::kWarning, "the driver refuses native code of the engine, which is compiled anew: {}", error.what());
    }
  }
  const std::vector<std::byte> image = cached_code(source, arch, key);  // compiles without the lock: other threads go on
  auto module = load_module(name, image);
  keep(image);
  return module;
}

void Device::offer_code(std::span<const Image> list, std::shared_ptr<const void> owner) {
  const std::lock_guard lock(mutex_);
  offered_owners_.push_back(std::move(owner));
  for (const Image& image : list)
    if (image.arch == info_.compile_arch()) offered_.insert_or_assign(image.key, image.code);
}

void Device::keep_code() {
  const std::lock_guard lock(mutex_);
  keep_code_ = true;
}

std::vector<Device::Image> Device::kept_code() const {
  const std::lock_guard lock(mutex_);
  std::vector<Image> list;
  for (const auto& [key, image] : kept_) list.push_back({key, info_.compile_arch(), image});
  return list;
}

std::shared_ptr<void> Device::companion(std::string_view name, const std::function<std::shared_ptr<void>()>& make) {
  const std::lock_guard lock(companions_mutex_);
  auto found = companions_.find(name);
  if (found == companions_.end()) {
    const Current current(*this);
    found = companions_.emplace(std::string(name), make()).first;
  }
  return found->second;
}

}  // namespace lathe::cuda
