// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// One spelling for what can be spelled in several ways, so that the other passes match one form.
//
//   Constant{...}                 -> a constant of the graph
//   Identity(x)                   -> x
//   Dropout(x), not training      -> x            (only when the mask is unused)
//   Sum(x), Sum(x, y)             -> x, Add(x, y)
//   Add(c, x)                     -> Add(x, c)    (commutative ops: the constant comes last)
//   attribute = schema's default  -> dropped;  unused optional outputs and trailing absent inputs -> dropped
//   graph input with initializer  -> a constant, in IR versions below 4 or when asked (simplify.h)

#include <algorithm>
#include <set>

#include "ops/registry.h"
#include "ops/schema.h"
#include "passes/pass.h"
#include "passes/rewrite.h"

namespace lathe::passes {
namespace {

using ir::Graph;
using ir::Node;
using ir::Value;

Tensor tensor_of_constant(const Node& node) {
  const ir::Attrs& attrs = node.attrs;
  if (attrs.has("value")) return attrs.get_tensor("value");
  const auto floats = [](const std::vector<float>& values, Dims dims) { return Tensor::from<float>(DType::kFloat32, std::move(dims), values); };
  if (attrs.has("value_float")) return floats({attrs.get_float("value_float", 0)}, {});
  if (attrs.has("value_floats")) {
    const auto values = attrs.get_floats("value_floats");
    return floats(values, {static_cast<std::int64_t>(values.size())});
  }
  if (attrs.has("value_int")) return Tensor::scalar(attrs.get_int("value_int", 0));
  if (attrs.has("value_ints")) return Tensor::vector(attrs.get_ints("value_ints"));
  if (attrs.has("value_string")) return Tensor::strings({}, {attrs.get_string("value_string", "")});
  if (attrs.has("value_strings")) {
    auto values = attrs.get_strings("value_strings");
    const auto count = static_cast<std::int64_t>(values.size());
    return Tensor::strings({count}, std::move(values));
  }
  return {};  // sparse_value: folding makes it dense where the growth rule allows
}

bool is_commutative(const Node& node) {
  static const std::set<std::string_view> kOps = {"Add",       "Mul",        "And", "Or",  "Xor", "Equal", "BitwiseAnd",
                                                  "BitwiseOr", "BitwiseXor", "Max", "Min", "Sum", "Mean"};
  return node.domain.empty() && kOps.contains(node.op);
}

bool constants_last(Node& node) {
  if (node.inputs.size() > 2 && (node.is("Sum") || node.is("Mean"))) return false;  // another order rounds otherwise
  std::vector<Value*> inputs = node.inputs;
  std::stable_partition(inputs.begin(), inputs.end(), [](const Value* v) { return !is_constant(v); });
  if (inputs == node.inputs) return false;
  node.graph->set_inputs(&node, std::move(inputs));
  return true;
}

bool drop_dropout(Node& node) {
  if (!node.is("Dropout")) return false;
  const Value* training = node.input(2);
  if (training && !is_splat(training, 0)) return false;
  const Value* mask = node.output(1);
  if (mask && (!mask->uses.empty() || mask->is_graph_output())) return false;
  return bypass(node, node.inputs[0]);
}

int drop_defaults(Node& node, const ops::Schema& schema) {
  int dropped = 0;
  for (const ops::AttributeDef& def : schema.attributes) {
    const ir::Attribute* given = node.attrs.find(def.name);
    if (!given || !def.default_value || !given->ref_name.empty()) continue;
    const auto equal = [&](const auto& value) {
      using T = std::decay_t<decltype(value)>;
      if constexpr (std::is_same_v<T, float> || std::is_same_v<T, std::int64_t> || std::is_same_v<T, std::string> ||
                    std::is_same_v<T, std::vector<std::int64_t>> || std::is_same_v<T, std::vector<float>>) {
        const T* other = std::get_if<T>(&def.default_value->value);
        return other && *other == value;
      } else {
        return false;
      }
    };
    if (!std::visit(equal, given->value)) continue;
    node.attrs.erase(def.name);
    ++dropped;
  }
  return dropped;
}

int trim(Node& node, const ops::Schema& schema) {
  int rewrites = 0;
  std::size_t keep = node.inputs.size();
  while (keep > ops::least_inputs(schema) && !node.inputs[keep - 1]) --keep;
  if (keep < node.inputs.size()) {
    node.graph->set_inputs(&node, {node.inputs.begin(), node.inputs.begin() + static_cast<std::ptrdiff_t>(keep)});
    ++rewrites;
  }
  for (std::size_t i = node.outputs.size(); i-- > 1;) {
    const Value* value = node.outputs[i];
    const ops::Formal* formal = ops::Schema::formal_at(schema.outputs, i);
    if (!value || !formal || formal->option != ops::FormalOption::kOptional || !value->uses.empty() || value->is_graph_output()) continue;
    node.graph->remove_node_output(&node, i);
    ++rewrites;
  }
  return rewrites;
}

int bind_defaults(Graph& graph, PassContext& context) {
  if (&graph != context.model.graph.get()) return 0;
  if (context.model.ir_version >= 4 && !context.options.defaults_are_constants) return 0;
  int rewrites = 0;
  for (std::size_t i = graph.inputs().size(); i-- > 0;) {
    Value* input = graph.inputs()[i];
    if (!input->constant.defined() || input->is_graph_output()) continue;
    const std::string name = input->name;
    Value* constant = add_constant(graph, name, input->constant);
    constant->metadata = input->metadata;
    graph.replace_all_uses(input, constant);
    graph.remove_input(i);
    graph.rename(constant, name);
    ++rewrites;
  }
  return rewrites;
}

}  // namespace

int canonicalise(Graph& graph, PassContext& context) {
  int rewrites = bind_defaults(graph, context);
  graph.for_each([&](Node& node) {
    if (node.is("Constant")) {
      Tensor tensor = tensor_of_constant(node);
      if (tensor.defined() && replace_by_constant(node, 0, std::move(tensor))) ++rewrites;
      return;
    }
    if ((node.is("Identity") || (node.is("Sum") && node.inputs.size() == 1)) && node.input(0)) {
      rewrites += bypass(node, node.inputs[0]) ? 1 : 0;
      return;
    }
    if (drop_dropout(node)) {
      ++rewrites;
      return;
    }
    if (node.is("Sum") && node.inputs.size() == 2) {
      node.op = "Add";
      ++rewrites;
    }
    if (is_commutative(node) && constants_last(node)) ++rewrites;
    const ops::OpDef* op = ops::find_op(node.domain, node.op);
    if (!op || op->versions.empty()) return;
    const ops::Schema& schema = ops::newest_schema(*op);
    rewrites += drop_defaults(node, schema) + trim(node, schema);
  });
  return rewrites;
}

}  // namespace lathe::passes
