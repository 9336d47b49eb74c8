// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See gpu.h. Addresses, streams and events are numbers, as scripts hand them around. A stream of 0 is the legacy default stream.

#include "gpu.h"

#include <nanobind/stl/pair.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <memory>

#include "backend/cuda/device.h"
#include "backend/cuda/memory.h"
#include "lathe/status.h"

namespace lathe::python {
namespace {

using Number = std::uint64_t;

cuda::StreamHandle stream_of(Number handle) { return handle == 0 ? cuda::kLegacyStream : reinterpret_cast<cuda::StreamHandle>(handle); }
cuda::EventHandle event_of(Number handle) { return reinterpret_cast<cuda::EventHandle>(handle); }

/// A host buffer of Python's, dense; the copy reads or writes all of it.
class Buffer {
 public:
  Buffer(nb::handle object, bool writable) {
    if (PyObject_GetBuffer(object.ptr(), &view_, writable ? PyBUF_CONTIG : PyBUF_CONTIG_RO) != 0) throw nb::python_error();
  }
  ~Buffer() { PyBuffer_Release(&view_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  void* data() const { return view_.buf; }
  std::size_t bytes() const { return static_cast<std::size_t>(view_.len); }

 private:
  Py_buffer view_{};
};

class Gpu {
 public:
  explicit Gpu(int ordinal) : device_(cuda::Device::open(ordinal)) {}

  const cuda::DeviceInfo& info() const { return device_->info(); }

  Number allocate(std::size_t bytes) const {
    cuda::DevicePointer address = 0;
    call("cuMemAlloc", [&](const cuda::Driver& driver) { return driver.allocate(&address, bytes); });
    return address;
  }
  void release(Number address) const {
    call("cuMemFree", [&](const cuda::Driver& driver) { return driver.release(address); });
  }
  /// Page-locked host memory as an array of bytes, which keeps it.
  nb::object pinned(std::size_t bytes) const {
    auto* block = new cuda::Block(device_, std::max<std::size_t>(bytes, 1), MemorySpace::kPinned);
    const nb::capsule owner(block, [](void* taken) noexcept { delete static_cast<cuda::Block*>(taken); });
    return nb::cast(nb::ndarray<nb::numpy, std::uint8_t, nb::ndim<1>>(block->data(), {bytes}, owner));
  }
  void copy_in(Number to, nb::handle from, Number stream) const {
    const Buffer buffer(from, false);
    call("cuMemcpyHtoDAsync", [&](const cuda::Driver& driver) { return driver.copy_to_device(to, buffer.data(), buffer.bytes(), stream_of(stream)); });
  }
  void copy_out(nb::handle to, Number from, Number stream) const {
    const Buffer buffer(to, true);
    call("cuMemcpyDtoHAsync", [&](const cuda::Driver& driver) { return driver.copy_to_host(buffer.data(), from, buffer.bytes(), stream_of(stream)); });
  }
  void copy_within(Number to, Number from, std::size_t bytes, Number stream) const {
    call("cuMemcpyDtoDAsync", [&](const cuda::Driver& driver) { return driver.copy_on_device(to, from, bytes, stream_of(stream)); });
  }
  void fill(Number to, unsigned char value, std::size_t bytes, Number stream) const {
    call("cuMemsetD8Async", [&](const cuda::Driver& driver) { return driver.fill_bytes(to, value, bytes, stream_of(stream)); });
  }
  /// Free and total bytes.
  std::pair<std::size_t, std::size_t> memory() const {
    std::size_t left = 0, total = 0;
    call("cuMemGetInfo", [&](const cuda::Driver& driver) { return driver.memory_info(&left, &total); });
    return {left, total};
  }

  Number stream_create() const {
    cuda::StreamHandle stream = nullptr;
    // As the script's streams are elsewhere: in order with the default stream.
    call("cuStreamCreate", [&](const cuda::Driver& driver) { return driver.stream_create(&stream, 0); });
    return reinterpret_cast<Number>(stream);
  }
  void stream_destroy(Number stream) const {
    call("cuStreamDestroy", [&](const cuda::Driver& driver) { return driver.stream_destroy(stream_of(stream)); });
  }
  void stream_synchronize(Number stream) const {
    call("cuStreamSynchronize", [&](const cuda::Driver& driver) { return driver.stream_synchronize(stream_of(stream)); });
  }
  void stream_wait(Number stream, Number event) const {
    call("cuStreamWaitEvent", [&](const cuda::Driver& driver) { return driver.stream_wait_event(stream_of(stream), event_of(event), 0); });
  }
  Number event_create() const {
    cuda::EventHandle event = nullptr;
    call("cuEventCreate", [&](const cuda::Driver& driver) { return driver.event_create(&event, 0); });
    return reinterpret_cast<Number>(event);
  }
  void event_destroy(Number event) const {
    call("cuEventDestroy", [&](const cuda::Driver& driver) { return driver.event_destroy(event_of(event)); });
  }
  void event_record(Number event, Number stream) const {
    call("cuEventRecord", [&](const cuda::Driver& driver) { return driver.event_record(event_of(event), stream_of(stream)); });
  }
  void event_synchronize(Number event) const {
    call("cuEventSynchronize", [&](const cuda::Driver& driver) { return driver.event_synchronize(event_of(event)); });
  }
  /// Milliseconds; negative when one of the two has not happened yet.
  float event_elapsed(Number start, Number end) const {
    float milliseconds = -1;
    const cuda::Current current(*device_);
    const cuda::Result result = device_->driver().event_elapsed(&milliseconds, event_of(start), event_of(end));
    if (result == cuda::kErrorNotReady) return -1;
    device_->driver().require(result, "cuEventElapsedTime");
    return milliseconds;
  }

 private:
  /// One call of the driver, with the device's context current and without Python's lock.
  template <class F>
  void call(const char* name, F&& f) const {
    Status status;
    {
      nb::gil_scoped_release released;
      const cuda::Current current(*device_);
      status = device_->driver().status(f(device_->driver()), name);
    }
    if (!status) throw Error(status.code(), std::string(status.message()));
  }

  std::shared_ptr<cuda::Device> device_;
};

}  // namespace

void register_gpu(nb::module_& m) {
  m.def(
      "gpus",
      [] {
        std::string why;
        const std::vector<cuda::DeviceInfo> devices = cuda::list_devices(&why);
        return nb::make_tuple(devices.size(), why);
      },
      "How many GPUs the driver shows and, where there are none, why.");
  nb::class_<Gpu>(m, "Gpu", "Memory, copies, streams and events of one GPU, by address and handle.")
      .def(nb::init<int>(), nb::arg("ordinal"))
      .def_prop_ro("ordinal", [](const Gpu& self) { return self.info().ordinal; })
      .def_prop_ro("name", [](const Gpu& self) { return self.info().name; })
      .def_prop_ro("compute_capability", [](const Gpu& self) { return std::pair(self.info().major, self.info().minor); })
      .def_prop_ro("multiprocessors", [](const Gpu& self) { return self.info().multiprocessors; })
      .def_prop_ro("memory", &Gpu::memory, "Free and total bytes.")
      .def("allocate", &Gpu::allocate, nb::arg("bytes"))
      .def("release", &Gpu::release, nb::arg("address"))
      .def("pinned", &Gpu::pinned, nb::arg("bytes"))
      .def("copy_in", &Gpu::copy_in, nb::arg("to"), nb::arg("buffer"), nb::arg("stream"))
      .def("copy_out", &Gpu::copy_out, nb::arg("buffer"), nb::arg("from_"), nb::arg("stream"))
      .def("copy_within", &Gpu::copy_within, nb::arg("to"), nb::arg("from_"), nb::arg("bytes"), nb::arg("stream"))
      .def("fill", &Gpu::fill, nb::arg("to"), nb::arg("value"), nb::arg("bytes"), nb::arg("stream"))
      .def("stream_create", &Gpu::stream_create)
      .def("stream_destroy", &Gpu::stream_destroy, nb::arg("stream"))
      .def("stream_synchronize", &Gpu::stream_synchronize, nb::arg("stream"))
      .def("stream_wait", &Gpu::stream_wait, nb::arg("stream"), nb::arg("event"))
      .def("event_create", &Gpu::event_create)
      .def("event_destroy", &Gpu::event_destroy, nb::arg("event"))
      .def("event_record", &Gpu::event_record, nb::arg("event"), nb::arg("stream"))
      .def("event_synchronize", &Gpu::event_synchronize, nb::arg("event"))
      .def("event_elapsed", &Gpu::event_elapsed, nb::arg("start"), nb::arg("end"));
}

}  // namespace lathe::python
