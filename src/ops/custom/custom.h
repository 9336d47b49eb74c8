// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Custom operators (include/lathe/custom_op.h) as the rest of Lathe sees them: an OpDef in the registry, whose one shape rule and one
// reference look the op's functions up here by domain and name.

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ir/graph.h"
#include "lathe/custom_op.h"

namespace lathe::ops {

/// What stands behind CustomShapes.
struct CustomShapesImpl {
  const ir::Node& node;
  const CustomAttributes& attributes;
  std::vector<DType> dtypes;      ///< of the inputs; kUndefined: left out
  std::vector<ir::Shape> shapes;  ///< of the inputs
  const std::function<std::optional<std::vector<ir::Dim>>(std::size_t)>& content;
  std::vector<DType> output_types;                ///< kUndefined: the rule must say
  std::vector<std::optional<ir::Shape>> outputs;  ///< what the rule said
};

/// nullptr: none of this name is registered. Stays where it is. Thread-safe.
const CustomOp* find_custom_op(std::string_view domain, std::string_view name);
inline const CustomOp* find_custom_op(const ir::Node& node) { return node.domain.empty() ? nullptr : find_custom_op(node.domain, node.op); }
/// Throws Error(kInvalidArgument).
void add_custom_op(CustomOp op);

/// "domain::name@version": what engines keep.
std::string custom_op_key(const CustomOp& op);
/// Why an engine that needs this key cannot run here; "" when it can.
std::string custom_op_missing(std::string_view key);

/// The node's attributes and the defaults of those that it leaves out.
ir::Attrs with_defaults(const CustomOp& op, const ir::Attrs& given);

/// Ends a shape rule that asks for elements which only a run tells.
struct Later {};

/// What the op's texts and its shape rule say of the node's outputs, whose inputs have types. Nothing where a run alone tells.
/// `content`: the elements of an integer input, where they are known. Throws Error at the node.
using ContentOf = std::function<std::optional<std::vector<ir::Dim>>(std::size_t)>;
struct CustomTypes {
  std::vector<DType> dtypes;  ///< kUndefined: not known
  std::optional<std::vector<ir::Shape>> shapes;
};
CustomTypes custom_types(const CustomOp& op, const ir::Node& node, const CustomAttributes& attributes, const ContentOf& content);

/// What the call threw, as the Status of a run. To be called in a handler.
Status custom_failure(const std::string& where) noexcept;

}  // namespace lathe::ops
