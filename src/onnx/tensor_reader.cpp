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

namespace {

constexpr int kMaxDepth = 64;

std::uint64_t parse_size(const TensorRecord& t, const char* key, std::uint64_t fallback, const ReadState& state) {
  const std::string* given = t.external_value(key);
  if (!given) return fallback;
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(given->data(), given->data() + given->size(), value);
  if (error != std::errc() || end != given->data() + given->size())
    state.fail(Code::kInvalidModel, fmt::format("the external data's {} '{}' is not a number", key, *given), t.name);
  return value;
}

Tensor read_external(const TensorRecord& t, DType dtype, ReadState& state) {
  const std::size_t need = dtype_bytes(dtype, element_count(t.dims));
  const std::string* location = t.external_value("location");
  const std::string file = location ? *location : "";
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
      state.fail(Code::kIo, fmt::format("its external data file '{}' cannot be read: {}", file, error.message()), t.name,
                 state.source.empty() ? "A model in memory has no folder: give its path, with the data file beside it." : "Put it beside the model.");
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
Tensor from_fields(const TensorRecord& t, DType dtype, const ReadState& state) {
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
  const std::vector<std::int64_t>& ints = t.int32s.empty() ? t.int64s : t.int32s;
  // 16-bit and 8-bit floats hold their bit patterns, packed types one byte each.
  std::byte* out = tensor.mutable_raw();
  const int bits = dtype_bits(dtype);
  if (bits < 8 && bits != 6) {
    expect(ints.size(), tensor.bytes(), "packed bytes");
    for (std::size_t i = 0; i < ints.size(); ++i) out[i] = static_cast<std::byte>(ints[i]);
    return tensor;
  }
  expect(ints.size(), count, "numbers");
  if (dtype == DType::kBool) {
    for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<std::byte>(ints[i] != 0);
    return tensor;
  }
  const std::size_t width = bits == 6 ? 1 : static_cast<std::size_t>(bits) / 8;
  for (std::size_t i = 0; i < count; ++i) std::memcpy(out + i * width, &ints[i], width);
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

NamedTensor read_tensor(data_view bytes, ReadState& state) {
  TensorRecord t = parse_tensor(bytes);
  NamedTensor result{t.name, t.doc, {}, {}, t.unread};
  for (const auto& entry : t.metadata) result.metadata.insert(entry);
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
    const std::size_t have = t.floats.size() + t.doubles.size() + t.int32s.size() + t.int64s.size() + t.unsigneds.size();
    if (static_cast<std::size_t>(count) > 2 * have * 8 + 16)
      state.fail(Code::kInvalidModel, fmt::format("shape {} needs {} elements, the file holds {}", to_string(t.dims), count, have), t.name);
    result.tensor = from_fields(t, dtype, state);
  }
  return result;
}

ir::SparseTensor read_sparse_tensor(data_view bytes, ReadState& state, std::string& name) {
  ir::SparseTensor sparse;
  SparseRecord record = parse_sparse(bytes);
  sparse.dims = std::move(record.dims);
  if (record.has_values) {
    NamedTensor values = read_tensor(record.values, state);
    name = values.name;
    sparse.values = std::move(values.tensor);
  }
  if (record.has_indices) sparse.indices = read_tensor(record.indices, state).tensor;
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

DType dtype_of(std::int64_t number, const ReadState& state, const std::string& value_name) {
  if (number < 0 || number >= kDTypeCount) state.fail(Code::kInvalidModel, fmt::format("element type number {} is not known", number), value_name);
  return static_cast<DType>(number);
}

/// Extents whose product no machine can hold are the file's fault, told where they stand.
void check_size(const ir::Shape& shape, const ReadState& state, const std::string& value_name) {
  Dims known;
  for (const ir::Dim& dim : shape)
    if (const auto extent = dim.constant()) known.push_back(*extent);
  try {
    element_count(known);
  } catch (const Error&) {
    state.fail(Code::kInvalidModel, fmt::format("the shape {} has more elements than any machine can hold", ir::to_string(shape)), value_name);
  }
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

ir::Type type_of(const TypeRecord& record, ReadState& state, const std::string& value_name) {
  using Kind = TypeRecord::Kind;
  ir::Type type;
  type.denotation = record.denotation;
  if (record.element) type.element = std::make_shared<ir::Type>(type_of(*record.element, state, value_name));
  switch (record.kind) {
    case Kind::kNone: break;
    case Kind::kSequence: type.kind = ir::TypeKind::kSequence; break;
    case Kind::kOptional: type.kind = ir::TypeKind::kOptional; break;
    case Kind::kMap:
      type.kind = ir::TypeKind::kMap;
      type.dtype = dtype_of(record.dtype, state, value_name);
      break;
    case Kind::kOpaque: {
      type.kind = ir::TypeKind::kOpaque;
      auto extra = std::make_shared<ir::TypeExtra>();
      extra->opaque = text(record.opaque);
      type.extra = std::move(extra);
      break;
    }
    case Kind::kTensor:
    case Kind::kSparseTensor: {
      type.kind = record.kind == Kind::kTensor ? ir::TypeKind::kTensor : ir::TypeKind::kSparseTensor;
      type.dtype = dtype_of(record.dtype, state, value_name);
      if (!record.has_shape) break;
      ir::Shape shape;
      auto extra = std::make_shared<ir::TypeExtra>();
      bool denoted = false;
      for (const DimRecord& dim : record.shape) {
        if (dim.kind == DimRecord::Kind::kValue && dim.value >= 0) shape.emplace_back(dim.value);
        else shape.push_back(ir::Dim::symbol(state.symbol_for(dim.param, value_name, shape.size())));
        denoted |= !dim.denotation.empty();
        extra->dim_denotations.push_back(dim.denotation);
      }
      check_size(shape, state, value_name);
      type.shape = std::move(shape);
      if (denoted) type.extra = std::move(extra);
      break;
    }
  }
  return type;
}

ir::Type read_type(data_view bytes, ReadState& state, const std::string& value_name) {
  try {
    return type_of(parse_type(bytes, kMaxDepth), state, value_name);
  } catch (const TooDeep&) {
    state.fail(Code::kInvalidModel, "the type is nested too deeply", value_name);
  }
}

}  // namespace lathe::onnx
