// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Type: equality and the text form (read back by text_parser.cpp).

#include "ir/type.h"

namespace lathe::ir {

bool Type::operator==(const Type& other) const {
  if (kind != other.kind || dtype != other.dtype || shape != other.shape || denotation != other.denotation) return false;
  if (!element || !other.element) return !element && !other.element;
  return *element == *other.element;
}

std::string Type::to_string() const {
  const auto tensor_text = [&] { return std::string(dtype_name(dtype)) + (shape ? ir::to_string(*shape) : std::string("[?]")); };
  const auto element_text = [&] { return element ? element->to_string() : std::string("?"); };
  switch (kind) {
    case TypeKind::kUnknown: return "?";
    case TypeKind::kTensor: return tensor_text();
    case TypeKind::kSparseTensor: return "sparse(" + tensor_text() + ")";
    case TypeKind::kSequence: return "seq(" + element_text() + ")";
    case TypeKind::kOptional: return "optional(" + element_text() + ")";
    case TypeKind::kMap: return "map(" + std::string(dtype_name(dtype)) + ", " + element_text() + ")";
    case TypeKind::kOpaque: return "opaque";
  }
  return "?";
}

}  // namespace lathe::ir
