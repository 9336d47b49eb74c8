// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// TensorProto and TypeProto -> Tensor and Type. Shared by the reader's parts.

#include <filesystem>
#include <map>
#include <memory>
#include <protozero/pbf_reader.hpp>
#include <string>

#include "ir/attribute.h"
#include "lathe/status.h"
#include "onnx/reader.h"

namespace lathe::onnx {

/// What every part of one file's reading needs.
struct ReadState {
  std::string source;                                ///< for errors
  std::filesystem::path base_dir;                    ///< where external data lies
  std::shared_ptr<const void> owner;                 ///< keeps the bytes alive
  ReadOptions options;
  std::map<std::string, std::shared_ptr<const void>> external;   ///< mapped data files by location
  int depth = 0;

  [[noreturn]] void fail(Code code, std::string message, const std::string& tensor = {}, std::string remedy = {}) const;
};

struct NamedTensor {
  std::string name, doc;
  Tensor tensor;
  std::map<std::string, std::string> metadata;
};

NamedTensor read_tensor(protozero::data_view bytes, ReadState& state);
ir::SparseTensor read_sparse_tensor(protozero::data_view bytes, ReadState& state, std::string& name);
ir::Type read_type(protozero::data_view bytes, ReadState& state, const std::string& value_name);
std::pair<std::string, std::string> read_entry(protozero::data_view bytes);
inline std::string text(protozero::data_view view) { return {view.data(), view.size()}; }

}  // namespace lathe::onnx
