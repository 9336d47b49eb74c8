// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See writer.h. Order of fields: as numbered by the format. Maps are sorted, so equal models give equal bytes.

#include "onnx/writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "base/os.h"
#include "lathe/status.h"
#include "onnx/fields.h"
#include "onnx/message.h"

namespace lathe::onnx {
namespace {

std::int64_t needed_version(const ir::Graph& graph) {
  std::int64_t version = graph.metadata.empty() ? 0 : 10;
  for (const ir::Value* value : graph.values()) version = std::max({version, ir_version_of(value->dtype()), std::int64_t{value->metadata.empty() ? 0 : 10}});
  for (const ir::Node* node : graph.nodes()) {
    if (!node->overload.empty() || !node->metadata.empty()) version = std::max<std::int64_t>(version, 10);
    for (const ir::Graph* nested : ir::nested_graphs(*node)) version = std::max(version, needed_version(*nested));
  }
  return version;
}

/// The file's own, raised where what the model uses came later. 4 lets initializers stay out of the inputs, 8 brought local functions.
std::int64_t ir_version(const ir::Model& model) {
  std::int64_t version = std::max({model.ir_version, std::int64_t{4}, needed_version(*model.graph)});
  for (const ir::Function& function : model.functions) version = std::max({version, std::int64_t{8}, needed_version(*function.body)});
  return version;
}

class Writer {
 public:
  Writer(const WriteOptions& options, std::string data_file, os::AtomicFile* data) : options_(options), data_file_(std::move(data_file)), data_(data) {}

  Message model(const ir::Model& model) {
    Message out;
    dim_params_ = &model.dim_params;
    out.number(field::model::kIrVersion, ir_version(model));
    out.string_if(field::model::kProducerName, model.producer_name);
    out.string_if(field::model::kProducerVersion, model.producer_version);
    out.string_if(field::model::kDomain, model.domain);
    out.number_if(field::model::kModelVersion, model.model_version);
    out.string_if(field::model::kDoc, model.doc);
    out.message(field::model::kGraph, graph(*model.graph));
    for (const auto& [domain, version] : model.opset_imports) out.message(field::model::kOpsetImport, opset(domain, version));
    metadata(out, field::model::kMetadata, model.metadata);
    for (const ir::Function& function : model.functions) out.message(field::model::kFunctions, function_message(function));
    unread(out, model.unread);
    return out;
  }

 private:
  static Message opset(const std::string& domain, std::int64_t version) {
    Message out;
    out.string_if(field::opset::kDomain, domain);
    out.number(field::opset::kVersion, version);
    return out;
  }

  static void metadata(Message& out, std::uint32_t tag, const std::map<std::string, std::string>& map) {
    for (const auto& [key, value] : map) out.message(tag, entry(key, value));
  }

  static void unread(Message& out, const ir::UnreadFields& fields) {
    for (const auto& [number, encoded] : fields) out.encoded(encoded);
  }

  static Message entry(std::string_view key, std::string_view value) {
    Message out;
    out.string(field::entry::kKey, key);
    out.string(field::entry::kValue, value);
    return out;
  }

  Message tensor(const Tensor& tensor, std::string_view name, const ir::Value* value = nullptr) {
    Message out;
    out.packed_numbers(field::tensor::kDims, tensor.dims());
    out.number(field::tensor::kDataType, static_cast<std::int64_t>(tensor.dtype()));
    if (tensor.dtype() == DType::kString)
      for (const std::string& text : tensor.string_data()) out.string(field::tensor::kStringData, text);
    out.string_if(field::tensor::kName, name);
    std::string location;
    if (value && options_.external_location) location = options_.external_location(*value);
    if (tensor.dtype() == DType::kString) {
    } else if (!location.empty()) {
      external(out, {{"location", location}});
    } else if (value && data_ && tensor.bytes() >= options_.external_threshold) {
      data_->pad_to(64);
      const std::uint64_t at = data_->position();
      data_->write(std::span(tensor.raw(), tensor.bytes()));
      external(out, {{"location", data_file_}, {"offset", std::to_string(at)}, {"length", std::to_string(tensor.bytes())}});
    } else {
      out.bytes(field::tensor::kRawData, {tensor.raw(), tensor.bytes()});
    }
    if (value) {
      out.string_if(field::tensor::kDoc, value->doc);
      if (!location.empty() || (data_ && tensor.bytes() >= options_.external_threshold)) out.number(field::tensor::kLocation, 1);
      metadata(out, field::tensor::kMetadata, value->metadata);
      unread(out, value->unread);
    }
    return out;
  }

  static void external(Message& out, const std::vector<std::pair<std::string, std::string>>& entries) {
    for (const auto& [key, value] : entries) out.message(field::tensor::kExternal, entry(key, value));
  }

  std::string dim_param(const ir::Dim& dim) const {
    const std::string text = dim.to_string();
    if (const auto named = dim_params_->find(text); named != dim_params_->end()) return named->second;
    return text.find('?') == std::string::npos ? text : std::string();
  }

  Message shape(const ir::Type& type) const {
    Message out;
    const auto* denotations = type.extra && type.extra->dim_denotations.size() == type.shape->size() ? &type.extra->dim_denotations : nullptr;
    for (std::size_t i = 0; i < type.shape->size(); ++i) {
      Message d;
      if (const auto extent = (*type.shape)[i].constant()) d.number(field::type::kDimValue, *extent);
      else d.string_if(field::type::kDimParam, dim_param((*type.shape)[i]));
      if (denotations) d.string_if(field::type::kDimDenotation, (*denotations)[i]);
      out.message(field::type::kDim, d);
    }
    return out;
  }

  Message type(const ir::Type& type) const {
    Message out, inner;
    switch (type.kind) {
      case ir::TypeKind::kTensor:
      case ir::TypeKind::kSparseTensor:
        inner.number(field::type::kElement, static_cast<std::int64_t>(type.dtype));
        if (type.shape) inner.message(field::type::kShape, shape(type));
        out.message(type.kind == ir::TypeKind::kTensor ? field::type::kTensor : field::type::kSparse, inner);
        break;
      case ir::TypeKind::kSequence:
      case ir::TypeKind::kOptional:
        if (type.element) inner.message(field::type::kElement, Writer::type(*type.element));
        out.message(type.kind == ir::TypeKind::kSequence ? field::type::kSequence : field::type::kOptional, inner);
        break;
      case ir::TypeKind::kMap:
        inner.number(field::type::kKeyType, static_cast<std::int64_t>(type.dtype));
        if (type.element) inner.message(field::type::kValueType, Writer::type(*type.element));
        out.message(field::type::kMap, inner);
        break;
      case ir::TypeKind::kOpaque: out.string(field::type::kOpaque, type.extra ? std::string_view(type.extra->opaque) : std::string_view()); break;
      case ir::TypeKind::kUnknown: break;
    }
    out.string_if(field::type::kDenotation, type.denotation);
    return out;
  }

  /// Something to say about an inner value beyond its name?
  static bool is_described(const ir::Value& value) {
    const bool typed = value.type.is_tensor() ? value.dtype() != DType::kUndefined : value.type.kind != ir::TypeKind::kUnknown;
    return typed || !value.doc.empty() || !value.metadata.empty() || !value.unread.empty();
  }

  Message value_info(const ir::Value& value) const {
    Message out;
    out.string(field::value_info::kName, value.name);
    if (value.type.kind != ir::TypeKind::kUnknown) out.message(field::value_info::kType, type(value.type));
    out.string_if(field::value_info::kDoc, value.doc);
    metadata(out, field::value_info::kMetadata, value.metadata);
    unread(out, value.unread);
    return out;
  }

  Message sparse(const ir::SparseTensor& sparse) {
    Message out;
    out.message(field::sparse::kValues, tensor(sparse.values, ""));
    out.message(field::sparse::kIndices, tensor(sparse.indices, ""));
    out.packed_numbers(field::sparse::kDims, sparse.dims);
    return out;
  }

  Message attribute(const std::string& name, const ir::Attribute& attribute) {
    Message out;
    out.string(field::attribute::kName, name);
    ir::AttrType kind = attribute.type();
    if (!attribute.ref_name.empty()) {
      kind = attribute.ref_type;
    } else if (const auto* f = std::get_if<float>(&attribute.value)) {
      out.single(field::attribute::kFloat, *f);
    } else if (const auto* i = std::get_if<std::int64_t>(&attribute.value)) {
      out.number(field::attribute::kInt, *i);
    } else if (const auto* s = std::get_if<std::string>(&attribute.value)) {
      out.string(field::attribute::kString, *s);
    } else if (const auto* t = std::get_if<Tensor>(&attribute.value)) {
      out.message(field::attribute::kTensor, tensor(*t, ""));
    } else if (const auto* g = std::get_if<ir::GraphPtr>(&attribute.value)) {
      out.message(field::attribute::kGraph, graph(**g));
    } else if (const auto* fs = std::get_if<std::vector<float>>(&attribute.value)) {
      for (const float value : *fs) out.single(field::attribute::kFloats, value);
    } else if (const auto* is = std::get_if<std::vector<std::int64_t>>(&attribute.value)) {
      for (const std::int64_t value : *is) out.number(field::attribute::kInts, value);
    } else if (const auto* ss = std::get_if<std::vector<std::string>>(&attribute.value)) {
      for (const std::string& value : *ss) out.string(field::attribute::kStrings, value);
    } else if (const auto* ts = std::get_if<std::vector<Tensor>>(&attribute.value)) {
      for (const Tensor& value : *ts) out.message(field::attribute::kTensors, tensor(value, ""));
    } else if (const auto* gs = std::get_if<std::vector<ir::GraphPtr>>(&attribute.value)) {
      for (const ir::GraphPtr& value : *gs) out.message(field::attribute::kGraphs, graph(*value));
    }
    out.string_if(field::attribute::kDoc, attribute.doc);
    if (attribute.ref_name.empty()) {
      if (const auto* t = std::get_if<ir::Type>(&attribute.value)) out.message(field::attribute::kType, type(*t));
      if (const auto* ts = std::get_if<std::vector<ir::Type>>(&attribute.value))
        for (const ir::Type& value : *ts) out.message(field::attribute::kTypes, type(value));
    }
    out.number(field::attribute::kKind, static_cast<std::int64_t>(kind));
    out.string_if(field::attribute::kRef, attribute.ref_name);
    if (attribute.ref_name.empty()) {
      if (const auto* s = std::get_if<ir::SparseTensor>(&attribute.value)) out.message(field::attribute::kSparse, sparse(*s));
      if (const auto* ss = std::get_if<std::vector<ir::SparseTensor>>(&attribute.value))
        for (const ir::SparseTensor& value : *ss) out.message(field::attribute::kSparses, sparse(value));
    }
    unread(out, attribute.unread);
    return out;
  }

  Message node(const ir::Node& node) {
    Message out;
    for (const ir::Value* input : node.inputs) out.string(field::node::kInput, input ? std::string_view(input->name) : std::string_view());
    for (const ir::Value* output : node.outputs) out.string(field::node::kOutput, output ? std::string_view(output->name) : std::string_view());
    out.string_if(field::node::kName, node.name);
    out.string(field::node::kOpType, node.op);
    for (const auto& [name, value] : node.attrs) out.message(field::node::kAttribute, attribute(name, value));
    out.string_if(field::node::kDoc, node.doc);
    out.string_if(field::node::kDomain, node.domain);
    out.string_if(field::node::kOverload, node.overload);
    metadata(out, field::node::kMetadata, node.metadata);
    unread(out, node.unread);
    return out;
  }

  Message graph(const ir::Graph& graph) {
    Message out;
    for (const ir::Node* n : graph.nodes()) out.message(field::graph::kNode, node(*n));
    out.string(field::graph::kName, graph.name.empty() ? "graph" : graph.name);
    for (const ir::Value* value : graph.values())
      if (value->is_constant()) out.message(field::graph::kInitializer, tensor(value->constant, value->name, value));
    out.string_if(field::graph::kDoc, graph.doc);
    for (const ir::Value* value : graph.inputs()) out.message(field::graph::kInput, value_info(*value));
    for (const ir::Value* value : graph.outputs()) out.message(field::graph::kOutput, value_info(*value));
    for (const ir::Value* value : graph.values())
      if (value->kind == ir::ValueKind::kNodeOutput && !value->is_graph_output() && is_described(*value))
        out.message(field::graph::kValueInfo, value_info(*value));
    metadata(out, field::graph::kMetadata, graph.metadata);
    unread(out, graph.unread);
    return out;
  }

  Message function_message(const ir::Function& function) {
    Message out;
    out.string(field::function::kName, function.name);
    for (const ir::Value* value : function.body->inputs()) out.string(field::function::kInput, value->name);
    for (const ir::Value* value : function.body->outputs()) out.string(field::function::kOutput, value->name);
    for (const std::string& name : function.attributes) out.string(field::function::kAttribute, name);
    for (const ir::Node* n : function.body->nodes()) out.message(field::function::kNode, node(*n));
    out.string_if(field::function::kDoc, function.doc);
    for (const auto& [domain, version] : function.opset_imports) out.message(field::function::kOpsetImport, opset(domain, version));
    out.string(field::function::kDomain, function.domain);
    for (const auto& [name, value] : function.attribute_defaults) out.message(field::function::kAttributeProto, attribute(name, value));
    for (const ir::Value* value : function.body->values())
      if (!value->is_constant() && is_described(*value)) out.message(field::function::kValueInfo, value_info(*value));
    out.string_if(field::function::kOverload, function.overload);
    metadata(out, field::function::kMetadata, function.metadata);
    unread(out, function.unread);
    return out;
  }

  const WriteOptions& options_;
  std::string data_file_;
  os::AtomicFile* data_;
  const std::map<std::string, std::string>* dim_params_ = nullptr;
};

std::uint64_t constant_bytes(const ir::Model& model) {
  std::uint64_t bytes = 0;
  for (const ir::Value* value : model.graph->values())
    if (value->is_constant()) bytes += value->constant.bytes();
  return bytes;
}

}  // namespace

void write_model(const ir::Model& model, const std::filesystem::path& path, const WriteOptions& options) {
  const bool split = !options.external_location && constant_bytes(model) > options.single_file_limit;
  const std::string data_name = path.filename().string() + ".data";
  std::unique_ptr<os::AtomicFile> data;
  if (split) data = std::make_unique<os::AtomicFile>(path.parent_path() / data_name);
  os::AtomicFile file(path);
  Writer(options, data_name, data.get()).model(model).write_to([&](std::span<const std::byte> bytes) { file.write(bytes); });
  if (data) os::AtomicFile::commit_both(*data, file);
  else file.commit();
}

std::string model_bytes(const ir::Model& model, const WriteOptions& options) {
  std::string bytes;
  const Message message = Writer(options, {}, nullptr).model(model);
  bytes.reserve(message.size());
  message.write_to([&](std::span<const std::byte> part) { bytes.append(reinterpret_cast<const char*>(part.data()), part.size()); });
  return bytes;
}

}  // namespace lathe::onnx
