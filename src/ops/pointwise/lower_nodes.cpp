// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// lower_nodes(): asks each op's definition to lower itself, in order. Lives with the ops since the region library knows no registry.
#include <fmt/format.h>

#include "loops/builder.h"
#include "ops/registry.h"

namespace lathe::loops {

bool lower_nodes(std::span<const ir::Node* const> nodes, std::span<const ir::Value* const> inputs, std::span<const ir::Value* const> outputs,
                 LoopRegion& region, std::string& reason) {
  RegionBuilder builder;
  for (const ir::Node* node : nodes) {
    const ops::OpDef* op = ops::find_op(node->domain, node->op);
    if (!op || !op->lower) {
      reason = fmt::format("{} has no lowering to loops", node->op);
      return false;
    }
    for (const auto* list : {&node->inputs, &node->outputs}) {
      for (const ir::Value* value : *list) {
        if (value && (!value->type.is_tensor() || !value->has_shape())) {
          reason = fmt::format("{}: the shape of '{}' is unknown", node->describe(), value->name);
          return false;
        }
      }
    }
    if (!op->lower(*node, builder)) {
      reason = builder.declined().empty() ? fmt::format("{} cannot be lowered", node->describe()) : fmt::format("{}: {}", node->describe(), builder.declined());
      return false;
    }
    for (const ir::Value* output : node->outputs) {
      if (output) builder.set_source(output, node->sources.empty() ? node->name : node->sources.front());
    }
  }
  LoopRegion result = builder.finish(inputs, outputs);
  if (!builder.declined().empty()) {
    reason = builder.declined();
    return false;
  }
  region = std::move(result);
  return true;
}

}  // namespace lathe::loops
