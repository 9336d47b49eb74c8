// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See match.h.

#include "regions/match.h"

#include <algorithm>
#include <cmath>
#include <unordered_set>

namespace lathe::regions {
namespace {

struct ActivationMatch {
  std::vector<const ir::Node*> nodes;
  std::string name;
  float alpha = 0, beta = 0;
  const ir::Value* output = nullptr;
};

/// The only reader of `value`, or nullptr when there are more or it leaves the graph.
const ir::Node* only_reader(const ir::Value* value) {
  if (value->is_graph_output() || value->uses.size() != 1) return nullptr;
  return value->uses.front().node;
}

std::optional<float> scalar_of(const ir::Value* value) {
  if (!value || !value->is_constant() || value->constant.size() != 1) return std::nullopt;
  return static_cast<float>(value->constant.as_double(0));
}

std::optional<ActivationMatch> activation_of(const ir::Value* value) {
  ActivationMatch match;
  const auto single = [&](const ir::Node* node, std::string name, float alpha = 0, float beta = 0) {
    return ActivationMatch{{node}, std::move(name), alpha, beta, node->output()};
  };
  // x * sigmoid(x): two readers, both inside.
  if (value->uses.size() == 2 && !value->is_graph_output()) {
    const ir::Node *sigmoid = value->uses[0].node, *product = value->uses[1].node;
    if (product->is("Sigmoid")) std::swap(sigmoid, product);
    if (sigmoid->is("Sigmoid") && product->is("Mul") && only_reader(sigmoid->output()) == product &&
        ((product->input(0) == value && product->input(1) == sigmoid->output()) || (product->input(1) == value && product->input(0) == sigmoid->output())))
      return ActivationMatch{{sigmoid, product}, "silu", 0, 0, product->output()};
    return std::nullopt;
  }
  const ir::Node* node = only_reader(value);
  if (!node || node->input(0) != value || node->graph != value->graph) return std::nullopt;
  const ir::Attrs& a = node->attrs;
  if (node->is("Relu")) return single(node, "relu");
  if (node->is("LeakyRelu")) return single(node, "leaky_relu", a.get_float("alpha", 0.01F));
  if (node->is("Sigmoid")) return single(node, "sigmoid");
  if (node->is("HardSwish")) return single(node, "hard_swish");
  if (node->is("HardSigmoid")) return single(node, "hard_sigmoid", a.get_float("alpha", 0.2F), a.get_float("beta", 0.5F));
  if (node->is("Tanh")) return single(node, "tanh");
  if (node->is("Elu")) return single(node, "elu", a.get_float("alpha", 1.0F));
  if (node->is("Mish")) return single(node, "mish");
  if (node->is("Gelu")) return single(node, a.get_string("approximate", "none") == "tanh" ? "gelu_tanh" : "gelu");
  if (node->is("Swish") && a.get_float("alpha", 1.0F) == 1.0F) return single(node, "silu");
  if (node->is("PRelu"))
    if (const auto slope = scalar_of(node->input(1))) return single(node, "leaky_relu", *slope);
  if (node->is("Clip")) {
    float low = -3.402823466e+38F, high = 3.402823466e+38F;
    if (node->input(1)) {
      const auto bound = scalar_of(node->input(1));
      if (!bound) return std::nullopt;
      low = *bound;
    }
    if (node->input(2)) {
      const auto bound = scalar_of(node->input(2));
      if (!bound) return std::nullopt;
      high = *bound;
    }
    return single(node, "clip", low, high);
  }
  return std::nullopt;
}

/// Add(value, other) by which `value` is read alone; `other` in the result.
const ir::Node* add_behind(const ir::Value* value, const ir::Value*& other) {
  const ir::Node* node = only_reader(value);
  if (!node || !node->is("Add") || node->graph != value->graph) return nullptr;
  other = node->input(0) == value ? node->input(1) : node->input(0);
  return other == value ? nullptr : node;
}

bool same_shape(const ir::Value* a, const ir::Value* b) { return a->has_shape() && b->has_shape() && a->shape() == b->shape() && a->dtype() == b->dtype(); }

std::optional<float> number(const ir::Value* value) {
  if (!value || !value->is_constant() || value->constant.size() != 1) return std::nullopt;
  const float x = static_cast<float>(value->constant.as_double(0));
  return std::isfinite(x) ? std::optional(x) : std::nullopt;
}

}  // namespace

ops::Region make_region(std::string pattern, std::vector<const ir::Node*> nodes) {
  ops::Region region;
  region.pattern = std::move(pattern);
  std::unordered_set<const ir::Node*> members(nodes.begin(), nodes.end());
  std::unordered_set<const ir::Value*> seen;
  const auto take_input = [&](ir::Value* value) {
    if (value && !(value->producer && members.count(value->producer)) && seen.insert(value).second) region.inputs.push_back(value);
  };
  for (const ir::Node* node : nodes) {
    for (ir::Value* input : node->inputs) take_input(input);
    for (const ir::Graph* nested : ir::nested_graphs(*node))
      for (ir::Value* captured : ir::captured_values(*nested)) take_input(captured);
    for (ir::Value* output : node->outputs) {
      if (!output) continue;
      const bool outside =
          output->is_graph_output() || std::any_of(output->uses.begin(), output->uses.end(), [&](const ir::Use& use) { return !members.count(use.node); });
      if (outside) region.outputs.push_back(output);
    }
  }
  region.nodes = std::move(nodes);
  return region;
}

const plan::TensorDesc& input_desc(const ops::PlanRequest& request, const ir::Value* value) {
  for (std::size_t i = 0; i < request.region.inputs.size(); ++i)
    if (request.region.inputs[i] == value) return request.inputs[i];
  throw Error(Code::kInternal, "a region of pattern " + request.region.pattern + " without an input that its match names");
}

bool is_per_channel(const ir::Value* constant, const ir::Shape& shape, int channel_axis) {
  if (!constant || !constant->is_constant() || channel_axis == kNoBias) return false;
  const Dims& dims = constant->constant.dims();
  const auto rank = static_cast<std::ptrdiff_t>(shape.size());
  const std::ptrdiff_t axis = channel_axis < 0 ? rank + channel_axis : channel_axis;
  if (axis < 0 || axis >= rank || !shape[static_cast<std::size_t>(axis)].is_constant() || dims.size() > shape.size()) return false;
  if (constant->constant.size() == 1) return true;
  for (std::size_t i = 0; i < dims.size(); ++i) {
    const auto at = rank - static_cast<std::ptrdiff_t>(dims.size()) + static_cast<std::ptrdiff_t>(i);
    if (at == axis ? dims[i] != *shape[static_cast<std::size_t>(axis)].constant() : dims[i] != 1) return false;
  }
  return rank - axis <= static_cast<std::ptrdiff_t>(dims.size());
}

std::vector<Tail> tails_behind(const ir::Value* value, int channel_axis) {
  std::vector<Tail> tails{Tail{}};
  tails.back().output = value;
  // Each step extends the longest tail; what it was before stays as a shorter alternative.
  const auto extend = [&](Tail next, const std::vector<const ir::Node*>& nodes, const ir::Value* output) {
    next.nodes.insert(next.nodes.end(), nodes.begin(), nodes.end());
    next.output = output;
    tails.push_back(std::move(next));
  };
  const ir::Value* other = nullptr;
  if (const ir::Node* add = add_behind(value, other);
      add && value->has_shape() && is_per_channel(other, value->shape(), channel_axis) && other->dtype() == value->dtype()) {
    Tail next = tails.back();
    next.bias = other;
    extend(next, {add}, add->output());
  }
  for (int step = 0; step < 2; ++step) {
    const Tail now = tails.back();
    if (now.activation.empty())
      if (const auto act = activation_of(now.output)) {
        Tail next = now;
        next.activation = act->name;
        next.alpha = act->alpha;
        next.beta = act->beta;
        extend(next, act->nodes, act->output);
        continue;
      }
    if (!now.residual)
      if (const ir::Node* add = add_behind(now.output, other);
          add && !other->is_constant() && same_shape(other, now.output) && same_shape(add->output(), other)) {
        Tail next = now;
        next.residual = other;
        next.residual_after = !now.activation.empty();
        extend(next, {add}, add->output());
        continue;
      }
    break;
  }
  std::reverse(tails.begin(), tails.end());
  return tails;
}

std::optional<Tail> match_tail(const ops::Region& region, const ir::Node& anchor, int channel_axis) {
  for (Tail& tail : tails_behind(anchor.output(), channel_axis)) {
    if (tail.nodes.size() + 1 != region.nodes.size()) continue;
    const bool same = std::all_of(tail.nodes.begin(), tail.nodes.end(),
                                  [&](const ir::Node* node) { return std::find(region.nodes.begin(), region.nodes.end(), node) != region.nodes.end(); });
    if (same) return std::move(tail);
  }
  return std::nullopt;
}

std::optional<float> scaling(const ir::Node& node, ir::Value*& operand) {
  if (!node.is("Mul") && !node.is("Div")) return std::nullopt;
  std::optional<float> factor;
  if ((factor = number(node.input(1)))) {
    operand = node.input(0);
    if (node.is("Div")) factor = std::isfinite(1 / *factor) ? std::optional(1 / *factor) : std::nullopt;
  } else if (node.is("Mul") && (factor = number(node.input(0)))) {
    operand = node.input(1);
  }
  if (!factor || operand->is_constant() || operand->dtype() != DType::kFloat32) return std::nullopt;
  if (!operand->has_shape() || !node.output()->has_shape() || operand->shape() != node.output()->shape()) return std::nullopt;
  return factor;
}

void write_tail(const Tail& tail, ir::Attrs& params) {
  if (!tail.activation.empty()) {
    params.set("activation", tail.activation);
    params.set("alpha", tail.alpha);
    params.set("beta", tail.beta);
  }
  if (tail.residual) params.set("residual_after", static_cast<std::int64_t>(tail.residual_after));
}

}  // namespace lathe::regions
