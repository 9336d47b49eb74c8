// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// TensorProto, TypeProto and AttributeProto -> Tensor, Type and Attribute. Shared by the reader's parts and the checker.

#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "ir/attribute.h"
#include "lathe/status.h"
#include "onnx/reader.h"
#include "onnx/records.h"

namespace lathe::onnx {

/// What every part of one file's reading needs.
struct ReadState {
  std::string source;                 ///< for errors
  std::filesystem::path base_dir;     ///< where external data lies
  std::shared_ptr<const void> owner;  ///< keeps the bytes alive
  ReadOptions options;
  std::map<std::string, std::shared_ptr<const void>> external;  ///< mapped data files by location
  int depth = 0;
  std::map<std::string, std::string> symbols;     ///< file's text -> symbol ("\n" + value and axis: an extent without a name)
  std::map<std::string, std::string> dim_params;  ///< symbol -> file's text, every symbol in use

  /// The symbol for an extent: `text` itself where that is an identifier that no other text took.
  std::string symbol_for(const std::string& text, const std::string& value_name, std::size_t axis);
  [[noreturn]] void fail(Code code, std::string message, const std::string& tensor = {}, std::string remedy = {}) const;
};

struct NamedTensor {
  std::string name, doc;
  Tensor tensor;
  std::map<std::string, std::string> metadata;
  ir::UnreadFields unread;
};

NamedTensor read_tensor(protozero::data_view bytes, ReadState& state);
ir::SparseTensor read_sparse_tensor(protozero::data_view bytes, ReadState& state, std::string& name);
/// The whole tensor, zeros written out. Throws when an index lies outside or the result would take more than 1 GiB.
Tensor densify(const ir::SparseTensor& sparse, const std::string& name, const ReadState& state);
ir::Type read_type(protozero::data_view bytes, ReadState& state, const std::string& value_name);
ir::Type type_of(const TypeRecord& record, ReadState& state, const std::string& value_name);
/// `graph`: the graph around nested ones.
std::pair<std::string, ir::Attribute> read_attribute(protozero::data_view bytes, ir::Graph* graph, ReadState& state);
std::pair<std::string, ir::Attribute> attribute_of(AttributeRecord record, ir::Graph* graph, ReadState& state);

}  // namespace lathe::onnx
