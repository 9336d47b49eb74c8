// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Names and widths of the element types: one table, in the order of the ONNX numbers.

#include "lathe/dtype.h"

#include <array>

namespace lathe {
namespace {

enum class Kind : std::uint8_t { kOther, kFloat, kSigned, kUnsigned };
struct Row {
  std::string_view name;
  int bits;
  Kind kind;
};
constexpr std::array<Row, kDTypeCount> kRows{{
    {"undefined", 0, Kind::kOther},      {"float", 32, Kind::kFloat},       {"uint8", 8, Kind::kUnsigned},       {"int8", 8, Kind::kSigned},
    {"uint16", 16, Kind::kUnsigned},     {"int16", 16, Kind::kSigned},      {"int32", 32, Kind::kSigned},        {"int64", 64, Kind::kSigned},
    {"string", 0, Kind::kOther},         {"bool", 8, Kind::kOther},         {"float16", 16, Kind::kFloat},       {"double", 64, Kind::kFloat},
    {"uint32", 32, Kind::kUnsigned},     {"uint64", 64, Kind::kUnsigned},   {"complex64", 64, Kind::kOther},     {"complex128", 128, Kind::kOther},
    {"bfloat16", 16, Kind::kFloat},      {"float8e4m3fn", 8, Kind::kFloat}, {"float8e4m3fnuz", 8, Kind::kFloat}, {"float8e5m2", 8, Kind::kFloat},
    {"float8e5m2fnuz", 8, Kind::kFloat}, {"uint4", 4, Kind::kUnsigned},     {"int4", 4, Kind::kSigned},          {"float4e2m1", 4, Kind::kFloat},
    {"float8e8m0", 8, Kind::kFloat},     {"uint2", 2, Kind::kUnsigned},     {"int2", 2, Kind::kSigned},          {"float6e2m3", 6, Kind::kFloat},
    {"float6e3m2", 6, Kind::kFloat},
}};

const Row& row(DType dtype) noexcept {
  const auto index = static_cast<std::size_t>(dtype);
  return kRows[index < kRows.size() ? index : 0];
}

struct Alias {
  std::string_view name;
  DType dtype;
};
constexpr std::array<Alias, 10> kAliases{{{"float32", DType::kFloat32},
                                          {"fp32", DType::kFloat32},
                                          {"f32", DType::kFloat32},
                                          {"float64", DType::kFloat64},
                                          {"f64", DType::kFloat64},
                                          {"fp16", DType::kFloat16},
                                          {"f16", DType::kFloat16},
                                          {"half", DType::kFloat16},
                                          {"bf16", DType::kBFloat16},
                                          {"boolean", DType::kBool}}};

}  // namespace

std::string_view dtype_name(DType dtype) noexcept { return row(dtype).name; }

std::optional<DType> parse_dtype(std::string_view name) noexcept {
  for (std::size_t i = 1; i < kRows.size(); ++i)
    if (kRows[i].name == name) return static_cast<DType>(i);
  for (const Alias& alias : kAliases)
    if (alias.name == name) return alias.dtype;
  return std::nullopt;
}

int dtype_bits(DType dtype) noexcept { return row(dtype).bits; }

std::size_t dtype_bytes(DType dtype, std::int64_t count) noexcept {
  // ONNX stores the 6-bit types one to a byte; the 4- and 2-bit ones are packed.
  const int bits = row(dtype).bits == 6 ? 8 : row(dtype).bits;
  return count <= 0 ? 0 : (static_cast<std::size_t>(count) * static_cast<std::size_t>(bits) + 7) / 8;
}

bool is_float(DType dtype) noexcept { return row(dtype).kind == Kind::kFloat; }
bool is_integer(DType dtype) noexcept { return row(dtype).kind == Kind::kSigned || row(dtype).kind == Kind::kUnsigned; }
bool is_signed_integer(DType dtype) noexcept { return row(dtype).kind == Kind::kSigned; }

}  // namespace lathe
