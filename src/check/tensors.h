// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Checks of tensors' data: against type and shape, sparse ones, external ones.

#include <filesystem>
#include <map>
#include <optional>

#include "check/tree.h"

namespace lathe::checker {

class TensorChecks {
 public:
  TensorChecks(Findings& findings, std::filesystem::path base_dir) : findings_(findings), base_dir_(std::move(base_dir)) {}
  /// True when nothing is wrong. `called`: what to call a tensor without a name.
  bool tensor(data_view bytes, const GraphTree* graph, const NodeTree* node, const std::string& called);
  bool sparse(data_view bytes, const GraphTree* graph, const NodeTree* node, const std::string& called);

 private:
  bool dense(const onnx::TensorRecord& tensor, const GraphTree* graph, const NodeTree* node, const std::string& called);
  bool external(const onnx::TensorRecord& tensor, const GraphTree* graph, const NodeTree* node, const std::string& called);
  std::optional<std::uint64_t> file_size(const std::string& location, std::string& why);
  Findings& findings_;
  std::filesystem::path base_dir_;
  std::map<std::string, std::pair<std::optional<std::uint64_t>, std::string>> files_;
};

}  // namespace lathe::checker
