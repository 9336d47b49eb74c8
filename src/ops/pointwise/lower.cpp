// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Lowering of a row: its expression over the broadcast inputs.
#include <fmt/format.h>

#include "loops/builder.h"
#include "ops/pointwise/expr_back_end.h"

namespace lathe::ops::pointwise {
namespace {

using loops::ExprId;
using loops::RegionBuilder;

bool has_loops_type(DType t) {
  return t == DType::kFloat32 || t == DType::kFloat64 || t == DType::kFloat16 || t == DType::kBFloat16 || t == DType::kBool ||
         (is_integer(t) && dtype_bits(t) >= 8);
}

ExprId element(RegionBuilder& r, const Node& node, const Row& row, DType result, const ir::Shape& out, const RegionBuilder::Indices& indices) {
  const auto read = [&](std::size_t i) { return r.read_broadcast(node.inputs[i], out, indices); };
  ExprBackEnd<RegionBuilder> back_end{r, row, node.attrs, node.inputs[row.type_input()]->dtype(), {}};
  if (!row.variadic) {
    back_end.input = [&](const std::string& name) -> std::optional<ExprId> {
      for (std::size_t i = 0; i < row.inputs.size(); ++i) {
        if (row.inputs[i] == name && node.input(i)) return read(i);
      }
      return std::nullopt;
    };
    return back_end.finish(eval(row.ast, row.ast.root, back_end), result);
  }
  ExprId running = read(0), next = -1;
  back_end.input = [&](const std::string& name) -> std::optional<ExprId> {
    if (name == "a") return running;
    if (name == "b") return next;
    if (name == "n") return r.constant(static_cast<double>(node.inputs.size()), back_end.type);
    return std::nullopt;
  };
  for (std::size_t i = 1; i < node.inputs.size(); ++i) {
    next = read(i);
    running = back_end.finish(eval(row.ast, row.ast.root, back_end), result);
  }
  return row.ast.finish < 0 ? running : back_end.finish(eval(row.ast, row.ast.finish, back_end), result);
}

}  // namespace

bool lower_row(const Node& node, RegionBuilder& builder) {
  const Row& row = row_of(node.op);
  const ir::Value* output = node.output();
  for (const ir::Value* value : node.inputs) {
    if (value && !has_loops_type(value->dtype())) {
      builder.decline(fmt::format("no loops over elements of type {}", dtype_name(value->dtype())));
      return false;
    }
  }
  builder.define(output, [&node, &row, output](RegionBuilder& r, const RegionBuilder::Indices& indices) {
    return element(r, node, row, output->dtype(), output->shape(), indices);
  });
  return true;
}

}  // namespace lathe::ops::pointwise
