// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// If, Loop and Scan: what flows into their graphs and out of them. See inference.h.

#include <fmt/format.h>

#include "check/inference.h"

namespace lathe::checker {
namespace {

using ir::Type;
using ir::TypeKind;

bool known(const Type& type) { return type.kind != TypeKind::kUnknown; }

/// Shapes change from turn to turn.
Type without_shape(Type type) {
  type.shape.reset();
  if (type.element) type.element = std::make_shared<const Type>(without_shape(*type.element));
  return type;
}

/// The type that covers both; false where there is none.
bool unite(const Type& other, Type& into) {
  if (known(other) != known(into)) return false;
  if (other.kind != into.kind) return false;
  if (other.kind == TypeKind::kTensor || other.kind == TypeKind::kSparseTensor) {
    if (other.dtype != into.dtype) return false;
    if (!into.shape) return true;
    if (!other.shape || other.shape->size() != into.shape->size()) {
      into.shape.reset();
    }
    return true;
  }
  if (other.element && into.element) {
    Type element = *into.element;
    if (!unite(*other.element, element)) return false;
    if (element.shape && *element.shape != *other.element->shape) element.shape.reset();
    into.element = std::make_shared<const Type>(std::move(element));
  }
  return true;
}

}  // namespace

std::optional<std::vector<Type>> Inference::nested(const NodeTree& node, const char* attribute, const std::vector<Type>& inputs, Scope& scope) {
  const AttributeTree* held = node.attribute(attribute);
  if (!held || held->graphs.empty()) return std::nullopt;
  const GraphTree& graph = *held->graphs[0];
  if (graph.inputs.size() != inputs.size()) {
    findings_.add("nested-graph", scope.graph, &node, {},
                  fmt::format("its {} has {} inputs, {} are passed to it", attribute, graph.inputs.size(), inputs.size()));
    return std::nullopt;
  }
  Scope inner;
  inner.around = &scope;
  inner.opsets = scope.opsets;
  inner.bound = scope.bound;
  inner.graph = &graph;
  const std::size_t before = findings_.count();
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    Type type = declared(graph.inputs[i]);
    const std::string& name = graph.inputs[i].name;
    if (const std::string what = merge(inputs[i], type); !what.empty())
      findings_.add(what + "-conflict", &graph, nullptr, name,
                    fmt::format("input '{}' of the nested graph gets {}, it declares {}", name, text(inputs[i]), text(type)));
    if (known(type)) inner.types[name] = type;
  }
  walk_graph(graph, inner);
  if (findings_.any_error(before)) return std::nullopt;
  std::vector<Type> types;
  for (const ValueTree& output : graph.outputs) {
    const auto at = inner.types.find(output.name);
    types.push_back(at == inner.types.end() ? Type{} : at->second);
  }
  return types;
}

std::optional<std::vector<Type>> Inference::if_outputs(const NodeTree& node, Scope& scope) {
  const auto then_types = nested(node, "then_branch", {}, scope), else_types = nested(node, "else_branch", {}, scope);
  if (!then_types || !else_types) return std::nullopt;
  const std::size_t outputs = node.record.outputs.size();
  if (then_types->size() != outputs || else_types->size() != outputs) {
    findings_.add("nested-graph", scope.graph, &node, {},
                  fmt::format("it has {} outputs, its branches have {} and {}", outputs, then_types->size(), else_types->size()));
    return std::nullopt;
  }
  std::vector<Type> types = *then_types;
  for (std::size_t i = 0; i < outputs; ++i) {
    const Type& other = (*else_types)[i];
    if (!unite(other, types[i])) {
      findings_.add("nested-graph", scope.graph, &node, node.record.outputs[i],
                    fmt::format("output {} is {} in then_branch and {} in else_branch", i, text((*then_types)[i]), text(other)), "one type");
      return std::nullopt;
    }
    if (!types[i].shape) continue;
    for (std::size_t axis = 0; axis < types[i].shape->size(); ++axis)
      if (!((*types[i].shape)[axis] == (*other.shape)[axis])) (*types[i].shape)[axis] = fresh();
  }
  return types;
}

std::optional<std::vector<Type>> Inference::loop_outputs(const NodeTree& node, Scope& scope) {
  const std::size_t states = node.record.inputs.size() - 2, outputs = node.record.outputs.size();
  const auto type_of = [&](std::size_t i) {
    const ir::Type* type = node.record.inputs[i].empty() ? nullptr : scope.type(node.record.inputs[i]);
    return type ? *type : Type{};
  };
  for (std::size_t i = 0; i < states; ++i)
    if (node.record.inputs[i + 2].empty() || (!known(type_of(i + 2)) && !scope.foreign)) {
      findings_.add("nested-graph", scope.graph, &node, node.record.inputs[i + 2],
                    fmt::format("state {} is {}", i, node.record.inputs[i + 2].empty() ? "left out" : "of unknown type"), "a typed tensor");
      return std::nullopt;
    }
  std::vector<Type> inputs{Type::tensor(DType::kInt64), type_of(1)};
  for (std::size_t i = 0; i < states; ++i) inputs.push_back(without_shape(type_of(i + 2)));
  const auto body = nested(node, "body", inputs, scope);
  if (!body) return std::nullopt;
  if (body->empty()) return std::vector<Type>(outputs);
  if (body->size() != outputs + 1) {
    findings_.add("nested-graph", scope.graph, &node, {}, fmt::format("its body has {} outputs, and the node {}", body->size(), outputs),
                  "one more: the condition comes first");
    return std::nullopt;
  }
  std::vector<Type> types(outputs);
  for (std::size_t i = 0; i < outputs; ++i) {
    const Type& made = (*body)[i + 1];
    const bool state = i < states;
    const std::string& name = node.record.outputs[i];
    if (made.kind != TypeKind::kTensor && !(state && (made.kind == TypeKind::kSequence || made.kind == TypeKind::kOptional))) {
      findings_.add("nested-graph", scope.graph, &node, name, fmt::format("output {} of its body is {}", i + 1, text(made)),
                    state ? "a tensor, sequence or optional" : "a tensor");
      return std::nullopt;
    }
    if (state) {
      types[i] = without_shape(type_of(i + 2));
      if (const std::string what = clash(without_shape(made), types[i]); !what.empty()) {
        findings_.add("nested-graph", scope.graph, &node, name,
                      fmt::format("state {} starts as {}, and its body makes {} of it", i, text(types[i]), text(made)), "one type");
        return std::nullopt;
      }
      if (!known(types[i])) types[i] = without_shape(made);
    } else {
      types[i] = made;
      if (types[i].shape) types[i].shape->insert(types[i].shape->begin(), fresh());
    }
  }
  return types;
}

std::optional<std::vector<Type>> Inference::scan_outputs(const NodeTree& node, Scope& scope, std::int64_t opset) {
  const std::size_t given = node.record.inputs.size(), outputs = node.record.outputs.size();
  if (opset < 9) return std::vector<Type>(outputs);  // with a batch axis
  const auto broken = [&](std::string what, std::string expected = {}) {
    findings_.add("nested-graph", scope.graph, &node, {}, std::move(what), std::move(expected));
    return std::nullopt;
  };
  std::int64_t scans = 0;
  std::vector<std::int64_t> in_axes, out_axes;
  for (const onnx::AttributeRecord& a : attributes(node, scope)) {
    if (a.name == "num_scan_inputs") scans = a.i;
    if (a.name == "scan_input_axes") in_axes = a.ints;
    if (a.name == "scan_output_axes") out_axes = a.ints;
  }
  if (scans < 0 || static_cast<std::size_t>(scans) > given) return broken(fmt::format("num_scan_inputs is {}, it has {} inputs", scans, given));
  const std::size_t states = given - static_cast<std::size_t>(scans);
  if (states > outputs) return broken(fmt::format("it has {} states and {} outputs", states, outputs));
  if (in_axes.empty()) in_axes.assign(static_cast<std::size_t>(scans), 0);
  if (out_axes.empty()) out_axes.assign(outputs - states, 0);
  if (in_axes.size() != static_cast<std::size_t>(scans))
    return broken(fmt::format("scan_input_axes has {} members, there are {} scan inputs", in_axes.size(), scans));
  if (out_axes.size() != outputs - states)
    return broken(fmt::format("scan_output_axes has {} members, there are {} scan outputs", out_axes.size(), outputs - states));
  std::vector<Type> inputs;
  std::optional<std::int64_t> length;
  for (std::size_t i = 0; i < given; ++i) {
    const ir::Type* type = node.record.inputs[i].empty() ? nullptr : scope.type(node.record.inputs[i]);
    if (!type || type->kind != TypeKind::kTensor) return broken(fmt::format("input {} is {}", i, type ? text(*type) : "of unknown type"), "a tensor");
    inputs.push_back(*type);
    if (i < states || !type->shape) continue;
    const auto rank = static_cast<std::int64_t>(type->shape->size());
    std::int64_t axis = in_axes[i - states];
    if (axis < -rank || axis >= rank)
      return broken(fmt::format("scan_input_axes names the axis {} of '{}', which is {}", axis, node.record.inputs[i], text(*type)));
    if (axis < 0) axis += rank;
    const auto extent = (*type->shape)[static_cast<std::size_t>(axis)].constant();
    if (extent && length && *extent != *length) return broken(fmt::format("its scan inputs have lengths of {} and {}", *length, *extent), "one length");
    if (extent) length = extent;
    inputs.back().shape->erase(inputs.back().shape->begin() + axis);
  }
  const auto body = nested(node, "body", inputs, scope);
  if (!body) return std::nullopt;
  if (body->empty()) return std::vector<Type>(outputs);
  if (body->size() != outputs) return broken(fmt::format("its body has {} outputs, the node {}", body->size(), outputs));
  std::vector<Type> types(outputs);
  for (std::size_t i = 0; i < outputs; ++i) {
    const Type& made = (*body)[i];
    if (made.kind != TypeKind::kTensor) return broken(fmt::format("output {} of its body is {}", i, text(made)), "a tensor");
    if (i < states) {
      types[i] = inputs[i];
      if (!clash(made, types[i]).empty())
        return broken(fmt::format("state {} starts as {}, and its body makes {} of it", i, text(types[i]), text(made)), "one type and shape");
      continue;
    }
    types[i] = made;
    if (!made.shape) continue;
    const auto rank = static_cast<std::int64_t>(made.shape->size()) + 1;
    std::int64_t axis = out_axes[i - states];
    if (axis < -rank || axis >= rank) return broken(fmt::format("scan_output_axes names the axis {} of output {}, which has rank {}", axis, i, rank));
    if (axis < 0) axis += rank;
    types[i].shape->insert(types[i].shape->begin() + axis, length ? ir::Dim(*length) : fresh());
  }
  return types;
}

}  // namespace lathe::checker
