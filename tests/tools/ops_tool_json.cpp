// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Schemas and values as JSON.
#include "ops/registry.h"
#include "ops/schema.h"
#include "ops_tool.h"

namespace lathe::tool {
namespace {

Json formals_json(const std::vector<ops::Formal>& formals) {
  Json list = Json::array();
  for (const auto& f : formals) {
    static constexpr const char* kOptions[] = {"single", "optional", "variadic"};
    Json item{{"name", f.name}, {"option", kOptions[static_cast<int>(f.option)]}, {"type", f.type}};
    if (f.option == ops::FormalOption::kVariadic) {
      item["min_arity"] = f.min_arity;
      item["homogeneous"] = f.homogeneous;
    }
    list.push_back(std::move(item));
  }
  return list;
}

Json default_json(const ir::Attribute& attribute) {
  if (const auto* x = std::get_if<std::int64_t>(&attribute.value)) return *x;
  if (const auto* x = std::get_if<float>(&attribute.value)) return static_cast<double>(*x);
  if (const auto* x = std::get_if<std::string>(&attribute.value)) return *x;
  if (const auto* x = std::get_if<std::vector<std::int64_t>>(&attribute.value)) return *x;
  if (const auto* x = std::get_if<std::vector<float>>(&attribute.value)) return *x;
  if (const auto* x = std::get_if<std::vector<std::string>>(&attribute.value)) return *x;
  return "no default in text";
}

Json schema_json(const ops::Schema& schema) {
  Json attributes = Json::object();
  for (const auto& a : schema.attributes) {
    Json item{{"type", ops::attr_type_name(a.type)}, {"required", a.required}};
    if (a.default_value) item["default"] = default_json(*a.default_value);
    attributes[a.name] = std::move(item);
  }
  Json constraints = Json::object();
  for (const auto& c : schema.constraints) constraints[c.variable] = c.types;
  return {{"since", schema.since},    {"deprecated", schema.deprecated}, {"inputs", formals_json(schema.inputs)}, {"outputs", formals_json(schema.outputs)},
          {"attributes", attributes}, {"constraints", constraints}};
}

Json dim_json(const ir::Dim& dim) {
  if (const auto c = dim.constant()) return *c;
  return dim.to_string();
}

Json dims_json(const std::vector<ir::Dim>& dims) {
  Json list = Json::array();
  for (const auto& dim : dims) list.push_back(dim_json(dim));
  return list;
}

}  // namespace

Json all_schemas() {
  Json list = Json::array();
  for (const ops::OpDef* op : ops::all_ops()) {
    Json versions = Json::array();
    for (const auto& version : op->versions) versions.push_back(schema_json(ops::schema_of(*op, version)));
    list.push_back({{"domain", op->domain},
                    {"name", op->name},
                    {"doc", op->doc},
                    {"infer", op->infer != nullptr},
                    {"reference", op->reference != nullptr || op->expand != nullptr},
                    {"oracle", op->oracle != nullptr},
                    {"lower", op->lower != nullptr},
                    {"versions", versions}});
  }
  return list;
}

Json describe_value(const ir::Value& value) {
  Json item{{"type", value.type.to_string()}, {"dtype", dtype_name(value.type.dtype)}, {"constant", value.is_constant()}};
  item["shape"] = value.type.is_tensor() && value.type.shape ? dims_json(*value.type.shape) : Json();
  if (value.content) item["content"] = dims_json(*value.content);
  return item;
}

}  // namespace lathe::tool
