// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The type of a value: a tensor of dtype and (perhaps unknown) shape, or a sequence, optional, map or sparse tensor of such.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ir/dim.h"
#include "lathe/dtype.h"

namespace lathe::ir {

/// What a type in a file says beyond what rewrites need; kept for the writer, ignored by comparisons.
struct TypeExtra {
  std::vector<std::string> dim_denotations;  ///< one per dimension, or empty
  std::string opaque;                        ///< kOpaque: the encoded message
};

enum class TypeKind : std::uint8_t { kUnknown, kTensor, kSparseTensor, kSequence, kOptional, kMap, kOpaque };

struct Type {
  TypeKind kind = TypeKind::kUnknown;
  DType dtype = DType::kUndefined;      ///< tensors: element type; maps: key type
  std::optional<Shape> shape;           ///< tensors: nullopt = unknown rank
  std::shared_ptr<const Type> element;  ///< sequence, optional: element; map: value
  std::string denotation;               ///< kept for the writer
  std::shared_ptr<const TypeExtra> extra{};

  static Type tensor(DType dtype) { return {TypeKind::kTensor, dtype, std::nullopt, nullptr, {}, {}}; }
  static Type tensor(DType dtype, Shape shape) { return {TypeKind::kTensor, dtype, std::move(shape), nullptr, {}, {}}; }
  bool is_tensor() const noexcept { return kind == TypeKind::kTensor; }
  bool operator==(const Type& other) const;
  std::string to_string() const;  ///< "float[batch, 3, 640, 640]", "seq(int64[?])"
};

}  // namespace lathe::ir
