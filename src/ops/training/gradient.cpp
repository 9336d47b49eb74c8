// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Gradient: the nodes between xs and y, copied where other values than their own are fed, then walked from y back to xs.
#include "ops/training/gradient.h"

#include <algorithm>
#include <list>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "ops/infer.h"
#include "ops/training/gradient_terms.h"
#include "ops/validate.h"

namespace lathe::ops {
namespace {

/// All that a node reads, what its nested graphs read from outside included.
std::vector<Value*> reads_of(const Node& node) {
  std::vector<Value*> reads;
  for (Value* input : node.inputs)
    if (input) reads.push_back(input);
  for (const ir::Graph* nested : ir::nested_graphs(node))
    for (Value* value : ir::captured_values(*nested)) reads.push_back(value);
  return reads;
}

/// The nodes from which the values follow, each after those that it reads; what is in `ends` is taken as given.
std::vector<Node*> nodes_before(const std::vector<Value*>& values, const std::unordered_set<const Value*>& ends) {
  std::vector<Node*> order;
  std::unordered_set<const Node*> seen;
  struct Frame {
    Node* node;
    std::vector<Value*> reads;
    std::size_t next = 0;
  };
  std::vector<Frame> stack;  // graphs may be deeper than the program's own stack
  const auto enter = [&](const Value* value) {
    Node* producer = ends.contains(value) ? nullptr : value->producer;
    if (producer && seen.insert(producer).second) stack.push_back({producer, reads_of(*producer)});
  };
  for (const Value* value : values) {
    enter(value);
    while (!stack.empty()) {
      Frame& top = stack.back();
      if (top.next < top.reads.size()) {
        enter(top.reads[top.next++]);
      } else {
        order.push_back(top.node);
        stack.pop_back();
      }
    }
  }
  return order;
}

/// Derivatives are of real numbers. Of an unknown type it is not known: the rules shall say.
bool may_be_differentiable(const Value& value) {
  const DType dtype = value.dtype();
  return !value.type.is_tensor() || dtype == DType::kUndefined || !(is_integer(dtype) || dtype == DType::kBool || dtype == DType::kString);
}

class Differentiation {
 public:
  explicit Differentiation(Node& gradient) : node_(gradient), context_{*gradient.graph, gradient}, parts_(context_) {
    const auto xs = node_.attrs.get_strings("xs");
    auto names = xs;
    for (const auto& z : node_.attrs.get_strings("zs")) names.push_back(z);
    if (names.size() != node_.inputs.size()) context_.fail("needs one input for each of its xs and zs");
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (!node_.inputs[i]) context_.fail("has no value for '" + names[i] + "' (input " + std::to_string(i) + ")");
      named_.push_back(find(i < xs.size() ? "xs" : "zs", names[i]));
      if (!ends_.insert(named_.back()).second) context_.fail("names '" + names[i] + "' twice in xs and zs");
    }
    count_ = xs.size();
    y_ = find("y", node_.attrs.get_string("y", ""));
    way_ = nodes_before({y_}, ends_);
    seen_ = way_.size();
  }

  /// False while y, or what it is differentiated by, follows from another derivative, which has to be there first.
  bool ready() const {
    const auto is_made = [](const Value* value) { return !value->producer || !is_gradient(*value->producer); };
    return std::none_of(way_.begin(), way_.end(), [](const Node* node) { return is_gradient(*node); }) && std::all_of(named_.begin(), named_.end(), is_made);
  }
  Node& node() const { return node_; }
  std::size_t nodes() const { return way_.size(); }
  std::size_t seen() const { return seen_; }  ///< nodes looked at

  /// The first half: what is computed again. Shapes are to be inferred before the second.
  void begin() {
    check();
    enter_values();
  }

  void finish() {
    find_active();
    std::unordered_map<const Value*, Value*> gradients{{y_, filled_like(parts_, y_, 1)}};
    for (auto at = way_.rbegin(); at != way_.rend(); ++at) step_back(**at, gradients);
    for (std::size_t i = 0; i < node_.outputs.size(); ++i) {
      if (!node_.outputs[i]) continue;
      const auto found = gradients.find(roots_[i]);
      Value* result = found == gradients.end() ? filled_like(parts_, roots_[i], 0) : found->second;
      context_.replace(i, parts_.unary("Identity", result));  // a value of its own, which takes the output's name
    }
    node_.graph->erase(&node_);
  }

 private:
  Value* find(const char* attribute, const std::string& name) const {
    Value* value = node_.graph->find_outer(name);
    if (!value) context_.fail(std::string("its attribute ") + attribute + " names '" + name + "', but no tensor has that name");
    return value;
  }

  void check() {
    const auto is_real = [](const Value& value) { return value.type.is_tensor() && is_float(value.dtype()); };
    if (!is_real(*y_)) context_.fail("'" + y_->name + "' is " + y_->type.to_string() + ": only floating-point tensors have derivatives");
    for (std::size_t i = 0; i < count_; ++i)
      if (!is_real(*named_[i])) context_.fail("'" + named_[i]->name + "' is " + named_[i]->type.to_string() + ": one differentiates by floating-point tensors");
    // What one of xs and zs determines is no independent variable beside it.
    for (const Value* value : named_) {
      if (!value->producer) continue;
      const auto before = nodes_before(reads_of(*value->producer), ends_);
      seen_ += before.size();
      for (const Node* node : before) refuse_dependent(*node, *value);
      refuse_dependent(*value->producer, *value);
    }
  }
  void refuse_dependent(const Node& node, const Value& value) const {
    for (const Value* read : reads_of(node))
      if (read != &value && ends_.contains(read))
        context_.fail("'" + value.name + "' depends on '" + read->name + "': xs and zs must be independent of each other");
  }

  /// The inputs stand for the tensors of those names. Where they are others, all that follows from them is computed again.
  void enter_values() {
    std::unordered_map<const Value*, Value*> stands;
    for (std::size_t i = 0; i < named_.size(); ++i) {
      Value* root = node_.inputs[i];
      // A value of its own, since it may be part of the way itself, or stand for two names.
      if (root != named_[i]) stands.emplace(named_[i], root = parts_.unary("Identity", root));
      roots_.push_back(root);
    }
    if (stands.empty()) return;
    for (Node*& node : way_) {
      const auto reads = reads_of(*node);
      if (std::none_of(reads.begin(), reads.end(), [&](const Value* read) { return stands.contains(read); })) continue;
      if (!ir::nested_graphs(*node).empty()) {
        throw node_error(*node, "cannot be computed again with other values than the graph's own, as " + node_.describe() + " asks", Code::kUnsupported);
      }
      std::vector<Value*> inputs;
      for (Value* input : node->inputs) {
        const auto found = stands.find(input);
        inputs.push_back(found == stands.end() ? input : found->second);
      }
      std::vector<std::string> names;
      std::unordered_set<std::string> taken;
      for (const Value* output : node->outputs) {
        names.push_back(output ? context_.graph.unique_name(output->name) : std::string());
        while (output && !taken.insert(names.back()).second) names.back() += "_";
      }
      Node* copy = context_.graph.add_node(node->domain, node->op, std::move(inputs), std::move(names), node->attrs, &node_);
      copy->name = node->name;
      copy->sources = node->sources;
      copy->overload = node->overload;
      for (std::size_t i = 0; i < node->outputs.size(); ++i)
        if (node->outputs[i]) stands.emplace(node->outputs[i], copy->outputs[i]);
      node = copy;
    }
    if (const auto found = stands.find(y_); found != stands.end()) y_ = found->second;
  }

  void find_active() {
    active_.insert(roots_.begin(), roots_.begin() + static_cast<std::ptrdiff_t>(count_));
    for (const Node* node : way_) {
      const auto reads = reads_of(*node);
      if (is_locally_constant(*node) || std::none_of(reads.begin(), reads.end(), [&](const Value* read) { return active_.contains(read); })) continue;
      for (const Value* output : node->outputs)
        if (output && may_be_differentiable(*output)) active_.insert(output);
    }
  }

  void step_back(const Node& node, std::unordered_map<const Value*, Value*>& gradients) {
    BackwardNode back{parts_, node, {}, {}, std::vector<Value*>(node.inputs.size()), std::vector<bool>(node.inputs.size())};
    bool any = false;
    for (const Value* output : node.outputs) {
      const auto found = output && active_.contains(output) ? gradients.find(output) : gradients.end();
      back.gradients.push_back(found == gradients.end() ? nullptr : found->second);
      any = any || back.gradients.back();
    }
    if (!any) return;
    for (const Value* input : node.inputs) back.wanted.push_back(input && active_.contains(input));
    const GradientRule rule = find_gradient_rule(node);
    if (!rule) back.fail(node.op + " has no derivative here");
    rule(back);
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      if (!back.wanted[i]) continue;
      if (!back.given[i]) back.fail(node.op + " has no derivative by its input " + std::to_string(i) + " here");
      if (!back.results[i]) continue;
      Value*& sum = gradients[node.inputs[i]];
      sum = parts_.plus(sum, back.results[i]);
    }
  }

  Node& node_;
  ExpandContext context_;
  Parts parts_;
  std::size_t count_ = 0;  // of xs
  std::size_t seen_ = 0;
  std::vector<Value*> named_;  // the tensors that xs and zs name
  std::vector<Value*> roots_;  // what stands for them: the inputs
  Value* y_ = nullptr;
  std::unordered_set<const Value*> ends_, active_;
  std::vector<Node*> way_;  // from named_ to y_
};

}  // namespace

bool is_gradient(const ir::Node& node) { return node.op == "Gradient" && node.domain == kTrainingDomain; }

GradientRule find_gradient_rule(const ir::Node& node) {
  if (!node.domain.empty()) return nullptr;
  const GradientRule rule = find_elementwise_rule(node);
  return rule ? rule : find_shape_rule(node);
}

bool is_locally_constant(const ir::Node& node) {
  static constexpr std::string_view kOps[] = {"Floor", "Ceil", "Round", "Sign", "ConstantOfShape", "EyeLike", "RandomNormalLike", "RandomUniformLike"};
  return node.domain.empty() && std::find(std::begin(kOps), std::end(kOps), node.op) != std::end(kOps);
}

void BackwardNode::fail(const std::string& why) const {
  const ir::Node& gradient = parts.ctx.node;
  throw node_error(node, why + ": " + gradient.describe() + " differentiates '" + gradient.attrs.get_string("y", "") + "' through it", Code::kUnsupported)
      .with_remedy("Export the model for inference, or with its backward pass as operators.");
}

void BackwardNode::give(std::size_t input, Value* gradient) {
  results[input] = gradient;
  given[input] = true;
}

Value* filled_like(Parts& parts, Value* like, double value) {
  Value* number = parts.number(like->dtype(), value);
  if (rank_of(like) == std::size_t{0}) return number;
  return parts.binary("Expand", number, parts.unary("Shape", like));
}

bool replace_gradients(ir::Graph& graph) {
  std::vector<Node*> waiting;
  ir::for_each_node_deep(graph, [&](Node& node) {
    if (is_gradient(node)) waiting.push_back(&node);
  });
  if (waiting.empty()) return false;
  std::set<ir::Graph*> graphs;
  for (const Node* node : waiting)
    for (ir::Graph* around = node->graph; around; around = around->parent()) graphs.insert(around);
  const auto settle = [&] {
    for (ir::Graph* each : graphs) each->sort_topologically();  // y may be listed after the node that differentiates it
    infer_graph(graph);
  };
  // Derivatives of derivatives may grow by a factor each.
  constexpr std::size_t kMostNodes = 100'000, kMostSeen = 5'000'000;
  std::size_t nodes = 0, seen = 0;
  const auto count = [&](const Differentiation& each, std::size_t more) {
    nodes += more;
    seen += each.seen();
    if (nodes <= kMostNodes && seen <= kMostSeen) return;
    throw node_error(each.node(), "the derivatives go through more than " + std::to_string(kMostNodes) + " nodes", Code::kUnsupported);
  };
  infer_graph(graph);
  while (!waiting.empty()) {
    std::list<Differentiation> ready;
    std::erase_if(waiting, [&](Node* node) {
      ready.emplace_back(*node);
      const bool now = ready.back().ready();
      count(ready.back(), 0);
      if (!now) ready.pop_back();
      return now;
    });
    if (ready.empty()) {
      throw node_error(*waiting.front(), "'" + waiting.front()->attrs.get_string("y", "") + "', which it differentiates, follows from its own derivative");
    }
    for (Differentiation& each : ready) {
      each.begin();
      count(each, each.nodes());
    }
    settle();
    for (Differentiation& each : ready) each.finish();
    settle();
  }
  return true;
}

}  // namespace lathe::ops
