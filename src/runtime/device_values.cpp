// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See device_values.h.

#include "runtime/device_values.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <iterator>
#include <mutex>
#include <vector>

namespace lathe::runtime {
namespace {

constexpr std::size_t kAlignment = 256, kSpare = std::size_t{64} << 20;

/// Four sizes between two powers of two, so that values that grow a little find memory that was there.
std::size_t rounded(std::size_t bytes) {
  const std::size_t step = std::max(kAlignment, std::bit_floor(std::max<std::size_t>(bytes, 1)) / 4);
  return (bytes + step - 1) / step * step;
}

}  // namespace

class DeviceValues::Bytes final : public RemoteBytes {
 public:
  /// Memory of the pool's.
  Bytes(std::shared_ptr<DeviceValues> pool, std::size_t bytes) : pool_(std::move(pool)), bytes_(bytes), taken_(bytes) { data_ = pool_->take(taken_); }
  /// The caller's.
  Bytes(std::shared_ptr<DeviceValues> pool, std::size_t bytes, void* data) : pool_(std::move(pool)), data_(data), bytes_(bytes) {}
  ~Bytes() override {
    if (taken_ > 0) pool_->give(data_, taken_);
  }
  const void* address() const noexcept override { return data_; }
  const std::byte* fetched() override {
    if (const std::byte* there = fetched_.load(std::memory_order_acquire)) return there;
    const std::lock_guard lock(fetching_);  // the threads of one operation may all look at once
    if (const std::byte* there = fetched_.load(std::memory_order_relaxed)) return there;
    host_ = Tensor::to_be_filled(DType::kUint8, {static_cast<std::int64_t>(bytes_)});
    const cuda::Current current(*pool_->device_);
    const cuda::Driver& driver = pool_->device_->driver();
    driver.require(driver.copy_to_host(host_.mutable_raw(), cuda::address_of(data_), bytes_, pool_->stream()), "cuMemcpyDtoHAsync of a value");
    pool_->wait();
    fetched_.store(host_.raw(), std::memory_order_release);
    return host_.raw();
  }
  std::shared_ptr<RemoteBytes> gathered(std::size_t bytes, std::span<const Piece> pieces) const override {
    auto made = std::make_shared<Bytes>(pool_, bytes);
    const cuda::Current current(*pool_->device_);
    const cuda::Driver& driver = pool_->device_->driver();
    for (const Piece& piece : pieces) {
      const cuda::DevicePointer from = cuda::address_of(piece.from->address()) + piece.offset, to = cuda::address_of(made->data()) + piece.to;
      if (piece.rows == 1) {
        driver.require(driver.copy_on_device(to, from, piece.bytes, pool_->stream()), "cuMemcpyDtoDAsync of a part of a value");
        continue;
      }
      cuda::RowsCopy copy;
      copy.from = from;
      copy.from_pitch = piece.pitch;
      copy.to = to;
      copy.to_pitch = piece.to_pitch;
      copy.bytes = piece.bytes;
      copy.rows = piece.rows;
      driver.require(driver.copy_rows_on_device(&copy, pool_->stream()), "cuMemcpy2DAsync of a part of a value");
    }
    return made;
  }
  std::shared_ptr<RemoteBytes> brought(const Tensor& tensor) const override { return pool_->uploaded(tensor); }
  void* data() const noexcept { return data_; }

 private:
  std::shared_ptr<DeviceValues> pool_;
  void* data_ = nullptr;
  std::size_t bytes_ = 0, taken_ = 0;
  std::mutex fetching_;
  Tensor host_;
  std::atomic<const std::byte*> fetched_ = nullptr;
};

std::shared_ptr<DeviceValues> DeviceValues::create(std::shared_ptr<cuda::Device> device, Allocator* allocator) {
  return std::shared_ptr<DeviceValues>(new DeviceValues(std::move(device), allocator));
}

DeviceValues::DeviceValues(std::shared_ptr<cuda::Device> device, Allocator* allocator)
    : device_(std::move(device)), own_(device_), allocator_(allocator ? allocator : &own_), stream_(device_) {}

DeviceValues::~DeviceValues() { trim(0); }

void* DeviceValues::take(std::size_t& bytes) {
  bytes = rounded(bytes);
  void* data = nullptr;
  if (const auto found = free_.lower_bound(bytes); found != free_.end() && found->first <= 2 * bytes) {
    bytes = found->first;
    data = found->second;
    free_bytes_ -= bytes;
    free_.erase(found);
  } else {
    data = allocator_->allocate(bytes, kAlignment, MemorySpace::kDevice, nullptr);
    if (!data) {
      trim(0);
      data = allocator_->allocate(bytes, kAlignment, MemorySpace::kDevice, nullptr);
    }
    if (!data) throw Error(Code::kOutOfMemory, fmt::format("the allocator gave no {} bytes of device memory for a value", bytes));
  }
  used_bytes_ += bytes;
  most_used_ = std::max(most_used_, used_bytes_);
  return data;
}

void DeviceValues::give(void* data, std::size_t bytes) noexcept {
  used_bytes_ -= bytes;
  try {
    free_.emplace(bytes, data);
    free_bytes_ += bytes;
  } catch (const std::bad_alloc&) {
    settle();
    allocator_->deallocate(data, bytes, MemorySpace::kDevice, nullptr);
  }
  if (free_bytes_ + used_bytes_ > most_used_ + most_used_ / 2 + kSpare) trim(most_used_);
}

/// Gives memory back that nothing uses, until `most` bytes of it are left.
void DeviceValues::trim(std::size_t most) noexcept {
  if (free_.empty()) return;
  settle();
  while (!free_.empty() && free_bytes_ > most) {
    const auto largest = std::prev(free_.end());
    allocator_->deallocate(largest->second, largest->first, MemorySpace::kDevice, nullptr);
    free_bytes_ -= largest->first;
    free_.erase(largest);
  }
}

Tensor DeviceValues::make(DType dtype, const Dims& dims) {
  return Tensor::remote(dtype, dims, std::make_shared<Bytes>(shared_from_this(), dtype_bytes(dtype, element_count(dims))));
}

std::shared_ptr<RemoteBytes> DeviceValues::uploaded(const Tensor& value) {
  auto bytes = std::make_shared<Bytes>(shared_from_this(), value.bytes());
  const cuda::Current current(*device_);
  const cuda::Driver& driver = device_->driver();
  driver.require(driver.copy_to_device(cuda::address_of(bytes->data()), value.raw(), value.bytes(), stream()), "cuMemcpyHtoDAsync of a value");
  return bytes;
}

Tensor DeviceValues::bring(const Tensor& value) { return value.remote_bytes() ? value : value.with_remote(uploaded(value)); }

Tensor DeviceValues::wrap(DType dtype, const Dims& dims, const void* address) {
  return Tensor::remote(dtype, dims, std::make_shared<Bytes>(shared_from_this(), dtype_bytes(dtype, element_count(dims)), const_cast<void*>(address)));
}

void DeviceValues::copy(const Tensor& value, void* to) {
  const Tensor here = bring(value);
  const cuda::Current current(*device_);
  const cuda::Driver& driver = device_->driver();
  driver.require(driver.copy_on_device(cuda::address_of(to), cuda::address_of(here.remote_bytes()->address()), here.bytes(), stream()),
                 "cuMemcpyDtoDAsync of a value");
}

Status DeviceValues::synchronize() const noexcept {
  const cuda::Current current(*device_);
  return current.status() ? stream_.synchronize() : current.status();
}

void DeviceValues::wait() const {
  if (const Status status = synchronize(); !status) throw Error(status.code(), std::string(status.message()));
}

void DeviceValues::follow(cuda::StreamHandle stream) const {
  const cuda::Current current(*device_);
  device_->driver().require(device_->driver().stream_synchronize(stream), "cuStreamSynchronize of the caller's stream");
}

}  // namespace lathe::runtime
