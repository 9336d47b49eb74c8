// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Python arrays in host memory as views: NumPy and anything else with the buffer protocol, DLPack for the rest (PyTorch, ...). Inputs that lie
// dense are not copied; outputs never are. Those on a GPU: device_arrays.h.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "lathe/dtype.h"

namespace lathe::python {

namespace nb = nanobind;

/// A dense row-major array and what keeps it alive. Made, moved and destroyed with the GIL held.
class Array {
 public:
  Array() = default;
  Array(Array&& other) noexcept;
  Array& operator=(Array&& other) noexcept;
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  ~Array();

  void* data = nullptr;
  DType dtype = DType::kUndefined;
  std::vector<std::int64_t> shape;

  /// What keeps the memory alive, for those who make Arrays elsewhere.
  void own(nb::handle object) { owner_ = nb::borrow(object); }
  void keep(std::shared_ptr<void> memory) { kept_ = std::move(memory); }

 private:
  friend bool from_buffer(nb::handle object, bool writable, Array& out);
  friend bool from_dlpack(nb::handle object, bool writable, Array& out);
  friend Array read_array(nb::handle object, DType expected, const std::string& name);
  friend Array write_array(nb::handle object, const std::string& name);
  void release() noexcept;
  nb::object owner_;
  Py_buffer buffer_{};
  bool has_buffer_ = false;
  nb::ndarray<nb::ro> dlpack_;
  std::shared_ptr<void> kept_;
};

/// An input. Lists and scalars become arrays of the expected type; arrays keep theirs. Arrays that are not dense are copied.
Array read_array(nb::handle object, DType expected, const std::string& name);
/// An output in the caller's array, which must be dense and writable.
Array write_array(nb::handle object, const std::string& name);
/// A fresh NumPy array (ml_dtypes for bfloat16 and the 8-bit floats where installed, else their bits as unsigned integers) and its memory.
nb::object new_array(DType dtype, const std::vector<std::int64_t>& shape, Array& memory);
/// A NumPy array over memory of others, which must outlive it. Types as in new_array().
nb::object array_view(void* data, DType dtype, std::span<const std::int64_t> shape, bool writable);

/// Elements of 4 and 2 bits: the packed memory of `memory` as an array of one element a byte (ml_dtypes where installed, else int8, uint8, float32).
nb::object unpacked_array(const Array& memory);

/// DLPack's element types; kUndefined, and a type of no bits, where the other side has none.
DType dtype_of_dlpack(const nb::dlpack::dtype& type);
nb::dlpack::dtype dlpack_of_dtype(DType dtype);

/// "float32", "bfloat16", "bool", ...: NumPy's names.
std::string numpy_name(DType dtype);

}  // namespace lathe::python
