// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See tensor.h. Element access converts through double or int64; the hot paths (kernels) never come here.

#include "base/tensor.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>

#include "base/half.h"
#include "base/hash.h"
#include "base/thread_pool.h"
#include "lathe/status.h"

namespace lathe {

std::int64_t element_count(const Dims& dims) {
  std::int64_t count = 1;
  bool empty = false;
  for (const std::int64_t extent : dims) {
    if (extent < 0) throw Error(Code::kInvalidModel, fmt::format("the shape {} has a negative extent", to_string(dims)));
    empty |= extent == 0;
  }
  if (empty) return 0;
  for (const std::int64_t extent : dims)
    if (__builtin_mul_overflow(count, extent, &count) || count > (std::int64_t{1} << 60))
      throw Error(Code::kInvalidModel, fmt::format("the shape {} has more elements than any machine can hold", to_string(dims)));
  return count;
}

std::string to_string(const Dims& dims) {
  if (dims.empty()) return "scalar";
  std::string text;
  for (const std::int64_t extent : dims) text += fmt::format("{}{}", text.empty() ? "" : "x", extent);
  return text;
}

namespace {

std::shared_ptr<const void> allocate(std::size_t bytes, std::byte*& data) {
  const std::size_t rounded = (bytes + 63) / 64 * 64 + 64;
  auto* memory = static_cast<std::byte*>(::operator new(rounded, std::align_val_t(64), std::nothrow));
  if (!memory) throw Error(Code::kOutOfMemory, fmt::format("no memory for a tensor of {} bytes", bytes));
  data = memory;
  return {memory, [](const void* p) { ::operator delete(const_cast<void*>(p), std::align_val_t(64)); }};
}

template <class T>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, float>) return DType::kFloat32;
  else if constexpr (std::is_same_v<T, double>) return DType::kFloat64;
  else if constexpr (std::is_same_v<T, std::int64_t>) return DType::kInt64;
  else if constexpr (std::is_same_v<T, std::int32_t>) return DType::kInt32;
  else if constexpr (std::is_same_v<T, std::int16_t>) return DType::kInt16;
  else if constexpr (std::is_same_v<T, std::int8_t>) return DType::kInt8;
  else if constexpr (std::is_same_v<T, std::uint64_t>) return DType::kUint64;
  else if constexpr (std::is_same_v<T, std::uint32_t>) return DType::kUint32;
  else if constexpr (std::is_same_v<T, std::uint16_t>) return DType::kUint16;
  else if constexpr (std::is_same_v<T, std::uint8_t>) return DType::kUint8;
  else if constexpr (std::is_same_v<T, bool>) return DType::kBool;
  else return DType::kUndefined;
}

/// T may read the bits of a tensor of this dtype: equal width, not sub-byte.
template <class T>
void check_access(const Tensor& tensor) {
  const int bits = dtype_bits(tensor.dtype());
  if (bits != static_cast<int>(sizeof(T)) * 8 && !(sizeof(T) == 1 && bits <= 8))
    throw Error(Code::kInternal, fmt::format("a {} tensor was read as elements of {} bytes", dtype_name(tensor.dtype()), sizeof(T)));
  if constexpr (std::is_floating_point_v<T>)
    if (tensor.dtype() != dtype_of<T>())
      throw Error(Code::kInternal, fmt::format("a {} tensor was read as {}", dtype_name(tensor.dtype()), dtype_name(dtype_of<T>())));
}

}  // namespace

Tensor::Tensor(DType dtype, Dims dims) {
  *this = to_be_filled(dtype, std::move(dims));
  if (!strings_) std::memset(const_cast<std::byte*>(data_), 0, bytes_);
}

Tensor Tensor::to_be_filled(DType dtype, Dims dims) {
  const std::int64_t count = element_count(dims);
  const std::size_t bytes = dtype == DType::kString ? 0 : dtype_bytes(dtype, count);
  Tensor tensor;
  tensor.dtype_ = dtype;
  tensor.dims_ = std::move(dims);
  tensor.count_ = count;
  tensor.writable_ = true;
  if (dtype == DType::kString) {
    tensor.strings_ = std::make_shared<std::vector<std::string>>(static_cast<std::size_t>(count));
    return tensor;
  }
  std::byte* data = nullptr;
  tensor.owner_ = allocate(bytes, data);
  if (dtype_bits(dtype) % 8 != 0) std::memset(data, 0, bytes);  // the last byte's unused bits are zero
  tensor.data_ = data;
  tensor.bytes_ = bytes;
  return tensor;
}

Tensor Tensor::view(DType dtype, Dims dims, const void* data, std::size_t bytes, std::shared_ptr<const void> owner) {
  Tensor tensor;
  tensor.dtype_ = dtype;
  tensor.dims_ = std::move(dims);
  tensor.count_ = element_count(tensor.dims_);
  tensor.bytes_ = dtype_bytes(dtype, tensor.count_);
  if (tensor.bytes_ != bytes)
    throw Error(Code::kInvalidModel,
                fmt::format("a {} tensor of shape {} takes {} bytes, but {} are given", dtype_name(dtype), to_string(tensor.dims_), tensor.bytes_, bytes));
  tensor.data_ = static_cast<const std::byte*>(data);
  tensor.owner_ = std::move(owner);
  return tensor;
}

Tensor Tensor::remote(DType dtype, Dims dims, std::shared_ptr<RemoteBytes> bytes) {
  Tensor tensor;
  tensor.dtype_ = dtype;
  tensor.count_ = element_count(dims);
  tensor.dims_ = std::move(dims);
  tensor.bytes_ = dtype_bytes(dtype, tensor.count_);
  tensor.remote_ = std::move(bytes);
  return tensor;
}

Tensor Tensor::with_remote(std::shared_ptr<RemoteBytes> bytes) const {
  Tensor both = *this;
  both.remote_ = std::move(bytes);
  return both;
}

Tensor Tensor::local() const {
  Tensor here = *this;
  if (items_) {
    std::vector<Tensor> items;
    for (const Tensor& item : *items_) items.push_back(item.local());
    here.items_ = std::make_shared<const std::vector<Tensor>>(std::move(items));
  }
  if (!remote_) return here;
  if (!data_) {
    here.data_ = remote_->fetched();
    here.owner_ = remote_;  // which keeps the copy
    here.writable_ = false;
  }
  here.remote_.reset();
  return here;
}

template <class T>
Tensor Tensor::from(DType dtype, Dims dims, std::span<const T> values) {
  Tensor tensor(dtype, std::move(dims));
  if (static_cast<std::int64_t>(values.size()) != tensor.count_)
    throw Error(Code::kInternal, fmt::format("{} values for a tensor of shape {}", values.size(), to_string(tensor.dims_)));
  if (dtype == dtype_of<T>()) {
    if (!values.empty()) std::memcpy(tensor.mutable_raw(), values.data(), values.size() * sizeof(T));
  } else {
    for (std::size_t i = 0; i < values.size(); ++i) {
      if constexpr (std::is_floating_point_v<T>) tensor.set_from_double(static_cast<std::int64_t>(i), values[i]);
      else tensor.set_from_int64(static_cast<std::int64_t>(i), static_cast<std::int64_t>(values[i]));
    }
  }
  return tensor;
}

Tensor Tensor::scalar(std::int64_t value) {
  Tensor tensor(DType::kInt64, {});
  tensor.set_from_int64(0, value);
  return tensor;
}

Tensor Tensor::vector(std::span<const std::int64_t> values) { return from<std::int64_t>(DType::kInt64, {static_cast<std::int64_t>(values.size())}, values); }

Tensor Tensor::strings(Dims dims, std::vector<std::string> values) {
  Tensor tensor(DType::kString, std::move(dims));
  if (static_cast<std::int64_t>(values.size()) != tensor.count_)
    throw Error(Code::kInvalidModel, fmt::format("{} strings for a tensor of shape {}", values.size(), to_string(tensor.dims_)));
  *tensor.strings_ = std::move(values);
  return tensor;
}

Tensor Tensor::sequence(std::vector<Tensor> items) {
  Tensor value;
  value.form_ = ValueForm::kSequence;
  value.items_ = std::make_shared<const std::vector<Tensor>>(std::move(items));
  return value;
}

Tensor Tensor::map(Tensor keys, Tensor values) {
  if (keys.rank() != 1 || values.rank() != 1 || keys.size() != values.size())
    throw Error(Code::kInvalidArgument, fmt::format("a map of keys of shape {} and values of shape {}: both have one axis of the same length",
                                                    to_string(keys.dims()), to_string(values.dims())));
  Tensor value = sequence({std::move(keys), std::move(values)});
  value.form_ = ValueForm::kMap;
  return value;
}

Tensor Tensor::nothing() {
  Tensor value;
  value.form_ = ValueForm::kNothing;
  return value;
}

const std::vector<Tensor>& Tensor::items() const {
  if (!items_) throw Error(Code::kInternal, fmt::format("a {} tensor was read as a sequence", dtype_name(dtype_)));
  return *items_;
}

std::byte* Tensor::mutable_raw() {
  if (!writable_ || owner_.use_count() > 1) {
    const std::byte* from = raw();
    std::byte* data = nullptr;
    auto owner = allocate(bytes_, data);
    if (bytes_ > 0) std::memcpy(data, from, bytes_);
    owner_ = std::move(owner);
    data_ = data;
    writable_ = true;
  }
  remote_.reset();  // what is written here is not there
  return const_cast<std::byte*>(data_);
}

template <class T>
std::span<const T> Tensor::data() const {
  check_access<T>(*this);
  const std::byte* const bytes = raw();
  if (reinterpret_cast<std::uintptr_t>(bytes) % alignof(T) != 0)
    throw Error(Code::kInternal, fmt::format("a {} tensor lies unaligned in its file; take make_aligned() first", dtype_name(dtype_)));
  return {reinterpret_cast<const T*>(bytes), bytes_ / sizeof(T)};
}

template <class T>
std::span<T> Tensor::mutable_data() {
  check_access<T>(*this);
  return {reinterpret_cast<T*>(mutable_raw()), bytes_ / sizeof(T)};
}

Tensor Tensor::make_aligned() const {
  if (!data_ || reinterpret_cast<std::uintptr_t>(data_) % 64 == 0) return *this;
  Tensor copy(dtype_, dims_);
  if (bytes_ > 0) std::memcpy(copy.mutable_raw(), data_, bytes_);
  return copy;
}

const std::vector<std::string>& Tensor::string_data() const {
  if (!strings_) throw Error(Code::kInternal, fmt::format("a {} tensor was read as strings", dtype_name(dtype_)));
  return *strings_;
}

std::vector<std::string>& Tensor::mutable_string_data() {
  (void)string_data();
  if (strings_.use_count() > 1) strings_ = std::make_shared<std::vector<std::string>>(*strings_);
  return *strings_;
}

namespace {

template <class T>
T load(const std::byte* data, std::int64_t i) noexcept {
  T value;
  std::memcpy(&value, data + static_cast<std::size_t>(i) * sizeof(T), sizeof(T));
  return value;
}

template <class T>
void store(std::byte* data, std::int64_t i, T value) noexcept {
  std::memcpy(data + static_cast<std::size_t>(i) * sizeof(T), &value, sizeof(T));
}

/// Element i of a packed type: the first element is in the low bits.
std::uint8_t load_packed(const std::byte* data, std::int64_t i, int bits) noexcept {
  const auto byte = static_cast<std::uint8_t>(data[static_cast<std::size_t>(i) * static_cast<std::size_t>(bits) / 8]);
  const int shift = static_cast<int>(i * bits % 8);
  return static_cast<std::uint8_t>((byte >> shift) & ((1 << bits) - 1));
}

void store_packed(std::byte* data, std::int64_t i, int bits, std::uint8_t value) noexcept {
  std::byte& byte = data[static_cast<std::size_t>(i) * static_cast<std::size_t>(bits) / 8];
  const int shift = static_cast<int>(i * bits % 8);
  const auto mask = static_cast<std::uint8_t>(((1 << bits) - 1) << shift);
  byte = static_cast<std::byte>((static_cast<std::uint8_t>(byte) & ~mask) | ((value << shift) & mask));
}

std::int64_t sign_extend(std::uint8_t value, int bits) noexcept {
  const int sign = 1 << (bits - 1);
  return (value ^ sign) - sign;
}

[[noreturn]] void no_number(DType dtype) { throw Error(Code::kUnsupported, fmt::format("elements of type {} are not real numbers", dtype_name(dtype))); }

/// C++ leaves out-of-range float to integer conversion undefined; here it saturates and NaN is 0.
std::int64_t to_int64(double value) noexcept {
  if (std::isnan(value)) return 0;
  if (value >= 9223372036854775807.0) return std::numeric_limits<std::int64_t>::max();
  if (value <= -9223372036854775808.0) return std::numeric_limits<std::int64_t>::min();
  return static_cast<std::int64_t>(value);
}

}  // namespace

double Tensor::as_double(std::int64_t i) const {
  const std::byte* const bytes = raw();
  switch (dtype_) {
    case DType::kFloat32: return load<float>(bytes, i);
    case DType::kFloat64: return load<double>(bytes, i);
    case DType::kFloat16: return half_to_float(load<std::uint16_t>(bytes, i));
    case DType::kBFloat16: return bfloat16_to_float(load<std::uint16_t>(bytes, i));
    case DType::kUint64: return static_cast<double>(load<std::uint64_t>(bytes, i));
    case DType::kFloat4E2M1: return float8_to_float(load_packed(bytes, i, 4), dtype_);
    case DType::kString:
    case DType::kComplex64:
    case DType::kComplex128:
    case DType::kUndefined: no_number(dtype_);
    default: break;
  }
  if (is_float(dtype_)) return float8_to_float(load<std::uint8_t>(bytes, i), dtype_);
  return static_cast<double>(as_int64(i));
}

std::int64_t Tensor::as_int64(std::int64_t i) const {
  const std::byte* const bytes = raw();
  switch (dtype_) {
    case DType::kInt64: return load<std::int64_t>(bytes, i);
    case DType::kInt32: return load<std::int32_t>(bytes, i);
    case DType::kInt16: return load<std::int16_t>(bytes, i);
    case DType::kInt8: return load<std::int8_t>(bytes, i);
    case DType::kUint64: return static_cast<std::int64_t>(load<std::uint64_t>(bytes, i));
    case DType::kUint32: return load<std::uint32_t>(bytes, i);
    case DType::kUint16: return load<std::uint16_t>(bytes, i);
    case DType::kUint8: return load<std::uint8_t>(bytes, i);
    case DType::kBool: return load<std::uint8_t>(bytes, i) != 0;
    case DType::kInt4: return sign_extend(load_packed(bytes, i, 4), 4);
    case DType::kUint4: return load_packed(bytes, i, 4);
    case DType::kInt2: return sign_extend(load_packed(bytes, i, 2), 2);
    case DType::kUint2: return load_packed(bytes, i, 2);
    case DType::kString:
    case DType::kComplex64:
    case DType::kComplex128:
    case DType::kUndefined: no_number(dtype_);
    default: return to_int64(as_double(i));
  }
}

void Tensor::set_from_double(std::int64_t i, double value) {
  std::byte* data = mutable_raw();
  const auto narrow = static_cast<float>(value);
  switch (dtype_) {
    case DType::kFloat32: return store(data, i, narrow);
    case DType::kFloat64: return store(data, i, value);
    case DType::kFloat16: return store(data, i, float_to_half(narrow));
    case DType::kBFloat16: return store(data, i, float_to_bfloat16(narrow));
    case DType::kFloat4E2M1: return store_packed(data, i, 4, float_to_float8(narrow, dtype_));
    case DType::kBool: return store(data, i, static_cast<std::uint8_t>(value != 0));
    case DType::kUint64:
      if (value >= 9223372036854775808.0) return store(data, i, value >= 18446744073709551615.0 ? ~std::uint64_t{0} : static_cast<std::uint64_t>(value));
      break;
    default: break;
  }
  if (is_float(dtype_)) return store(data, i, float_to_float8(narrow, dtype_));
  set_from_int64(i, to_int64(value));
}

void Tensor::set_from_int64(std::int64_t i, std::int64_t value) {
  std::byte* data = mutable_raw();
  switch (dtype_) {  // integers wrap, as ONNX leaves out-of-range casts to two's complement
    case DType::kInt64:
    case DType::kUint64: return store(data, i, value);
    case DType::kInt32:
    case DType::kUint32: return store(data, i, static_cast<std::uint32_t>(value));
    case DType::kInt16:
    case DType::kUint16: return store(data, i, static_cast<std::uint16_t>(value));
    case DType::kInt8:
    case DType::kUint8: return store(data, i, static_cast<std::uint8_t>(value));
    case DType::kBool: return store(data, i, static_cast<std::uint8_t>(value != 0));
    case DType::kInt4:
    case DType::kUint4: return store_packed(data, i, 4, static_cast<std::uint8_t>(value & 15));
    case DType::kInt2:
    case DType::kUint2: return store_packed(data, i, 2, static_cast<std::uint8_t>(value & 3));
    case DType::kString:
    case DType::kComplex64:
    case DType::kComplex128:
    case DType::kUndefined: no_number(dtype_);
    default: set_from_double(i, static_cast<double>(value));
  }
}

std::vector<std::int64_t> Tensor::to_int64_vector() const {
  std::vector<std::int64_t> values(static_cast<std::size_t>(count_));
  for (std::int64_t i = 0; i < count_; ++i) values[static_cast<std::size_t>(i)] = as_int64(i);
  return values;
}

Tensor Tensor::reshaped(Dims dims) const {
  if (element_count(dims) != count_) throw Error(Code::kInternal, fmt::format("a tensor of shape {} cannot be seen as {}", to_string(dims_), to_string(dims)));
  Tensor other = *this;
  other.dims_ = std::move(dims);
  return other;
}

namespace {

/// f of every element, by all threads where it is worth it; the storage may lie at any address.
template <class From, class To, class F>
void convert_all(const std::byte* from, std::byte* to, std::int64_t count, F f) noexcept {
  constexpr std::int64_t kBlock = std::int64_t{1} << 16;
  const auto block = [&](std::int64_t task, int) {
    const std::int64_t end = std::min(count, (task + 1) * kBlock);
    for (std::int64_t i = task * kBlock; i < end; ++i) {
      From value;
      std::memcpy(&value, from + i * static_cast<std::int64_t>(sizeof value), sizeof value);
      const To converted = f(value);
      std::memcpy(to + i * static_cast<std::int64_t>(sizeof converted), &converted, sizeof converted);
    }
  };
  if (count <= 4 * kBlock) {
    for (std::int64_t task = 0; task * kBlock < count; ++task) block(task, 0);
  } else {
    default_pool().parallel_for((count + kBlock - 1) / kBlock, block);
  }
}

/// The narrow floats of whole networks, which verification rounds to and from again and again; false: for the general way.
bool cast_narrow(DType from, const std::byte* data, DType to, std::byte* result, std::int64_t count) noexcept {
  using Bits = std::uint16_t;
  if (from == DType::kFloat32 && to == DType::kFloat16) convert_all<float, Bits>(data, result, count, float_to_half);
  else if (from == DType::kFloat32 && to == DType::kBFloat16) convert_all<float, Bits>(data, result, count, float_to_bfloat16);
  else if (from == DType::kFloat16 && to == DType::kFloat32) convert_all<Bits, float>(data, result, count, half_to_float);
  else if (from == DType::kBFloat16 && to == DType::kFloat32) convert_all<Bits, float>(data, result, count, bfloat16_to_float);
  else return false;
  return true;
}

}  // namespace

Tensor Tensor::cast(DType dtype) const {
  if (dtype == dtype_) return *this;
  Tensor result(dtype, dims_);
  if (cast_narrow(dtype_, raw(), dtype, result.mutable_raw(), count_)) return result;
  const bool integers = (is_integer(dtype_) || dtype_ == DType::kBool) && (is_integer(dtype) || dtype == DType::kBool);
  for (std::int64_t i = 0; i < count_; ++i) {
    if (integers) result.set_from_int64(i, as_int64(i));
    else result.set_from_double(i, as_double(i));
  }
  return result;
}

bool Tensor::same_bytes(const Tensor& other) const {
  if (form_ != other.form_) return false;
  if (items_)
    return std::equal(items_->begin(), items_->end(), other.items_->begin(), other.items_->end(),
                      [](const Tensor& a, const Tensor& b) { return a.same_bytes(b); });
  if (dtype_ != other.dtype_ || dims_ != other.dims_) return false;
  if (strings_) return other.strings_ && *strings_ == *other.strings_;
  return bytes_ == 0 || raw() == other.raw() || std::memcmp(raw(), other.raw(), bytes_) == 0;
}

std::uint64_t Tensor::content_hash() const {
  std::uint64_t seed = static_cast<std::uint64_t>(dtype_) + (static_cast<std::uint64_t>(form_) << 32);
  if (items_)
    for (const Tensor& item : *items_) seed = hash64(&seed, sizeof seed, item.content_hash());
  for (const std::int64_t extent : dims_) seed = hash64(&extent, sizeof extent, seed);
  if (strings_) {
    for (const std::string& text : *strings_) seed = hash64(text, seed + text.size());
    return seed;
  }
  return hash64(raw(), bytes_, seed);
}

#define LATHE_TENSOR_OF(T)                                          \
  template Tensor Tensor::from<T>(DType, Dims, std::span<const T>); \
  template std::span<const T> Tensor::data<T>() const;              \
  template std::span<T> Tensor::mutable_data<T>();
LATHE_TENSOR_OF(float)
LATHE_TENSOR_OF(double)
LATHE_TENSOR_OF(std::int64_t)
LATHE_TENSOR_OF(std::int32_t)
LATHE_TENSOR_OF(std::int16_t)
LATHE_TENSOR_OF(std::int8_t)
LATHE_TENSOR_OF(std::uint64_t)
LATHE_TENSOR_OF(std::uint32_t)
LATHE_TENSOR_OF(std::uint16_t)
LATHE_TENSOR_OF(std::uint8_t)
#undef LATHE_TENSOR_OF

}  // namespace lathe
