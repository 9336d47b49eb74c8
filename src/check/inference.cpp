// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See inference.h.

#include "check/inference.h"

#include <fmt/format.h>

#include <algorithm>

#include "ops/evaluate.h"
#include "ops/import.h"
#include "ops/infer.h"
#include "ops/registry.h"

namespace lathe::checker {
namespace {

constexpr std::int64_t kConstantLimit = 4096;  // elements of constants that rules look at

std::string join(const std::vector<std::string>& items, std::size_t limit) {
  std::string text;
  for (std::size_t i = 0; i < items.size() && i < limit; ++i) text += (i ? ", " : "") + items[i];
  if (items.size() > limit) text += ", ...";
  return text;
}

}  // namespace

const ir::Type* Inference::Scope::type(const std::string& name) const {
  for (const Scope* s = this; s; s = s->around)
    if (const auto at = s->types.find(name); at != s->types.end()) return &at->second;
  return nullptr;
}

bool Inference::Scope::is_lost(const std::string& name) const {
  for (const Scope* s = this; s; s = s->around) {
    if (s->types.contains(name)) return false;
    if (s->lost.contains(name)) return true;
  }
  return false;
}

Inference::Inference(const ModelTree& model, Findings& findings, std::filesystem::path base_dir) : model_(model), findings_(findings) {
  state_.base_dir = std::move(base_dir);
  state_.options.allow_missing_weights = true;
}

void Inference::run() {
  Scope scope;
  scope.opsets = &model_.opsets;
  walk_graph(model_.graph, scope);
}

// Types ---------------------------------------------------------------------------------------------------------------

ir::Dim Inference::fresh() { return ir::Dim::symbol(state_.symbol_for("", fmt::format("unknown_{}", next_symbol_++), 0)); }

/// Symbols "?N" of one node's inference get names that no other node's have.
ir::Type Inference::renamed(const ir::Type& type, std::map<std::string, ir::Dim>& names) {
  ir::Type result = type;
  if (type.element) result.element = std::make_shared<const ir::Type>(renamed(*type.element, names));
  if (!type.shape) return result;
  for (ir::Dim& dim : *result.shape) {
    if (dim.is_constant()) continue;
    std::set<std::string> symbols;
    dim.collect_symbols(symbols);
    std::unordered_map<std::string, ir::Dim> replacements;
    for (const std::string& symbol : symbols) {
      if (!symbol.starts_with("?")) continue;
      const auto [at, added] = names.try_emplace(symbol, ir::Dim(0));
      if (added) at->second = fresh();
      replacements.emplace(symbol, at->second);
    }
    if (!replacements.empty()) dim = dim.substitute(replacements);
  }
  return result;
}

std::string Inference::text(const ir::Type& type) const {
  using Kind = ir::TypeKind;
  const auto inner = [&] { return type.element ? text(*type.element) : std::string("?"); };
  switch (type.kind) {
    case Kind::kUnknown: return "?";
    case Kind::kSequence: return "seq(" + inner() + ")";
    case Kind::kOptional: return "optional(" + inner() + ")";
    case Kind::kMap: return fmt::format("map({}, {})", dtype_name(type.dtype), inner());
    case Kind::kOpaque: return "opaque";
    default: break;
  }
  std::string result = (type.kind == Kind::kSparseTensor ? "sparse " : "") + std::string(type.dtype == DType::kUndefined ? "?" : dtype_name(type.dtype));
  if (!type.shape) return result;
  result += '[';
  for (std::size_t i = 0; i < type.shape->size(); ++i) {
    const ir::Dim& dim = (*type.shape)[i];
    std::string one = dim.to_string();
    if (!dim.is_constant()) {
      std::set<std::string> symbols;
      dim.collect_symbols(symbols);
      for (const std::string& symbol : symbols) {
        const auto at = state_.dim_params.find(symbol);
        if (at == state_.dim_params.end() || at->second.empty()) one = "?";
        else if (dim.is_symbol()) one = at->second;
      }
    }
    result += (i ? ", " : "") + one;
  }
  return result + "]";
}

std::string Inference::clash(const ir::Type& found, const ir::Type& existing) const {
  using Kind = ir::TypeKind;
  if (found.kind == Kind::kUnknown || existing.kind == Kind::kUnknown) return "";
  if (found.kind != existing.kind) return "type";
  if (found.kind == Kind::kSequence || found.kind == Kind::kOptional || found.kind == Kind::kMap) {
    if (found.kind == Kind::kMap && found.dtype != existing.dtype) return "type";
    return found.element && existing.element ? clash(*found.element, *existing.element) : "";
  }
  if (found.dtype != DType::kUndefined && existing.dtype != DType::kUndefined && found.dtype != existing.dtype) return "type";
  if (!found.shape || !existing.shape) return "";
  if (found.shape->size() != existing.shape->size()) return "shape";
  for (std::size_t i = 0; i < found.shape->size(); ++i) {
    const auto a = (*found.shape)[i].constant(), b = (*existing.shape)[i].constant();
    if (a && b && *a != *b) return "shape";
  }
  return "";
}

std::string Inference::merge(const ir::Type& found, ir::Type& existing) const {
  if (std::string what = clash(found, existing); !what.empty()) return what;
  if (found.kind == ir::TypeKind::kUnknown) return "";
  if (existing.kind == ir::TypeKind::kUnknown) {
    existing = found;
    return "";
  }
  if (existing.dtype == DType::kUndefined) existing.dtype = found.dtype;
  if (found.element) {
    ir::Type element = existing.element ? *existing.element : ir::Type{};
    merge(*found.element, element);
    existing.element = std::make_shared<const ir::Type>(std::move(element));
  }
  if (!found.shape) return "";
  if (!existing.shape) {
    existing.shape = found.shape;
    return "";
  }
  for (std::size_t i = 0; i < found.shape->size(); ++i) {
    ir::Dim& dim = (*existing.shape)[i];
    const auto at = dim.is_symbol() ? state_.dim_params.find(dim.to_string()) : state_.dim_params.end();
    const bool unnamed = at != state_.dim_params.end() && at->second.empty();
    if ((*found.shape)[i].is_constant() || unnamed) dim = (*found.shape)[i];
  }
  return "";
}

ir::Type Inference::declared(const ValueTree& value) {
  if (!value.has_type) return {};
  try {
    return onnx::type_of(value.type, state_, value.name);
  } catch (const Error&) {
    return {};  // StructureChecks reports the element type
  }
}

void Inference::set_type(const NodeTree* node, const std::string& name, const ir::Type& found, Scope& scope) {
  if (found.kind == ir::TypeKind::kUnknown) return;
  ir::Type& existing = scope.types[name];
  const std::string what = merge(found, existing);
  if (what.empty()) return;
  Defect& defect =
      findings_.add(what + "-conflict", scope.graph, node, name, fmt::format("it computes {}, the model declares {}", text(found), text(existing)));
  if (scope.foreign) defect.severity = Severity::kWarning;
  // So that the wrong declaration breaks no rule of the nodes behind it. Where the conflict is only a warning, readers of the declared type must still agree
  // with it.
  if (what == "shape" || !scope.foreign) existing = found;
}

// Graphs --------------------------------------------------------------------------------------------------------------

void Inference::walk_graph(const GraphTree& graph, Scope& scope) {
  scope.graph = &graph;
  for (const ValueTree& info : graph.value_infos)
    if (ir::Type type = declared(info); type.kind != ir::TypeKind::kUnknown) scope.types[info.name] = std::move(type);
  for (const ValueTree& input : graph.inputs) {
    ir::Type& known = scope.types[input.name];
    if (scope.around && known.kind != ir::TypeKind::kUnknown) continue;  // nested() merged the declaration with what flows in
    if (ir::Type type = declared(input); type.kind != ir::TypeKind::kUnknown) known = std::move(type);
  }
  for (const ValueTree& output : graph.outputs)
    if (ir::Type type = declared(output); type.kind != ir::TypeKind::kUnknown) scope.types[output.name] = std::move(type);
  for (const InitializerTree& init : graph.initializers) {
    if (init.dtype <= 0 || init.dtype >= kDTypeCount) continue;
    ir::Shape shape(init.dims.begin(), init.dims.end());
    for (ir::Dim& dim : shape)
      if (dim.constant().value_or(0) < 0) dim = fresh();
    ir::Type type = ir::Type::tensor(static_cast<DType>(init.dtype), std::move(shape));
    if (init.sparse) type.kind = ir::TypeKind::kSparseTensor;
    if (const auto at = scope.types.find(init.name); at != scope.types.end() && at->second.kind != ir::TypeKind::kUnknown) {
      if (const std::string what = clash(type, at->second); !what.empty())
        findings_.add(what + "-conflict", &graph, nullptr, init.name,
                      fmt::format("the initializer is {}, the model declares {}", text(type), text(at->second)));
    } else if (model_.record.ir_version >= 4 || scope.around) {
      scope.types[init.name] = std::move(type);
    }
    if (init.usable && !init.sparse) scope.initializers.emplace(init.name, &init);
  }
  walk_nodes(graph, scope);
}

void Inference::walk_nodes(const GraphTree& graph, Scope& scope) {
  scope.graph = &graph;
  for (const NodeTree& node : graph.nodes) {
    if ((scope.around || !active_.empty()) && --visits_left_ < 0) return;
    if (walk_node(node, scope)) continue;
    for (const std::string& output : node.record.outputs)
      if (!output.empty()) scope.lost.insert(output);
  }
}

std::optional<std::int64_t> Inference::opset_of(const NodeTree& node, const Scope& scope) const {
  auto at = scope.opsets->find(node.record.domain);
  if (at == scope.opsets->end() && node.record.domain.empty()) at = scope.opsets->find("ai.onnx");
  return at == scope.opsets->end() ? std::nullopt : std::optional(at->second);
}

Tensor Inference::constant(const std::string& name, const Scope& scope) {
  for (const Scope* s = &scope; s; s = s->around) {
    if (const auto at = s->constants.find(name); at != s->constants.end()) return at->second;
    if (const auto at = s->initializers.find(name); at != s->initializers.end()) {
      const InitializerTree& init = *at->second;
      std::int64_t count = 1;
      for (const std::int64_t dim : init.dims)
        if (dim < 0 || __builtin_mul_overflow(count, dim, &count) || count > kConstantLimit) return {};
      try {
        const onnx::TensorRecord record = onnx::parse_tensor(init.bytes);
        if (record.location == 1) return {};
        return onnx::read_tensor(init.bytes, state_).tensor;
      } catch (const Error&) {
        return {};
      }
    }
    if (s->types.contains(name)) return {};
  }
  return {};
}

bool Inference::is_external(const std::string& name, const Scope& scope) const {
  if (name.empty()) return false;
  if (scope.external.contains(name)) return true;
  const auto at = scope.initializers.find(name);
  if (at == scope.initializers.end()) return false;
  return onnx::parse_tensor(at->second->bytes).location == 1;
}

std::vector<onnx::AttributeRecord> Inference::attributes(const NodeTree& node, const Scope& scope) const {
  std::vector<onnx::AttributeRecord> result;
  for (const AttributeTree& attribute : node.attributes) {
    if (attribute.record.ref.empty()) {
      result.push_back(attribute.record);
      continue;
    }
    if (!scope.bound) continue;
    const auto at = scope.bound->find(attribute.record.ref);
    if (at == scope.bound->end()) continue;  // neither given nor with a default: the inner op's own default
    result.push_back(*at->second);
    result.back().name = attribute.record.name;
  }
  return result;
}

// Nodes ---------------------------------------------------------------------------------------------------------------

/// False when the node's results are not known: it is foreign or broken, or depends on such.
bool Inference::walk_node(const NodeTree& node, Scope& scope) {
  const auto opset = opset_of(node, scope);
  const SchemaVersion* version = opset ? find_schema(node.domain, node.record.op, *opset) : nullptr;
  const FunctionTree* function = version ? nullptr : model_.function_of(node);
  if (!version && !function) {
    scope.foreign = true;
    return false;
  }
  if (node.form_broken) return false;
  const std::size_t before = findings_.count();
  if (version) {
    std::vector<ir::Type> none(node.record.outputs.size());
    check_types(node, *version, none, scope);
    if (findings_.any_error(before)) return false;
  }
  for (const std::string& input : node.record.inputs)
    if (!input.empty() && scope.is_lost(input) && !scope.type(input)) return false;
  if (version && !scope.foreign)
    for (const std::string& input : node.record.inputs)
      if (scope.untyped.contains(input) && !scope.type(input)) {
        findings_.add("unknown-type", scope.graph, &node, input,
                      fmt::format("the type of '{}' cannot be told: the function that makes it calls an operator of a foreign domain", input));
        return false;
      }
  std::optional<std::vector<ir::Type>> outputs;
  if (function) {
    outputs = by_call(node, *function, scope);
  } else {
    if (node.domain.empty() && node.record.op == "If") outputs = if_outputs(node, scope);
    else if (node.domain.empty() && node.record.op == "Loop") outputs = loop_outputs(node, scope);
    else if (node.domain.empty() && node.record.op == "Scan") outputs = scan_outputs(node, scope, *opset);
    else outputs = by_rule(node, *version, scope, *opset);
    if (!outputs) return false;
    check_types(node, *version, *outputs, scope);
    if (findings_.any_error(before)) return false;
  }
  if (!outputs) return false;
  for (std::size_t i = 0; i < outputs->size() && i < node.record.outputs.size(); ++i)
    if (!node.record.outputs[i].empty()) set_type(&node, node.record.outputs[i], (*outputs)[i], scope);
  return true;
}

void Inference::check_types(const NodeTree& node, const SchemaVersion& version, std::vector<ir::Type>& outputs, Scope& scope) {
  const ops::Schema& schema = version.schema();
  std::map<std::string, std::pair<std::string, const ir::Type*>> bound;  // variable -> type, an example
  std::map<std::string, std::string> by;                                 // variable -> tensor that bound it
  const auto check = [&](const ir::Type& type, const ops::Formal& formal, const char* what, const std::string& tensor) {
    const std::string spelled = ops::type_string(type);
    if (spelled.empty() || spelled.find("()") != std::string::npos) return;  // not known to the end
    const ops::TypeConstraint* constraint = schema.constraint(formal.type);
    const bool allowed = constraint ? std::binary_search(constraint->types.begin(), constraint->types.end(), spelled) : spelled == formal.type;
    if (!allowed) {
      findings_.add("type-mismatch", scope.graph, &node, tensor, fmt::format("{} '{}' is {}", what, formal.name, spelled),
                    constraint ? join(constraint->types, 8) : formal.type);
      return;
    }
    if (formal.option == ops::FormalOption::kVariadic && !formal.homogeneous) return;
    const auto [at, fresh] = bound.try_emplace(formal.type, spelled, &type);
    if (fresh) by[formal.type] = tensor;
    else if (at->second.first != spelled)
      findings_.add("type-mismatch", scope.graph, &node, tensor, fmt::format("{} '{}' is {}", what, formal.name, spelled),
                    fmt::format("{} like '{}'", at->second.first, by[formal.type]));
  };
  std::vector<const ir::Type*> keep;
  for (std::size_t i = 0; i < node.record.inputs.size(); ++i) {
    const std::string& name = node.record.inputs[i];
    const ops::Formal* formal = ops::Schema::formal_at(schema.inputs, i);
    const ir::Type* type = name.empty() ? nullptr : scope.type(name);
    if (type && formal) check(*type, *formal, "input", name);
  }
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const ops::Formal* formal = ops::Schema::formal_at(schema.outputs, i);
    if (!formal || node.record.outputs[i].empty()) continue;
    ir::Type& type = outputs[i];
    if (type.kind != ir::TypeKind::kUnknown) {
      check(type, *formal, "output", node.record.outputs[i]);
      continue;
    }
    // Only the element type follows from the constraints.
    const ops::TypeConstraint* constraint = schema.constraint(formal->type);
    std::string only = constraint ? (constraint->types.size() == 1 ? constraint->types[0] : "") : formal->type;
    if (only.starts_with("tensor(")) {
      if (const auto dtype = parse_dtype(std::string_view(only).substr(7, only.size() - 8))) type = ir::Type::tensor(*dtype);
    } else if (const auto at = bound.find(formal->type);
               only.empty() && at != bound.end() && (formal->option != ops::FormalOption::kVariadic || formal->homogeneous)) {
      type = *at->second.second;
      type.shape.reset();
      if (type.element && type.element->shape) {
        ir::Type element = *type.element;
        element.shape.reset();
        type.element = std::make_shared<const ir::Type>(std::move(element));
      }
    }
  }
}

std::optional<std::vector<ir::Type>> Inference::by_rule(const NodeTree& node, const SchemaVersion& version, Scope& scope, std::int64_t opset) {
  std::vector<ir::Type> types(node.record.outputs.size());
  const auto rule_broken = [&](const std::string& tensor, std::string what) {
    findings_.add("shape-rule", scope.graph, &node, tensor, std::move(what));
    return std::nullopt;
  };
  // A slice is inferred from its bounds once all of them are constants: before, none is looked at.
  const auto bounds_are_constants = [&] {
    return std::all_of(node.record.inputs.begin() + 1, node.record.inputs.end(), [&](const std::string& name) {
      return name.empty() || scope.initializers.contains(name) || constant(name, scope).defined() || is_external(name, scope);
    });
  };
  const Proxy* proxy = node.domain.empty() ? proxy_of(node.record.op) : nullptr;
  for (std::size_t i = 0; i < node.record.inputs.size(); ++i) {
    const std::string& input = node.record.inputs[i];
    const ops::Formal* formal = ops::Schema::formal_at(version.schema().inputs, i);
    if (formal && formal->option == ops::FormalOption::kSingle && scope.absent.contains(input))
      return rule_broken(input, fmt::format("it requires '{}', which the function's call leaves out", input));
    if (node.domain.empty() && decides_shapes(node.record.op, i) && is_external(input, scope) && (node.record.op != "Slice" || bounds_are_constants())) {
      findings_.add("external-shape", scope.graph, &node, input, fmt::format("shapes depend on '{}', whose data are in another file", input));
      return std::nullopt;
    }
  }
  ir::Graph graph;
  ir::Node* made = nullptr;
  std::vector<ir::Value*> outputs;
  try {
    std::vector<ir::Value*> inputs;
    std::vector<std::string> names_in = node.record.inputs;
    if (proxy) {
      names_in.clear();
      for (const std::size_t i : proxy->inputs) names_in.push_back(node.record.inputs[i]);
    }
    for (const std::string& name : names_in) {
      ir::Value* value = nullptr;
      if (!name.empty() && !(value = graph.find(name))) {
        const ir::Type* type = scope.type(name);
        const Tensor tensor = constant(name, scope);
        if (tensor.defined() && !proxy) value = graph.add_constant(name, tensor);
        else value = graph.add_input(name, type ? *type : ir::Type{});
        if (proxy && value->type.kind == ir::TypeKind::kTensor) value->type.dtype = DType::kFloat32;
      }
      inputs.push_back(value);
    }
    if (node.domain.empty() && node.record.op == "Constant")
      for (const AttributeTree& a : node.attributes)
        if (a.record.name == "value" && a.record.tensors.size() == 1 && onnx::parse_tensor(a.record.tensors[0]).location == 1)
          scope.external.insert(node.record.outputs[0]);
    ir::Attrs attrs;
    for (onnx::AttributeRecord& record : attributes(node, scope)) {
      auto [name, attribute] = onnx::attribute_of(std::move(record), &graph, state_);
      attrs.set(std::move(name), std::move(attribute));
    }
    std::vector<std::string> names;
    for (std::size_t i = 0; i < node.record.outputs.size(); ++i) names.push_back(node.record.outputs[i].empty() ? "" : fmt::format("\x01{}", i));
    const ir::Attrs given = attrs;
    made = graph.add_node(node.domain, proxy ? std::string(proxy->as) : node.record.op, std::move(inputs), names, std::move(attrs));
    made->name = node.record.name;
    for (ir::Value* output : made->outputs)
      if (output) graph.add_output(output);
    if (const std::string broken = old_rule(version.schema(), *made); !broken.empty()) return rule_broken({}, broken);
    ops::upgrade_nodes(graph, {{node.domain, opset}});
    ops::InferOptions options;
    options.check_types = false;
    ops::infer_graph(graph, options);
    std::map<std::string, ir::Dim> symbols;
    for (std::size_t i = 0; i < types.size(); ++i)
      if (const ir::Value* value = names[i].empty() ? nullptr : graph.find(names[i])) types[i] = renamed(value->type, symbols);
    as_the_package_infers(node.domain, node.record.op, given, types);
    if (proxy && types[0].kind == ir::TypeKind::kTensor) {
      const ir::Type* like = proxy->dtype_of < node.record.inputs.size() ? scope.type(node.record.inputs[proxy->dtype_of]) : nullptr;
      types[0].dtype = proxy->dtype_of < 100 ? (like ? like->dtype : DType::kUndefined) : DType::kInt32;
    }
    if (node.record.op == "Constant" && node.domain.empty() && types.size() == 1 && types[0].kind == ir::TypeKind::kTensor) {
      const Tensor tensor = ops::evaluate_node(*made, {}).front();
      if (tensor.size() <= kConstantLimit) scope.constants.emplace(node.record.outputs[0], tensor);
    }
    return types;
  } catch (const Error& error) {
    if (error.code() == Code::kInvalidModel) {
      const std::string& tensor = error.tensor().starts_with("\x01") ? std::string() : error.tensor();
      return rule_broken(tensor, error.message());
    }
    if (error.code() == Code::kInternal) throw;
    return std::vector<ir::Type>(node.record.outputs.size());  // kUnsupported: an old form that Lathe cannot bring to the new one
  }
}

std::optional<std::vector<ir::Type>> Inference::by_call(const NodeTree& node, const FunctionTree& function, Scope& scope) {
  std::vector<ir::Type> types(node.record.outputs.size());
  if (!active_.insert(&function).second) return types;  // recursion is reported elsewhere
  const onnx::FunctionRecord& f = function.record;
  std::vector<onnx::AttributeRecord> given = attributes(node, scope), defaults;
  for (const data_view view : f.attribute_defaults) {
    try {
      defaults.push_back(onnx::parse_attribute(view));
    } catch (const protozero::exception&) {  // reported with the function
    }
  }
  Bound bound;
  for (const auto& attribute : given) bound[attribute.name] = &attribute;
  for (const auto& attribute : defaults) bound.emplace(attribute.name, &attribute);
  Scope body;
  body.opsets = &function.opsets;
  body.bound = &bound;
  for (std::size_t i = 0; i < f.inputs.size(); ++i) {
    const std::string name = i < node.record.inputs.size() ? node.record.inputs[i] : "";
    if (name.empty() || scope.absent.contains(name)) {
      body.absent.insert(f.inputs[i]);
      continue;
    }
    if (const ir::Type* type = scope.type(name)) body.types[f.inputs[i]] = *type;
    else if (scope.untyped.contains(name)) body.untyped.insert(f.inputs[i]);
    if (const Tensor tensor = constant(name, scope); tensor.defined()) body.constants.emplace(f.inputs[i], tensor);
  }
  const std::size_t before = findings_.count();
  walk_nodes(function.body, body);
  active_.erase(&function);
  if (findings_.any_error(before)) return std::nullopt;
  for (std::size_t i = 0; i < f.outputs.size() && i < types.size(); ++i)
    if (const ir::Type* type = body.type(f.outputs[i])) types[i] = *type;
  for (std::size_t i = 0; i < types.size(); ++i)
    if (types[i].kind == ir::TypeKind::kUnknown && (body.foreign || !body.untyped.empty())) scope.untyped.insert(node.record.outputs[i]);
  return types;
}

}  // namespace lathe::checker
