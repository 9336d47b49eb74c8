// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See values.h.

#include "values.h"

#include <cstring>

#include "lathe/status.h"

namespace lathe::python {
namespace {

[[noreturn]] void refuse(const IoInfo& info, const std::string& what) {
  throw Error(Code::kInvalidArgument, "input '" + info.name + "' " + what).at_tensor(info.name);
}

nb::object numpy(const char* name) { return nb::module_::import_("numpy").attr(name); }

/// Texts are UTF-8; what is none goes through as it is.
nb::object text_of(const std::string& text) {
  PyObject* made = PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "surrogateescape");
  if (!made) throw nb::python_error();
  return nb::steal(made);
}

std::string bytes_of_text(nb::handle object, const IoInfo& info) {
  if (PyBytes_Check(object.ptr())) return {PyBytes_AsString(object.ptr()), static_cast<std::size_t>(PyBytes_Size(object.ptr()))};
  if (!PyUnicode_Check(object.ptr())) refuse(info, "holds texts, and was given an array with other objects");
  const nb::object encoded = nb::steal(PyUnicode_AsEncodedString(object.ptr(), "utf-8", "surrogateescape"));
  if (!encoded.is_valid()) throw nb::python_error();
  return {PyBytes_AsString(encoded.ptr()), static_cast<std::size_t>(PyBytes_Size(encoded.ptr()))};
}

Tensor texts_of(nb::handle object, const IoInfo& info) {
  nb::object array;
  try {
    array = numpy("asarray")(object, "object");
  } catch (nb::python_error& error) {
    refuse(info, "holds texts, and was given what is no array of them");
  }
  Dims dims;
  for (const nb::handle extent : nb::borrow<nb::tuple>(array.attr("shape"))) dims.push_back(nb::cast<std::int64_t>(extent));
  std::vector<std::string> texts;
  for (const nb::handle item : nb::borrow<nb::list>(array.attr("ravel")().attr("tolist")())) texts.push_back(bytes_of_text(item, info));
  return Tensor::strings(std::move(dims), std::move(texts));
}

Tensor tensor_of(nb::handle object, DType dtype, const IoInfo& info, std::vector<Array>& kept) {
  if (dtype == DType::kString) return texts_of(object, info);
  Array array = read_array(object, dtype, info.name);
  if (dtype != DType::kUndefined && array.dtype != dtype) refuse(info, "has type " + numpy_name(array.dtype) + ", expected " + numpy_name(dtype));
  const std::size_t bytes = dtype_bytes(array.dtype, element_count(array.shape));
  Tensor view = Tensor::view(array.dtype, array.shape, array.data, bytes, nullptr);
  kept.push_back(std::move(array));
  return view;
}

}  // namespace

Tensor value_of(nb::handle object, const ir::Type& type, const IoInfo& info, std::vector<Array>& kept) {
  using Kind = ir::TypeKind;
  const auto element = [&]() -> const ir::Type& {
    static const ir::Type unknown;
    return type.element ? *type.element : unknown;
  };
  if (type.kind == Kind::kOptional) return object.is_none() ? Tensor::nothing() : value_of(object, element(), info, kept);
  if (object.is_none()) refuse(info, "was given None, and is not optional");
  if (type.kind == Kind::kSequence) {
    if (!PyList_Check(object.ptr()) && !PyTuple_Check(object.ptr())) refuse(info, "is a sequence: give a list");
    std::vector<Tensor> items;
    for (const nb::handle item : object) items.push_back(value_of(item, element(), info, kept));
    return Tensor::sequence(std::move(items));
  }
  if (type.kind == Kind::kMap) {
    if (!PyDict_Check(object.ptr())) refuse(info, "is a map: give a dict");
    const nb::dict dict = nb::borrow<nb::dict>(object);
    const nb::object keys = nb::list(dict.keys()), values = nb::list(dict.values());
    return Tensor::map(tensor_of(keys, type.dtype, info, kept), tensor_of(values, element().dtype, info, kept));
  }
  return tensor_of(object, type.dtype, info, kept);
}

nb::object object_of(const Tensor& value) {
  if (value.is_nothing() || !value.defined()) return nb::none();
  if (value.is_sequence()) {
    nb::list list;
    for (const Tensor& item : value.items()) list.append(object_of(item));
    return std::move(list);
  }
  if (value.is_map()) {
    const nb::object keys = object_of(value.items()[0]), values = object_of(value.items()[1]);
    nb::dict dict;
    const nb::list names = nb::borrow<nb::list>(keys.attr("tolist")()), numbers = nb::borrow<nb::list>(values.attr("tolist")());
    for (std::size_t i = 0; i < nb::len(names); ++i) dict[names[i]] = numbers[i];
    return std::move(dict);
  }
  if (value.dtype() == DType::kString) {
    nb::list extents;
    for (const std::int64_t extent : value.dims()) extents.append(extent);
    nb::object flat = numpy("empty")(value.size(), "object");
    for (std::int64_t i = 0; i < value.size(); ++i) flat.attr("__setitem__")(i, text_of(value.string_data()[static_cast<std::size_t>(i)]));
    return flat.attr("reshape")(nb::tuple(extents));
  }
  Array memory;
  nb::object array = new_array(value.dtype(), value.dims(), memory);
  if (value.bytes() > 0) std::memcpy(memory.data, value.raw(), value.bytes());
  return array.is_none() ? unpacked_array(memory) : array;
}

}  // namespace lathe::python
