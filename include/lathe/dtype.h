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

enum class DType : std::uint8_t {  ///< Element types by ONNX's numbers.
  kUndefined = 0,                  ///< not known
  kFloat32 = 1,                    ///< IEEE binary32
  kUint8 = 2,                      ///< unsigned, 8 bits
  kInt8 = 3,                       ///< signed, 8 bits
  kUint16 = 4,                     ///< unsigned, 16 bits
  kInt16 = 5,                      ///< signed, 16 bits
  kInt32 = 6,                      ///< signed, 32 bits
  kInt64 = 7,                      ///< signed, 64 bits
  kString = 8,                     ///< text; not in views of the run path
  kBool = 9,                       ///< a byte, 0 or 1
  kFloat16 = 10,                   ///< IEEE binary16
  kFloat64 = 11,                   ///< IEEE binary64
  kUint32 = 12,                    ///< unsigned, 32 bits
  kUint64 = 13,                    ///< unsigned, 64 bits
  kComplex64 = 14,                 ///< two binary32: real and imaginary part
  kComplex128 = 15,                ///< two binary64: real and imaginary part
  kBFloat16 = 16,                  ///< the upper half of a binary32
  kFloat8E4M3FN = 17,              ///< 8 bits: sign, 4 of exponent, 3 of mantissa; no infinities
  kFloat8E4M3FNUZ = 18,            ///< the same with a bias of 8 and without a negative zero
  kFloat8E5M2 = 19,                ///< 8 bits: sign, 5 of exponent, 2 of mantissa; with infinities
  kFloat8E5M2FNUZ = 20,            ///< the same with a bias of 16, without infinities and negative zero
  kUint4 = 21,                     ///< unsigned, two in a byte, the first one low
  kInt4 = 22,                      ///< signed, two in a byte
  kFloat4E2M1 = 23,                ///< 4 bits: sign, 2 of exponent, 1 of mantissa; two in a byte
  kFloat8E8M0 = 24,                ///< 8 bits of exponent: a power of two
  kUint2 = 25,                     ///< unsigned, four in a byte
  kInt2 = 26,                      ///< signed, four in a byte
  kFloat6E2M3 = 27,                ///< 6 bits: sign, 2 of exponent, 3 of mantissa
  kFloat6E3M2 = 28,                ///< 6 bits: sign, 3 of exponent, 2 of mantissa
};

inline constexpr int kDTypeCount = 29;  ///< one more than the greatest number above

/// ONNX's lower-case spelling in type strings: "float", "double", "int64", "bfloat16", "float8e4m3fn", ...
LATHE_API std::string_view dtype_name(DType dtype) noexcept;
/// Reads what dtype_name() writes and also NumPy's and common short spellings ("float32", "fp16", "f32", "bf16", ...).
LATHE_API std::optional<DType> parse_dtype(std::string_view name) noexcept;
/// Storage bits of one element; 4- and 2-bit types are packed; strings have 0.
LATHE_API int dtype_bits(DType dtype) noexcept;
/// Bytes that `count` elements take when stored densely (rounded up for packed types).
LATHE_API std::size_t dtype_bytes(DType dtype, std::int64_t count) noexcept;
LATHE_API bool is_float(DType dtype) noexcept;           ///< any real floating type, the 4- and 8-bit ones included
LATHE_API bool is_integer(DType dtype) noexcept;         ///< signed or unsigned, packed ones included; not bool
LATHE_API bool is_signed_integer(DType dtype) noexcept;  ///< int2 to int64; not bool

}  // namespace lathe
