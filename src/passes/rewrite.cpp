// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Shared parts of the rewrites.

#include "passes/rewrite.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "ops/infer.h"

namespace lathe::passes {

using ir::Dim;
using ir::Graph;
using ir::Node;
using ir::Shape;
using ir::Value;

bool single_use(const Value* value) { return value && value->uses.size() == 1 && !value->is_graph_output(); }

Node* producer_of(const Value* value, std::string_view op) { return value && value->producer && value->producer->is(op) ? value->producer : nullptr; }

Node* sole_producer(const Value* value, std::string_view op) { return single_use(value) ? producer_of(value, op) : nullptr; }

bool is_constant(const Value* value) { return value && value->is_constant() && value->constant.defined(); }

std::optional<double> splat_of(const Value* value) {
  if (!is_constant(value)) return std::nullopt;
  const Tensor& t = value->constant;
  const int bits = dtype_bits(t.dtype());
  if (t.size() < 1 || bits < 8 || !(is_float(t.dtype()) || is_integer(t.dtype()) || t.dtype() == DType::kBool)) return std::nullopt;
  const auto step = static_cast<std::size_t>(bits) / 8;
  // Overlapping compare: every element equals its successor.
  if (t.bytes() > step && std::memcmp(t.raw(), t.raw() + step, t.bytes() - step) != 0) return std::nullopt;
  return t.as_double(0);
}

bool is_splat(const Value* value, double number) {
  const auto splat = splat_of(value);
  return splat && *splat == number;
}

std::optional<std::vector<std::int64_t>> constant_ints(const Value* value) {
  if (!is_constant(value) || !is_integer(value->dtype())) return std::nullopt;
  return value->constant.to_int64_vector();
}

bool same_shape(const Value* a, const Value* b) {
  return a && b && a->type.is_tensor() && b->type.is_tensor() && a->has_shape() && b->has_shape() && a->shape() == b->shape();
}

bool same_type(const Value* a, const Value* b) { return same_shape(a, b) && a->dtype() == b->dtype() && a->dtype() != DType::kUndefined; }

std::optional<std::int64_t> rank_of(const Value* value) {
  if (!value || !value->has_shape()) return std::nullopt;
  return static_cast<std::int64_t>(value->shape().size());
}

std::optional<std::int64_t> element_count_of(const Value* value) {
  if (!value || !value->has_shape()) return std::nullopt;
  const auto dims = ir::constant_dims(value->shape());
  if (!dims) return std::nullopt;
  return element_count(*dims);
}

std::optional<std::int64_t> normalise_axis(std::int64_t axis, std::int64_t rank) {
  if (axis < -rank || axis >= rank) return std::nullopt;
  return axis < 0 ? axis + rank : axis;
}

std::optional<std::vector<std::int64_t>> axes_input(const Node& node, std::size_t index, std::int64_t rank, bool fallback_all) {
  std::vector<std::int64_t> axes;
  const Value* input = node.input(index);
  std::optional<std::vector<std::int64_t>> given;
  if (input) {
    given = constant_ints(input);
    if (!given) return std::nullopt;
  }
  if (!given || given->empty()) {
    if (fallback_all) {
      for (std::int64_t i = 0; i < rank; ++i) axes.push_back(i);
    }
    return axes;
  }
  for (const std::int64_t axis : *given) {
    const auto normal = normalise_axis(axis, rank);
    if (!normal) return std::nullopt;
    axes.push_back(*normal);
  }
  std::sort(axes.begin(), axes.end());
  return axes;
}

Value* other_operand(const Node& node, const Value* value) {
  if (node.inputs.size() != 2) return nullptr;
  if (node.inputs[0] == value) return node.inputs[1];
  return node.inputs[1] == value ? node.inputs[0] : nullptr;
}

bool zero_sign_is_free(const Value* value) {
  // Sums that start from +0 and functions without negative results: whether they give -0 is already a matter of the implementation.
  static const std::set<std::string_view> kProducers = {
      "Conv",       "ConvTranspose",     "Gemm",        "MatMul",   "Softmax",     "Exp",      "Sigmoid",         "Relu",   "ReduceSum",
      "ReduceMean", "GlobalAveragePool", "AveragePool", "ReduceL2", "HardSigmoid", "Softplus", "ReduceSumSquare", "Einsum", "LayerNormalization"};
  // Functions whose result is the same for both zeros, or again a matter of the implementation. Odd functions hand the sign on.
  static const std::set<std::string_view> kConsumers = {"Conv",
                                                        "ConvTranspose",
                                                        "Gemm",
                                                        "MatMul",
                                                        "Softmax",
                                                        "Exp",
                                                        "Sigmoid",
                                                        "Relu",
                                                        "ReduceSum",
                                                        "ReduceMean",
                                                        "GlobalAveragePool",
                                                        "AveragePool",
                                                        "HardSigmoid",
                                                        "Softplus",
                                                        "LayerNormalization",
                                                        "BatchNormalization",
                                                        "Equal",
                                                        "Less",
                                                        "Greater",
                                                        "LessOrEqual",
                                                        "GreaterOrEqual",
                                                        "Abs",
                                                        "Cos"};
  if (!is_float(value->dtype())) return true;
  if (value->producer && value->producer->domain.empty() && kProducers.contains(value->producer->op)) return true;
  if (value->is_graph_output()) return false;
  return std::all_of(value->uses.begin(), value->uses.end(), [](const ir::Use& use) { return use.node->domain.empty() && kConsumers.contains(use.node->op); });
}

bool is_pointwise(const Node& node) {
  static const std::set<std::string_view> kOps = {"Add",
                                                  "Sub",
                                                  "Mul",
                                                  "Div",
                                                  "Pow",
                                                  "Min",
                                                  "Max",
                                                  "And",
                                                  "Or",
                                                  "Xor",
                                                  "Equal",
                                                  "Less",
                                                  "Greater",
                                                  "LessOrEqual",
                                                  "GreaterOrEqual",
                                                  "Where",
                                                  "Relu",
                                                  "LeakyRelu",
                                                  "Sigmoid",
                                                  "Tanh",
                                                  "Exp",
                                                  "Log",
                                                  "Sqrt",
                                                  "Reciprocal",
                                                  "Neg",
                                                  "Abs",
                                                  "Erf",
                                                  "Gelu",
                                                  "HardSigmoid",
                                                  "HardSwish",
                                                  "Clip",
                                                  "Cast",
                                                  "Not",
                                                  "Floor",
                                                  "Ceil",
                                                  "Round",
                                                  "Sign",
                                                  "Softplus",
                                                  "Softsign",
                                                  "Elu",
                                                  "Selu",
                                                  "Celu",
                                                  "Mish",
                                                  "ThresholdedRelu",
                                                  "Sin",
                                                  "Cos",
                                                  "IsNaN",
                                                  "IsInf",
                                                  "Identity"};
  return node.domain.empty() && node.outputs.size() == 1 && kOps.contains(node.op);
}

bool visible_from(const Value* outer, const Graph* graph) {
  for (; graph; graph = graph->parent()) {
    if (outer->graph == graph) return true;
  }
  return false;
}

void merge_sources(Node& into, const Node& from) {
  for (const std::string& source : from.sources) {
    if (std::find(into.sources.begin(), into.sources.end(), source) == into.sources.end()) into.sources.push_back(source);
  }
}

void merge_sources(Graph& graph, const Value& value, const std::vector<ir::Use>& readers, const Node& from) {
  if (value.producer && value.producer->graph == &graph) {
    merge_sources(*value.producer, from);
  } else {
    for (const ir::Use& use : readers) merge_sources(*use.node, from);
  }
}

Value* add_constant(Graph& graph, std::string_view hint, Tensor tensor) { return graph.add_constant(graph.unique_name(hint), std::move(tensor)); }

Value* add_ints(Graph& graph, std::string_view hint, const std::vector<std::int64_t>& values) { return add_constant(graph, hint, Tensor::vector(values)); }

Value* add_scalar(Graph& graph, std::string_view hint, DType dtype, double number) {
  Tensor tensor(dtype, {});
  tensor.set_from_double(0, number);
  return add_constant(graph, hint, std::move(tensor));
}

void transmute(Node& node, std::string_view op, std::vector<Value*> inputs, ir::Attrs attrs) {
  node.domain.clear();
  node.op = op;
  node.overload.clear();
  node.attrs = std::move(attrs);
  node.graph->set_inputs(&node, std::move(inputs));
}

bool bypass(Node& node, Value* value) {
  Graph& graph = *node.graph;
  Value* output = node.outputs[0];
  const std::vector<ir::Use> readers = output->uses;
  if (graph.replace_all_uses(output, value)) {
    merge_sources(graph, *value, readers, node);
    erase_dead(&node);
    return true;
  }
  const bool was_identity = node.is("Identity") && node.inputs.size() == 1 && node.inputs[0] == value;
  if (!was_identity) {
    for (std::size_t i = node.outputs.size(); i-- > 1;) {
      if (node.outputs[i]) graph.remove_node_output(&node, i);
    }
    const std::vector<Value*> inputs = node.inputs;
    transmute(node, "Identity", {value});
    for (const Value* input : inputs) {
      if (input && input->graph == &graph) erase_dead(input->producer);
    }
  }
  // Inner users read the value itself; only the interface needs the copy.
  bool changed = !was_identity;
  const std::vector<ir::Use> uses = output->uses;
  for (const ir::Use& use : uses) {
    use.node->graph->set_input(use.node, static_cast<std::size_t>(use.index), value);
    changed = true;
  }
  return changed;
}

void take_over(Graph& graph, Node& node, const std::vector<Value*>& results) {
  for (std::size_t i = 0; i < results.size() && i < node.outputs.size(); ++i) {
    Value* output = node.outputs[i];
    if (!output || !results[i] || graph.replace_all_uses(output, results[i])) continue;
    Node* identity = graph.add_node("", "Identity", {results[i]}, {graph.unique_name(output->name + "_result")}, {}, &node);
    identity->outputs[0]->type = output->type;
    merge_sources(*identity, node);
    graph.replace_all_uses(output, identity->outputs[0]);
  }
}

bool replace_by_constant(Node& node, std::size_t output, Tensor tensor) {
  Graph& graph = *node.graph;
  Value* old = node.outputs[output];
  if (old->is_graph_output()) {
    // An interface name must stay a node output: Identity(constant) when this is the only output, else leave the node.
    std::size_t live = 0;
    for (const Value* value : node.outputs) live += value && (!value->uses.empty() || value->is_graph_output()) ? 1 : 0;
    if (live != 1 || output != 0) return false;
    if (node.is("Identity") && is_constant(node.input(0))) return false;
    for (std::size_t i = node.outputs.size(); i-- > 1;) {
      if (node.outputs[i]) graph.remove_node_output(&node, i);
    }
    const std::vector<Value*> inputs = node.inputs;
    Value* constant = add_constant(graph, old->name + "_value", std::move(tensor));
    transmute(node, "Identity", {constant});
    for (const Value* input : inputs) {
      if (input && input->graph == &graph) erase_dead(input->producer);
    }
    return true;
  }
  if (old->uses.empty()) return false;
  const std::string name = old->name;
  Value* constant = add_constant(graph, name, std::move(tensor));
  constant->doc = old->doc;
  graph.replace_all_uses(old, constant);
  // The constant is numerically the old value, so it takes its name.
  graph.rename(old, graph.unique_name(name + "_folded"));
  graph.rename(constant, name);
  erase_dead(&node);
  return true;
}

void erase_dead(Node* node) {
  std::vector<Node*> work{node};
  std::set<const Node*> erased;
  while (!work.empty()) {
    Node* current = work.back();
    work.pop_back();
    if (!current || erased.contains(current) || !current->graph || current->outputs.empty()) continue;
    const bool used =
        std::any_of(current->outputs.begin(), current->outputs.end(), [](const Value* v) { return v && (!v->uses.empty() || v->is_graph_output()); });
    if (used) continue;
    std::vector<Node*> producers;
    for (const Value* input : current->inputs) {
      if (input && input->producer && input->graph == current->graph && std::find(producers.begin(), producers.end(), input->producer) == producers.end()) {
        producers.push_back(input->producer);
      }
    }
    for (const Graph* nested : ir::nested_graphs(*current)) {
      for (const Value* captured : ir::captured_values(*nested)) {
        if (captured->producer && captured->graph == current->graph && std::find(producers.begin(), producers.end(), captured->producer) == producers.end()) {
          producers.push_back(captured->producer);
        }
      }
    }
    erased.insert(current);
    current->graph->erase(current);
    work.insert(work.end(), producers.begin(), producers.end());
  }
}

bool depends_on_data(const Dim& dim) { return ops::has_fresh(dim); }

std::optional<std::vector<std::int64_t>> reshape_target(const Shape& from, const Shape& to) {
  std::vector<std::int64_t> target(to.size());
  std::vector<std::size_t> open;
  for (std::size_t i = 0; i < to.size(); ++i) {
    const auto number = to[i].constant();
    if (number && *number != 0) {
      target[i] = *number;
    } else if (i < from.size() && from[i] == to[i]) {
      target[i] = 0;  // a zero extent counts as copied too
    } else if (number) {
      return std::nullopt;  // a zero extent that is no copy would need allowzero
    } else {
      open.push_back(i);
    }
  }
  if (open.size() > 1) return std::nullopt;
  if (open.size() == 1) {
    // -1 is a quotient, which a zero extent would leave undefined.
    if (std::any_of(to.begin(), to.end(), [](const Dim& d) { return d.constant() == 0; })) return std::nullopt;
    target[open[0]] = -1;
  }
  return target;
}

}  // namespace lathe::passes
