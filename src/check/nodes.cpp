// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// One node: its operator, counts, attributes. See structure.h.

#include <fmt/format.h>

#include <algorithm>

#include "check/schema_table.h"
#include "check/structure.h"
#include "ops/nearest_ops.h"
#include "ops/registry.h"

namespace lathe::checker {
namespace {

using ir::AttrType;
using ops::Formal;
using ops::FormalOption;

std::string called(const std::string& domain) { return domain.empty() ? "ai.onnx" : domain; }

bool of_the_format(const std::string& domain) { return domain.empty() || domain == "ai.onnx.training" || newest_opset(domain) > 0; }

std::string list(const std::vector<std::string>& items, std::size_t limit = 10) {
  std::string text;
  for (std::size_t i = 0; i < items.size() && i < limit; ++i) text += (i ? ", " : "") + items[i];
  if (items.size() > limit) text += fmt::format(", {} more", items.size() - limit);
  return text;
}

std::string range(int least, int most) {
  if (most == INT32_MAX) return fmt::format("at least {}", least);
  return least == most ? std::to_string(least) : fmt::format("{} to {}", least, most);
}

/// "Relu, Celu?"; "" where nothing that Lathe has is spelled like it.
std::string near_ops(const std::string& domain, const std::string& op) {
  const std::vector<std::string> near = ops::nearest_ops(domain, op);
  return near.empty() ? "" : list(near) + "?";
}

/// Least and most members that a list of formals takes.
std::pair<int, int> arity(const std::vector<Formal>& formals) {
  int least = 0, most = static_cast<int>(formals.size());
  for (std::size_t i = 0; i < formals.size(); ++i) {
    if (formals[i].option == FormalOption::kSingle) least = static_cast<int>(i) + 1;
    if (formals[i].option == FormalOption::kVariadic) {
      least = std::max(least, static_cast<int>(i) + formals[i].min_arity);
      if (formals[i].min_arity == 0) least = std::max(least, static_cast<int>(i));
      most = INT32_MAX;
    }
  }
  return {least, most};
}

}  // namespace

void StructureChecks::check_node(NodeTree& node, GraphTree& graph, const Place& place, const Names& names) {
  const std::size_t before = findings_.count();
  if (node.record.op.empty()) findings_.add("node-form", &graph, &node, {}, "it names no operator");
  if (node.record.inputs.empty() && node.record.outputs.empty()) findings_.add("node-form", &graph, &node, {}, "it has neither inputs nor outputs");
  std::set<std::string> seen;
  for (AttributeTree& attribute : node.attributes) {
    if (!seen.insert(attribute.record.name).second)
      findings_.add("attribute-duplicate", &graph, &node, {}, fmt::format("attribute '{}' is given twice", attribute.record.name));
    check_attribute(attribute, node, graph, place, names);
  }
  if (!node.record.op.empty()) check_signature(node, graph, place);
  node.form_broken |= findings_.any_error(before);
}

void StructureChecks::check_attribute(AttributeTree& attribute, NodeTree& node, GraphTree& graph, const Place& place, const Names& names) {
  const onnx::AttributeRecord& a = attribute.record;
  const auto form = [&](std::string what, std::string expected = {}) {
    findings_.add("attribute-form", &graph, &node, {}, std::move(what), std::move(expected));
  };
  if (a.name.empty()) form("an attribute has no name");
  const bool known = a.kind >= 0 && a.kind <= static_cast<int>(AttrType::kTypes);
  if ((a.kind == 0 || !known) && model_.record.ir_version >= 2)
    form(a.kind == 0 ? fmt::format("attribute '{}' has no type", a.name) : fmt::format("attribute '{}' has the type number {}", a.name, a.kind));
  std::vector<std::string> used;
  bool mismatch = false;
  for (int type = 1; type <= static_cast<int>(AttrType::kTypes); ++type) {
    if (!a.has(type)) continue;
    const auto t = static_cast<AttrType>(type);
    if ((t == AttrType::kFloats && a.floats.empty()) || (t == AttrType::kInts && a.ints.empty())) continue;
    used.emplace_back(ops::attr_type_name(t));
    mismatch |= a.kind != 0 && known && a.kind != type;
  }
  if (used.size() > 1) form(fmt::format("attribute '{}' has several values ({})", a.name, list(used)), "one");
  else if (mismatch) form(fmt::format("attribute '{}' is declared {} and holds {}", a.name, ops::attr_type_name(static_cast<AttrType>(a.kind)), used[0]));
  if (!a.ref.empty()) {
    if (!used.empty() && !place.main) form(fmt::format("attribute '{}' refers to '{}' and has a value too", a.name, a.ref), "one of the two");
    if (!place.function) form(fmt::format("attribute '{}' refers to '{}' of a function, but this is none", a.name, a.ref));
  }
  for (const data_view view : a.tensors) {
    try {
      tensors_.tensor(view, &graph, &node, fmt::format("attribute '{}'", a.name));
    } catch (const protozero::exception& error) {
      findings_.add("broken-encoding", &graph, &node, {}, fmt::format("attribute '{}' cannot be read: {}", a.name, reason(error)));
    }
  }
  for (const data_view view : a.sparses) {
    try {
      tensors_.sparse(view, &graph, &node, fmt::format("attribute '{}'", a.name));
    } catch (const protozero::exception& error) {
      findings_.add("broken-encoding", &graph, &node, {}, fmt::format("attribute '{}' cannot be read: {}", a.name, reason(error)));
    }
  }
  const Place inner{place.opsets, false, place.function};
  for (const auto& nested : attribute.graphs) check_graph(*nested, inner, &names);
}

void StructureChecks::check_signature(NodeTree& node, GraphTree& graph, const Place& place) {
  const std::string& domain = node.domain;
  auto imported = place.opsets.find(node.record.domain);
  if (imported == place.opsets.end() && node.record.domain.empty()) imported = place.opsets.find("ai.onnx");
  const FunctionTree* function = model_.function_of(node);
  if (imported == place.opsets.end()) {
    node.form_broken = true;
    if (place.opsets.empty() && !place.function) return;  // said once, of the model
    const std::string who = place.function ? "the function" : "the model";
    if (node.record.domain == "ai.onnx" && place.opsets.contains(""))
      findings_.add("opset-missing", &graph, &node, {}, fmt::format("it is of the domain 'ai.onnx', {} imports ''", who), "the same spelling").remedy =
          "leave the node's domain empty";
    else findings_.add("opset-missing", &graph, &node, {}, fmt::format("{} imports no operator set of the domain '{}'", who, node.record.domain));
    return;
  }
  const std::int64_t opset = imported->second;
  const SchemaVersion* version = find_schema(domain, node.record.op, opset);
  if (!version) {
    if (const int first = first_version(domain, node.record.op); first > 0 && (!function || domain.empty() || domain == "ai.onnx.ml")) {
      findings_.add("operator-too-new", &graph, &node, {}, fmt::format("{} exists since {} {}, imported is {}", node.record.op, called(domain), first, opset));
    } else if (function && !domain.empty() && domain != "ai.onnx.ml") {
      check_call(node, *function, graph);
    } else if (of_the_format(domain)) {
      const std::string near = nearest_op(domain, node.record.op);
      Defect& defect = findings_.add("unknown-operator", &graph, &node, {}, fmt::format("there is no operator {} in {}", node.record.op, called(domain)),
                                     near.empty() ? "" : near + "?");
      if (function) defect.remedy = "move the local function of this name to a domain of its own";
    } else if (const auto near = model_.nearest_function(domain, node.record.op); near && !ops::find_op(domain, node.record.op)) {
      findings_.add("unknown-operator", &graph, &node, {}, fmt::format("there is no local function {}", node.op_text()), near->empty() ? "" : *near + "?")
          .remedy = "correct the name, or add the function to the model";
    } else if (!ops::find_op(domain, node.record.op)) {
      findings_.add("unsupported-operator", &graph, &node, {}, fmt::format("{} is an operator that only its domain's own runtime knows", node.op_text()),
                    near_ops(domain, node.record.op));
      return;
    }
    return;
  }
  if (version->text.deprecated) {
    findings_.add("operator-deprecated", &graph, &node, {},
                  fmt::format("{} was withdrawn in {} {}, imported is {}", node.record.op, called(domain), version->text.since, opset));
    return;
  }
  if (version->experimental) findings_.add("operator-experimental", &graph, &node, {}, fmt::format("{} is experimental", node.record.op));
  const ops::Schema& schema = version->schema();
  const std::string signature = fmt::format("{} {}", node.record.op, schema.since);
  const auto count = [&](const std::vector<std::string>& actual, const std::vector<Formal>& formals, const char* code, const char* what,
                         const std::vector<int>* allowed) {
    const auto [least, most] = arity(formals);
    const int have = static_cast<int>(actual.size());
    const bool odd = allowed && !allowed->empty() && std::find(allowed->begin(), allowed->end(), have) == allowed->end();
    if (have < least || have > most || odd) {
      std::string expected = range(least, most);
      if (odd) expected = fmt::format("{} or {}", allowed->front(), allowed->back());
      findings_.add(code, &graph, &node, {}, fmt::format("it has {} {}{}, {} takes {}", have, what, have == 1 ? "" : "s", signature, expected), {});
    }
    for (std::size_t i = 0; i < actual.size() && i < formals.size(); ++i)
      if (actual[i].empty() && formals[i].option == FormalOption::kSingle)
        findings_.add(code, &graph, &node, {}, fmt::format("its {} '{}' (number {}) is left out, but {} requires it", what, formals[i].name, i, signature));
  };
  count(node.record.inputs, schema.inputs, "input-count", "input", nullptr);
  // Only inputs that are declared optional may be left blank, and the members of a variadic input are not. (Blank outputs there are results nobody wants.)
  for (std::size_t i = schema.inputs.empty() ? 0 : schema.inputs.size() - 1; i < node.record.inputs.size(); ++i)
    if (node.record.inputs[i].empty() && !schema.inputs.empty() && schema.inputs.back().option == FormalOption::kVariadic)
      findings_
          .add("input-count", &graph, &node, {},
               fmt::format("a member of its input '{}' (input {}) is left out, which {} does not allow", schema.inputs.back().name, i, signature))
          .spec = "IR.md#variadic-inputs-and-outputs";
  count(node.record.outputs, schema.outputs, "output-count", "output", &version->output_counts);
  for (const AttributeTree& attribute : node.attributes) {
    const onnx::AttributeRecord& a = attribute.record;
    const ops::AttributeDef* def = schema.attribute(a.name);
    if (!def) {
      if (a.name.starts_with("__") || a.name.empty()) continue;  // an implementation's own
      std::vector<std::string> names;
      for (const auto& known : schema.attributes) names.push_back(known.name);
      const std::string near = nearest(a.name, names);
      Defect& defect = findings_.add("unknown-attribute", &graph, &node, {}, fmt::format("{} has no attribute '{}'", signature, a.name),
                                     !near.empty()   ? near + "?"
                                     : names.empty() ? "none"
                                                     : list(names));
      if (version->unchecked) defect.severity = Severity::kWarning;
      continue;
    }
    if (a.kind != static_cast<int>(def->type)) {
      if (a.kind > 0 && a.kind <= static_cast<int>(AttrType::kTypes))
        findings_.add("attribute-type", &graph, &node, {}, fmt::format("attribute '{}' is {}", a.name, ops::attr_type_name(static_cast<AttrType>(a.kind))),
                      std::string(ops::attr_type_name(def->type)));
      else if (model_.record.ir_version < 2)
        findings_.add("attribute-type", &graph, &node, {}, fmt::format("attribute '{}' has no type", a.name), std::string(ops::attr_type_name(def->type)));
      continue;
    }
    const bool needs_field =
        def->type == AttrType::kTensor || def->type == AttrType::kGraph || def->type == AttrType::kSparseTensor || def->type == AttrType::kType;
    if (a.ref.empty() && needs_field && !a.has(a.kind) && a.fields == 0)
      findings_.add("attribute-form", &graph, &node, {}, fmt::format("attribute '{}' has no value", a.name), std::string(ops::attr_type_name(def->type)));
  }
  for (const ops::AttributeDef& def : schema.attributes)
    if (def.required && !node.attribute(def.name))
      findings_.add("missing-attribute", &graph, &node, {},
                    fmt::format("{} requires the attribute '{}' ({})", signature, def.name, ops::attr_type_name(def.type)));
  if (!ops::find_op(domain, node.record.op)) findings_.add("unsupported-operator", &graph, &node, {}, fmt::format("Lathe has no {} yet", node.op_text()));
}

void StructureChecks::check_call(NodeTree& node, const FunctionTree& function, GraphTree& graph) {
  const onnx::FunctionRecord& f = function.record;
  const auto section = [](Defect& defect) { defect.spec = "IR.md#functions"; };
  if (node.record.inputs.size() > f.inputs.size())
    section(findings_.add("input-count", &graph, &node, {},
                          fmt::format("it has {} inputs, the function {} takes {}", node.record.inputs.size(), function.id(), f.inputs.size())));
  if (node.record.outputs.size() > f.outputs.size())
    section(findings_.add("output-count", &graph, &node, {},
                          fmt::format("it has {} outputs, the function {} gives {}", node.record.outputs.size(), function.id(), f.outputs.size())));
  for (const std::string& name : f.attributes)
    if (!node.attribute(name)) {
      Defect& defect =
          findings_.add("missing-attribute", &graph, &node, {}, fmt::format("the function {} has the attribute '{}', which is not given", function.id(), name));
      defect.severity = Severity::kWarning;
      section(defect);
    }
  std::vector<std::string> names = f.attributes;
  for (const data_view view : f.attribute_defaults) try {
      names.push_back(onnx::parse_attribute(view).name);
    } catch (const protozero::exception&) {  // check_function reports it
    }
  for (const AttributeTree& attribute : node.attributes)
    if (std::find(names.begin(), names.end(), attribute.record.name) == names.end()) {
      Defect& defect =
          findings_.add("unknown-attribute", &graph, &node, {}, fmt::format("the function {} has no attribute '{}'", function.id(), attribute.record.name),
                        nearest(attribute.record.name, names));
      defect.severity = Severity::kWarning;
      section(defect);
    }
}

}  // namespace lathe::checker
