// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Nodes of float16 compute in float32, for CPUs, whose kernels know no float16:
//
//   Op(x: float16, w)  ->  Cast(Op(Cast(x, float32), float32(w)), float16)
//
// and between two such nodes both casts go: a value then has more digits than the model asks for, and cannot overflow. Where anything else
// reads it (an output, a comparison, an op that is not listed) it is rounded. Only where the graph is made to be run on such a machine
// (SimplifyOptions::half_in_float).

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "ops/expand_util.h"
#include "passes/pass.h"
#include "passes/rewrite.h"

namespace lathe::passes {
namespace {

using ir::Graph;
using ir::Node;
using ir::Value;

/// Ops that mean the same in any floating type: no comparison, whose verdict a rounding may change, and none that reads bits or makes types.
bool is_listed(const Node& node) {
  static const std::unordered_set<std::string> ops{
      // contractions, pooling, recurrence
      "Conv", "ConvTranspose", "DeformConv", "MatMul", "Gemm", "Einsum", "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool",
      "GlobalLpPool", "LSTM", "GRU", "RNN", "Attention", "RotaryEmbedding",
      // normalisations and reductions
      "BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization", "RMSNormalization", "LRN", "LpNormalization",
      "MeanVarianceNormalization", "Softmax", "LogSoftmax", "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
      "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp", "CumSum",
      // one element at a time
      "Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Gelu", "Mish", "Sigmoid", "HardSigmoid", "HardSwish", "Swish", "Softplus", "Softsign", "Tanh",
      "Erf", "Exp", "Log", "Sqrt", "Reciprocal", "Neg", "Abs", "Sin", "Cos", "Clip", "Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Sum", "Mean", "Where",
      // movements
      "Concat", "Split", "Slice", "Gather", "GatherElements", "GatherND", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Tile", "Pad",
      "Resize", "GridSample", "DepthToSpace", "SpaceToDepth", "Identity"};
  return node.domain.empty() && ops.count(node.op) > 0;
}

bool is_half(const Value* value) { return value && value->type.is_tensor() && value->dtype() == DType::kFloat16; }

class Widening {
 public:
  explicit Widening(Graph& graph) : graph_(graph) {}

  int run() {
    graph_.for_each([this](Node& node) {
      if (node.is("Cast")) read_wide(node);
      else if (is_listed(node)) widen(node);
    });
    finish();
    return rewrites_;
  }

 private:
  /// A cast of a value that is at hand in float32 to a float type at least as wide.
  void read_wide(Node& node) {
    const auto found = wide_.find(node.input(0));
    const auto to = static_cast<DType>(node.attrs.get_int("to", 0));
    if (found != wide_.end() && to == DType::kFloat16 && node.output()) {
      // The same value once more.
      if (is_made(found->first)) made_.insert(node.output());
      wide_.emplace(node.output(), found->second);
      return;
    }
    if (found == wide_.end() || !is_made(found->first) || (to != DType::kFloat32 && to != DType::kFloat64)) return;
    graph_.set_input(&node, 0, found->second);
  }

  void widen(Node& node) {
    if (std::none_of(node.inputs.begin(), node.inputs.end(), is_half) && std::none_of(node.outputs.begin(), node.outputs.end(), is_half)) return;
    if (node.is("Identity") && wide_.count(node.inputs[0]) == 0) return;  // two casts in a row would be one again, for ever
    ops::ExpandContext context{graph_, node};
    std::vector<Value*> inputs;
    for (Value* input : node.inputs) inputs.push_back(is_half(input) ? wide(input, context) : input);
    Node* made = context.add_node(node.op, std::move(inputs), node.outputs.size(), node.attrs);
    made->name = node.name;
    for (std::size_t i = node.outputs.size(); i-- > 0;)
      if (!node.outputs[i]) graph_.remove_node_output(made, i);
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      const Value* old = node.outputs[i];
      if (!old) continue;
      Value* result = made->outputs[i];
      result->type = old->type;
      if (is_half(old)) {
        result->type.dtype = DType::kFloat32;
        Value* narrow = ops::Parts(context).cast(result, DType::kFloat16);
        narrow->type = old->type;
        wide_[narrow] = result;
        narrowed_.push_back(narrow);
        made_.insert(narrow);
        result = narrow;
      }
      context.replace(i, result);
    }
    graph_.erase(&node);
    ++rewrites_;
  }

  Value* wide(Value* value, ops::ExpandContext& context) {
    Value*& known = wide_[value];
    if (known) return known;
    if (value->is_constant()) {
      known = context.constant(value->name + "_wide", value->constant.cast(DType::kFloat32));
    } else {
      known = context.add("Cast", {value}, ops::attrs_of({{"to", static_cast<std::int64_t>(DType::kFloat32)}}), value->name + "_wide");
      known->type = value->type;
      known->type.dtype = DType::kFloat32;
    }
    return known;
  }

  bool is_made(const Value* value) const { return made_.count(value) > 0; }

  /// Rounded values that nobody reads go. The wide ones take their names: they equal them up to the rounding, and verification looks for them by these.
  void finish() {
    for (Value* narrow : narrowed_) {
      if (!narrow->uses.empty() || narrow->is_graph_output()) continue;
      const std::string name = narrow->name;
      Value* const wide = wide_.at(narrow);
      graph_.erase(narrow->producer);
      graph_.rename(wide, name);
    }
  }

  Graph& graph_;
  std::unordered_map<const Value*, Value*> wide_;
  std::vector<Value*> narrowed_;  ///< in the order of their nodes
  std::unordered_set<const Value*> made_;
  int rewrites_ = 0;
};

}  // namespace

int half_in_float(Graph& graph, PassContext& context) { return context.options.half_in_float ? Widening(graph).run() : 0; }

}  // namespace lathe::passes
