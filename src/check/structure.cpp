// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Models, functions, graphs and their names. See structure.h; nodes.cpp has what concerns one node.

#include "check/structure.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "check/schema_table.h"
#include "lathe/dtype.h"
#include "onnx/fields.h"

namespace lathe::checker {
namespace {

constexpr std::int64_t kNewestIrVersion = 14;
constexpr std::size_t kMaxCallDepth = 100, kMaxFunctions = 10000;

std::string called(const std::string& domain) { return domain.empty() ? "ai.onnx" : domain; }

}  // namespace

void StructureChecks::run() {
  check_model();
  const Place main{model_.opsets, true, nullptr};
  check_graph(model_.graph, main, nullptr);
  check_functions();
  check_training();
}

void StructureChecks::check_model() {
  const onnx::ModelRecord& m = model_.record;
  if (m.ir_version <= 0) {
    findings_.add("ir-version", nullptr, nullptr, {}, m.has_ir_version ? fmt::format("the IR version is {}", m.ir_version) : "the file has no IR version",
                  fmt::format("1 to {}", kNewestIrVersion));
  } else if (m.ir_version > kNewestIrVersion) {
    findings_.add("ir-version", nullptr, nullptr, {}, fmt::format("the IR version is {}", m.ir_version), fmt::format("at most {}", kNewestIrVersion));
  }
  if (m.opsets.empty() && m.ir_version >= 3) findings_.add("opset-missing", nullptr, nullptr, {}, "the model imports no operator set");
  if (!m.opsets.empty() && m.ir_version > 0 && m.ir_version < 3)
    findings_.add("ir-version", nullptr, nullptr, {}, fmt::format("the file has IR version {} and imports operator sets", m.ir_version),
                  "IR version 3 or newer");
  check_opsets(m.opsets, nullptr);
  std::set<std::string> keys;
  for (const auto& [key, value] : m.metadata)
    if (!keys.insert(key).second) findings_.add("metadata-duplicate", nullptr, nullptr, {}, fmt::format("metadata_props has the key '{}' twice", key));
  if (!m.functions.empty() && m.ir_version > 0 && m.ir_version < 8)
    findings_.add("ir-version-rule", nullptr, nullptr, {}, fmt::format("local functions need IR version 8, the file has {}", m.ir_version));
}

void StructureChecks::check_opsets(const std::vector<onnx::OpsetRecord>& opsets, const FunctionTree* function) {
  const GraphTree* where = function ? &function->body : nullptr;
  std::map<std::string, std::int64_t> seen;
  for (const onnx::OpsetRecord& opset : opsets) {
    const std::string domain = opset.domain == "ai.onnx" ? "" : opset.domain;
    const auto [at, fresh] = seen.emplace(domain, opset.version);
    if (!fresh) {
      Defect& defect = findings_.add("opset-duplicate", where, nullptr, {},
                                     at->second == opset.version ? fmt::format("{} {} is imported twice", called(domain), opset.version)
                                                                 : fmt::format("{} is imported as {} and as {}", called(domain), at->second, opset.version));
      if (at->second == opset.version) defect.severity = Severity::kWarning;
    }
    const int newest = newest_opset(domain);
    if (opset.version < 1 || (newest > 0 && opset.version > newest) || opset.version > INT32_MAX)
      findings_.add("opset-version", where, nullptr, {}, fmt::format("{} is imported in version {}", called(domain), opset.version),
                    newest > 0 ? fmt::format("1 to {}", newest) : "at least 1");
  }
}

void StructureChecks::note_type(std::int64_t dtype) {
  if (dtype <= 0 || dtype >= kDTypeCount || model_.record.ir_version <= 0) return;
  const std::int64_t need = onnx::ir_version_of(static_cast<DType>(dtype));
  if (model_.record.ir_version < need)
    findings_.add("ir-version-rule", nullptr, nullptr, {},
                  fmt::format("{} needs IR version {}, the file has {}", dtype_name(static_cast<DType>(dtype)), need, model_.record.ir_version));
}

// Types of inputs and outputs -----------------------------------------------------------------------------------------

void StructureChecks::check_type(const onnx::TypeRecord& type, const ValueTree& value, const GraphTree& graph, const char* what, bool main) {
  using Kind = onnx::TypeRecord::Kind;
  const auto lacks = [&](const char* part) {
    if (main) findings_.add("value-info", &graph, nullptr, value.name, fmt::format("{} '{}' is declared without {}", what, value.name, part));
  };
  const bool tensor = type.kind == Kind::kTensor || type.kind == Kind::kSparseTensor;
  switch (type.kind) {
    case Kind::kNone: lacks("a type"); return;
    case Kind::kTensor:
    case Kind::kSparseTensor:
      if (!type.has_dtype || type.dtype == 0) lacks("an element type");
      if (!type.has_shape) lacks("a shape");
      break;
    case Kind::kSequence:
    case Kind::kOptional:
      if (!type.element) lacks("the type of its elements");
      break;
    case Kind::kMap:
      if (!type.has_dtype || type.dtype == 0) lacks("the type of its keys");
      if (!type.element) lacks("the type of its values");
      break;
    case Kind::kOpaque:
      if (type.opaque.empty()) lacks("the name of its opaque type");
      break;
  }
  if (tensor || type.kind == Kind::kMap) {
    if (type.dtype < 0 || type.dtype >= kDTypeCount)
      findings_.add("tensor-type", &graph, nullptr, value.name, fmt::format("{} '{}' has the element type number {}", what, value.name, type.dtype));
    note_type(type.dtype);
  }
  for (std::size_t axis = 0; axis < type.shape.size(); ++axis) {
    const onnx::DimRecord& dim = type.shape[axis];
    if (dim.kind == onnx::DimRecord::Kind::kValue && dim.value < 0)
      findings_.add("negative-dim", &graph, nullptr, value.name, fmt::format("{} '{}' has the extent {} at axis {}", what, value.name, dim.value, axis));
  }
  if (!type.element) return;
  // The elements of sequences and optionals may have any shape.
  const bool bare = type.element->kind == Kind::kTensor || type.element->kind == Kind::kSparseTensor;
  if (bare && main && (!type.element->has_dtype || type.element->dtype == 0)) lacks("the type of its elements");
  check_type(*type.element, value, graph, what, main && !bare);
}

void StructureChecks::check_value(const ValueTree& value, const GraphTree& graph, const char* what, bool main) {
  if (value.name.empty()) findings_.add("name-missing", &graph, nullptr, {}, fmt::format("an {} has no name", what));
  if (!value.has_type) {
    if (main) findings_.add("value-info", &graph, nullptr, value.name, fmt::format("{} '{}' is declared without a type", what, value.name));
    return;
  }
  check_type(value.type, value, graph, what, main);
}

// Graphs --------------------------------------------------------------------------------------------------------------

void StructureChecks::check_initializers(GraphTree& graph, const Place& place, Names& names) {
  std::set<std::string> seen;
  for (InitializerTree& init : graph.initializers) {
    if (init.name.empty()) findings_.add("name-missing", &graph, nullptr, {}, "an initializer has no name");
    else if (!seen.insert(init.name).second) findings_.add("name-clash", &graph, nullptr, init.name, fmt::format("two initializers are named '{}'", init.name));
    note_type(init.dtype);
    if (init.usable)
      init.usable =
          init.sparse ? tensors_.sparse(init.bytes, &graph, nullptr, "a sparse initializer") : tensors_.tensor(init.bytes, &graph, nullptr, "an initializer");
    if (init.sparse && model_.record.ir_version > 0 && model_.record.ir_version < 6)
      findings_.add("ir-version-rule", nullptr, nullptr, {}, fmt::format("sparse initializers need IR version 6, the file has {}", model_.record.ir_version));
    const bool is_input = names.here.contains(init.name);
    if (!init.sparse && !is_input && model_.record.ir_version > 0 && model_.record.ir_version <= 3)
      findings_.add("initializer-not-input", &graph, nullptr, init.name,
                    fmt::format("'{}' is no input, as IR version {} wants it", init.name, model_.record.ir_version));
    if (is_input && !place.main && model_.record.ir_version >= 4)
      findings_.add("initializer-is-input", &graph, nullptr, init.name, fmt::format("'{}' is an input and an initializer", init.name));
    if (place.main == false && names.around && names.around->visible(init.name) && !is_input)
      findings_.add("name-shadowed", &graph, nullptr, init.name, fmt::format("initializer '{}' hides the tensor of the graph around", init.name));
  }
  for (const InitializerTree& init : graph.initializers) names.here.insert(init.name);
}

void StructureChecks::check_graph(GraphTree& graph, const Place& place, const Names* around) {
  if (graph.name.empty()) findings_.add("graph-name", &graph, nullptr, {}, place.main ? "the graph has no name" : "the nested graph has no name");
  for (const ValueTree& input : graph.inputs) check_value(input, graph, "input", place.main);
  for (const ValueTree& output : graph.outputs) check_value(output, graph, "output", place.main);
  Names names;
  names.around = around;
  for (const ValueTree& input : graph.inputs) {
    if (!names.here.insert(input.name).second) findings_.add("name-clash", &graph, nullptr, input.name, fmt::format("two inputs are named '{}'", input.name));
    else if (around && around->visible(input.name))
      findings_.add("name-shadowed", &graph, nullptr, input.name, fmt::format("input '{}' hides the tensor of the graph around", input.name));
  }
  check_initializers(graph, place, names);
  std::map<std::string, std::size_t> node_names;
  for (const NodeTree& node : graph.nodes) {
    for (const std::string& output : node.record.outputs)
      if (!output.empty()) names.later.insert(output);
    if (!node.record.name.empty()) ++node_names[node.record.name];
  }
  for (const auto& [name, count] : node_names)
    if (count > 1) findings_.add("node-name-duplicate", &graph, nullptr, {}, fmt::format("{} nodes are named '{}'", count, name));
  std::map<std::size_t, std::vector<std::string>> unsorted;
  for (NodeTree& node : graph.nodes) {
    if (node.unreadable) continue;
    std::set<std::string> reported;
    for (const std::string& input : node.record.inputs) {
      if (input.empty() || names.visible(input) || !reported.insert(input).second) continue;
      if (names.promised(input)) unsorted[node.record.index].push_back(input);
      else findings_.add("undefined-input", &graph, &node, input, fmt::format("its input '{}' is made by no node, input or initializer", input));
    }
    check_node(node, graph, place, names);
    for (const std::string& output : node.record.outputs) {
      if (output.empty()) continue;
      if (names.visible(output)) findings_.add("name-clash", &graph, &node, output, fmt::format("its output '{}' has the name of another tensor", output));
      names.here.insert(output);
    }
  }
  if (!unsorted.empty()) check_cycles(graph, unsorted);
  std::set<std::string> outputs;
  for (const ValueTree& output : graph.outputs) {
    if (output.name.empty()) continue;
    if (!names.here.contains(output.name)) {
      const bool outer = around && around->visible(output.name);
      findings_.add("undefined-output", &graph, nullptr, output.name,
                    outer ? fmt::format("output '{}' is a tensor of the graph around", output.name)
                          : fmt::format("output '{}' is made by no node of this graph", output.name),
                    outer ? "a tensor of the nested graph itself (through an Identity)" : "");
    }
    if (!outputs.insert(output.name).second) {
      findings_.add("name-clash", &graph, nullptr, output.name, fmt::format("two outputs are named '{}'", output.name)).severity = Severity::kWarning;
    }
  }
  for (const ValueTree& info : graph.value_infos) {
    if (info.has_type) check_type(info.type, info, graph, "value_info", false);
    if (info.name.empty()) findings_.add("value-info-stray", &graph, nullptr, {}, "a value_info has no name");
    else if (!names.here.contains(info.name))
      findings_.add("value-info-stray", &graph, nullptr, info.name, fmt::format("value_info describes '{}', which there is not", info.name));
  }
}

namespace {

void collect_reads(const NodeTree& node, std::vector<std::string>& into) {
  for (const std::string& input : node.record.inputs) into.push_back(input);
  for (const AttributeTree& attribute : node.attributes)
    for (const auto& graph : attribute.graphs)
      for (const NodeTree& inner : graph->nodes) collect_reads(inner, into);
}

}  // namespace

void StructureChecks::check_cycles(const GraphTree& graph, const std::map<std::size_t, std::vector<std::string>>& unsorted) {
  // Strongly connected components, with an explicit stack (Tarjan).
  const std::size_t n = graph.nodes.size();
  std::unordered_map<std::string, std::size_t> maker;
  for (const NodeTree& node : graph.nodes)
    for (const std::string& output : node.record.outputs)
      if (!output.empty()) maker.emplace(output, node.record.index);
  std::vector<std::vector<std::size_t>> needs(n);
  for (const NodeTree& node : graph.nodes) {
    std::vector<std::string> reads;
    collect_reads(node, reads);
    for (const std::string& name : reads)
      if (const auto at = maker.find(name); at != maker.end()) needs[node.record.index].push_back(at->second);
  }
  constexpr std::size_t kNone = static_cast<std::size_t>(-1);
  std::vector<std::size_t> order(n, kNone), low(n, 0), component(n, kNone), path;
  std::vector<std::vector<std::size_t>> members;
  std::size_t counter = 0;
  for (std::size_t root = 0; root < n; ++root) {
    if (order[root] != kNone) continue;
    std::vector<std::pair<std::size_t, std::size_t>> stack{{root, 0}};
    while (!stack.empty()) {
      auto& [at, edge] = stack.back();
      if (edge == 0) {
        order[at] = low[at] = counter++;
        path.push_back(at);
      }
      if (edge < needs[at].size()) {
        const std::size_t next = needs[at][edge++];
        if (order[next] == kNone) stack.emplace_back(next, 0);
        else if (component[next] == kNone) low[at] = std::min(low[at], order[next]);
        continue;
      }
      if (low[at] == order[at]) {
        members.emplace_back();
        while (true) {
          const std::size_t member = path.back();
          path.pop_back();
          component[member] = members.size() - 1;
          members.back().push_back(member);
          if (member == at) break;
        }
        std::sort(members.back().begin(), members.back().end());
      }
      const std::size_t done = at;
      stack.pop_back();
      if (!stack.empty()) low[stack.back().first] = std::min(low[stack.back().first], low[done]);
    }
  }
  const auto cyclic = [&](std::size_t node) {
    const auto& all = members[component[node]];
    return all.size() > 1 || std::find(needs[node].begin(), needs[node].end(), node) != needs[node].end();
  };
  std::set<std::size_t> reported;
  for (const auto& [index, inputs] : unsorted) {
    for (const std::string& input : inputs) {
      const auto at = maker.find(input);
      const NodeTree& node = graph.nodes[index];
      if (at == maker.end() || component[at->second] != component[index] || !cyclic(index)) {
        findings_.add("not-sorted", &graph, &node, input, fmt::format("it reads '{}', which is made by a later node", input));
        continue;
      }
      if (!reported.insert(component[index]).second) continue;
      const auto& all = members[component[index]];
      std::string text;
      for (std::size_t i = 0; i < all.size() && i < 6; ++i)
        text += fmt::format("{}{} '{}'", i ? ", " : "", graph.nodes[all[i]].op_text(), graph.nodes[all[i]].label());
      if (all.size() > 6) text += fmt::format(" and {} more", all.size() - 6);
      findings_.add("cycle", &graph, &node, input,
                    all.size() == 1 ? fmt::format("it reads its own result '{}'", input) : fmt::format("{} need each other's results", text));
    }
  }
}

// Functions -----------------------------------------------------------------------------------------------------------

void StructureChecks::check_functions() {
  if (model_.functions.size() > kMaxFunctions)
    findings_.add("function-form", nullptr, nullptr, {}, fmt::format("the model has {} local functions", model_.functions.size()),
                  fmt::format("at most {}", kMaxFunctions));
  std::set<std::string> ids;
  for (const auto& function : model_.functions)
    if (!ids.insert(function->id()).second)
      findings_.add("function-duplicate", nullptr, nullptr, {}, fmt::format("two local functions are {}", function->id()));
  for (const auto& function : model_.functions) check_function(*function);
  check_recursion();
}

void StructureChecks::check_function(FunctionTree& function) {
  const onnx::FunctionRecord& f = function.record;
  GraphTree& body = function.body;
  const auto form = [&](std::string what, std::string expected = {}) -> Defect& {
    return findings_.add("function-form", &body, nullptr, {}, std::move(what), std::move(expected));
  };
  if (f.name.empty()) form("it has no name");
  if (!f.has_domain && model_.record.ir_version >= 8) form("it has no domain");
  check_opsets(f.opsets, &function);
  Names names;
  for (const std::string& input : f.inputs)
    if (!names.here.insert(input).second) form(fmt::format("two inputs are named '{}'", input));
  std::set<std::string> seen;
  for (const std::string& output : f.outputs)
    if (!seen.insert(output).second) form(fmt::format("two outputs are named '{}'", output));
  seen.clear();
  for (const std::string& attribute : f.attributes)
    if (!seen.insert(attribute).second) form(fmt::format("the attribute '{}' is listed twice", attribute));
  for (const data_view view : f.attribute_defaults) {
    std::string name;
    try {
      name = onnx::parse_attribute(view).name;
    } catch (const protozero::exception& error) {
      findings_.add("broken-encoding", &body, nullptr, {}, fmt::format("a default of an attribute cannot be read: {}", reason(error)));
      continue;
    }
    if (!seen.insert(name).second) form(fmt::format("the attribute '{}' is listed twice", name));
  }
  const Place place{function.opsets, false, &function};
  for (const NodeTree& node : body.nodes)
    for (const std::string& output : node.record.outputs)
      if (!output.empty()) names.later.insert(output);
  std::map<std::size_t, std::vector<std::string>> unsorted;
  for (NodeTree& node : body.nodes) {
    if (node.unreadable) continue;
    for (const std::string& input : node.record.inputs) {
      if (input.empty() || names.visible(input)) continue;
      if (names.promised(input)) unsorted[node.record.index].push_back(input);
      else findings_.add("undefined-input", &body, &node, input, fmt::format("its input '{}' is made by no node and is no input of the function", input));
    }
    // The same operator must mean the same in function and model.
    const auto mine = function.opsets.find(node.record.domain);
    std::int64_t models = 0;
    if (const auto at = model_.opsets.find(node.record.domain); at != model_.opsets.end()) models = at->second;
    for (const auto& other : model_.functions)
      if (const auto at = other->opsets.find(node.record.domain); models == 0 && at != other->opsets.end()) models = at->second;
    if (mine != function.opsets.end() && models > 0 && mine->second != models) {
      const SchemaVersion* a = find_schema(node.domain, node.record.op, mine->second);
      const SchemaVersion* b = find_schema(node.domain, node.record.op, models);
      if (a != b)
        findings_.add(
            "function-opset", &body, &node, {},
            fmt::format("the function imports {} {}, the model {}, and {} differs between them", called(node.domain), mine->second, models, node.record.op));
    }
    check_node(node, body, place, names);
    for (const std::string& output : node.record.outputs) {
      if (output.empty()) continue;
      if (names.visible(output)) findings_.add("name-clash", &body, &node, output, fmt::format("its output '{}' has the name of another tensor", output));
      names.here.insert(output);
    }
  }
  if (!unsorted.empty()) check_cycles(body, unsorted);
  for (const std::string& output : f.outputs)
    if (!names.here.contains(output))
      findings_.add("undefined-output", &body, nullptr, output, fmt::format("the function's output '{}' is made by none of its nodes", output));
}

void StructureChecks::check_recursion() {
  std::map<const FunctionTree*, std::set<const FunctionTree*>> calls;
  const std::function<void(const GraphTree&, std::set<const FunctionTree*>&)> collect = [&](const GraphTree& graph, std::set<const FunctionTree*>& into) {
    for (const NodeTree& node : graph.nodes) {
      if (const FunctionTree* callee = model_.function_of(node)) into.insert(callee);
      for (const AttributeTree& attribute : node.attributes)
        for (const auto& inner : attribute.graphs) collect(*inner, into);
    }
  };
  for (const auto& function : model_.functions) collect(function->body, calls[function.get()]);
  enum class State { kNew, kOnPath, kDone };
  std::map<const FunctionTree*, State> state;
  std::map<const FunctionTree*, std::size_t> height;
  for (const auto& root : model_.functions) {
    if (state[root.get()] != State::kNew) continue;
    std::vector<std::pair<const FunctionTree*, std::set<const FunctionTree*>::const_iterator>> path;
    const auto enter = [&](const FunctionTree* f) {
      state[f] = State::kOnPath;
      path.emplace_back(f, calls[f].begin());
    };
    enter(root.get());
    while (!path.empty()) {
      const FunctionTree* f = path.back().first;
      if (path.back().second == calls[f].end()) {
        std::size_t h = 0;
        for (const FunctionTree* callee : calls[f]) h = std::max(h, height[callee]);
        height[f] = h + 1;
        state[f] = State::kDone;
        path.pop_back();
        continue;
      }
      const FunctionTree* callee = *path.back().second++;
      if (state[callee] == State::kOnPath) {
        std::string text;
        bool inside = false;
        for (const auto& [on_path, at] : path) {
          inside |= on_path == callee;
          if (inside) text += on_path->id() + " -> ";
        }
        findings_.add("function-recursive", nullptr, nullptr, {}, text + callee->id());
      } else if (state[callee] == State::kNew) {
        enter(callee);
      }
    }
  }
  for (const auto& [f, h] : height)
    if (h > kMaxCallDepth && h - 1 <= kMaxCallDepth)
      findings_.add("nested-too-deeply", &f->body, nullptr, {}, fmt::format("local functions call each other more than {} deep", kMaxCallDepth));
}

// Training ------------------------------------------------------------------------------------------------------------

void StructureChecks::check_training() {
  const auto unread = model_.record.unread.find(onnx::field::model::kTrainingInfo);
  if (unread == model_.record.unread.end()) return;
  if (model_.record.ir_version > 0 && model_.record.ir_version < 7)
    findings_.add("ir-version-rule", nullptr, nullptr, {}, fmt::format("training information needs IR version 7, the file has {}", model_.record.ir_version));
  constexpr std::uint32_t kInitialization = 1, kAlgorithm = 2, kInitializationBinding = 3, kUpdateBinding = 4;
  try {
    onnx::FieldReader all(data_view(unread->second.data(), unread->second.size()));
    while (all.next()) {
      onnx::FieldReader info(all.get_view());
      GraphTree initialization, algorithm;
      std::vector<std::pair<std::string, std::string>> first, update;
      while (info.next()) {
        switch (info.tag()) {
          case kInitialization: read_graph_tree(info.get_view(), initialization, "training_info.initialization", findings_, 1); break;
          case kAlgorithm: read_graph_tree(info.get_view(), algorithm, "training_info.algorithm", findings_, 1); break;
          case kInitializationBinding: first.push_back(onnx::read_entry(info.get_view())); break;
          case kUpdateBinding: update.push_back(onnx::read_entry(info.get_view())); break;
          default: info.skip();
        }
      }
      const auto check = [&](const auto& binding, const char* what, const GraphTree& graph) {
        std::set<std::string> keys;
        for (const auto& [key, value] : binding) {
          const auto named = [&](const auto& list, const std::string& name) {
            return std::any_of(list.begin(), list.end(), [&](const auto& item) { return item.name == name; });
          };
          if (!keys.insert(key).second) findings_.add("training-info", nullptr, nullptr, key, fmt::format("{} binds '{}' twice", what, key));
          if (!named(model_.graph.initializers, key) && !named(algorithm.initializers, key))
            findings_.add("training-info", nullptr, nullptr, key, fmt::format("{} binds '{}', which is no initializer", what, key));
          if (!named(graph.outputs, value))
            findings_.add("training-info", nullptr, nullptr, value, fmt::format("{} binds to '{}', which is no output of its graph", what, value));
        }
      };
      check(first, "initialization_binding", initialization);
      check(update, "update_binding", algorithm);
    }
  } catch (const protozero::exception& error) {
    findings_.add("broken-encoding", nullptr, nullptr, {}, fmt::format("the training information cannot be read: {}", reason(error)));
  }
}

}  // namespace lathe::checker
