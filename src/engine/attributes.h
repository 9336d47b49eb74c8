// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// ir::Attrs <-> the schema's typed key/value pairs. Private to src/engine.

#include <cstring>
#include <memory>
#include <vector>

#include "engine_generated.h"
#include "ir/attribute.h"

namespace lathe::engine {

using PackedAttrs = std::vector<std::unique_ptr<fb::AttributeT>>;
using StoredAttrs = flatbuffers::Vector<flatbuffers::Offset<fb::Attribute>>;

/// Throws Error(kUnsupported) for a graph that refers to values outside of itself.
PackedAttrs pack_attrs(const ir::Attrs& attrs);
/// Throws Error(kCorruptFile). `stored` may be nullptr (no attributes).
ir::Attrs unpack_attrs(const StoredAttrs* stored);

std::unique_ptr<fb::TypeT> pack_type(const ir::Type& type);
ir::Type unpack_type(const fb::Type& stored);  ///< Throws Error(kCorruptFile).

inline std::string text_of(const flatbuffers::String* text) { return text ? text->str() : std::string(); }
/// The verifier of FlatBuffers holds a vector's length aligned, not its elements: they are copied as bytes.
template <class T>
std::vector<T> values_of(const flatbuffers::Vector<T>* stored) {
  std::vector<T> values(stored ? stored->size() : 0);
  if (!values.empty()) std::memcpy(values.data(), stored->Data(), values.size() * sizeof(T));
  return values;
}

}  // namespace lathe::engine
