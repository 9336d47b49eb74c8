// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See tensor_reader.h. Sizes are checked before anything is allocated or viewed.

#include "onnx/tensor_reader.h"

#include <fmt/format.h>

#include <charconv>
#include <cstring>

#include "base/os.h"
#include "onnx/fields.h"

namespace lathe::onnx {

using protozero::data_view;
using protozero::pbf_reader;

namespace {

constexpr int kMaxDepth = 64;

/// Collects a repeated number field that may be packed or not.
template <class T, class Packed, class Single>
void collect(pbf_reader& reader, std::vector<T>& into, Packed packed, Single single) {
  if (reader.wire_type() == protozero::pbf_wire_type::length_delimited) {
    for (const auto value : packed()) into.push_back(static_cast<T>(value));
  } else {
    into.push_back(static_cast<T>(single()));
  }
}

struct RawTensor {
  Dims dims;
  std::int64_t dtype = 0, location = 0;
  std::string name, doc;
  std::vector<float> floats;
  std::vector<double> doubles;
  std::vector<std::int64_t> ints;     // int32_data, int64_data
  std::vector<std::uint64_t> unsigneds;
  std::vector<std::string> strings;
  std::map<std::string, std::string> external, metadata;
  data_view raw;
  bool has_raw = false, has_segment = false;
};

RawTensor parse(data_view bytes) {
  RawTensor t;
  pbf_reader reader(bytes);
  while (reader.next()) {
    switch (reader.tag()) {
      case field::tensor::kDims: collect(reader, t.dims, [&] { return reader.get_packed_int64(); }, [&] { return reader.get_int64(); }); break;
      case field::tensor::kDataType: t.dtype = reader.get_int32(); break;
      case field::tensor::kSegment: t.has_segment = true; reader.skip(); break;
      case field::tensor::kFloatData: collect(reader, t.floats, [&] { return reader.get_packed_float(); }, [&] { return reader.get_float(); }); break;
      case field::tensor::kInt32Data: collect(reader, t.ints, [&] { return reader.get_packed_int32(); }, [&] { return reader.get_int32(); }); break;
      case field::tensor::kStringData: t.strings.push_back(text(reader.get_view())); break;
      case field::tensor::kInt64Data: collect(reader, t.ints, [&] { return reader.get_packed_int64(); }, [&] { return reader.get_int64(); }); break;
      case field::tensor::kName: t.name = text(reader.get_view()); break;
      case field::tensor::kRawData: t.raw = reader.get_view(); t.has_raw = true; break;
      case field::tensor::kDoubleData: collect(reader, t.doubles, [&] { return reader.get_packed_double(); }, [&] { return reader.get_double(); }); break;
      case field::tensor::kUint64Data: collect(reader, t.unsigneds, [&] { return reader.get_packed_uint64(); }, [&] { return reader.get_uint64(); }); break;
      case field::tensor::kDoc: t.doc = text(reader.get_view()); break;
      case field::tensor::kExternal: t.external.insert(read_entry(reader.get_view())); break;
      case field::tensor::kLocation: t.location = reader.get_int32(); break;
      case field::tensor::kMetadata: t.metadata.insert(read_entry(reader.get_view())); break;
      default: reader.skip();
    }
  }
  return t;
}

std::uint64_t parse_size(const RawTensor& t, const char* key, std::uint64_t fallback, const ReadState& state) {
  const auto found = t.external.find(key);
  if (found == t.external.end()) return fallback;
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(found->second.data(), found->second.data() + found->second.size(), value);
  if (error != std::errc() || end != found->second.data() + found->second.size())
    state.fail(Code::kInvalidModel, fmt::format("the external data's {} '{}' is not a number", key, found->second), t.name);
  return value;
}

Tensor read_external(const RawTensor& t, DType dtype, ReadState& state) {
  const std::size_t need = dtype_bytes(dtype, element_count(t.dims));
  const auto location = t.external.find("location");
  const std::string file = location == t.external.end() ? "" : location->second;
  if (file == "random" || file.empty()) {
    if (state.options.allow_missing_weights) return Tensor(dtype, t.dims);
    state.fail(Code::kInvalidModel, file.empty() ? "the tensor's data is external but no location is given" : "the tensor's weights were taken out of this file",
               t.name, "Fill the weights first, or get the complete model.");
  }
  const std::filesystem::path relative(file);
  bool outside = relative.is_absolute();
  for (const auto& part : relative) outside |= part == "..";
  if (outside)
    state.fail(Code::kInvalidModel, fmt::format("the external data file '{}' lies outside the model's folder", file), t.name, "Move it beside the model.");
  auto& mapped = state.external[file];
  if (!mapped) {
    try {
      mapped = os::MappedFile::open(state.base_dir / relative);
    } catch (const Error& error) {
      if (state.options.allow_missing_weights) return Tensor(dtype, t.dims);
      state.fail(Code::kIo, fmt::format("its external data file cannot be read: {}", error.what()), t.name);
    }
  }
  const auto bytes = std::static_pointer_cast<const os::MappedFile>(mapped)->bytes();
  const std::uint64_t offset = parse_size(t, "offset", 0, state), length = parse_size(t, "length", need, state);
  if (length != need)
    state.fail(Code::kInvalidModel, fmt::format("{} {} needs {} bytes, the external data says {}", dtype_name(dtype), to_string(t.dims), need, length), t.name);
  if (offset > bytes.size() || need > bytes.size() - offset)
    state.fail(Code::kCorruptFile, fmt::format("bytes {} to {} of '{}' are needed, but the file has {}", offset, offset + need, file, bytes.size()), t.name,
               "The data file is cut off or belongs to another model.");
  return Tensor::view(dtype, t.dims, bytes.data() + offset, need, mapped);
}

/// Typed data fields: each dtype has its own (see the comments of TensorProto in the format's definition).
Tensor from_fields(const RawTensor& t, DType dtype, const ReadState& state) {
  Tensor tensor(dtype, t.dims);
  const auto count = static_cast<std::size_t>(tensor.size());
  const auto expect = [&](std::size_t have, std::size_t want, const char* what) {
    if (have != want) state.fail(Code::kInvalidModel, fmt::format("shape {} needs {} {}, the file holds {}", to_string(t.dims), want, what, have), t.name);
  };
  switch (dtype) {
    case DType::kFloat32:
      expect(t.floats.size(), count, "floats");
      if (count) std::memcpy(tensor.mutable_raw(), t.floats.data(), count * 4);
      return tensor;
    case DType::kComplex64:
      expect(t.floats.size(), 2 * count, "floats");
      if (count) std::memcpy(tensor.mutable_raw(), t.floats.data(), count * 8);
      return tensor;
    case DType::kFloat64:
      expect(t.doubles.size(), count, "doubles");
      if (count) std::memcpy(tensor.mutable_raw(), t.doubles.data(), count * 8);
      return tensor;
    case DType::kComplex128:
      expect(t.doubles.size(), 2 * count, "doubles");
      if (count) std::memcpy(tensor.mutable_raw(), t.doubles.data(), count * 16);
      return tensor;
    case DType::kUint32:
    case DType::kUint64:
      expect(t.unsigneds.size(), count, "unsigned numbers");
      for (std::size_t i = 0; i < count; ++i) tensor.set_from_int64(static_cast<std::int64_t>(i), static_cast<std::int64_t>(t.unsigneds[i]));
      return tensor;
    default: break;
  }
  // int32_data and int64_data. 16-bit and 8-bit floats hold their bit patterns, packed types one byte each.
  std::byte* out = tensor.mutable_raw();
  const int bits = dtype_bits(dtype);
  if (bits < 8 && bits != 6) {
    expect(t.ints.size(), tensor.bytes(), "packed bytes");
    for (std::size_t i = 0; i < t.ints.size(); ++i) out[i] = static_cast<std::byte>(t.ints[i]);
    return tensor;
  }
  expect(t.ints.size(), count, "numbers");
  const std::size_t width = bits == 6 ? 1 : static_cast<std::size_t>(bits) / 8;
  for (std::size_t i = 0; i < count; ++i) std::memcpy(out + i * width, &t.ints[i], width);
  return tensor;
}

}  // namespace

void ReadState::fail(Code code, std::string message, const std::string& tensor, std::string remedy) const {
  Error error(code, std::move(message));
  if (!source.empty()) error.in_source(source);
  if (!tensor.empty()) error.at_tensor(tensor);
  if (!remedy.empty()) error.with_remedy(std::move(remedy));
  throw error;
}

std::pair<std::string, std::string> read_entry(data_view bytes) {
  std::pair<std::string, std::string> entry;
  pbf_reader reader(bytes);
  while (reader.next()) {
    if (reader.tag() == field::entry::kKey) entry.first = text(reader.get_view());
    else if (reader.tag() == field::entry::kValue) entry.second = text(reader.get_view());
    else reader.skip();
  }
  return entry;
}

NamedTensor read_tensor(data_view bytes, ReadState& state) {
  RawTensor t = parse(bytes);
  NamedTensor result{t.name, t.doc, {}, t.metadata};
  if (t.dtype <= 0 || t.dtype >= kDTypeCount) state.fail(Code::kInvalidModel, fmt::format("element type number {} is not known", t.dtype), t.name);
  if (t.has_segment) state.fail(Code::kUnsupported, "the tensor is stored in segments", t.name, "Save the model with onnx.save, which joins them.");
  const auto dtype = static_cast<DType>(t.dtype);
  std::int64_t count = 0;
  try {
    count = element_count(t.dims);
  } catch (const Error& error) {
    state.fail(error.code(), error.message(), t.name);
  }
  if (t.location == 1) {
    result.tensor = read_external(t, dtype, state);
  } else if (dtype == DType::kString) {
    if (static_cast<std::int64_t>(t.strings.size()) != count)
      state.fail(Code::kInvalidModel, fmt::format("shape {} needs {} strings, the file holds {}", to_string(t.dims), count, t.strings.size()), t.name);
    result.tensor = Tensor::strings(t.dims, std::move(t.strings));
  } else if (t.has_raw) {
    const std::size_t need = dtype_bytes(dtype, count);
    if (t.raw.size() != need)
      state.fail(Code::kInvalidModel, fmt::format("{} of shape {} takes {} bytes, the file holds {}", dtype_name(dtype), to_string(t.dims), need, t.raw.size()), t.name,
                 "The file is damaged, or was written by a faulty tool.");
    result.tensor = Tensor::view(dtype, t.dims, t.raw.data(), need, state.owner);
  } else {
    // An empty typed field and a huge shape must not allocate before the count is compared.
    const std::size_t have = t.floats.size() + t.doubles.size() + t.ints.size() + t.unsigneds.size();
    if (static_cast<std::size_t>(count) > 2 * have * 8 + 16)
      state.fail(Code::kInvalidModel, fmt::format("shape {} needs {} elements, the file holds {}", to_string(t.dims), count, have), t.name);
    result.tensor = from_fields(t, dtype, state);
  }
  return result;
}

ir::SparseTensor read_sparse_tensor(data_view bytes, ReadState& state, std::string& name) {
  ir::SparseTensor sparse;
  pbf_reader reader(bytes);
  while (reader.next()) {
    switch (reader.tag()) {
      case field::sparse::kValues: {
        NamedTensor values = read_tensor(reader.get_view(), state);
        name = values.name;
        sparse.values = std::move(values.tensor);
        break;
      }
      case field::sparse::kIndices: sparse.indices = read_tensor(reader.get_view(), state).tensor; break;
      case field::sparse::kDims: collect(reader, sparse.dims, [&] { return reader.get_packed_int64(); }, [&] { return reader.get_int64(); }); break;
      default: reader.skip();
    }
  }
  return sparse;
}

namespace {

ir::Shape read_shape(data_view bytes, const std::string& value_name) {
  ir::Shape shape;
  pbf_reader reader(bytes);
  while (reader.next()) {
    if (reader.tag() != field::type::kDim) {
      reader.skip();
      continue;
    }
    pbf_reader dim(reader.get_view());
    std::int64_t extent = -1;
    std::string symbol;
    bool has_extent = false;
    while (dim.next()) {
      if (dim.tag() == field::type::kDimValue) extent = dim.get_int64(), has_extent = true;
      else if (dim.tag() == field::type::kDimParam) symbol = text(dim.get_view());
      else dim.skip();
    }
    if (has_extent && extent >= 0) {
      shape.emplace_back(extent);
    } else {
      // Any text may name an extent; symbols of expressions are identifiers. No name: one of its own.
      if (symbol.empty()) symbol = fmt::format("{}_dim_{}", value_name, shape.size());
      std::string identifier;
      for (const char c : symbol) identifier += std::isalnum(static_cast<unsigned char>(c)) || c == '_' ? c : '_';
      if (identifier.empty() || std::isdigit(static_cast<unsigned char>(identifier[0]))) identifier = "_" + identifier;
      shape.push_back(ir::Dim::symbol(identifier));
    }
  }
  return shape;
}

}  // namespace

ir::Type read_type(data_view bytes, ReadState& state, const std::string& value_name) {
  if (++state.depth > kMaxDepth) state.fail(Code::kInvalidModel, "the type is nested too deeply", value_name);
  ir::Type type;
  pbf_reader reader(bytes);
  while (reader.next()) {
    switch (reader.tag()) {
      case field::type::kTensor:
      case field::type::kSparse: {
        type.kind = reader.tag() == field::type::kTensor ? ir::TypeKind::kTensor : ir::TypeKind::kSparseTensor;
        pbf_reader tensor(reader.get_view());
        while (tensor.next()) {
          if (tensor.tag() == field::type::kElement) {
            const std::int32_t number = tensor.get_int32();
            if (number < 0 || number >= kDTypeCount) state.fail(Code::kInvalidModel, fmt::format("element type number {} is not known", number), value_name);
            type.dtype = static_cast<DType>(number);
          } else if (tensor.tag() == field::type::kShape) {
            type.shape = read_shape(tensor.get_view(), value_name);
          } else {
            tensor.skip();
          }
        }
        break;
      }
      case field::type::kSequence:
      case field::type::kOptional: {
        type.kind = reader.tag() == field::type::kSequence ? ir::TypeKind::kSequence : ir::TypeKind::kOptional;
        pbf_reader inner(reader.get_view());
        while (inner.next()) {
          if (inner.tag() == field::type::kElement) type.element = std::make_shared<ir::Type>(read_type(inner.get_view(), state, value_name));
          else inner.skip();
        }
        break;
      }
      case field::type::kMap: {
        type.kind = ir::TypeKind::kMap;
        pbf_reader inner(reader.get_view());
        while (inner.next()) {
          if (inner.tag() == field::type::kKeyType) type.dtype = static_cast<DType>(inner.get_int32());
          else if (inner.tag() == field::type::kValueType) type.element = std::make_shared<ir::Type>(read_type(inner.get_view(), state, value_name));
          else inner.skip();
        }
        break;
      }
      case field::type::kDenotation: type.denotation = text(reader.get_view()); break;
      case field::type::kOpaque: type.kind = ir::TypeKind::kOpaque; reader.skip(); break;
      default: reader.skip();
    }
  }
  --state.depth;
  return type;
}

}  // namespace lathe::onnx
