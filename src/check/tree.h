// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The records of a whole file, nested graphs included, as the checks walk over them; and the list that they report to.

#include <array>
#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "lathe/check.h"
#include "onnx/records.h"

namespace lathe::checker {

using onnx::data_view;
using Opsets = std::map<std::string, std::int64_t>;  ///< domain as written -> version

struct GraphTree;

/// One attribute with the graphs that it holds.
struct AttributeTree {
  onnx::AttributeRecord record;
  std::vector<std::unique_ptr<GraphTree>> graphs;
};

struct NodeTree {
  onnx::NodeRecord record;
  std::vector<AttributeTree> attributes;
  std::string domain;        ///< "" for ai.onnx
  bool unreadable = false;   ///< its encoding is damaged
  bool form_broken = false;  ///< breaks its op's signature: no types are looked for

  std::string label() const { return record.name.empty() ? std::string("#").append(std::to_string(record.index)) : record.name; }
  std::string op_text() const { return domain.empty() ? record.op : domain + "::" + record.op; }
  const AttributeTree* attribute(std::string_view name) const {
    for (const AttributeTree& a : attributes)
      if (a.record.name == name) return &a;
    return nullptr;
  }
};

struct ValueTree {
  std::string name;
  bool has_type = false;
  onnx::TypeRecord type;
};

struct InitializerTree {
  std::string name;
  std::int64_t dtype = 0;
  Dims dims;
  data_view bytes;
  bool sparse = false, usable = true;  ///< usable: its own checks found nothing
};

struct GraphTree {
  std::string name, where;  ///< where: "then_branch of If 'x'"
  std::vector<NodeTree> nodes;
  std::vector<ValueTree> inputs, outputs, value_infos;
  std::vector<InitializerTree> initializers;
};

struct FunctionTree {
  onnx::FunctionRecord record;
  GraphTree body;  ///< nodes only
  Opsets opsets;
  std::string id() const { return record.domain + "::" + record.name + (record.overload.empty() ? "" : ":" + record.overload); }
};

struct ModelTree {
  onnx::ModelRecord record;
  Opsets opsets;
  GraphTree graph;
  std::vector<std::unique_ptr<FunctionTree>> functions;

  /// The local function that a node calls, or nullptr.
  const FunctionTree* function_of(const NodeTree& node) const;
  void index_functions();
  /// "" or a local function of the domain that is named nearly so; nullopt: the domain has no functions.
  std::optional<std::string> nearest_function(const std::string& domain, const std::string& name) const;

 private:
  std::map<std::array<std::string, 3>, const FunctionTree*> by_id_;  // domain, name, overload
};

using onnx::reason;

/// Collects defects; the same one twice (a function that is called twice) is one.
class Findings {
 public:
  /// Severity, remedy and section come from the code's entry in codes.cpp. Fields may be changed in what is returned.
  Defect& add(std::string_view code, const GraphTree* graph, const NodeTree* node, std::string tensor, std::string what, std::string expected = {});
  std::vector<Defect> take();
  /// Among those found since `from` (an earlier count()).
  bool any_error(std::size_t from = 0) const;
  std::size_t count() const { return defects_.size(); }

 private:
  std::vector<Defect> defects_;
};

}  // namespace lathe::checker
