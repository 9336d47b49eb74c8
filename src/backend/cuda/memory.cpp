// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See memory.h. The driver aligns what it gives to 256 bytes at least; more is not promised, so more is refused.

#include "backend/cuda/memory.h"

#include <fmt/format.h>

#include <utility>

namespace lathe::cuda {
namespace {

constexpr std::size_t kDriverAlignment = 256;

Result take(const Device& device, std::size_t bytes, MemorySpace space, void* stream, void*& data) noexcept {
  const Current current(device);
  if (!current.status()) return kErrorInvalidValue;
  const Driver& driver = device.driver();
  if (space == MemorySpace::kPinned) return driver.allocate_host(&data, bytes);
  DevicePointer pointer = 0;
  const Result result =
      stream && device.info().memory_pools ? driver.allocate_async(&pointer, bytes, static_cast<StreamHandle>(stream)) : driver.allocate(&pointer, bytes);
  data = reinterpret_cast<void*>(pointer);
  return result;
}

void give(const Device& device, void* data, MemorySpace space, void* stream) noexcept {
  const Current current(device);
  const Driver& driver = device.driver();
  if (space == MemorySpace::kPinned) driver.release_host(data);
  else if (stream && device.info().memory_pools) driver.release_async(address_of(data), static_cast<StreamHandle>(stream));
  else driver.release(address_of(data));
}

}  // namespace

void* DeviceAllocator::allocate(std::size_t bytes, std::size_t alignment, MemorySpace space, void* stream) noexcept {
  if (space == MemorySpace::kHost) return default_allocator().allocate(bytes, alignment, space, nullptr);
  if (bytes == 0 || alignment > kDriverAlignment) return nullptr;
  void* data = nullptr;
  return take(*device_, bytes, space, stream, data) == kSuccess ? data : nullptr;
}

void DeviceAllocator::deallocate(void* pointer, std::size_t bytes, MemorySpace space, void* stream) noexcept {
  if (space == MemorySpace::kHost) return default_allocator().deallocate(pointer, bytes, space, nullptr);
  if (pointer) give(*device_, pointer, space, stream);
}

Block::Block(std::shared_ptr<Device> device, std::size_t bytes, MemorySpace space) : device_(std::move(device)), bytes_(bytes), space_(space) {
  if (bytes == 0) return;
  if (const Result result = take(*device_, bytes, space, nullptr, data_); result != kSuccess) {
    data_ = nullptr;
    const Status status = device_->driver().status(result, space == MemorySpace::kPinned ? "cuMemAllocHost" : "cuMemAlloc");
    throw Error(status.code(), fmt::format("{} bytes of {} memory on {}: {}", bytes, space == MemorySpace::kPinned ? "pinned" : "device", device_->info().name,
                                           status.message()));
  }
}

Block::~Block() {
  if (data_) give(*device_, data_, space_, nullptr);
}

Block::Block(Block&& other) noexcept
    : device_(std::move(other.device_)), data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)), space_(other.space_) {}

Block& Block::operator=(Block&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(space_, other.space_);
  return *this;
}

bool is_device_memory(const Device& device, const void* pointer) noexcept {
  if (!pointer) return false;
  const Driver& driver = device.driver();
  unsigned type = 0;
  int ordinal = -1;
  // Plain host memory is no pointer of the driver's: it answers with an error, which says just that.
  if (driver.pointer_attribute(&type, kPointerMemoryType, address_of(pointer)) != kSuccess || type != kMemoryTypeDevice) return false;
  return driver.pointer_attribute(&ordinal, kPointerDeviceOrdinal, address_of(pointer)) == kSuccess && ordinal == device.info().ordinal;
}

}  // namespace lathe::cuda
