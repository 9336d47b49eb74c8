// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See device_arrays.h.

#include "device_arrays.h"

#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstring>

#include "lathe/status.h"

namespace lathe::python {
namespace {

// DLPack's kinds of device.
constexpr int kCpu = 1, kCuda = 2, kCudaHost = 3, kCudaManaged = 13;

/// DLPack's tensor with its owner, in the form without a version, which every library gives and takes.
struct Managed {
  nb::dlpack::dltensor tensor;
  void* owner;
  void (*deleter)(Managed*);
};
constexpr const char* kCapsule = "dltensor";
constexpr const char* kTaken = "used_dltensor";

[[noreturn]] void refuse(const std::string& message, const std::string& remedy = {}) {
  Error error(Code::kInvalidArgument, message);
  if (!remedy.empty()) error.with_remedy(remedy);
  throw error;
}

/// Calls into another library; what it raises is told as ours, in its words.
template <class F>
auto asked(const std::string& what, const char* of, F&& call) {
  try {
    return call();
  } catch (nb::python_error& error) {
    if (error.matches(PyExc_KeyboardInterrupt) || error.matches(PyExc_SystemExit)) throw;
    refuse(what + " does not lend its memory (" + of + "): " + nb::cast<std::string>(nb::str(error.value())));
  } catch (const nb::cast_error&) {
    refuse(what + " lends its memory in a form that is not understood (" + std::string(of) + ")");
  }
}

/// Dense and row-major: strides count where an axis has more than one index.
bool is_dense(const std::vector<std::int64_t>& shape, const std::vector<std::int64_t>& strides) {
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return true;
  std::int64_t expected = 1;
  for (std::size_t i = shape.size(); i-- > 0;) {
    if (shape[i] != 1 && strides[i] != expected) return false;
    expected *= shape[i];
  }
  return true;
}

void require_dense(const std::vector<std::int64_t>& shape, const std::vector<std::int64_t>& strides, const std::string& what) {
  if (!is_dense(shape, strides))
    refuse(what + " is not dense and row-major, and arrays on a GPU are taken as they lie, without a copy",
           "Give x.contiguous() (PyTorch) or ascontiguousarray(x) (CuPy).");
}

void require_place(int ordinal, const DeviceUse& use, const std::string& what) {
  if (ordinal != use.device->info().ordinal)
    refuse(what + " lies on cuda:" + std::to_string(ordinal) + ", and the engine runs on cuda:" + std::to_string(use.device->info().ordinal),
           "Move the array, or load the engine there: lathe.load(file, device='cuda:" + std::to_string(ordinal) + "').");
}

/// A lender that is wrong would make the driver read anywhere.
void require_device_memory(const Array& array, const DeviceUse& use, const std::string& what) {
  if (std::find(array.shape.begin(), array.shape.end(), 0) != array.shape.end()) return;
  const cuda::Current current(*use.device);
  if (!cuda::is_device_memory(*use.device, array.data))
    refuse(what + " says that it lies on cuda:" + std::to_string(use.device->info().ordinal) + ", and the driver knows no such memory there");
}

Array from_device_dlpack(nb::handle object, const DeviceUse& use, const std::string& what) {
  nb::object capsule = asked(what, "__dlpack__", [&] { return object.attr("__dlpack__")(nb::arg("stream") = reinterpret_cast<std::uintptr_t>(use.stream)); });
  auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule.ptr(), kCapsule));
  if (!managed) {
    PyErr_Clear();
    refuse(what + ": its __dlpack__ gives no DLPack tensor");
  }
  PyCapsule_SetName(capsule.ptr(), kTaken);
  Array array;
  array.keep(std::shared_ptr<void>(managed, [](void* taken) {
    auto* m = static_cast<Managed*>(taken);
    if (m->deleter) m->deleter(m);
  }));
  const nb::dlpack::dltensor& tensor = managed->tensor;
  require_place(tensor.device.device_id, use, what);
  array.dtype = dtype_of_dlpack(tensor.dtype);
  array.shape.assign(tensor.shape, tensor.shape + tensor.ndim);
  if (tensor.strides) require_dense(array.shape, {tensor.strides, tensor.strides + tensor.ndim}, what);
  array.data = static_cast<std::byte*>(tensor.data) + tensor.byte_offset;
  return array;
}

/// NumPy's array protocol: "<f4".
DType dtype_of_typestr(const std::string& text) {
  if (text.size() < 3 || (text[0] != '<' && text[0] != '|' && text[0] != '=')) return DType::kUndefined;
  static constexpr std::pair<const char*, DType> kKnown[] = {
      {"f2", DType::kFloat16}, {"f4", DType::kFloat32}, {"f8", DType::kFloat64},   {"i1", DType::kInt8},       {"i2", DType::kInt16},
      {"i4", DType::kInt32},   {"i8", DType::kInt64},   {"u1", DType::kUint8},     {"u2", DType::kUint16},     {"u4", DType::kUint32},
      {"u8", DType::kUint64},  {"b1", DType::kBool},    {"c8", DType::kComplex64}, {"c16", DType::kComplex128}};
  for (const auto& [name, dtype] : kKnown)
    if (text.substr(1) == name) return dtype;
  return DType::kUndefined;
}
std::string typestr_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat16: return "<f2";
    case DType::kFloat32: return "<f4";
    case DType::kFloat64: return "<f8";
    case DType::kInt8: return "|i1";
    case DType::kInt16: return "<i2";
    case DType::kInt32: return "<i4";
    case DType::kInt64: return "<i8";
    case DType::kUint8: return "|u1";
    case DType::kUint16: return "<u2";
    case DType::kUint32: return "<u4";
    case DType::kUint64: return "<u8";
    case DType::kBool: return "|b1";
    case DType::kComplex64: return "<c8";
    case DType::kComplex128: return "<c16";
    default: return {};
  }
}

/// __cuda_array_interface__, versions 2 and 3. From 3 on it may name the stream whose work the elements wait for.
Array from_cuda_interface(nb::handle object, const DeviceUse& use, bool writable, const std::string& what) {
  constexpr const char* kName = "__cuda_array_interface__";
  Array array;
  cuda::StreamHandle lender = nullptr;
  std::vector<std::int64_t> strides;
  asked(what, kName, [&] {
    const auto interface = nb::cast<nb::dict>(object.attr(kName));
    const auto data = nb::cast<nb::tuple>(interface["data"]);
    array.data = reinterpret_cast<void*>(nb::cast<std::uintptr_t>(data[0]));
    if (writable && nb::cast<bool>(data[1])) refuse(what + " cannot be written: its __cuda_array_interface__ says that it is read-only");
    if (interface.contains("mask") && !nb::handle(interface["mask"]).is_none()) refuse(what + " is masked, and engines know no masks");
    const std::string typestr = nb::cast<std::string>(interface["typestr"]);
    array.dtype = dtype_of_typestr(typestr);
    array.shape = nb::cast<std::vector<std::int64_t>>(interface["shape"]);
    const std::int64_t size = dtype_bits(array.dtype) / 8;
    if (interface.contains("strides") && !nb::handle(interface["strides"]).is_none())
      for (const std::int64_t bytes : nb::cast<std::vector<std::int64_t>>(interface["strides"]))
        strides.push_back(size > 0 && bytes % size == 0 ? bytes / size : -1);
    if (interface.contains("stream") && !nb::handle(interface["stream"]).is_none()) {
      const auto stream = nb::cast<std::uintptr_t>(interface["stream"]);
      if (stream == 0) refuse(what + ": its __cuda_array_interface__ names the stream 0, which may mean two things");
      lender = reinterpret_cast<cuda::StreamHandle>(stream);
    }
    return 0;
  });
  if (!strides.empty()) {
    if (strides.size() != array.shape.size())
      refuse(what + " has " + std::to_string(array.shape.size()) + " axes and " + std::to_string(strides.size()) + " strides");
    require_dense(array.shape, strides, what);
  }
  array.own(object);
  if (lender && lender != use.stream) {
    const cuda::Current current(*use.device);
    const cuda::Event event(use.device, false);
    Status status = event.record(lender);
    if (status) status = event.hold(use.stream);
    if (!status) throw Error(status.code(), what + ": the stream of its __cuda_array_interface__ cannot be waited for: " + std::string(status.message()));
  }
  return array;
}

std::optional<std::uintptr_t> number_of(nb::handle object) {
  if (!PyIndex_Check(object.ptr()) || PyBool_Check(object.ptr())) return std::nullopt;
  const nb::object number = nb::steal(PyNumber_Index(object.ptr()));
  std::uintptr_t value = 0;
  if (!number.is_valid() || !nb::try_cast(number, value)) {
    PyErr_Clear();
    return std::nullopt;
  }
  return value;
}

/// DLPack's rule: None and 1 are the legacy default stream, 2 the thread's, -1: nobody waits.
std::optional<cuda::StreamHandle> consumer_stream(nb::handle stream) {
  if (stream.is_none()) return cuda::kLegacyStream;
  std::int64_t value = 0;
  if (!nb::try_cast(stream, value) || value < -1) throw nb::type_error("the stream for __dlpack__ is None, -1 or a stream's handle");
  if (value == 0) throw nb::value_error("the stream 0 may mean two things: give 1 (legacy default) or 2 (per thread)");
  if (value == -1) return std::nullopt;
  return reinterpret_cast<cuda::StreamHandle>(static_cast<std::uintptr_t>(value));
}

/// What a lent DLPack tensor keeps: no Python object, so that it may go in any thread.
struct Lent {
  Managed managed{};
  std::shared_ptr<cuda::Block> memory;
  std::shared_ptr<cuda::Event> ready;
  std::vector<std::int64_t> shape, strides;
};

}  // namespace

cuda::StreamHandle stream_handle(nb::handle stream) {
  if (stream.is_none()) return nullptr;
  std::optional<std::uintptr_t> number = number_of(stream);
  if (!number)
    asked("the stream", "its handle", [&] {
      if (nb::hasattr(stream, "cuda_stream")) number = number_of(stream.attr("cuda_stream"));
      else if (nb::hasattr(stream, "__cuda_stream__")) number = number_of(nb::cast<nb::tuple>(stream.attr("__cuda_stream__")())[1]);
      else if (nb::hasattr(stream, "ptr")) number = number_of(stream.attr("ptr"));
      return 0;
    });
  if (!number) refuse("a stream is a handle (a number) or an object with cuda_stream, ptr or __cuda_stream__, not " + nb::cast<std::string>(nb::repr(stream)));
  // The default stream has the handle 0; the driver also knows it under a name that cannot be taken for "none".
  return *number == 0 ? cuda::kLegacyStream : reinterpret_cast<cuda::StreamHandle>(*number);
}

std::optional<int> device_of(nb::handle object, const std::string& what) {
  // NumPy's arrays and their like. CuPy's offer a buffer too, which refuses when the memory is not the host's.
  if (PyObject_CheckBuffer(object.ptr()) && !nb::hasattr(object, "__cuda_array_interface__")) return std::nullopt;
  if (nb::hasattr(object, "__dlpack_device__")) {
    const auto [kind, ordinal] = asked(what, "__dlpack_device__", [&] {
      const nb::object place = object.attr("__dlpack_device__")();
      return std::pair(nb::cast<int>(nb::int_(place[0])), nb::cast<int>(nb::int_(place[1])));
    });
    if (kind == kCuda || kind == kCudaManaged) return ordinal;
    if (kind == kCpu || kind == kCudaHost) return std::nullopt;
    refuse(what + " lies on a device of DLPack's kind " + std::to_string(kind) + "; engines take arrays in the host's memory and on NVIDIA GPUs");
  }
  if (nb::hasattr(object, "__cuda_array_interface__")) {
    // It names no device: the driver knows whose memory it is.
    const auto pointer = asked(what, "__cuda_array_interface__", [&] {
      return nb::cast<std::uintptr_t>(nb::cast<nb::tuple>(nb::cast<nb::dict>(object.attr("__cuda_array_interface__"))["data"])[0]);
    });
    int ordinal = 0;
    if (const cuda::Driver* driver = cuda::Driver::find())
      if (driver->pointer_attribute(&ordinal, cuda::kPointerDeviceOrdinal, pointer) != cuda::kSuccess) ordinal = 0;
    return ordinal;
  }
  return std::nullopt;
}

Array device_array(nb::handle object, const DeviceUse& use, bool writable, const std::string& what) {
  const bool by_dlpack = nb::hasattr(object, "__dlpack__") && nb::hasattr(object, "__dlpack_device__");
  Array array = by_dlpack ? from_device_dlpack(object, use, what) : from_cuda_interface(object, use, writable, what);
  if (array.dtype == DType::kUndefined) refuse(what + " has elements of a type that engines do not take");
  if (!by_dlpack) require_place(*device_of(object, what), use, what);
  require_device_memory(array, use, what);
  return array;
}

// DeviceArray ------------------------------------------------------------------------------------------------------

DeviceArray DeviceArray::make(const DeviceUse& use, DType dtype, std::vector<std::int64_t> shape) {
  if (dtype_bits(dtype) < 8) throw Error(Code::kUnsupported, "outputs of type " + numpy_name(dtype) + " have no form that other libraries take");
  DeviceArray array;
  array.device = use.device;
  array.dtype = dtype;
  array.shape = std::move(shape);
  array.memory = std::make_shared<cuda::Block>(use.device, std::max<std::size_t>(array.bytes(), 1));
  return array;
}

std::size_t DeviceArray::bytes() const noexcept {
  std::int64_t elements = 1;
  for (const std::int64_t extent : shape) elements *= extent;
  return dtype_bytes(dtype, elements);
}

nb::object DeviceArray::numpy() const {
  Array target;
  nb::object array = new_array(dtype, shape, target);
  if (bytes() == 0) return array;
  const cuda::Current current(*device);
  const cuda::Driver& driver = device->driver();
  Status status;
  {
    nb::gil_scoped_release released;
    // On the legacy default stream: behind the run, and behind what others have under way on streams that wait for it.
    if (ready) status = ready->hold(cuda::kLegacyStream);
    if (status) status = driver.status(driver.copy_to_host(target.data, memory->address(), bytes(), cuda::kLegacyStream), "cuMemcpyDtoHAsync");
    if (status) status = driver.status(driver.stream_synchronize(cuda::kLegacyStream), "running the steps");
  }
  if (!status) throw Error(status.code(), std::string(status.message()));
  return array;
}

nb::object DeviceArray::dlpack(nb::handle consumer, nb::handle dl_device, nb::handle copy) const {
  const int ordinal = device->info().ordinal;
  if (!dl_device.is_none()) {
    const auto wanted = nb::cast<nb::tuple>(dl_device);
    if (nb::cast<int>(nb::int_(wanted[0])) != kCuda || nb::cast<int>(nb::int_(wanted[1])) != ordinal)
      throw nb::buffer_error("the array stays on its GPU: call numpy() for a copy in the host's memory");
  }
  if (!copy.is_none() && nb::cast<bool>(copy)) throw nb::buffer_error("the array lends its memory and makes no copies");
  const std::optional<cuda::StreamHandle> stream_to_hold = consumer_stream(consumer);
  auto lent = std::make_unique<Lent>();
  lent->managed.tensor.dtype = dlpack_of_dtype(dtype);
  if (lent->managed.tensor.dtype.bits == 0) throw nb::buffer_error("DLPack has no such element type");
  if (ready && stream_to_hold && *stream_to_hold != stream) {
    const cuda::Current current(*device);
    if (const Status status = ready->hold(*stream_to_hold); !status) throw Error(status.code(), std::string(status.message()));
  }
  lent->memory = memory;
  lent->ready = ready;
  lent->shape = shape;
  lent->strides.resize(shape.size());
  std::int64_t stride = 1;
  for (std::size_t i = shape.size(); i-- > 0; stride *= shape[i]) lent->strides[i] = stride;
  nb::dlpack::dltensor& tensor = lent->managed.tensor;
  tensor.data = memory->data();
  tensor.device = {kCuda, ordinal};
  tensor.ndim = static_cast<std::int32_t>(shape.size());
  tensor.shape = lent->shape.data();
  tensor.strides = lent->strides.data();
  tensor.byte_offset = 0;
  lent->managed.owner = lent.get();
  lent->managed.deleter = [](Managed* managed) { delete static_cast<Lent*>(managed->owner); };
  nb::object capsule = nb::steal(PyCapsule_New(&lent->managed, kCapsule, [](PyObject* object) {
    // Nobody took it.
    if (!PyCapsule_IsValid(object, kCapsule)) return;
    auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(object, kCapsule));
    managed->deleter(managed);
  }));
  if (!capsule.is_valid()) throw nb::python_error();
  lent.release();
  return capsule;
}

nb::dict DeviceArray::cuda_array_interface() const {
  const std::string typestr = typestr_of(dtype);
  if (typestr.empty()) throw nb::attribute_error("__cuda_array_interface__ has no such element type; DLPack has");
  nb::list extents;
  for (const std::int64_t extent : shape) extents.append(extent);
  nb::dict interface;
  interface["shape"] = nb::tuple(extents);
  interface["typestr"] = typestr;
  interface["data"] = nb::make_tuple(bytes() ? reinterpret_cast<std::uintptr_t>(memory->data()) : 0, false);
  interface["strides"] = nb::none();
  interface["version"] = 3;
  interface["stream"] = ready ? nb::object(nb::int_(reinterpret_cast<std::uintptr_t>(stream))) : nb::none();
  return interface;
}

void register_device_array(nb::module_& m) {
  nb::class_<DeviceArray>(m, "DeviceArray",
                          "A dense array in a GPU's memory, made by run(..., device_outputs=True). torch.from_dlpack, cupy.from_dlpack and whatever reads "
                          "``__cuda_array_interface__`` take it without a copy and wait for the run that makes it; the memory lives as long as they use it.")
      .def_prop_ro(
          "shape",
          [](const DeviceArray& self) {
            nb::list extents;
            for (const std::int64_t extent : self.shape) extents.append(extent);
            return nb::tuple(extents);
          },
          "Extents, a number for each axis.")
      .def_prop_ro(
          "dtype", [](const DeviceArray& self) { return numpy_name(self.dtype); }, "NumPy's name of the element type.")
      .def_prop_ro("nbytes", &DeviceArray::bytes, "Size in bytes.")
      .def_prop_ro(
          "device", [](const DeviceArray& self) { return "cuda:" + std::to_string(self.device->info().ordinal); }, "The GPU: \"cuda:0\".")
      .def("numpy", &DeviceArray::numpy, "A NumPy array with a copy in the host's memory, once the run is done.")
      .def(
          "__dlpack__",
          [](const DeviceArray& self, nb::handle stream, nb::handle, nb::handle dl_device, nb::handle copy) { return self.dlpack(stream, dl_device, copy); },
          nb::kw_only(), nb::arg("stream") = nb::none(), nb::arg("max_version") = nb::none(), nb::arg("dl_device") = nb::none(), nb::arg("copy") = nb::none())
      .def("__dlpack_device__", [](const DeviceArray& self) { return nb::make_tuple(kCuda, self.device->info().ordinal); })
      .def_prop_ro("__cuda_array_interface__", &DeviceArray::cuda_array_interface)
      .def("__array__",
           [](const DeviceArray&, nb::args, nb::kwargs) -> nb::object {
             throw nb::type_error("the array lies on a GPU: call numpy() for a copy in the host's memory");
           })
      .def("__repr__", [](const DeviceArray& self) {
        std::string extents;
        for (const std::int64_t extent : self.shape) extents += (extents.empty() ? "" : ", ") + std::to_string(extent);
        return "DeviceArray(" + numpy_name(self.dtype) + "[" + extents + "] on cuda:" + std::to_string(self.device->info().ordinal) + ")";
      });
}

}  // namespace lathe::python
