// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Expansion of compositions: in place, on concrete tensors, and on types alone.
#include "ops/expansion.h"

#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>

#include "ops/infer.h"
#include "ops/reference_runner.h"
#include "ops/registry.h"
#include "ops/schema.h"
#include "ops/validate.h"

namespace lathe::ops {
namespace {

/// A graph with a copy of one node, whose inputs and outputs have the names of its own.
struct Alone {
  ir::Graph graph;
  ir::Node* node = nullptr;
  std::vector<int> output_of;  // the node's output -> the graph's, -1 where it is left out

  void finish(const ir::Node& original, std::vector<Value*> inputs) {
    std::vector<std::string> names;
    for (std::size_t i = 0; i < original.outputs.size(); ++i) names.push_back(original.outputs[i] ? "out" + std::to_string(i) : std::string());
    node = graph.add_node(original.domain, original.op, std::move(inputs), std::move(names), original.attrs);
    node->name = original.name;
    node->sources = original.sources;
    for (Value* output : node->outputs) {
      output_of.push_back(output ? static_cast<int>(graph.outputs().size()) : -1);
      if (output) graph.add_output(output);
    }
  }
  bool expand() { return expand_node(*node); }
};

/// Symbols on their way into a graph of one node and back. Extents that only the data tells ("?N") would get new names there, so they
/// go by another one; what the parts make is a fresh symbol outside.
class Renaming {
 public:
  explicit Renaming(const Node& node) {
    for (const Value* input : node.inputs) {
      if (!input || !input->type.shape) continue;
      for (const Dim& dim : *input->type.shape)
        for (const auto& symbol : symbols_of(dim)) {
          known_.insert(symbol);
          if (!symbol.starts_with("?")) continue;
          const std::string inside = "open_extent_" + symbol.substr(1);
          into_.emplace(symbol, Dim::symbol(inside));
          back_.emplace(inside, Dim::symbol(symbol));
        }
    }
  }
  void enter(std::vector<Dim>& dims) {
    for (Dim& dim : dims) {
      for (const auto& symbol : symbols_of(dim)) known_.insert(symbol);
      if (!dim.is_constant() && !into_.empty()) dim = dim.substitute(into_);
    }
  }
  void leave(InferContext& ctx, std::vector<Dim>& dims) {
    for (Dim& dim : dims) {
      for (const auto& symbol : symbols_of(dim))
        if (!known_.contains(symbol) && !back_.contains(symbol)) back_.emplace(symbol, ctx.fresh_symbol());
      if (!dim.is_constant() && !back_.empty()) dim = dim.substitute(back_);
    }
  }

 private:
  static std::set<std::string> symbols_of(const Dim& dim) {
    std::set<std::string> symbols;
    if (!dim.is_constant()) dim.collect_symbols(symbols);
    return symbols;
  }
  std::set<std::string> known_;
  std::unordered_map<std::string, Dim> into_, back_;
};

/// An error of a part is an error of the whole: its text, at the node that the file has.
[[noreturn]] void fail_at(const ir::Node& node, const Error& error) { throw node_error(node, error.message(), error.code()).with_remedy(error.remedy()); }

}  // namespace

Value* ExpandContext::constant(std::string_view hint, Tensor tensor) { return graph.add_constant(graph.unique_name(hint), std::move(tensor)); }

Node* ExpandContext::add_node(std::string_view op, std::vector<Value*> inputs, std::size_t outputs, Attrs attrs, std::string_view domain) {
  while (!inputs.empty() && !inputs.back()) inputs.pop_back();
  const Value* first = nullptr;
  for (const Value* output : node.outputs) first = first ? first : output;
  const std::string base = (first ? first->name : node.op) + "_" + std::string(op);
  std::vector<std::string> names;
  std::set<std::string> taken;
  for (std::size_t i = 0; i < outputs; ++i) {
    std::string name = graph.unique_name(i == 0 ? base : base + "_out" + std::to_string(i));
    while (!taken.insert(name).second) name += "_";
    names.push_back(std::move(name));
  }
  Node* made = graph.add_node(std::string(domain), std::string(op), std::move(inputs), std::move(names), std::move(attrs), &node);
  made->sources = node.sources;
  return made;
}

Value* ExpandContext::add(std::string_view op, std::vector<Value*> inputs, Attrs attrs, std::string_view hint, std::string_view domain) {
  Node* made = add_node(op, std::move(inputs), 1, std::move(attrs), domain);
  if (!hint.empty()) graph.rename(made->outputs[0], graph.unique_name(hint));
  return made->outputs[0];
}

void ExpandContext::replace(std::size_t index, Value* value) {
  Value* old = node.output(index);
  if (!old) return;
  const bool own = value->producer && value->graph == &graph && std::find(node.inputs.begin(), node.inputs.end(), value) == node.inputs.end();
  if (own && value->type.kind == ir::TypeKind::kUnknown && old->dtype() != DType::kUndefined) value->type = ir::Type::tensor(old->dtype());
  const std::string name = old->name;
  if (graph.replace_all_uses(old, value)) {
    // A value of the expansion is what the node's output was, and takes its name.
    if (!own || value->is_graph_output()) return;
    graph.rename(old, graph.unique_name(name + "_expanded"));
    graph.rename(value, name);
    return;
  }
  graph.replace_all_uses(old, add("Identity", {value}));
}

void ExpandContext::fail(std::string message) const { throw node_error(node, std::move(message)); }

namespace {

bool expand_as(const OpDef* op, ir::Node& node) {
  if (!op || !op->expand) return false;
  ir::Graph& graph = *node.graph;
  ExpandContext context{graph, node};
  if (!op->expand(context)) return false;
  graph.erase(&node);
  return true;
}

}  // namespace

bool expand_node(ir::Node& node) { return expand_as(find_op(node.domain, node.op), node); }

bool expand_node_for_gpu(ir::Node& node) { return node.domain.empty() && expand_as(find_op(kOwnDomain, node.op), node); }

std::vector<Tensor> evaluate_expanded(const ir::Node& node, std::span<const Tensor> inputs, const EvaluateOptions& options) {
  Alone alone;
  std::vector<Value*> values;
  for (std::size_t i = 0; i < inputs.size(); ++i)
    values.push_back(inputs[i].defined() ? alone.graph.add_constant("in" + std::to_string(i), inputs[i]) : nullptr);
  alone.finish(node, std::move(values));
  try {
    if (!alone.expand()) throw node_error(node, "this form of the op is not supported", Code::kUnsupported);
    infer_graph(alone.graph);
    auto results = ReferenceRunner(alone.graph, {.oracle = options.oracle}).run(std::vector<Tensor>{});
    std::vector<Tensor> outputs;
    for (const int at : alone.output_of) outputs.push_back(at < 0 ? Tensor() : results[static_cast<std::size_t>(at)]);
    return outputs;
  } catch (const Error& error) {
    fail_at(node, error);
  }
}

void infer_dtypes(InferContext& ctx) {
  const Node& node = ctx.node();
  const OpDef* op = find_op(node.domain, node.op);
  if (!op) return;
  const Schema& schema = newest_schema(*op);
  for (std::size_t i = 0; i < node.outputs.size(); ++i) {
    const Formal* formal = Schema::formal_at(schema.outputs, i);
    if (!node.outputs[i] || !formal) continue;
    for (std::size_t k = 0; k < node.inputs.size(); ++k) {
      const Formal* source = Schema::formal_at(schema.inputs, k);
      if (!node.inputs[k] || !source || source->type != formal->type) continue;
      ctx.set_unknown(i, ctx.dtype(k));
      break;
    }
  }
}

void infer_expanded(InferContext& ctx) {
  Node& node = ctx.node();
  Alone alone;
  Renaming renaming(node);
  std::vector<Value*> values;
  std::map<const Value*, Value*> copies;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    const Value* input = node.inputs[i];
    if (!input) {
      values.push_back(nullptr);
      continue;
    }
    Value*& copy = copies[input];
    const std::string name = "in" + std::to_string(i);
    if (const Tensor constant = copy ? Tensor() : ctx.constant(i); constant.defined()) {
      copy = alone.graph.add_constant(name, constant);
    } else if (!copy) {
      copy = alone.graph.add_input(name, input->type);
      if (copy->type.shape) renaming.enter(*copy->type.shape);
      copy->content = input->content;
      if (copy->content) renaming.enter(*copy->content);
    }
    values.push_back(copy);
  }
  alone.finish(node, std::move(values));
  try {
    if (!alone.expand()) return infer_dtypes(ctx);
    infer_graph(alone.graph, {.check_types = false});
  } catch (const Error& error) {
    ctx.fail(error.message());
  }
  for (std::size_t i = 0; i < node.outputs.size(); ++i) {
    if (!node.outputs[i]) continue;
    const Value* result = alone.graph.outputs()[static_cast<std::size_t>(alone.output_of[i])];
    ir::Type type = result->type;
    if (type.shape) renaming.leave(ctx, *type.shape);
    ctx.set_type(i, std::move(type));
    if (!result->content) continue;
    std::vector<Dim> content = *result->content;
    renaming.leave(ctx, content);
    ctx.set_content(i, std::move(content));
  }
}

}  // namespace lathe::ops
