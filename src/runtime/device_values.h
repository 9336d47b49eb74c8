// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Where the values of a dynamic program lie on a GPU between its steps: memory that is used again, uploads and fetches, all on one stream. A value
// that the host never looks at never leaves the device.

#include <map>
#include <memory>

#include "backend/cuda/memory.h"
#include "backend/cuda/stream.h"
#include "base/tensor.h"

namespace lathe::runtime {

class DeviceValues : public std::enable_shared_from_this<DeviceValues> {
 public:
  /// `allocator`: what device memory comes from; nullptr: the driver. Throws Error.
  static std::shared_ptr<DeviceValues> create(std::shared_ptr<cuda::Device> device, Allocator* allocator);
  ~DeviceValues();
  DeviceValues(const DeviceValues&) = delete;
  DeviceValues& operator=(const DeviceValues&) = delete;

  /// What reads and writes the values' memory is enqueued here: memory that is given back may be given out again at once.
  cuda::StreamHandle stream() const noexcept { return stream_.handle(); }
  /// A tensor that work on the stream is going to fill. Throws Error(kOutOfMemory).
  Tensor make(DType dtype, const Dims& dims);
  /// `value` (of bytes) with its bytes on the device, and on the host where they were there. Throws Error.
  Tensor bring(const Tensor& value);
  /// A tensor in memory of the caller's on this device, which outlives it.
  Tensor wrap(DType dtype, const Dims& dims, const void* address);
  /// Copies a tensor's bytes to other memory of the device.
  void copy(const Tensor& value, void* to);
  /// Is it memory of this device?
  bool is_here(const void* pointer) const noexcept { return cuda::is_device_memory(*device_, pointer); }
  /// Until all is done that was enqueued. Throws Error with what went wrong in it.
  void wait() const;
  /// The same for a caller whom it does not concern how it ended.
  void settle() const noexcept { static_cast<void>(synchronize()); }
  /// What `stream` has under way is done before what is enqueued here from now on.
  void follow(cuda::StreamHandle stream) const;

 private:
  class Bytes;
  DeviceValues(std::shared_ptr<cuda::Device> device, Allocator* allocator);
  Status synchronize() const noexcept;
  std::shared_ptr<RemoteBytes> uploaded(const Tensor& value);
  void* take(std::size_t& bytes);
  void give(void* data, std::size_t bytes) noexcept;
  void trim(std::size_t most) noexcept;

  std::shared_ptr<cuda::Device> device_;
  cuda::DeviceAllocator own_;
  Allocator* allocator_;
  cuda::Stream stream_;
  std::multimap<std::size_t, void*> free_;
  std::size_t free_bytes_ = 0, used_bytes_ = 0, most_used_ = 0;
};

}  // namespace lathe::runtime
