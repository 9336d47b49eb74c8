// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Memory of a device behind the public Allocator: device memory (stream-ordered when a stream is given), pinned host memory, plain
// host memory. And an owner for one block.

#include <cstddef>
#include <memory>
#include <span>

#include "backend/cuda/device.h"
#include "lathe/services.h"

namespace lathe::cuda {

class DeviceAllocator final : public Allocator {
 public:
  explicit DeviceAllocator(std::shared_ptr<Device> device) : device_(std::move(device)) {}
  void* allocate(std::size_t bytes, std::size_t alignment, MemorySpace space, void* stream) noexcept override;
  void deallocate(void* pointer, std::size_t bytes, MemorySpace space, void* stream) noexcept override;

 private:
  std::shared_ptr<Device> device_;
};

/// A block of device or pinned memory. Throws Error(kOutOfMemory) naming the size.
class Block {
 public:
  Block() = default;
  Block(std::shared_ptr<Device> device, std::size_t bytes, MemorySpace space = MemorySpace::kDevice);
  ~Block();
  Block(Block&& other) noexcept;
  Block& operator=(Block&& other) noexcept;
  void* data() const noexcept { return data_; }
  std::size_t bytes() const noexcept { return bytes_; }
  DevicePointer address() const noexcept { return reinterpret_cast<DevicePointer>(data_); }

 private:
  std::shared_ptr<Device> device_;
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
  MemorySpace space_ = MemorySpace::kDevice;
};

inline DevicePointer address_of(const void* pointer) noexcept { return reinterpret_cast<DevicePointer>(pointer); }
/// True for memory that kernels of this device can read (its own device memory).
bool is_device_memory(const Device& device, const void* pointer) noexcept;

}  // namespace lathe::cuda
