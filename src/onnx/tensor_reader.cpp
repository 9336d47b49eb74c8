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

namespace {

constexpr int kMaxDepth = 64;

struct RawTensor {
  Dims dims;
  std::int64_t dtype = 0, location = 0;
  std::string name, doc;
  std::vector<float> floats;
  std::vector<double> doubles;
  std::vector<std::int64_t> ints;  // int32_data, int64_data
  std::vector<std::uint64_t> unsigneds;
  std::vector<std::string> strings;
  std::map<std::string, std::string> external, metadata;
  ir::UnreadFields unread;
  data_view raw;
  bool has_raw = false, has_segment = false;
};

RawTensor parse(data_view bytes) {
  RawTensor t;
  FieldReader reader(bytes);
  while (reader.next()) {
    switch (reader.tag()) {
      case field::tensor::kDims:
        collect(
            reader, t.dims, [&] { return reader.get_packed_int64(); }, [&] { return reader.get_int64(); });
        break;
      case field::tensor::kDataType: t.dtype = reader.get_int32(); break;
      case field::tensor::kSegment:
        t.has_segment = true;
        reader.skip();
        break;
      case field::tensor::kFloatData:
        collect(
            reader, t.floats, [&] { return reader.get_packed_float(); }, [&] { return reader.get_float(); });
        break;
      case field::tensor::kInt32Data:
        collect(
            reader, t.ints, [&] { return reader.get_packed_int32(); }, [&] { return reader.get_int32(); });
        break;
      case field::tensor::kStringData: t.strings.push_back(text(reader.get_view())); break;
      case field::tensor::kInt64Data:
        collect(
            reader, t.ints, [&] { return reader.get_packed_int64(); }, [&] { return reader.get_int64(); });
        break;
      case field::tensor::kName: t.name = text(reader.get_view()); break;
      case field::tensor::kRawData:
        t.raw = reader.get_view();
        t.has_raw = true;
        break;
      case field::tensor::kDoubleData:
        collect(
            reader, t.doubles, [&] { return reader.get_packed_double(); }, [&] { return reader.get_double(); });
        break;
      case field::tensor::kUint64Data:
        collect(
            reader, t.unsigneds, [&] { return reader.get_packed_uint64(); }, [&] { return reader.get_uint64(); });
        break;
      case field::tensor::kDoc: t.doc = text(reader.get_view()); break;
      case field::tensor::kExternal: t.external.insert(read_entry(reader.get_view())); break;
      case field::tensor::kLocation: t.location = reader.get_int32(); break;
      case field::tensor::kMetadata: t.metadata.insert(read_entry(reader.get_view())); break;
      default: reader.keep(t.unread);
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
    state.fail(Code::kInvalidModel,
               file.empty() ? "the tensor's data is external but no location is given" : "the tensor's weights were taken out of this file", t.name,
               "Fill the weights first, or get the complete model.");
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
  if (dtype == DType::kBool) {
    for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<std::byte>(t.ints[i] != 0);
    return tensor;
  }
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
  FieldReader reader(bytes);
  while (reader.next()) {
    if (reader.tag() == field::entry::kKey) entry.first = text(reader.get_view());
    else if (reader.tag() == field::entry::kValue) entry.second = text(reader.get_view());
    else reader.skip();
  }
  return entry;
}

NamedTensor read_tensor(data_view bytes, ReadState& state) {
  RawTensor t = parse(bytes);
  NamedTensor result{t.name, t.doc, {}, t.metadata, t.unread};
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
      state.fail(Code::kInvalidModel, fmt::format("{} of shape {} takes {} bytes, the file holds {}", dtype_name(dtype), to_string(t.dims), need, t.raw.size()),
                 t.name, "The file is damaged, or was written by a faulty tool.");
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
  FieldReader reader(bytes);
  while (reader.next()) {
    switch (reader.tag()) {
      case field::sparse::kValues: {
        NamedTensor values = read_tensor(reader.get_view(), state);
        name = values.name;
        sparse.values = std::move(values.tensor);
        break;
      }
      case field::sparse::kIndices: sparse.indices = read_tensor(reader.get_view(), state).tensor; break;
      case field::sparse::kDims:
        collect(
            reader, sparse.dims, [&] { return reader.get_packed_int64(); }, [&] { return reader.get_int64(); });
        break;
      default: reader.skip();
    }
  }
  if (!sparse.values.defined()) state.fail(Code::kInvalidModel, "a sparse tensor has no values", name);
  if (!sparse.indices.defined()) sparse.indices = Tensor(DType::kInt64, {0});
  const std::int64_t count = sparse.values.size(), rank = static_cast<std::int64_t>(sparse.dims.size());
  const bool linear = sparse.indices.dims() == Dims{count}, coordinates = sparse.indices.dims() == Dims{count, rank};
  if (sparse.values.rank() != 1 || sparse.indices.dtype() != DType::kInt64 || !(linear || coordinates))
    state.fail(Code::kInvalidModel,
               fmt::format("a sparse tensor with {} values of {} dimensions has {} indices of shape {}", count, rank, dtype_name(sparse.indices.dtype()),
                           to_string(sparse.indices.dims())),
               name);
  return sparse;
}

Tensor densify(const ir::SparseTensor& sparse, const std::string& name, const ReadState& state) {
  constexpr std::size_t kLimit = std::size_t{1} << 30;
  const DType dtype = sparse.values.dtype();
  std::int64_t elements = 0;
  try {
    elements = element_count(sparse.dims);
  } catch (const Error& error) {
    state.fail(error.code(), error.message(), name);
  }
  if (dtype == DType::kString || dtype_bits(dtype) > 64)
    state.fail(Code::kUnsupported, fmt::format("sparse initializers of {} are not supported", dtype_name(dtype)), name);
  if (elements > static_cast<std::int64_t>(kLimit) || dtype_bytes(dtype, elements) > kLimit)
    state.fail(Code::kUnsupported, fmt::format("the sparse initializer takes {} elements when written out, which is too much", elements), name);
  Tensor dense(dtype, sparse.dims);
  const auto rank = static_cast<std::int64_t>(sparse.dims.size());
  for (std::int64_t i = 0; i < sparse.values.size(); ++i) {
    std::int64_t at = 0;
    bool inside = true;
    if (sparse.indices.rank() == 2) {
      for (std::int64_t axis = 0; axis < rank && inside; ++axis) {
        const std::int64_t extent = sparse.dims[static_cast<std::size_t>(axis)], index = sparse.indices.as_int64(i * rank + axis);
        inside = index >= 0 && index < extent;
        at = at * extent + index;
      }
    } else {
      at = sparse.indices.as_int64(i);
      inside = at >= 0 && at < elements;
    }
    if (!inside) state.fail(Code::kInvalidModel, "a sparse initializer has an index outside its shape", name);
    // By bit pattern where doubles would not hold every value.
    if (is_float(dtype)) dense.set_from_double(at, sparse.values.as_double(i));
    else dense.set_from_int64(at, sparse.values.as_int64(i));
  }
  return dense;
}

namespace {

ir::Shape read_shape(data_view bytes, ReadState& state, const std::string& value_name, std::vector<std::string>& denotations) {
  ir::Shape shape;
  bool denoted = false;
  FieldReader reader(bytes);
  while (reader.next()) {
    if (reader.tag() != field::type::kDim) {
      reader.skip();
      continue;
    }
    FieldReader dim(reader.get_view());
    std::int64_t extent = -1;
    std::string symbol, denotation;
    while (dim.next()) {
      if (dim.tag() == field::type::kDimValue) extent = dim.get_int64(), symbol.clear();
      else if (dim.tag() == field::type::kDimParam) symbol = text(dim.get_view()), extent = -1;
      else if (dim.tag() == field::type::kDimDenotation) denotation = text(dim.get_view());
      else dim.skip();
    }
    if (extent >= 0) shape.emplace_back(extent);
    else shape.push_back(ir::Dim::symbol(state.symbol_for(symbol, value_name, shape.size())));
    denoted |= !denotation.empty();
    denotations.push_back(std::move(denotation));
  }
  if (!denoted) denotations.clear();
  return shape;
}

DType read_dtype(FieldReader& reader, const ReadState& state, const std::string& value_name) {
  const std::int32_t number = reader.get_int32();
  if (number < 0 || number >= kDTypeCount) state.fail(Code::kInvalidModel, fmt::format("element type number {} is not known", number), value_name);
  return static_cast<DType>(number);
}

}  // namespace

std::string ReadState::symbol_for(const std::string& text, const std::string& value_name, std::size_t axis) {
  const std::string key = text.empty() ? fmt::format("\n{}\n{}", value_name, axis) : text;
  if (const auto found = symbols.find(key); found != symbols.end()) return found->second;
  // Any text may name an extent; symbols of expressions are identifiers, one for each text.
  std::string symbol;
  for (const char c : text.empty() ? fmt::format("{}_dim_{}", value_name, axis) : text) {
    const bool fits = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    symbol += fits ? c : '_';
  }
  if (symbol[0] >= '0' && symbol[0] <= '9') symbol = "_" + symbol;
  while (dim_params.contains(symbol)) symbol += '_';
  symbols.emplace(key, symbol);
  dim_params.emplace(symbol, text);
  return symbol;
}

ir::Type read_type(data_view bytes, ReadState& state, const std::string& value_name) {
  if (++state.depth > kMaxDepth) state.fail(Code::kInvalidModel, "the type is nested too deeply", value_name);
  ir::Type type;
  FieldReader reader(bytes);
  while (reader.next()) {
    switch (reader.tag()) {
      case field::type::kTensor:
      case field::type::kSparse: {
        type.kind = reader.tag() == field::type::kTensor ? ir::TypeKind::kTensor : ir::TypeKind::kSparseTensor;
        FieldReader tensor(reader.get_view());
        while (tensor.next()) {
          if (tensor.tag() == field::type::kElement) {
            type.dtype = read_dtype(tensor, state, value_name);
          } else if (tensor.tag() == field::type::kShape) {
            auto extra = std::make_shared<ir::TypeExtra>();
            type.shape = read_shape(tensor.get_view(), state, value_name, extra->dim_denotations);
            if (!extra->dim_denotations.empty()) type.extra = std::move(extra);
          } else {
            tensor.skip();
          }
        }
        break;
      }
      case field::type::kSequence:
      case field::type::kOptional: {
        type.kind = reader.tag() == field::type::kSequence ? ir::TypeKind::kSequence : ir::TypeKind::kOptional;
        FieldReader inner(reader.get_view());
        while (inner.next()) {
          if (inner.tag() == field::type::kElement) type.element = std::make_shared<ir::Type>(read_type(inner.get_view(), state, value_name));
          else inner.skip();
        }
        break;
      }
      case field::type::kMap: {
        type.kind = ir::TypeKind::kMap;
        FieldReader inner(reader.get_view());
        while (inner.next()) {
          if (inner.tag() == field::type::kKeyType) type.dtype = read_dtype(inner, state, value_name);
          else if (inner.tag() == field::type::kValueType) type.element = std::make_shared<ir::Type>(read_type(inner.get_view(), state, value_name));
          else inner.skip();
        }
        break;
      }
      case field::type::kDenotation: type.denotation = text(reader.get_view()); break;
      case field::type::kOpaque: {
        type.kind = ir::TypeKind::kOpaque;
        auto extra = std::make_shared<ir::TypeExtra>();
        extra->opaque = text(reader.get_view());
        type.extra = std::move(extra);
        break;
      }
      default: reader.skip();
    }
  }
  --state.depth;
  return type;
}

}  // namespace lathe::onnx
