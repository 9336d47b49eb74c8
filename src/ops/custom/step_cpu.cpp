// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See step.h.

#include "ops/custom/step.h"

#include <fmt/format.h>

#include "ops/registry.h"
#include "ops/schema.h"
#include "ops/step_node.h"
#include "ops/validate.h"

namespace lathe::ops {

CustomStep::CustomStep(const ir::Attrs& params) {
  const std::string domain = params.get_string("domain", ""), name = params.get_string("op", "");
  op_ = find_custom_op(domain, name);
  if (!op_)
    throw Error(Code::kUnsupported, fmt::format("the custom operator {}::{} is not registered", domain, name))
        .with_remedy("Register it before the engine is loaded.");
  attrs_ = with_defaults(*op_, node_attributes(params));
  name_ = params.get_string("name", "");
  where_ = fmt::format("{}::{} '{}'", domain, name, name_);
}

void CustomStep::check(const plan::BindRequest& request) const {
  ir::Graph graph;
  std::vector<ir::Value*> values;
  for (std::size_t i = 0; i < request.inputs.size(); ++i) {
    const plan::TensorDesc& desc = request.inputs[i];
    values.push_back(nullptr);
    if (desc.dtype == DType::kUndefined) continue;
    values.back() = graph.add_input(fmt::format("in{}", i), ir::Type::tensor(desc.dtype, Shape(desc.dims.begin(), desc.dims.end())));
  }
  std::vector<std::string> names;
  for (std::size_t i = 0; i < request.outputs.size(); ++i) names.push_back(request.outputs[i].dtype == DType::kUndefined ? "" : fmt::format("out{}", i));
  Node& node = *graph.add_node(op_->domain, op_->name, values, names, attrs_);
  node.name = name_;
  for (std::size_t i = 0; i < request.outputs.size(); ++i)
    if (Value* output = node.output(i))
      output->type = ir::Type::tensor(request.outputs[i].dtype, Shape(request.outputs[i].dims.begin(), request.outputs[i].dims.end()));
  const Schema& schema = newest_schema(*find_op(op_->domain, op_->name));
  std::vector<Error> defects;
  check_node_form(node, schema, defects);
  check_node_types(node, schema, true, defects);
  if (!defects.empty()) throw Error(Code::kCorruptFile, fmt::format("a step of {} {}", where_, defects.front().message()));
  for (const auto* list : {&request.inputs, &request.outputs})
    for (const plan::TensorDesc& desc : *list)
      if (desc.dtype != DType::kUndefined && !desc.is_dense_row_major())
        throw Error(Code::kCorruptFile, fmt::format("a step of {} with a tensor that is not dense", where_));
  const CustomTypes types = custom_types(*op_, node, CustomAttributes(attrs_), [&](std::size_t i) -> std::optional<std::vector<Dim>> {
    const plan::TensorDesc& desc = request.inputs[i];
    if (i >= request.constants.size() || !request.constants[i] || !is_integer(desc.dtype)) return std::nullopt;
    const Tensor constant = Tensor::view(desc.dtype, desc.dims, request.constants[i], dtype_bytes(desc.dtype, desc.elements()), nullptr);
    std::vector<Dim> content;
    for (const std::int64_t element : constant.to_int64_vector()) content.emplace_back(element);
    return content;
  });
  if (!types.shapes) return;  // elements that only a run tells: the plan knew them as expressions
  for (std::size_t i = 0; i < request.outputs.size(); ++i) {
    const plan::TensorDesc& desc = request.outputs[i];
    if (desc.dtype == DType::kUndefined) continue;
    const auto dims = ir::constant_dims((*types.shapes)[i]);
    if (!dims || *dims != desc.dims || types.dtypes[i] != desc.dtype)
      throw Error(Code::kCorruptFile,
                  fmt::format("{} makes output {} of {}{}, the engine says {}{}", where_, i, dtype_name(types.dtypes[i]), ir::to_string((*types.shapes)[i]),
                              dtype_name(desc.dtype), ir::to_string(Shape(desc.dims.begin(), desc.dims.end()))));
  }
}

}  // namespace lathe::ops
