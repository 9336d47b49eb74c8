// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Whole-graph execution by references.
#include "ops/reference_runner.h"

#include <set>

#include "ops/evaluate.h"
#include "ops/import.h"
#include "ops/validate.h"

namespace lathe::ops {
namespace {

void refuse_unsupported(const ir::Graph& graph) {
  const auto nodes = unsupported_nodes(graph);
  if (nodes.empty()) return;
  std::string text = std::to_string(nodes.size()) + (nodes.size() == 1 ? " node has" : " nodes have") + " no definition: ";
  for (std::size_t i = 0; i < nodes.size(); ++i) text += (i ? ", " : "") + nodes[i]->describe();
  throw Error(Code::kUnsupported, text).with_remedy("`lathe ops` lists the supported operators.");
}

std::string_view form_name(const Tensor& value) {
  switch (value.form()) {
    case ValueForm::kSequence: return "a sequence";
    case ValueForm::kMap: return "a map";
    case ValueForm::kNothing: return "an optional without element";
    default: return "a tensor";
  }
}

/// Why a value of this type cannot be `value`, as to kind and element types; the caller judges shapes of plain tensors. Empty: it can.
std::string kind_defect(const ir::Type& type, const Tensor& value) {
  using Kind = ir::TypeKind;
  if (type.kind == Kind::kOptional) return value.is_nothing() || !type.element ? std::string() : kind_defect(*type.element, value);
  const bool fits = type.kind == Kind::kSequence ? value.is_sequence()
                    : type.kind == Kind::kMap    ? value.is_map()
                    : type.kind == Kind::kTensor ? value.is_tensor()
                                                 : true;
  if (!fits) return "the input is " + std::string(form_name(value)) + ", expected " + type.to_string();
  if (type.kind != Kind::kSequence || !type.element) return {};
  for (std::size_t i = 0; i < value.items().size(); ++i) {
    const Tensor& item = value.items()[i];
    std::string defect = kind_defect(*type.element, item);
    const ir::Type& element = *type.element;
    if (defect.empty() && element.is_tensor() && element.dtype != DType::kUndefined && item.dtype() != element.dtype) {
      defect = "the input has type " + std::string(dtype_name(item.dtype())) + ", expected " + std::string(dtype_name(element.dtype));
    }
    if (!defect.empty()) return "element " + std::to_string(i) + " of the sequence: " + defect;
  }
  return {};
}

/// Values of graphs around that the nested graph (or those inside it) reads.
void collect_captures(const ir::Graph& graph, std::set<const ir::Value*>& into) {
  std::set<const ir::Value*> own;
  for (const auto* v : graph.values()) own.insert(v);
  std::set<const ir::Value*> used;
  graph.for_each([&](const ir::Node& node) {
    used.insert(node.inputs.begin(), node.inputs.end());
    for (const ir::Graph* g : ir::nested_graphs(node)) collect_captures(*g, used);
  });
  used.insert(graph.outputs().begin(), graph.outputs().end());
  for (const auto* v : used) {
    if (v && !own.count(v)) into.insert(v);
  }
}

}  // namespace

struct ReferenceRunner::Plan {
  std::vector<const ir::Node*> nodes;
  std::vector<std::vector<const ir::Value*>> dead_after;  // own values whose last use is nodes[i]
  std::vector<std::vector<const ir::Value*>> captures;    // what the nested graphs of nodes[i] read from here and around
};

std::vector<const ir::Node*> unsupported_nodes(const ir::Graph& graph) {
  std::vector<const ir::Node*> nodes;
  ir::for_each_node_deep(graph, [&](const ir::Node& node) {
    if (!can_evaluate(node)) nodes.push_back(&node);
  });
  return nodes;
}

ReferenceRunner::ReferenceRunner(const ir::Graph& graph, RunnerOptions options) : options_(std::move(options)), graph_(&graph) { refuse_unsupported(graph); }

ReferenceRunner::ReferenceRunner(const ir::Model& model, RunnerOptions options) : options_(std::move(options)), model_(model.clone()) {
  canonicalise_opsets(*model_);
  graph_ = model_->graph.get();
  refuse_unsupported(*graph_);
}

ReferenceRunner::~ReferenceRunner() = default;

const ReferenceRunner::Plan& ReferenceRunner::plan_of(const ir::Graph& graph) {
  auto& slot = plans_[&graph];
  if (slot) return *slot;
  slot = std::make_unique<Plan>();
  std::unordered_map<const ir::Value*, std::size_t> last;
  graph.for_each([&](const ir::Node& node) {
    const std::size_t index = slot->nodes.size();
    slot->nodes.push_back(&node);
    std::set<const ir::Value*> used(node.inputs.begin(), node.inputs.end());
    std::set<const ir::Value*> captured;
    for (const ir::Graph* g : ir::nested_graphs(node)) collect_captures(*g, captured);
    slot->captures.emplace_back(captured.begin(), captured.end());
    used.insert(captured.begin(), captured.end());
    used.insert(node.outputs.begin(), node.outputs.end());  // an unused output dies at once
    for (const auto* v : used) {
      if (v && v->graph == &graph) last[v] = index;
    }
  });
  for (const auto* out : graph.outputs()) last.erase(out);
  slot->dead_after.resize(slot->nodes.size());
  for (const auto& [value, index] : last) slot->dead_after[index].push_back(value);
  return *slot;
}

Tensor ReferenceRunner::lookup(const ir::Value& value) {
  if (const auto it = values_.find(&value); it != values_.end()) return it->second;
  if (!value.is_constant()) {
    throw Error(Code::kInvalidArgument, "the value is not known here: a nested graph was run without the graph around it").at_tensor(value.name);
  }
  Tensor tensor = value.constant;
  if (options_.observe) {
    options_.observe(value, tensor);
    values_[&value] = tensor;
  }
  return tensor;
}

void ReferenceRunner::bind_inputs(const ir::Graph& graph, std::span<const Tensor> inputs) {
  const auto& formals = graph.inputs();
  if (inputs.size() != formals.size()) {
    throw Error(Code::kInvalidArgument,
                "the graph '" + graph.name + "' takes " + std::to_string(formals.size()) + " inputs, got " + std::to_string(inputs.size()));
  }
  ir::Bindings symbols;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const ir::Value& formal = *formals[i];
    Tensor tensor = inputs[i].defined() ? inputs[i] : formal.constant;
    const auto fail = [&](const std::string& what) { throw Error(Code::kInvalidArgument, what).at_tensor(formal.name); };
    if (!tensor.defined()) fail("the input is missing and has no default");
    const bool outermost = &graph == graph_;
    if (outermost) {
      if (const std::string defect = kind_defect(formal.type, tensor); !defect.empty()) fail(defect);
    }
    if (outermost && formal.type.is_tensor() && formal.dtype() != DType::kUndefined && tensor.dtype() != formal.dtype()) {
      fail("the input has type " + std::string(dtype_name(tensor.dtype())) + ", expected " + std::string(dtype_name(formal.dtype())));
    }
    if (outermost && formal.has_shape()) {
      bool fits = tensor.dims().size() == formal.shape().size();
      for (std::size_t axis = 0; fits && axis < tensor.dims().size(); ++axis) {
        const Dim& dim = formal.shape()[axis];
        const std::int64_t extent = tensor.dims()[axis];
        if (const auto c = dim.constant()) {
          fits = *c == extent || *c < 0;
        } else if (dim.is_symbol()) {
          fits = symbols.emplace(dim.to_string(), extent).first->second == extent;
        }
      }
      if (!fits) fail("the input has shape " + lathe::to_string(tensor.dims()) + ", expected " + ir::to_string(formal.shape()));
    }
    if (options_.observe) options_.observe(formal, tensor);
    values_[&formal] = std::move(tensor);
  }
}

std::vector<Tensor> ReferenceRunner::run_graph(const ir::Graph& graph, std::span<const Tensor> inputs) {
  bind_inputs(graph, inputs);
  const Plan& plan = plan_of(graph);
  EvaluateOptions evaluate;
  evaluate.oracle = options_.oracle;
  evaluate.most_trips = options_.most_trips;
  evaluate.run_subgraph = [this](const ir::Graph& nested, std::span<const Tensor> arguments) { return run_graph(nested, arguments); };
  for (std::size_t n = 0; n < plan.nodes.size(); ++n) {
    const ir::Node& node = *plan.nodes[n];
    std::vector<Tensor> arguments;
    arguments.reserve(node.inputs.size());
    for (const auto* v : node.inputs) arguments.push_back(v ? lookup(*v) : Tensor());
    bool left_out = options_.skip && &graph == graph_ && options_.skip(node);
    if (options_.skip)
      for (std::size_t i = 0; i < arguments.size(); ++i) left_out |= node.inputs[i] && !arguments[i].defined();
    if (options_.skip)
      for (const auto* v : plan.captures[n]) left_out |= !lookup(*v).defined();
    auto results = left_out ? std::vector<Tensor>(node.outputs.size()) : evaluate_node(node, arguments, evaluate);
    for (std::size_t i = 0; i < results.size(); ++i) {
      if (!node.outputs[i]) continue;
      if (options_.observe) options_.observe(*node.outputs[i], results[i]);
      values_[node.outputs[i]] = std::move(results[i]);
    }
    for (const auto* dead : plan.dead_after[n]) values_.erase(dead);
  }
  std::vector<Tensor> outputs;
  for (const auto* out : graph.outputs()) outputs.push_back(lookup(*out));
  for (const auto* out : graph.outputs()) {
    if (out->graph == &graph) values_.erase(out);
  }
  return outputs;
}

std::vector<Tensor> ReferenceRunner::run(std::span<const Tensor> inputs) {
  values_.clear();
  auto outputs = run_graph(*graph_, inputs);
  values_.clear();
  return outputs;
}

std::map<std::string, Tensor> ReferenceRunner::run(const std::map<std::string, Tensor>& inputs) {
  std::vector<Tensor> ordered;
  std::size_t matched = 0;
  for (const auto* formal : graph_->inputs()) {
    const auto it = inputs.find(formal->name);
    matched += it != inputs.end();
    ordered.push_back(it == inputs.end() ? Tensor() : it->second);
  }
  if (matched != inputs.size()) {
    for (const auto& [name, tensor] : inputs) {
      const auto* value = graph_->find(name);
      if (!value || value->kind != ir::ValueKind::kInput) {
        throw Error(Code::kInvalidArgument, "the graph has no such input").at_tensor(name);
      }
    }
  }
  const auto outputs = run(ordered);
  std::map<std::string, Tensor> named;
  for (std::size_t i = 0; i < outputs.size(); ++i) named[graph_->outputs()[i]->name] = outputs[i];
  return named;
}

}  // namespace lathe::ops
