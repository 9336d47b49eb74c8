// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// A host tensor: constants in the graph, values in the oracle, arrays at the API. Row-major and dense. Copies share the
// storage; a constant read from a model is a view of the mapped file (owner keeps the mapping alive).
//
// The format's other values travel in the same type: a sequence of tensors, a map (its keys and its values, each a tensor), and the
// optional that holds nothing. (An optional that holds something is what it holds.) They have no dtype, dims or bytes of their own.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "lathe/dtype.h"
#include "lathe/value.h"

namespace lathe {

using Dims = std::vector<std::int64_t>;

/// Product of the extents (1 for a scalar). Throws Error(kInvalidModel) on a negative extent or overflow.
std::int64_t element_count(const Dims& dims);
std::string to_string(const Dims& dims);  ///< "1x3x640x640"; "scalar" for rank 0

class Tensor;

/// Bytes on a device, of which the host gets a copy when it looks at them.
class RemoteBytes {
 public:
  RemoteBytes() = default;
  RemoteBytes(const RemoteBytes&) = delete;
  RemoteBytes& operator=(const RemoteBytes&) = delete;
  virtual ~RemoteBytes() = default;
  virtual const void* address() const noexcept = 0;  ///< on the device
  /// The copy, made by the first call, from whichever thread. Throws Error.
  virtual const std::byte* fetched() = 0;
  /// `rows` runs of `bytes` bytes each, whose beginnings lie a pitch apart.
  struct Piece {
    std::shared_ptr<const RemoteBytes> from;  ///< of the same device
    std::size_t offset, pitch;                ///< there
    std::size_t to, to_pitch;                 ///< in what they are copied to
    std::size_t bytes, rows;
  };
  /// New bytes on the device, which the pieces fill. Throws Error.
  virtual std::shared_ptr<RemoteBytes> gathered(std::size_t bytes, std::span<const Piece> pieces) const = 0;
  /// The bytes of a tensor of the host's on the same device. Throws Error.
  virtual std::shared_ptr<RemoteBytes> brought(const Tensor& tensor) const = 0;
};

class Tensor {
 public:
  Tensor() = default;
  /// Owned, zero-filled, 64-byte aligned storage. For kString, empty strings.
  Tensor(DType dtype, Dims dims);
  /// The same for a caller that writes every element before anybody reads one: numbers are left as they lie in memory.
  static Tensor to_be_filled(DType dtype, Dims dims);
  /// A read-only view of `bytes` bytes at `data`, kept alive by `owner`. The view may be unaligned for its type; typed access
  /// (data<T>) then throws; make_aligned() copies when needed.
  static Tensor view(DType dtype, Dims dims, const void* data, std::size_t bytes, std::shared_ptr<const void> owner);
  /// A tensor whose bytes lie on a device: what reads them here has them fetched, once for all copies of the tensor. One thread at a time.
  static Tensor remote(DType dtype, Dims dims, std::shared_ptr<RemoteBytes> bytes);
  template <class T>
  static Tensor from(DType dtype, Dims dims, std::span<const T> values);
  static Tensor scalar(std::int64_t value);                    ///< int64, rank 0
  static Tensor vector(std::span<const std::int64_t> values);  ///< int64, rank 1
  static Tensor strings(Dims dims, std::vector<std::string> values);
  /// A sequence; its items may be sequences, maps or (in a sequence of optionals) nothing.
  static Tensor sequence(std::vector<Tensor> items);
  /// A map from keys[i] (int64 or strings, rank 1) to values[i] (rank 1, as many).
  static Tensor map(Tensor keys, Tensor values);
  static Tensor nothing();  ///< an optional without content

  bool defined() const noexcept { return dtype_ != DType::kUndefined || form_ != ValueForm::kTensor; }
  ValueForm form() const noexcept { return form_; }
  bool is_tensor() const noexcept { return dtype_ != DType::kUndefined; }
  bool is_sequence() const noexcept { return form_ == ValueForm::kSequence; }
  bool is_map() const noexcept { return form_ == ValueForm::kMap; }
  bool is_nothing() const noexcept { return form_ == ValueForm::kNothing; }
  const std::vector<Tensor>& items() const;  ///< of a sequence; of a map: its keys, its values
  DType dtype() const noexcept { return dtype_; }
  const Dims& dims() const noexcept { return dims_; }
  int rank() const noexcept { return static_cast<int>(dims_.size()); }
  std::int64_t size() const noexcept { return count_; }  ///< elements
  std::size_t bytes() const noexcept { return bytes_; }

  /// Throws Error where they lie on a device and cannot be fetched.
  const std::byte* raw() const { return data_ || !remote_ ? data_ : remote_->fetched(); }
  /// The bytes on a device; nullptr where there are none.
  RemoteBytes* remote_bytes() const noexcept { return remote_.get(); }
  std::shared_ptr<const RemoteBytes> shared_remote_bytes() const noexcept { return remote_; }
  /// Are the bytes there without a fetch?
  bool is_on_host() const noexcept { return data_ || !remote_; }
  /// The same tensor, whose bytes `bytes` holds as well.
  Tensor with_remote(std::shared_ptr<RemoteBytes> bytes) const;
  Tensor local() const;  ///< the same with its bytes, or those of its items, on the host and nowhere else
  /// Writable storage. Copies first when the storage is shared or a view (so constants never change under others).
  std::byte* mutable_raw();
  template <class T>
  std::span<const T> data() const;
  template <class T>
  std::span<T> mutable_data();
  const std::vector<std::string>& string_data() const;
  std::vector<std::string>& mutable_string_data();

  /// Element `i` (row-major) converted to double / int64 from any numeric dtype, packed ones included.
  double as_double(std::int64_t i) const;
  std::int64_t as_int64(std::int64_t i) const;
  void set_from_double(std::int64_t i, double value);  ///< rounds to nearest even; saturates as ONNX Cast says for float8
  void set_from_int64(std::int64_t i, std::int64_t value);
  std::vector<std::int64_t> to_int64_vector() const;  ///< any integer dtype or bool

  Tensor make_aligned() const;                 ///< itself when aligned for any kernel, else a copy
  Tensor reshaped(Dims dims) const;            ///< same storage, other extents
  Tensor cast(DType dtype) const;              ///< ONNX Cast semantics for numeric types (saturating float8)
  bool same_bytes(const Tensor& other) const;  ///< equal dtype, dims and bit pattern
  std::uint64_t content_hash() const;          ///< XXH3 over dtype, dims and bytes

 private:
  DType dtype_ = DType::kUndefined;
  Dims dims_;
  std::int64_t count_ = 0;
  std::size_t bytes_ = 0;
  const std::byte* data_ = nullptr;
  std::shared_ptr<const void> owner_;
  std::shared_ptr<RemoteBytes> remote_;
  bool writable_ = false;  // storage was allocated by this class
  std::shared_ptr<std::vector<std::string>> strings_;
  ValueForm form_ = ValueForm::kTensor;
  std::shared_ptr<const std::vector<Tensor>> items_;
};

}  // namespace lathe
