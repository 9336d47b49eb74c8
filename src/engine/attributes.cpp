// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See attributes.h.

#include "engine/attributes.h"

#include <fmt/format.h>

#include <cstring>
#include <limits>

#include "engine/semantic_verifier.h"
#include "ir/text.h"
#include "lathe/status.h"

namespace lathe::engine {
namespace {

using ir::Attribute;
using ir::AttrType;

[[noreturn]] void corrupt(std::string_view what) { throw Error(Code::kCorruptFile, std::string(what)); }

// Tensors ----------------------------------------------------------------------------------------------------------

std::unique_ptr<fb::TensorT> pack(const Tensor& tensor) {
  auto out = std::make_unique<fb::TensorT>();
  out->dtype = static_cast<std::uint8_t>(tensor.dtype());
  if (!tensor.defined()) return out;
  out->dims = tensor.dims();
  if (tensor.dtype() == DType::kString) {
    out->strings = tensor.string_data();
  } else if (tensor.bytes() > 0) {
    out->data.resize(tensor.bytes());
    std::memcpy(out->data.data(), tensor.raw(), tensor.bytes());
  }
  return out;
}

Tensor unpack(const fb::Tensor& stored) {
  if (stored.dtype() >= kDTypeCount) corrupt("a parameter has an unknown element type");
  const auto dtype = static_cast<DType>(stored.dtype());
  if (dtype == DType::kUndefined) return {};
  const Dims dims = values_of(stored.dims());
  if (dims.size() > kMaxRank) corrupt("a parameter has too many axes");
  const std::int64_t count = element_count(dims);
  if (dtype == DType::kString) {
    std::vector<std::string> strings;
    if (stored.strings())
      for (const flatbuffers::String* text : *stored.strings()) strings.push_back(text->str());
    if (static_cast<std::int64_t>(strings.size()) != count) corrupt("a parameter's strings do not fill its shape");
    return Tensor::strings(dims, std::move(strings));
  }
  // The stored size is compared before anything is allocated.
  const std::size_t bytes = stored.data() ? stored.data()->size() : 0;
  if (dtype_bytes(dtype, count) != bytes) corrupt("a parameter's data do not fill its shape");
  Tensor tensor(dtype, dims);
  if (bytes > 0) std::memcpy(tensor.mutable_raw(), stored.data()->data(), bytes);
  return tensor;
}

std::unique_ptr<fb::SparseTensorT> pack(const ir::SparseTensor& sparse) {
  auto out = std::make_unique<fb::SparseTensorT>();
  out->values = pack(sparse.values);
  out->indices = pack(sparse.indices);
  out->dims = sparse.dims;
  return out;
}

ir::SparseTensor unpack(const fb::SparseTensor& stored) { return {unpack(*stored.values()), unpack(*stored.indices()), values_of(stored.dims())}; }

// Types ------------------------------------------------------------------------------------------------------------

std::unique_ptr<fb::TypeT> pack(const ir::Type& type) {
  auto out = std::make_unique<fb::TypeT>();
  out->kind = static_cast<std::uint8_t>(type.kind);
  out->dtype = static_cast<std::uint8_t>(type.dtype);
  out->denotation = type.denotation;
  if (type.shape) {
    out->has_shape = true;
    for (const ir::Dim& dim : *type.shape) out->shape.push_back(dim.to_string());
  }
  if (type.element) out->element = pack(*type.element);
  return out;
}

ir::Type unpack(const fb::Type& stored, int depth = 0) {
  if (stored.kind() > static_cast<std::uint8_t>(ir::TypeKind::kOpaque) || stored.dtype() >= kDTypeCount || depth > kMaxNesting)
    corrupt("a parameter holds an unknown type");
  ir::Type type;
  type.kind = static_cast<ir::TypeKind>(stored.kind());
  type.dtype = static_cast<DType>(stored.dtype());
  type.denotation = text_of(stored.denotation());
  if (stored.has_shape()) {
    type.shape.emplace();
    if (stored.shape())
      for (const flatbuffers::String* text : *stored.shape()) {
        if (text->size() > kMaxDimText || type.shape->size() >= kMaxRank) corrupt("a type's shape is too long");
        type.shape->push_back(ir::Dim::parse(text->string_view()));
      }
  }
  if (stored.element()) type.element = std::make_shared<const ir::Type>(unpack(*stored.element(), depth + 1));
  return type;
}

// Graphs -----------------------------------------------------------------------------------------------------------

std::string pack(const ir::GraphPtr& graph) {
  if (!graph) return {};
  if (!ir::captured_values(*graph).empty())
    throw Error(Code::kUnsupported, "a nested graph that refers to values around it cannot be stored as a kernel's parameter");
  ir::PrintOptions options;
  options.max_constant_elements = std::numeric_limits<int>::max();
  return ir::print(*graph, options);
}

ir::GraphPtr unpack_graph(std::string_view text) {
  if (text.empty()) return nullptr;
  // These spellings make large constants out of few characters; the printer never writes them here.
  for (const std::string_view word : {"const splat(", "const random(", "const hash("})
    if (text.find(word) != std::string_view::npos) corrupt("a nested graph's constants are not written out");
  return ir::parse_graph(text);
}

template <class S, class F>
auto unpack_all(const S* stored, F&& unpack_one) {
  std::vector<decltype(unpack_one(*stored->begin()))> out;
  if (stored)
    for (const auto* item : *stored) out.push_back(unpack_one(item));
  return out;
}

template <class T>
T only(std::vector<T> list) {
  if (list.size() != 1) corrupt("a single parameter is stored as a list of another length than one");
  return std::move(list.front());
}

}  // namespace

std::unique_ptr<fb::TypeT> pack_type(const ir::Type& type) { return pack(type); }
ir::Type unpack_type(const fb::Type& stored) { return unpack(stored); }

PackedAttrs pack_attrs(const ir::Attrs& attrs) {
  PackedAttrs out;
  for (const auto& [name, attribute] : attrs) {
    auto item = std::make_unique<fb::AttributeT>();
    item->name = name;
    item->type = static_cast<std::uint8_t>(attribute.type());
    const Attribute::Value& value = attribute.value;
    switch (attribute.type()) {
      case AttrType::kUndefined: break;
      case AttrType::kFloat: item->f = std::get<float>(value); break;
      case AttrType::kInt: item->i = std::get<std::int64_t>(value); break;
      case AttrType::kString: item->s = std::get<std::string>(value); break;
      case AttrType::kFloats: item->floats = std::get<std::vector<float>>(value); break;
      case AttrType::kInts: item->ints = std::get<std::vector<std::int64_t>>(value); break;
      case AttrType::kStrings: item->strings = std::get<std::vector<std::string>>(value); break;
      case AttrType::kTensor: item->tensors.push_back(pack(std::get<Tensor>(value))); break;
      case AttrType::kTensors:
        for (const Tensor& tensor : std::get<std::vector<Tensor>>(value)) item->tensors.push_back(pack(tensor));
        break;
      case AttrType::kGraph: item->graphs.push_back(pack(std::get<ir::GraphPtr>(value))); break;
      case AttrType::kGraphs:
        for (const ir::GraphPtr& graph : std::get<std::vector<ir::GraphPtr>>(value)) item->graphs.push_back(pack(graph));
        break;
      case AttrType::kSparseTensor: item->sparse.push_back(pack(std::get<ir::SparseTensor>(value))); break;
      case AttrType::kSparseTensors:
        for (const ir::SparseTensor& sparse : std::get<std::vector<ir::SparseTensor>>(value)) item->sparse.push_back(pack(sparse));
        break;
      case AttrType::kType: item->types.push_back(pack(std::get<ir::Type>(value))); break;
      case AttrType::kTypes:
        for (const ir::Type& type : std::get<std::vector<ir::Type>>(value)) item->types.push_back(pack(type));
        break;
    }
    out.push_back(std::move(item));
  }
  return out;
}

ir::Attrs unpack_attrs(const StoredAttrs* stored) {
  ir::Attrs attrs;
  if (!stored) return attrs;
  for (const fb::Attribute* item : *stored) {
    const auto tensors = [&] { return unpack_all(item->tensors(), [](const fb::Tensor* t) { return unpack(*t); }); };
    const auto graphs = [&] { return unpack_all(item->graphs(), [](const flatbuffers::String* t) { return unpack_graph(t->string_view()); }); };
    const auto sparse = [&] { return unpack_all(item->sparse(), [](const fb::SparseTensor* t) { return unpack(*t); }); };
    const auto types = [&] { return unpack_all(item->types(), [](const fb::Type* t) { return unpack(*t); }); };
    Attribute attribute;
    switch (static_cast<AttrType>(item->type())) {
      case AttrType::kUndefined: break;
      case AttrType::kFloat: attribute.value = item->f(); break;
      case AttrType::kInt: attribute.value = item->i(); break;
      case AttrType::kString: attribute.value = text_of(item->s()); break;
      case AttrType::kFloats: attribute.value = values_of(item->floats()); break;
      case AttrType::kInts: attribute.value = values_of(item->ints()); break;
      case AttrType::kStrings: attribute.value = unpack_all(item->strings(), [](const flatbuffers::String* t) { return t->str(); }); break;
      case AttrType::kTensor: attribute.value = only(tensors()); break;
      case AttrType::kTensors: attribute.value = tensors(); break;
      case AttrType::kGraph: attribute.value = only(graphs()); break;
      case AttrType::kGraphs: attribute.value = graphs(); break;
      case AttrType::kSparseTensor: attribute.value = only(sparse()); break;
      case AttrType::kSparseTensors: attribute.value = sparse(); break;
      case AttrType::kType: attribute.value = only(types()); break;
      case AttrType::kTypes: attribute.value = types(); break;
      default: corrupt(fmt::format("the parameter '{}' has the unknown type {}", item->name()->str(), item->type()));
    }
    attrs.set(item->name()->str(), std::move(attribute));
  }
  return attrs;
}

}  // namespace lathe::engine
