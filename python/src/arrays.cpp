// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See arrays.h.

#include "arrays.h"

#include <array>
#include <cstring>

#include "base/tensor.h"
#include "lathe/status.h"

namespace lathe::python {

// Array ------------------------------------------------------------------------------------------------------------

Array::Array(Array&& other) noexcept { *this = std::move(other); }

Array& Array::operator=(Array&& other) noexcept {
  if (this == &other) return *this;
  release();
  data = other.data;
  dtype = other.dtype;
  shape = std::move(other.shape);
  owner_ = std::move(other.owner_);
  buffer_ = other.buffer_;
  has_buffer_ = std::exchange(other.has_buffer_, false);
  dlpack_ = std::move(other.dlpack_);
  kept_ = std::move(other.kept_);
  return *this;
}

Array::~Array() { release(); }

void Array::release() noexcept {
  if (has_buffer_) PyBuffer_Release(&buffer_);
  has_buffer_ = false;
}

namespace {

/// struct-module format to element type; kUndefined for what has none, or for the other byte order.
DType dtype_of_format(const char* format, Py_ssize_t size) {
  if (!format) return DType::kUint8;
  if (*format == '@' || *format == '=' || *format == '<') ++format;
  if (std::strcmp(format, "Zf") == 0) return DType::kComplex64;
  if (std::strcmp(format, "Zd") == 0) return DType::kComplex128;
  if (std::strlen(format) != 1) return DType::kUndefined;
  const auto of_width = [&](DType one, DType two, DType four, DType eight) { return size == 1 ? one : size == 2 ? two : size == 4 ? four : eight; };
  switch (*format) {
    case 'f': return DType::kFloat32;
    case 'd': return DType::kFloat64;
    case 'e': return DType::kFloat16;
    case '?': return DType::kBool;
    case 'b':
    case 'h':
    case 'i':
    case 'l':
    case 'q': return of_width(DType::kInt8, DType::kInt16, DType::kInt32, DType::kInt64);
    case 'B':
    case 'H':
    case 'I':
    case 'L':
    case 'Q': return of_width(DType::kUint8, DType::kUint16, DType::kUint32, DType::kUint64);
    default: return DType::kUndefined;
  }
}

nb::module_ numpy() { return nb::module_::import_("numpy"); }

bool is_numpy_array(nb::handle object) { return nb::isinstance(object, numpy().attr("ndarray")); }

/// bfloat16 and 8-bit floats of ml_dtypes: NumPy refuses to lend them as buffers, so their bits are.
bool is_bits_only(DType dtype) {
  return dtype == DType::kBFloat16 || (dtype >= DType::kFloat8E4M3FN && dtype <= DType::kFloat8E5M2FNUZ) || dtype == DType::kFloat8E8M0;
}

/// What NumPy (package ml_dtypes) calls the small types.
struct SmallType {
  DType dtype;
  const char* name;
};
constexpr std::array<SmallType, 6> kSmallFloats{{{DType::kFloat8E4M3FN, "float8_e4m3fn"},
                                                 {DType::kFloat8E4M3FNUZ, "float8_e4m3fnuz"},
                                                 {DType::kFloat8E5M2, "float8_e5m2"},
                                                 {DType::kFloat8E5M2FNUZ, "float8_e5m2fnuz"},
                                                 {DType::kFloat8E8M0, "float8_e8m0fnu"},
                                                 {DType::kFloat4E2M1, "float4_e2m1fn"}}};

bool is_packed(DType dtype) { return dtype_bits(dtype) == 4 || dtype_bits(dtype) == 2; }

/// Holds every value of a packed type.
DType wide_type(DType packed) {
  if (packed == DType::kFloat4E2M1) return DType::kFloat32;
  return packed == DType::kInt4 || packed == DType::kInt2 ? DType::kInt8 : DType::kUint8;
}

DType numpy_dtype(nb::handle array) {
  const std::string name = nb::cast<std::string>(nb::str(nb::handle(array.attr("dtype").attr("name"))));
  for (const SmallType& type : kSmallFloats)
    if (name == type.name) return type.dtype;
  return parse_dtype(name).value_or(DType::kUndefined);
}

nb::object bits_of(nb::handle array, DType dtype) { return array.attr("view")(dtype_bits(dtype) == 8 ? "uint8" : "uint16"); }

}  // namespace

DType dtype_of_dlpack(const nb::dlpack::dtype& type) {
  const auto code = static_cast<nb::dlpack::dtype_code>(type.code);
  if (type.lanes != 1) return DType::kUndefined;
  const auto of_bits = [&](DType b8, DType b16, DType b32, DType b64) {
    return type.bits == 8 ? b8 : type.bits == 16 ? b16 : type.bits == 32 ? b32 : type.bits == 64 ? b64 : DType::kUndefined;
  };
  switch (code) {
    case nb::dlpack::dtype_code::Int: return of_bits(DType::kInt8, DType::kInt16, DType::kInt32, DType::kInt64);
    case nb::dlpack::dtype_code::UInt: return of_bits(DType::kUint8, DType::kUint16, DType::kUint32, DType::kUint64);
    case nb::dlpack::dtype_code::Float: return of_bits(DType::kUndefined, DType::kFloat16, DType::kFloat32, DType::kFloat64);
    case nb::dlpack::dtype_code::Bfloat: return type.bits == 16 ? DType::kBFloat16 : DType::kUndefined;
    case nb::dlpack::dtype_code::Bool: return type.bits == 8 ? DType::kBool : DType::kUndefined;
    case nb::dlpack::dtype_code::Complex: return type.bits == 64 ? DType::kComplex64 : type.bits == 128 ? DType::kComplex128 : DType::kUndefined;
    case nb::dlpack::dtype_code::Float8_E4M3FN: return DType::kFloat8E4M3FN;
    case nb::dlpack::dtype_code::Float8_E4M3FNUZ: return DType::kFloat8E4M3FNUZ;
    case nb::dlpack::dtype_code::Float8_E5M2: return DType::kFloat8E5M2;
    case nb::dlpack::dtype_code::Float8_E5M2FNUZ: return DType::kFloat8E5M2FNUZ;
    default: return DType::kUndefined;
  }
}

nb::dlpack::dtype dlpack_of_dtype(DType dtype) {
  using Code = nb::dlpack::dtype_code;
  for (const Code code : {Code::Int, Code::UInt, Code::Float, Code::Bfloat, Code::Bool, Code::Complex, Code::Float8_E4M3FN, Code::Float8_E4M3FNUZ,
                          Code::Float8_E5M2, Code::Float8_E5M2FNUZ}) {
    const nb::dlpack::dtype type{static_cast<std::uint8_t>(code), static_cast<std::uint8_t>(dtype_bits(dtype)), 1};
    if (dtype_of_dlpack(type) == dtype) return type;
  }
  return {0, 0, 0};
}

bool from_buffer(nb::handle object, bool writable, Array& out) {
  if (!PyObject_CheckBuffer(object.ptr())) return false;
  const int flags = PyBUF_ND | PyBUF_FORMAT | PyBUF_C_CONTIGUOUS | (writable ? PyBUF_WRITABLE : 0);
  if (PyObject_GetBuffer(object.ptr(), &out.buffer_, flags) != 0) {
    PyErr_Clear();
    return false;
  }
  out.has_buffer_ = true;
  out.dtype = dtype_of_format(out.buffer_.format, out.buffer_.itemsize);
  if (out.dtype == DType::kUndefined) {
    out.release();
    return false;
  }
  out.data = out.buffer_.buf;
  out.shape.assign(out.buffer_.shape, out.buffer_.shape + out.buffer_.ndim);
  out.owner_ = nb::borrow(object);
  return true;
}

bool from_dlpack(nb::handle object, bool writable, Array& out) {
  if (!nb::hasattr(object, "__dlpack__") || is_numpy_array(object)) return false;
  if (writable) {
    nb::ndarray<nb::c_contig, nb::device::cpu> array;
    if (!nb::try_cast(object, array, false)) return false;
    out.data = array.data();
    out.dtype = dtype_of_dlpack(array.dtype());
    out.shape.assign(array.shape_ptr(), array.shape_ptr() + array.ndim());
    out.dlpack_ = nb::ndarray<nb::ro>(array);
  } else {
    nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu> array;
    if (!nb::try_cast(object, array, true)) return false;
    out.data = const_cast<void*>(static_cast<const void*>(array.data()));
    out.dtype = dtype_of_dlpack(array.dtype());
    out.shape.assign(array.shape_ptr(), array.shape_ptr() + array.ndim());
    out.dlpack_ = nb::ndarray<nb::ro>(array);
  }
  out.owner_ = nb::borrow(object);
  return out.dtype != DType::kUndefined;
}

namespace {

/// numpy.asarray, whose refusals (ragged lists, tensors of other devices) are the caller's mistakes. `dtype` may be empty.
nb::object as_numpy(nb::handle object, const std::string& dtype, const std::string& name) {
  try {
    return dtype.empty() ? numpy().attr("asarray")(object) : numpy().attr("asarray")(object, dtype);
  } catch (nb::python_error& error) {
    for (PyObject* kind : {PyExc_ValueError, PyExc_TypeError, PyExc_RuntimeError, PyExc_OverflowError, PyExc_BufferError})
      if (error.matches(kind))
        throw Error(Code::kInvalidArgument, "input '" + name + "' is no array in host memory: " + nb::cast<std::string>(nb::str(error.value())))
            .at_tensor(name);
    throw;
  }
}

}  // namespace

Array read_array(nb::handle object, DType expected, const std::string& name) {
  Array out;
  const bool plain_python = PyList_Check(object.ptr()) || PyTuple_Check(object.ptr()) || PyFloat_Check(object.ptr()) || PyLong_Check(object.ptr());
  if (!plain_python && (from_buffer(object, false, out) || from_dlpack(object, false, out))) {
    // The bits of a bfloat16 tensor may come as unsigned integers, where ml_dtypes is not at hand.
    if (out.dtype == DType::kUint16 && expected == DType::kBFloat16) out.dtype = expected;
    return out;
  }
  nb::object array = as_numpy(object, plain_python && !is_bits_only(expected) ? numpy_name(expected) : std::string(), name);
  array = numpy().attr("ascontiguousarray")(array).attr("reshape")(array.attr("shape"));  // ascontiguousarray makes scalars vectors
  if (!nb::cast<bool>(array.attr("dtype").attr("isnative"))) array = array.attr("astype")(array.attr("dtype").attr("newbyteorder")("="));
  const DType dtype = numpy_dtype(array);
  if (is_packed(dtype)) {
    // NumPy has one element a byte; engines have several.
    Array wide;
    if (!from_buffer(array.attr("astype")(numpy_name(wide_type(dtype))), false, wide)) throw Error(Code::kInternal, "NumPy lends no memory of a new array");
    const Tensor view = Tensor::view(wide.dtype, wide.shape, wide.data, dtype_bytes(wide.dtype, element_count(wide.shape)), nullptr);
    auto packed = std::make_shared<Tensor>(view.cast(dtype));
    out.data = packed->mutable_raw();
    out.dtype = dtype;
    out.shape = wide.shape;
    out.kept_ = std::move(packed);
    return out;
  }
  if (is_bits_only(dtype)) array = bits_of(array, dtype);
  if (!from_buffer(array, false, out))
    throw Error(Code::kInvalidArgument,
                "input '" + name + "' is an array of " + nb::cast<std::string>(nb::str(nb::handle(array.attr("dtype")))) + ", which engines do not take")
        .with_remedy("Give an array of " + numpy_name(expected) + (is_bits_only(expected) ? " (package ml_dtypes), or its bits as unsigned integers." : "."));
  if (is_bits_only(dtype)) out.dtype = dtype;
  if (out.dtype == DType::kUint16 && expected == DType::kBFloat16) out.dtype = expected;
  return out;
}

Array write_array(nb::handle object, const std::string& name) {
  Array out;
  if (from_buffer(object, true, out) || from_dlpack(object, true, out)) return out;
  if (is_numpy_array(object)) {
    const DType dtype = numpy_dtype(object);
    if (is_bits_only(dtype) && from_buffer(bits_of(object, dtype), true, out)) {
      out.dtype = dtype;
      return out;
    }
  }
  throw Error(Code::kInvalidArgument, "output '" + name + "' was given something that is no dense, writable array in host memory")
      .with_remedy("Give a C-contiguous NumPy array or a tensor that offers DLPack; leave it out to get a new one.");
}

std::string numpy_name(DType dtype) {
  switch (dtype) {
    case DType::kFloat32: return "float32";
    case DType::kFloat64: return "float64";
    case DType::kString: return "object";
    default:
      for (const SmallType& type : kSmallFloats)
        if (type.dtype == dtype) return type.name;
      return std::string(dtype_name(dtype));
  }
}

namespace {

/// Bits as ml_dtypes' type of them, where that is installed.
nb::object in_small_type(nb::object array, const char* method, DType dtype) {
  try {
    return array.attr(method)(nb::module_::import_("ml_dtypes").attr(numpy_name(dtype).c_str()));
  } catch (nb::python_error& error) {
    if (!error.matches(PyExc_ImportError) && !error.matches(PyExc_AttributeError)) throw;
    return array;
  }
}

}  // namespace

nb::object new_array(DType dtype, const std::vector<std::int64_t>& shape, Array& memory) {
  nb::list extents;
  for (const std::int64_t extent : shape) extents.append(extent);
  if (is_packed(dtype)) {
    auto packed = std::make_shared<Tensor>(dtype, shape);
    memory.data = packed->mutable_raw();
    memory.dtype = dtype;
    memory.shape = shape;
    memory.keep(std::move(packed));
    return nb::none();  // unpacked_array() makes it, when the numbers are there
  }
  const bool bits = is_bits_only(dtype);
  nb::object array = numpy().attr("empty")(nb::tuple(extents), bits ? std::string(dtype_bits(dtype) == 8 ? "uint8" : "uint16") : numpy_name(dtype));
  if (!from_buffer(array, true, memory)) throw Error(Code::kInternal, "NumPy lends no memory of a new array");
  memory.dtype = dtype;
  return bits ? in_small_type(std::move(array), "view", dtype) : array;
}

nb::object array_view(void* data, DType dtype, std::span<const std::int64_t> shape, bool writable) {
  if (dtype_bits(dtype) < 8) throw Error(Code::kUnsupported, "tensors of type " + numpy_name(dtype) + " have no NumPy form");
  static std::int64_t nothing = 0;
  const bool bits = is_bits_only(dtype);
  const std::vector<std::size_t> extents(shape.begin(), shape.end());
  const nb::dlpack::dtype type = dlpack_of_dtype(!bits ? dtype : dtype_bits(dtype) == 8 ? DType::kUint8 : DType::kUint16);
  const auto make = [&](auto array) { return nb::cast(std::move(array), nb::rv_policy::reference); };
  void* const first = data ? data : &nothing;
  nb::object array = writable ? make(nb::ndarray<nb::numpy>(first, extents.size(), extents.data(), nb::handle(), nullptr, type))
                              : make(nb::ndarray<nb::numpy, nb::ro>(first, extents.size(), extents.data(), nb::handle(), nullptr, type));
  return bits ? in_small_type(std::move(array), "view", dtype) : array;
}

nb::object unpacked_array(const Array& memory) {
  const DType wide = wide_type(memory.dtype);
  Array out;
  nb::object array = new_array(wide, memory.shape, out);
  const Tensor packed = Tensor::view(memory.dtype, memory.shape, memory.data, dtype_bytes(memory.dtype, element_count(memory.shape)), nullptr);
  const Tensor values = packed.cast(wide);
  if (values.bytes() > 0) std::memcpy(out.data, values.raw(), values.bytes());
  return in_small_type(std::move(array), "astype", memory.dtype);
}

}  // namespace lathe::python
