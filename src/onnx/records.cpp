// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See records.h.

#include "onnx/records.h"

#include "ir/attribute.h"
#include "onnx/fields.h"

namespace lathe::onnx {

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

const std::string* TensorRecord::external_value(std::string_view key) const {
  for (const auto& [name, value] : external)
    if (name == key) return &value;
  return nullptr;
}

TensorRecord parse_tensor(data_view bytes) {
  TensorRecord t;
  FieldReader reader(bytes);
  while (reader.next()) {
    switch (reader.tag()) {
      case field::tensor::kDims:
        collect(
            reader, t.dims, [&] { return reader.get_packed_int64(); }, [&] { return reader.get_int64(); });
        break;
      case field::tensor::kDataType:
        t.dtype = reader.get_int32();
        t.has_dtype = true;
        break;
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
            reader, t.int32s, [&] { return reader.get_packed_int32(); }, [&] { return reader.get_int32(); });
        break;
      case field::tensor::kStringData: t.strings.push_back(text(reader.get_view())); break;
      case field::tensor::kInt64Data:
        collect(
            reader, t.int64s, [&] { return reader.get_packed_int64(); }, [&] { return reader.get_int64(); });
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
      case field::tensor::kExternal: t.external.push_back(read_entry(reader.get_view())); break;
      case field::tensor::kLocation: t.location = reader.get_int32(); break;
      case field::tensor::kMetadata: t.metadata.push_back(read_entry(reader.get_view())); break;
      default: reader.keep(t.unread);
    }
  }
  return t;
}

std::string name_of(data_view message, std::uint32_t tag) {
  std::string name;
  FieldReader reader(message);
  while (reader.next()) {
    if (reader.tag() == tag) name = text(reader.get_view());
    else reader.skip();
  }
  return name;
}

namespace {

DimRecord parse_dim(data_view bytes) {
  DimRecord dim;
  FieldReader reader(bytes);
  while (reader.next()) {
    if (reader.tag() == field::type::kDimValue) {
      dim.value = reader.get_int64();
      dim.kind = DimRecord::Kind::kValue;
      dim.param.clear();
    } else if (reader.tag() == field::type::kDimParam) {
      dim.param = text(reader.get_view());
      dim.kind = DimRecord::Kind::kParam;
    } else if (reader.tag() == field::type::kDimDenotation) {
      dim.denotation = text(reader.get_view());
    } else {
      reader.skip();
    }
  }
  return dim;
}

void parse_tensor_type(data_view bytes, TypeRecord& type) {
  FieldReader reader(bytes);
  while (reader.next()) {
    if (reader.tag() == field::type::kElement) {
      type.dtype = reader.get_int32();
      type.has_dtype = true;
    } else if (reader.tag() == field::type::kShape) {
      type.has_shape = true;
      FieldReader shape(reader.get_view());
      while (shape.next()) {
        if (shape.tag() == field::type::kDim) type.shape.push_back(parse_dim(shape.get_view()));
        else shape.skip();
      }
    } else {
      reader.skip();
    }
  }
}

}  // namespace

SparseRecord parse_sparse(data_view bytes) {
  SparseRecord sparse;
  FieldReader reader(bytes);
  while (reader.next()) {
    switch (reader.tag()) {
      case field::sparse::kValues:
        sparse.values = reader.get_view();
        sparse.has_values = true;
        break;
      case field::sparse::kIndices:
        sparse.indices = reader.get_view();
        sparse.has_indices = true;
        break;
      case field::sparse::kDims:
        collect(
            reader, sparse.dims, [&] { return reader.get_packed_int64(); }, [&] { return reader.get_int64(); });
        break;
      default: reader.skip();
    }
  }
  return sparse;
}

TypeRecord parse_type(data_view bytes, int depth_left) {
  if (depth_left <= 0) throw TooDeep();
  TypeRecord type;
  const auto start = [&](TypeRecord::Kind kind) {
    std::string denotation = std::move(type.denotation);
    type = {};
    type.kind = kind;
    type.denotation = std::move(denotation);
  };
  const auto element = [&](data_view view) { type.element = std::make_shared<TypeRecord>(parse_type(view, depth_left - 1)); };
  FieldReader reader(bytes);
  while (reader.next()) {
    switch (reader.tag()) {
      case field::type::kTensor:
      case field::type::kSparse:
        start(reader.tag() == field::type::kTensor ? TypeRecord::Kind::kTensor : TypeRecord::Kind::kSparseTensor);
        parse_tensor_type(reader.get_view(), type);
        break;
      case field::type::kSequence:
      case field::type::kOptional: {
        start(reader.tag() == field::type::kSequence ? TypeRecord::Kind::kSequence : TypeRecord::Kind::kOptional);
        FieldReader inner(reader.get_view());
        while (inner.next()) {
          if (inner.tag() == field::type::kElement) element(inner.get_view());
          else inner.skip();
        }
        break;
      }
      case field::type::kMap: {
        start(TypeRecord::Kind::kMap);
        FieldReader inner(reader.get_view());
        while (inner.next()) {
          if (inner.tag() == field::type::kKeyType) {
            type.dtype = inner.get_int32();
            type.has_dtype = true;
          } else if (inner.tag() == field::type::kValueType) {
            element(inner.get_view());
          } else {
            inner.skip();
          }
        }
        break;
      }
      case field::type::kDenotation: type.denotation = text(reader.get_view()); break;
      case field::type::kOpaque:
        start(TypeRecord::Kind::kOpaque);
        type.opaque = reader.get_view();
        break;
      default: reader.skip();
    }
  }
  return type;
}

ValueInfoRecord parse_value_info(data_view bytes) {
  ValueInfoRecord info;
  FieldReader reader(bytes);
  while (reader.next()) {
    switch (reader.tag()) {
      case field::value_info::kName: info.name = text(reader.get_view()); break;
      case field::value_info::kType:
        info.type = reader.get_view();
        info.has_type = true;
        break;
      case field::value_info::kDoc: info.doc = text(reader.get_view()); break;
      case field::value_info::kMetadata: info.metadata.push_back(read_entry(reader.get_view())); break;
      default: reader.keep(info.unread);
    }
  }
  return info;
}

AttributeRecord parse_attribute(data_view bytes) {
  AttributeRecord a;
  const auto seen = [&](ir::AttrType type) {
    a.last_field = static_cast<int>(type);
    a.fields |= std::uint32_t{1} << a.last_field;
  };
  FieldReader reader(bytes);
  while (reader.next()) {
    switch (reader.tag()) {
      case field::attribute::kName: a.name = text(reader.get_view()); break;
      case field::attribute::kDoc: a.doc = text(reader.get_view()); break;
      case field::attribute::kRef: a.ref = text(reader.get_view()); break;
      case field::attribute::kKind: a.kind = reader.get_int32(); break;
      case field::attribute::kFloat:
        a.f = reader.get_float();
        seen(ir::AttrType::kFloat);
        break;
      case field::attribute::kInt:
        a.i = reader.get_int64();
        seen(ir::AttrType::kInt);
        break;
      case field::attribute::kString:
        a.s = text(reader.get_view());
        seen(ir::AttrType::kString);
        break;
      case field::attribute::kTensor:
        a.tensors.push_back(reader.get_view());
        seen(ir::AttrType::kTensor);
        break;
      case field::attribute::kGraph:
        a.graphs.push_back(reader.get_view());
        seen(ir::AttrType::kGraph);
        break;
      case field::attribute::kFloats:
        collect(
            reader, a.floats, [&] { return reader.get_packed_float(); }, [&] { return reader.get_float(); });
        seen(ir::AttrType::kFloats);
        break;
      case field::attribute::kInts:
        collect(
            reader, a.ints, [&] { return reader.get_packed_int64(); }, [&] { return reader.get_int64(); });
        seen(ir::AttrType::kInts);
        break;
      case field::attribute::kStrings:
        a.strings.push_back(text(reader.get_view()));
        seen(ir::AttrType::kStrings);
        break;
      case field::attribute::kTensors:
        a.tensors.push_back(reader.get_view());
        seen(ir::AttrType::kTensors);
        break;
      case field::attribute::kGraphs:
        a.graphs.push_back(reader.get_view());
        seen(ir::AttrType::kGraphs);
        break;
      case field::attribute::kSparse:
        a.sparses.push_back(reader.get_view());
        seen(ir::AttrType::kSparseTensor);
        break;
      case field::attribute::kSparses:
        a.sparses.push_back(reader.get_view());
        seen(ir::AttrType::kSparseTensors);
        break;
      case field::attribute::kType:
        a.types.push_back(reader.get_view());
        seen(ir::AttrType::kType);
        break;
      case field::attribute::kTypes:
        a.types.push_back(reader.get_view());
        seen(ir::AttrType::kTypes);
        break;
      default: reader.keep(a.unread);
    }
  }
  return a;
}

NodeRecord parse_node(data_view bytes, std::size_t index) {
  NodeRecord node;
  node.index = index;
  FieldReader reader(bytes);
  while (reader.next()) {
    switch (reader.tag()) {
      case field::node::kInput: node.inputs.push_back(text(reader.get_view())); break;
      case field::node::kOutput: node.outputs.push_back(text(reader.get_view())); break;
      case field::node::kName: node.name = text(reader.get_view()); break;
      case field::node::kOpType: node.op = text(reader.get_view()); break;
      case field::node::kAttribute: node.attributes.push_back(reader.get_view()); break;
      case field::node::kDoc: node.doc = text(reader.get_view()); break;
      case field::node::kDomain: node.domain = text(reader.get_view()); break;
      case field::node::kOverload: node.overload = text(reader.get_view()); break;
      case field::node::kMetadata: node.metadata.push_back(read_entry(reader.get_view())); break;
      default: reader.keep(node.unread);
    }
  }
  return node;
}

GraphRecord parse_graph(data_view bytes) {
  GraphRecord graph;
  FieldReader reader(bytes);
  while (reader.next()) {
    switch (reader.tag()) {
      case field::graph::kNode: graph.nodes.push_back(reader.get_view()); break;
      case field::graph::kName: graph.name = text(reader.get_view()); break;
      case field::graph::kDoc: graph.doc = text(reader.get_view()); break;
      case field::graph::kInitializer: graph.initializers.push_back(reader.get_view()); break;
      case field::graph::kSparseInitializer: graph.sparse_initializers.push_back(reader.get_view()); break;
      case field::graph::kInput: graph.inputs.push_back(reader.get_view()); break;
      case field::graph::kOutput: graph.outputs.push_back(reader.get_view()); break;
      case field::graph::kValueInfo: graph.value_infos.push_back(reader.get_view()); break;
      case field::graph::kMetadata: graph.metadata.push_back(read_entry(reader.get_view())); break;
      default: reader.keep(graph.unread);
    }
  }
  return graph;
}

OpsetRecord parse_opset(data_view bytes) {
  OpsetRecord opset;
  FieldReader reader(bytes);
  while (reader.next()) {
    if (reader.tag() == field::opset::kDomain) {
      opset.domain = text(reader.get_view());
    } else if (reader.tag() == field::opset::kVersion) {
      opset.version = reader.get_int64();
      opset.has_version = true;
    } else {
      reader.skip();
    }
  }
  return opset;
}

FunctionRecord parse_function(data_view bytes) {
  FunctionRecord function;
  FieldReader reader(bytes);
  while (reader.next()) {
    switch (reader.tag()) {
      case field::function::kName: function.name = text(reader.get_view()); break;
      case field::function::kInput: function.inputs.push_back(text(reader.get_view())); break;
      case field::function::kOutput: function.outputs.push_back(text(reader.get_view())); break;
      case field::function::kAttribute: function.attributes.push_back(text(reader.get_view())); break;
      case field::function::kAttributeProto: function.attribute_defaults.push_back(reader.get_view()); break;
      case field::function::kNode: function.nodes.push_back(reader.get_view()); break;
      case field::function::kDoc: function.doc = text(reader.get_view()); break;
      case field::function::kOpsetImport: function.opsets.push_back(parse_opset(reader.get_view())); break;
      case field::function::kDomain:
        function.domain = text(reader.get_view());
        function.has_domain = true;
        break;
      case field::function::kOverload: function.overload = text(reader.get_view()); break;
      case field::function::kValueInfo: function.value_infos.push_back(reader.get_view()); break;
      case field::function::kMetadata: function.metadata.push_back(read_entry(reader.get_view())); break;
      default: reader.keep(function.unread);
    }
  }
  return function;
}

ModelRecord parse_model(data_view bytes) {
  ModelRecord model;
  FieldReader reader(bytes);
  while (reader.next()) {
    switch (reader.tag()) {
      case field::model::kIrVersion:
        model.ir_version = reader.get_int64();
        model.has_ir_version = true;
        break;
      case field::model::kProducerName: model.producer_name = text(reader.get_view()); break;
      case field::model::kProducerVersion: model.producer_version = text(reader.get_view()); break;
      case field::model::kDomain: model.domain = text(reader.get_view()); break;
      case field::model::kModelVersion: model.model_version = reader.get_int64(); break;
      case field::model::kDoc: model.doc = text(reader.get_view()); break;
      case field::model::kGraph:
        model.graph = reader.get_view();
        model.has_graph = true;
        break;
      case field::model::kOpsetImport: model.opsets.push_back(parse_opset(reader.get_view())); break;
      case field::model::kMetadata: model.metadata.push_back(read_entry(reader.get_view())); break;
      case field::model::kFunctions: model.functions.push_back(reader.get_view()); break;
      default: reader.keep(model.unread);
    }
  }
  return model;
}

std::string reason(const protozero::exception& error) {
  if (dynamic_cast<const protozero::end_of_buffer_exception*>(&error)) return "it ends too early";
  if (dynamic_cast<const protozero::varint_too_long_exception*>(&error)) return "a number has too many bytes";
  if (dynamic_cast<const protozero::invalid_length_exception*>(&error)) return "a list is cut off";
  if (dynamic_cast<const protozero::unknown_pbf_wire_type_exception*>(&error) || dynamic_cast<const protozero::invalid_tag_exception*>(&error))
    return "it holds bytes that are no field";
  return error.what();
}

}  // namespace lathe::onnx
