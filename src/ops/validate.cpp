// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Validation of nodes against schemas.
#include "ops/validate.h"

#include <algorithm>
#include <map>

namespace lathe::ops {
namespace {

std::string join(const std::vector<std::string>& items, std::size_t limit = 12) {
  std::string text;
  for (std::size_t i = 0; i < items.size() && i < limit; ++i) text += (i ? ", " : "") + items[i];
  if (items.size() > limit) text += ", ...";
  return text;
}

std::size_t count_present(const std::vector<ir::Value*>& values) {
  std::size_t n = values.size();
  while (n > 0 && !values[n - 1]) --n;  // trailing left-out values are as good as absent
  return n;
}

constexpr std::string_view kInput = "input";

void check_arity(const ir::Node& node, const std::vector<ir::Value*>& actual, const std::vector<Formal>& formals, const std::string& what, const Schema& schema,
                 std::vector<Error>& defects) {
  const std::size_t present = count_present(actual);
  const bool variadic = !formals.empty() && formals.back().option == FormalOption::kVariadic;
  if (present > formals.size() && !variadic) {
    defects.push_back(node_error(node, "has " + std::to_string(present) + " " + what + "s; " + node.op + " version " + std::to_string(schema.since) +
                                           " takes at most " + std::to_string(formals.size())));
  }
  for (std::size_t i = 0; i < formals.size(); ++i) {
    const Formal& f = formals[i];
    if (f.option == FormalOption::kOptional) continue;
    if (f.option == FormalOption::kVariadic) {
      if (actual.size() < i + static_cast<std::size_t>(f.min_arity)) {
        defects.push_back(node_error(node, std::string("needs at least ") + std::to_string(f.min_arity) + " " + what + " '" + f.name + "'"));
      }
      for (std::size_t k = i; what == kInput && k < actual.size(); ++k)  // a result that nobody reads may well be left out
        if (!actual[k]) defects.push_back(node_error(node, "leaves out input number " + std::to_string(k) + ", one of '" + f.name + "'"));
    } else if (i >= actual.size() || !actual[i]) {
      defects.push_back(node_error(node, std::string("lacks the ") + what + " '" + f.name + "' (number " + std::to_string(i) + ")"));
    }
  }
}

bool fits(const ir::Attribute& attribute, ir::AttrType wanted) {
  if (attribute.type() == wanted) return true;
  // A file may write an empty list with any list type.
  const auto* ints = std::get_if<std::vector<std::int64_t>>(&attribute.value);
  const auto* floats = std::get_if<std::vector<float>>(&attribute.value);
  const bool empty_list = (ints && ints->empty()) || (floats && floats->empty());
  return empty_list && (wanted == ir::AttrType::kInts || wanted == ir::AttrType::kFloats || wanted == ir::AttrType::kStrings);
}

}  // namespace

std::string node_name(const ir::Node& node) {
  if (!node.name.empty()) return node.name;
  if (!node.sources.empty()) return node.sources.front();
  for (const auto* out : node.outputs) {
    if (out) return "(output " + out->name + ")";
  }
  return "(nameless)";
}

Error node_error(const ir::Node& node, std::string detail, Code code) {
  Error error(code, std::move(detail));
  error.at_node(node_name(node), node.domain.empty() ? node.op : node.domain + "::" + node.op);
  return error;
}

void rethrow_at(const ir::Node& node, const Error& error) {
  if (!error.node().empty() || !error.op().empty()) throw;
  throw node_error(node, error.message(), error.code()).at_tensor(error.tensor()).with_remedy(error.remedy());
}

void check_node_form(const ir::Node& node, const Schema& schema, std::vector<Error>& defects) {
  check_arity(node, node.inputs, schema.inputs, "input", schema, defects);
  check_arity(node, node.outputs, schema.outputs, "output", schema, defects);
  for (const auto& [name, attribute] : node.attrs) {
    const AttributeDef* def = schema.attribute(name);
    if (!def) {
      std::vector<std::string> known;
      for (const auto& a : schema.attributes) known.push_back(a.name);
      auto error = node_error(node, "has the unknown attribute '" + name + "'; " + node.op + " version " + std::to_string(schema.since) +
                                        (known.empty() ? " takes none" : " takes " + join(known)));
      defects.push_back(error.with_remedy("Check the model's opset, or export it again."));
      continue;
    }
    const auto type = attribute.ref_name.empty() ? attribute.type() : attribute.ref_type;
    if (attribute.ref_name.empty() ? !fits(attribute, def->type) : type != def->type && type != ir::AttrType::kUndefined) {
      defects.push_back(
          node_error(node, "attribute '" + name + "' has type " + std::string(attr_type_name(type)) + "; expected " + std::string(attr_type_name(def->type))));
    }
  }
  for (const auto& def : schema.attributes) {
    if (def.required && !node.attrs.has(def.name)) {
      defects.push_back(node_error(node, "lacks the required attribute '" + def.name + "' (" + std::string(attr_type_name(def.type)) + ")"));
    }
  }
}

void check_node_types(const ir::Node& node, const Schema& schema, bool outputs_too, std::vector<Error>& defects) {
  std::map<std::string, std::pair<std::string, std::string>> bound;  // variable -> type, tensor that bound it
  const auto check = [&](const std::vector<ir::Value*>& values, const std::vector<Formal>& formals, const char* what) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      const Formal* f = Schema::formal_at(formals, i);
      if (!values[i] || !f) continue;
      const std::string type = type_string(values[i]->type);
      if (type.empty()) continue;
      const TypeConstraint* c = schema.constraint(f->type);
      const auto fail = [&](const std::string& expected) {
        auto error = node_error(node, std::string(what) + " '" + f->name + "' has type " + type + "; expected " + expected);
        defects.push_back(error.at_tensor(values[i]->name));
      };
      if (!c) {
        if (type != f->type) fail(f->type);
        continue;
      }
      if (!std::binary_search(c->types.begin(), c->types.end(), type)) {
        fail("one of " + join(c->types));
        continue;
      }
      if (f->option == FormalOption::kVariadic && !f->homogeneous) continue;
      const auto [it, fresh] = bound.emplace(c->variable, std::make_pair(type, values[i]->name));
      if (!fresh && it->second.first != type) fail(it->second.first + " like tensor '" + it->second.second + "'");
    }
  };
  check(node.inputs, schema.inputs, "input");
  if (outputs_too) check(node.outputs, schema.outputs, "output");
}

}  // namespace lathe::ops
