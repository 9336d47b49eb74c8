// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See portable_graph.h. Messages on the way to a location are written again, since their lengths change; all else is copied as it stands.

#include "engine/portable_graph.h"

#include <charconv>

#include "base/protobuf.h"
#include "lathe/status.h"

namespace lathe::engine {
namespace {

constexpr int kMaxDepth = 64;
constexpr std::string_view kBlob = "blob:";

enum class Kind { kModel, kGraph, kNode, kAttribute, kTensor, kEntry };

/// The kind of message that a field holds on the way to a location.
const Kind* child(Kind kind, protozero::pbf_tag_type field) {
  static constexpr Kind kGraph = Kind::kGraph, kNode = Kind::kNode, kAttribute = Kind::kAttribute, kTensor = Kind::kTensor, kEntry = Kind::kEntry;
  switch (kind) {
    case Kind::kModel: return field == 7 ? &kGraph : nullptr;
    case Kind::kGraph: return field == 1 ? &kNode : field == 5 ? &kTensor : nullptr;
    case Kind::kNode: return field == 5 ? &kAttribute : nullptr;
    case Kind::kAttribute: return field == 6 || field == 11 ? &kGraph : field == 5 || field == 10 ? &kTensor : nullptr;
    case Kind::kTensor: return field == 13 ? &kEntry : nullptr;
    case Kind::kEntry: return nullptr;
  }
  return nullptr;
}

class Rewriter {
 public:
  explicit Rewriter(const std::function<std::string(plan::BlobId)>& location) : location_(location) {}

  std::string message(Kind kind, protozero::data_view bytes, int depth) const {
    if (depth > kMaxDepth) throw Error(Code::kCorruptFile, "the portable graph is nested too deeply");
    std::string out;
    protozero::pbf_writer writer(out);
    protozero::pbf_reader reader(bytes);
    bool is_location = false;
    for (protozero::data_view left = reader.data(); reader.next(); left = reader.data()) {
      const protozero::pbf_tag_type field = reader.tag();
      const Kind* inner = reader.wire_type() == protozero::pbf_wire_type::length_delimited ? child(kind, field) : nullptr;
      const bool text = kind == Kind::kEntry && reader.wire_type() == protozero::pbf_wire_type::length_delimited;
      if (inner) {
        writer.add_message(field, message(*inner, reader.get_view(), depth + 1));
      } else if (text && field == 1) {
        const protozero::data_view key = reader.get_view();
        is_location = std::string_view(key.data(), key.size()) == "location";
        writer.add_bytes(field, key.data(), key.size());
      } else if (text && field == 2) {
        const protozero::data_view value = reader.get_view();
        writer.add_string(field, is_location ? moved({value.data(), value.size()}) : std::string(value.data(), value.size()));
      } else {
        reader.skip();
        out.append(left.data(), left.size() - reader.data().size());
      }
    }
    return out;
  }

 private:
  std::string moved(std::string_view location) const {
    if (!location.starts_with(kBlob)) return std::string(location);
    const std::string_view number = location.substr(kBlob.size());
    plan::BlobId id = -1;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), id);
    if (error != std::errc() || end != number.data() + number.size() || id < 0)
      throw Error(Code::kCorruptFile, "the portable graph refers to a weight without a number");
    return location_(id);
  }

  const std::function<std::string(plan::BlobId)>& location_;
};

}  // namespace

std::string with_locations(std::string_view onnx, const std::function<std::string(plan::BlobId)>& location) {
  try {
    return Rewriter(location).message(Kind::kModel, {onnx.data(), onnx.size()}, 0);
  } catch (const protozero::exception&) {
    throw Error(Code::kCorruptFile, "the portable graph is no ONNX model");
  }
}

}  // namespace lathe::engine
