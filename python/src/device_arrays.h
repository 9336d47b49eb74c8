// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Arrays in a GPU's memory: those that other libraries lend (DLPack, else __cuda_array_interface__), never copied; DeviceArray, an output that
// stays on the device and lends itself in both ways; and streams, whatever library made them.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "arrays.h"
#include "backend/cuda/memory.h"
#include "backend/cuda/stream.h"

namespace lathe::python {

/// "run's" stream as a handle of the driver: an int (0 and 1: the legacy default stream, 2: the thread's), or an object with `cuda_stream`
/// (PyTorch), `ptr` (CuPy) or `__cuda_stream__()`. nullptr for None. Throws Error.
cuda::StreamHandle stream_handle(nb::handle stream);

/// The GPU that an object says its elements lie on; empty when they lie in the host's memory, or it says nothing.
std::optional<int> device_of(nb::handle object, const std::string& what);

/// What the tensors of a run on a GPU are held against.
struct DeviceUse {
  std::shared_ptr<cuda::Device> device;
  cuda::StreamHandle stream = nullptr;  ///< takes the run: what the lender has under way is waited for there
};

/// An input or output (`what`: "input 'x'") in the memory of `use.device`. Throws Error for memory elsewhere, for elements that are not dense and
/// row-major, and for what cannot be written when `writable`.
Array device_array(nb::handle object, const DeviceUse& use, bool writable, const std::string& what);

/// An output of a run in device memory of its own, which lives as long as anything that it was lent to.
struct DeviceArray {
  std::shared_ptr<cuda::Device> device;
  std::shared_ptr<cuda::Block> memory;
  DType dtype = DType::kUndefined;
  std::vector<std::int64_t> shape;
  std::shared_ptr<cuda::Event> ready;  ///< recorded behind the run; nullptr: it was waited for
  cuda::StreamHandle stream = nullptr;
  nb::object stream_owner;

  static DeviceArray make(const DeviceUse& use, DType dtype, std::vector<std::int64_t> shape);
  std::size_t bytes() const noexcept;
  nb::object numpy() const;
  nb::object dlpack(nb::handle stream, nb::handle dl_device, nb::handle copy) const;
  nb::dict cuda_array_interface() const;
};

void register_device_array(nb::module_& m);

}  // namespace lathe::python
