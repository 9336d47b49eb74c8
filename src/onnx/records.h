// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the messages of an ONNX file say, field by field, nothing judged: the one place that decodes them. The reader (reader.h) makes the
// graph of records and stops at the first defect; the checker (check/) looks at the same records and reports every defect. Nested graphs,
// tensors and types stay encoded until somebody asks. Throws protozero::exception where the encoding itself is broken.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/tensor.h"
#include "onnx/wire.h"

namespace lathe::onnx {

using protozero::data_view;
using Entries = std::vector<std::pair<std::string, std::string>>;  ///< StringStringEntryProto, in the file's order

std::pair<std::string, std::string> read_entry(data_view bytes);

struct TensorRecord {
  Dims dims;
  std::int64_t dtype = 0, location = 0;
  std::string name, doc;
  std::vector<float> floats;
  std::vector<double> doubles;
  std::vector<std::int64_t> int32s, int64s;
  std::vector<std::uint64_t> unsigneds;
  std::vector<std::string> strings;
  Entries external, metadata;
  ir::UnreadFields unread;
  data_view raw;
  bool has_dtype = false, has_raw = false, has_segment = false;

  const std::string* external_value(std::string_view key) const;  ///< the first of this key
};
TensorRecord parse_tensor(data_view bytes);
/// The name of a message (a tensor, a value's type), which stands in its field `tag`; nothing else of it is decoded.
std::string name_of(data_view message, std::uint32_t tag);

struct SparseRecord {
  data_view values, indices;
  bool has_values = false, has_indices = false;
  Dims dims;
};
SparseRecord parse_sparse(data_view bytes);

struct DimRecord {
  enum class Kind : std::uint8_t { kNone, kValue, kParam };
  Kind kind = Kind::kNone;
  std::int64_t value = 0;
  std::string param, denotation;
};

struct TypeRecord {
  enum class Kind : std::uint8_t { kNone, kTensor, kSparseTensor, kSequence, kOptional, kMap, kOpaque };
  Kind kind = Kind::kNone;
  std::int64_t dtype = 0;  ///< tensors: element type; maps: key type
  bool has_dtype = false, has_shape = false;
  std::vector<DimRecord> shape;
  std::shared_ptr<TypeRecord> element;  ///< sequence, optional: element; map: value
  std::string denotation;
  data_view opaque;
};
/// `depth_left`: how deep types may be nested; beyond it throws WrongWireType's sibling TooDeep.
TypeRecord parse_type(data_view bytes, int depth_left = 64);

struct TooDeep : protozero::exception {
  const char* what() const noexcept override { return "its parts are nested too deeply"; }
};

struct ValueInfoRecord {
  std::string name, doc;
  data_view type;
  bool has_type = false;
  Entries metadata;
  ir::UnreadFields unread;
};
ValueInfoRecord parse_value_info(data_view bytes);

struct AttributeRecord {
  std::string name, doc, ref, s;
  std::int64_t kind = 0, i = 0;
  float f = 0;
  std::vector<float> floats;
  std::vector<std::int64_t> ints;
  std::vector<std::string> strings;
  std::vector<data_view> tensors, graphs, sparses, types;
  ir::UnreadFields unread;
  std::uint32_t fields = 0;  ///< bit n: the value field of AttributeType n occurs
  int last_field = 0;        ///< AttributeType of the value field that came last; 0: none

  bool has(int type) const { return (fields >> type & 1) != 0; }
};
AttributeRecord parse_attribute(data_view bytes);

struct NodeRecord {
  std::vector<std::string> inputs, outputs;
  std::string name, op, overload, doc;
  std::string domain;  ///< as written
  std::vector<data_view> attributes;
  Entries metadata;
  ir::UnreadFields unread;
  std::size_t index = 0;  ///< in its graph
};
NodeRecord parse_node(data_view bytes, std::size_t index);

struct GraphRecord {
  std::string name, doc;
  std::vector<data_view> nodes, initializers, sparse_initializers, inputs, outputs, value_infos;
  Entries metadata;
  ir::UnreadFields unread;
};
GraphRecord parse_graph(data_view bytes);

struct OpsetRecord {
  std::string domain;  ///< as written
  std::int64_t version = 1;
  bool has_version = false;
};
OpsetRecord parse_opset(data_view bytes);

struct FunctionRecord {
  std::string name, domain, overload, doc;
  std::vector<std::string> inputs, outputs, attributes;
  std::vector<data_view> nodes, attribute_defaults, value_infos;
  std::vector<OpsetRecord> opsets;
  bool has_domain = false;
  Entries metadata;
  ir::UnreadFields unread;
};
FunctionRecord parse_function(data_view bytes);

struct ModelRecord {
  std::int64_t ir_version = 0, model_version = 0;
  std::string producer_name, producer_version, domain, doc;
  data_view graph;
  bool has_ir_version = false, has_graph = false;
  std::vector<OpsetRecord> opsets;
  std::vector<data_view> functions;
  Entries metadata;
  ir::UnreadFields unread;
};
ModelRecord parse_model(data_view bytes);

/// Why an encoding is broken, in words.
std::string reason(const protozero::exception& error);

}  // namespace lathe::onnx
