// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Element types. The numbers are those of ONNX TensorProto.DataType, so files and bindings need no mapping.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "lathe/export.h"

namespace lathe {

enum class DType : std::uint8_t {
  kUndefined = 0,
  kFloat32 = 1,
  kUint8 = 2,
  kInt8 = 3,
  kUint16 = 4,
  kInt16 = 5,
  kInt32 = 6,
  kInt64 = 7,
  kString = 8,
  kBool = 9,
  kFloat16 = 10,
  kFloat64 = 11,
  kUint32 = 12,
  kUint64 = 13,
  kComplex64 = 14,
  kComplex128 = 15,
  kBFloat16 = 16,
  kFloat8E4M3FN = 17,
  kFloat8E4M3FNUZ = 18,
  kFloat8E5M2 = 19,
  kFloat8E5M2FNUZ = 20,
  kUint4 = 21,
  kInt4 = 22,
  kFloat4E2M1 = 23,
  kFloat8E8M0 = 24,
  kUint2 = 25,
  kInt2 = 26,
  kFloat6E2M3 = 27,
  kFloat6E3M2 = 28,
};

inline constexpr int kDTypeCount = 29;

/// ONNX's lower-case spelling in type strings: "float", "double", "int64", "bfloat16", "float8e4m3fn", ...
LATHE_API std::string_view dtype_name(DType dtype) noexcept;
/// Reads what dtype_name() writes and also NumPy's and common short spellings ("float32", "fp16", "f32", "bf16", ...).
LATHE_API std::optional<DType> parse_dtype(std::string_view name) noexcept;
/// Storage bits of one element; 4- and 2-bit types are packed; strings have 0.
LATHE_API int dtype_bits(DType dtype) noexcept;
/// Bytes that `count` elements take when stored densely (rounded up for packed types).
LATHE_API std::size_t dtype_bytes(DType dtype, std::int64_t count) noexcept;
LATHE_API bool is_float(DType dtype) noexcept;    ///< any real floating type, the 4- and 8-bit ones included
LATHE_API bool is_integer(DType dtype) noexcept;  ///< signed or unsigned, packed ones included; not bool
LATHE_API bool is_signed_integer(DType dtype) noexcept;

}  // namespace lathe
