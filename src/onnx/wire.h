// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Fields that nobody reads can be kept verbatim.

#include <string>
#include <vector>

#include "base/protobuf.h"
#include "ir/attribute.h"

namespace lathe::onnx {

inline std::string text(protozero::data_view view) { return {view.data(), view.size()}; }

/// One field at a time, as pbf_reader, and remembers where the current one began.
class FieldReader : public protozero::pbf_reader {
 public:
  explicit FieldReader(protozero::data_view bytes) : pbf_reader(bytes) {}
  bool next() {
    start_ = data().data();
    return pbf_reader::next();
  }
  /// Skips the current field and appends its bytes, key included, to what is kept under its number.
  void keep(ir::UnreadFields& into) {
    const std::uint32_t number = tag();
    skip();
    into[number].append(start_, data().data());
  }

 private:
  const char* start_ = nullptr;
};

/// Appends a repeated number field, which may be packed or not.
template <class T, class Packed, class Single>
void collect(FieldReader& reader, std::vector<T>& into, Packed packed, Single single) {
  if (reader.wire_type() == protozero::pbf_wire_type::length_delimited) {
    for (const auto value : packed()) into.push_back(static_cast<T>(value));
  } else {
    into.push_back(static_cast<T>(single()));
  }
}

}  // namespace lathe::onnx
