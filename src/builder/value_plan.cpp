// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See value_plan.h.

#include "builder/value_plan.h"

#include <algorithm>
#include <numeric>
#include <unordered_set>

#include "builder/hints.h"
#include "builder/proposals.h"
#include "ops/custom/custom.h"
#include "ops/quantize/whole_numbers.h"

namespace lathe::builder {

using ops::Layout;

std::vector<std::int32_t> layout_order(Layout layout, std::size_t rank) {
  if (layout != Layout::kChannelsLast || rank < 3) return {};
  std::vector<std::int32_t> order{0};
  for (std::size_t axis = 2; axis < rank; ++axis) order.push_back(static_cast<std::int32_t>(axis));
  order.push_back(1);
  return order;
}

std::vector<std::int64_t> dense_strides(const Dims& dims, Layout layout) {
  std::vector<std::int32_t> order = layout_order(layout, dims.size());
  if (order.empty()) {
    order.resize(dims.size());
    std::iota(order.begin(), order.end(), 0);
  }
  std::vector<std::int64_t> strides(dims.size(), 1);
  std::int64_t stride = 1;
  for (std::size_t i = order.size(); i-- > 0;) {
    const auto axis = static_cast<std::size_t>(order[i]);
    strides[axis] = stride;
    stride *= std::max<std::int64_t>(dims[axis], 1);
  }
  return strides;
}

bool layouts_coincide(const ir::Shape& shape) {
  if (shape.size() < 3) return true;
  if (shape[1] == ir::Dim(1)) return true;
  return std::all_of(shape.begin() + 2, shape.end(), [](const ir::Dim& dim) { return dim == ir::Dim(1); });
}

DType ValuePlans::storage(const ir::Value* value) const {
  const ValuePlan* plan = find(value);
  return plan && plan->storage != DType::kUndefined ? plan->storage : value->dtype();
}

std::vector<plan::TensorDesc> ValuePlans::descs(const std::vector<ir::Value*>& values, const std::vector<Layout>& layouts, const ir::Bindings& bindings) const {
  std::vector<plan::TensorDesc> all;
  for (std::size_t i = 0; i < values.size(); ++i) all.push_back(values[i] ? desc(values[i], layouts[i], bindings) : plan::TensorDesc());
  return all;
}

plan::TensorDesc ValuePlans::desc(const ir::Value* value, Layout layout, const ir::Bindings& bindings) const {
  plan::TensorDesc desc;
  desc.dtype = value->is_constant() ? value->dtype() : storage(value);
  desc.dims = concrete_dims(*value, bindings);
  const ValuePlan* plan = find(value);
  if (layout == Layout::kAny) layout = plan && plan->layout != Layout::kAny ? plan->layout : Layout::kRowMajor;
  desc.strides = dense_strides(desc.dims, layout);
  if (plan && plan->rows && plan->rows->layout == layout && !desc.dims.empty()) {
    Dims stored = desc.dims;
    std::int64_t& innermost = stored[innermost_axis(layout, stored.size())];
    innermost = (innermost + plan->rows->multiple - 1) / plan->rows->multiple * plan->rows->multiple;
    desc.strides = dense_strides(stored, layout);
  }
  if (plan && plan->slice && plan->layout == layout && plan->slice->axis != kWholeView) {
    // Strides of the outermost memory: slices may nest.
    const ir::Value* parent = plan->slice->parent;
    desc.strides = this->desc(parent, layout, bindings).strides;
  }
  return desc;
}

bool is_contraction(const ir::Node& node) {
  static const std::unordered_set<std::string> ops{"Conv", "ConvTranspose", "MatMul", "Gemm", "LSTM", "GRU", "RNN", "Einsum", "Attention"};
  return node.domain.empty() && ops.count(node.op) > 0;
}

namespace {

/// A product's result, whatever it is multiplied by and however it is shaped.
bool is_scaled_product(const ir::Value* value, int depth = 3) {
  const ir::Node* node = value ? value->producer : nullptr;
  if (!node || depth == 0) return false;
  if (node->is("Mul") || node->is("Div")) return is_scaled_product(node->input(0), depth - 1) || is_scaled_product(node->input(1), depth - 1);
  return is_contraction(*node) || (is_view(*node) && is_scaled_product(node->input(0), depth - 1));
}

/// What masks the scores that this Softmax reads: the other operand of the Add. It holds the most negative float32, which narrow types have not.
const ir::Value* mask_of(const ir::Node& softmax) {
  const ir::Node* add = softmax.is("Softmax") && softmax.input(0) ? softmax.input(0)->producer : nullptr;
  if (!add || !add->is("Add")) return nullptr;
  for (const std::size_t i : {0, 1})
    if (is_scaled_product(add->input(i)) && !is_scaled_product(add->input(1 - i))) return add->input(1 - i);
  return nullptr;
}

}  // namespace

std::vector<plan::PrecisionEntry> plan_precision(const ir::Graph& graph, Precision precision, ValuePlans& plans, const std::vector<std::string>& pinned_nodes,
                                                 bool inputs) {
  std::vector<plan::PrecisionEntry> entries;
  if (precision == Precision::kFloat32 || precision == Precision::kTensorFloat32) return entries;
  const DType narrow = precision == Precision::kBFloat16 ? DType::kBFloat16 : DType::kFloat16;
  // Backwards: a value is exposed when an output is reachable from it without another contraction.
  std::unordered_set<const ir::Value*> exposed;
  for (const ir::Value* output : graph.outputs()) exposed.insert(output);
  const auto nodes = graph.nodes();
  const auto pinned = [&](const ir::Node& node) {
    return std::any_of(node.sources.begin(), node.sources.end(),
                       [&](const std::string& source) { return std::find(pinned_nodes.begin(), pinned_nodes.end(), source) != pinned_nodes.end(); });
  };
  // A GPU's tensor cores are fast on narrow operands alone: what a contraction reads is narrow even where a way around it (the residual stream
  // of a transformer that normalises behind each block) leads to an output.
  // Sums of whole numbers are exact in float32 alone.
  for (const ir::Node* node : nodes)
    if (ops::is_whole_product(*node)) exposed.insert(node->output());
  const auto stops = [&](const ir::Value* value) {
    return inputs &&
           std::any_of(value->uses.begin(), value->uses.end(), [](const ir::Use& use) { return use.node && use.index < 2 && is_contraction(*use.node); });
  };
  // As -inf, a row that is masked as a whole would be NaN, no average.
  for (const ir::Node* node : nodes)
    if (const ir::Value* mask = mask_of(*node); mask && !stops(mask)) exposed.insert(mask);
  for (auto it = nodes.rbegin(); it != nodes.rend(); ++it) {
    const ir::Node& node = **it;
    const bool reaches = std::any_of(node.outputs.begin(), node.outputs.end(), [&](const ir::Value* v) { return v && exposed.count(v); });
    const bool widens = pinned(node) || ops::find_custom_op(node);  // a function is written for the types that the model has
    if (widens)
      for (const ir::Value* output : node.outputs) exposed.insert(output);
    if ((reaches && !is_contraction(node)) || widens)
      for (const ir::Value* input : node.inputs)
        if (input && (widens || !stops(input))) exposed.insert(input);
  }
  // Only values on the way between contractions gain: something must have come out of a contraction or go into one.
  for (const ir::Node* node : nodes)
    for (const ir::Value* output : node->outputs) {
      if (!output || output->dtype() != DType::kFloat32 || exposed.count(output)) continue;
      if (!output->has_shape() || output->shape().size() < 2) continue;
      plans[output].storage = narrow;
      entries.push_back({output->name, narrow, is_contraction(*node) ? narrow : DType::kFloat32, {}});
    }
  if (inputs)
    for (const ir::Value* input : graph.inputs()) {
      const bool feeds = std::any_of(input->uses.begin(), input->uses.end(), [](const ir::Use& use) { return use.node && is_contraction(*use.node); });
      if (!feeds || input->dtype() != DType::kFloat32 || exposed.count(input) || !input->has_shape() || input->shape().size() < 2) continue;
      plans[input].storage = narrow;
    }
  for (const ir::Value* value : exposed)
    if (value && value->dtype() == DType::kFloat32 && !value->is_constant())
      entries.push_back({value->name, DType::kFloat32, DType::kFloat32, "reaches an output or a mask without another contraction"});
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.tensor < b.tensor; });
  return entries;
}

void plan_whole_numbers(const ir::Graph& graph, ValuePlans& plans) {
  const auto fits = [](const ir::Value* value) {
    const auto range = ops::whole_range(value);
    return range && range->first >= -256 && range->second <= 256;  // exact in bfloat16, and so are their products in float32
  };
  for (const ir::Node* node : graph.nodes()) {
    const ir::Value *x = node->input(0), *weight = node->input(1);
    if (!ops::is_whole_product(*node) || x->dtype() != DType::kFloat32 || !weight->is_constant() || x->is_constant() || !fits(x) || !fits(weight)) continue;
    // Of what a step of its own makes: views have the type of what they look at.
    const ir::Node* maker = x->producer;
    if (!maker || x->graph != &graph || x->is_graph_output() || !(maker->is("Sub") || maker->is("Cast") || maker->is("Clip"))) continue;
    plans[x].storage = DType::kBFloat16;
  }
}

namespace {

bool is_image(const ir::Value* value) { return value && value->has_shape() && value->shape().size() >= 3; }

/// Ops whose kernels read and write slices of wider channels-last buffers.
bool is_slice_friendly(const ir::Node& node) {
  static const std::unordered_set<std::string> ops{"Conv", "ConvTranspose", "MaxPool", "AveragePool", "Resize", "Upsample"};
  return node.domain.empty() && ops.count(node.op) > 0;
}

/// Does the value come from, or go to, work that runs channels-last? Looks through pointwise neighbours a few steps.
bool in_image_world(const ir::Value* value, int depth = 3) {
  if (!value || depth == 0) return false;
  if (value->producer && is_slice_friendly(*value->producer)) return true;
  for (const ir::Use& use : value->uses)
    if (is_slice_friendly(*use.node)) return true;
  if (value->producer && !value->producer->is("Reshape") && !value->producer->is("Transpose"))
    for (const ir::Value* input : value->producer->inputs)
      if (input && !input->is_constant() && is_image(input) && in_image_world(input, depth - 1)) return true;
  return false;
}

std::int64_t axis_of(const ir::Node& node, std::size_t rank) {
  const std::int64_t axis = node.attrs.get_int("axis", 0);
  return axis < 0 ? axis + static_cast<std::int64_t>(rank) : axis;
}

/// Made by a step that writes any strides: nothing that a contraction, pooling or view makes.
bool is_strided_work(const ir::Node* node) {
  if (!node || is_contraction(*node) || is_slice_friendly(*node)) return false;
  static const std::unordered_set<std::string> others{"GlobalAveragePool", "GlobalMaxPool", "Reshape", "Flatten", "Squeeze", "Unsqueeze",
                                                      "Identity",          "Split",         "If",      "Loop",    "Scan"};
  if (!node->domain.empty() || others.count(node->op)) return false;
  // The tail of a contraction is stored by the contraction's kernel.
  for (const ir::Value* input : node->inputs)
    if (input && input->producer && is_contraction(*input->producer)) return false;
  return true;
}

/// May `input` of the concat live inside its output?
bool owns(const ir::Graph& graph, const ir::Node& concat, const ir::Value* input, const ir::Value* output, ValuePlans& plans) {
  return input->kind == ir::ValueKind::kNodeOutput && !input->is_graph_output() && !plans[input].slice && input->graph == &graph &&
         plans.storage(input) == plans.storage(output) && std::count(concat.inputs.begin(), concat.inputs.end(), input) == 1 && input->has_shape();
}

}  // namespace

void plan_slices(const ir::Graph& graph, ValuePlans& plans) {
  const auto nodes = graph.nodes();
  // Concats, last first: an early concat's output may itself be a slice of a later one.
  for (auto it = nodes.rbegin(); it != nodes.rend(); ++it) {
    const ir::Node& node = **it;
    if (!node.is("Concat") || node.graph != &graph) continue;
    const ir::Value* output = node.output();
    if (!is_image(output) || axis_of(node, output->shape().size()) != 1) continue;
    if (!std::all_of(node.inputs.begin(), node.inputs.end(), is_image)) continue;
    if (!std::any_of(node.inputs.begin(), node.inputs.end(), [](const ir::Value* v) { return in_image_world(v); })) continue;
    ir::Dim offset = 0;
    plans[output].layout = Layout::kChannelsLast;
    for (const ir::Value* input : node.inputs) {
      if (owns(graph, node, input, output, plans)) {
        plans[input].slice = SliceOf{output, 1, offset};
        plans[input].layout = Layout::kChannelsLast;
      }
      offset = offset + input->shape()[1];
    }
  }
  // Row-major concats of values that the region language makes: it stores with any strides.
  for (auto it = nodes.rbegin(); it != nodes.rend(); ++it) {
    const ir::Node& node = **it;
    if (!node.is("Concat") || node.graph != &graph || !node.output()->has_shape()) continue;
    if (!std::all_of(node.inputs.begin(), node.inputs.end(), [](const ir::Value* v) { return v && v->has_shape(); })) continue;
    const ir::Value* output = node.output();
    if (plans[output].layout == Layout::kChannelsLast) continue;
    const auto axis = static_cast<std::size_t>(axis_of(node, output->shape().size()));
    if (plans[output].slice && plans[output].slice->axis == kWholeView) continue;
    const bool contiguous =
        std::all_of(output->shape().begin(), output->shape().begin() + static_cast<std::ptrdiff_t>(axis), [](const ir::Dim& dim) { return dim == ir::Dim(1); });
    ir::Dim offset = 0;
    for (const ir::Value* input : node.inputs) {
      const bool owned = owns(graph, node, input, output, plans);
      const ir::Node* producer = input->producer;
      const bool is_view = producer && (producer->is("Reshape") || producer->is("Flatten") || producer->is("Squeeze") || producer->is("Unsqueeze"));
      if (owned && contiguous && is_view) {
        // The view's source writes into the slice directly, in its own shape.
        const ir::Value* source = producer->input(0);
        if (source->kind == ir::ValueKind::kNodeOutput && source->graph == &graph && source->uses.size() == 1 && !source->is_graph_output() &&
            source->has_shape() && is_strided_work(source->producer) && plans.storage(source) == plans.storage(output) && !plans[source].slice) {
          plans[input].slice = SliceOf{output, static_cast<int>(axis), offset};
          plans[input].layout = Layout::kRowMajor;
          plans[source].slice = SliceOf{input, kWholeView, 0};
          plans[source].layout = Layout::kRowMajor;
          plans[output].layout = Layout::kRowMajor;
        }
      } else if (owned && !is_view && is_strided_work(producer)) {
        plans[input].slice = SliceOf{output, static_cast<int>(axis), offset};
        plans[input].layout = Layout::kRowMajor;
        plans[output].layout = Layout::kRowMajor;
      }
      offset = offset + input->shape()[axis];
    }
  }
  // Splits along the channels: each part is a slice of the input.
  for (const ir::Node* node : nodes) {
    if (!node->is("Split") || node->graph != &graph) continue;
    const ir::Value* input = node->input(0);
    if (!is_image(input) || axis_of(*node, input->shape().size()) != 1 || input->kind != ir::ValueKind::kNodeOutput) continue;
    if (!in_image_world(input) || input->graph != &graph) continue;
    ir::Dim offset = 0;
    plans[input].layout = Layout::kChannelsLast;
    for (const ir::Value* output : node->outputs) {
      if (!output) continue;
      if (!output->is_graph_output() && !plans[output].slice) {
        plans[output].slice = SliceOf{input, 1, offset};
        plans[output].layout = Layout::kChannelsLast;
        plans[output].storage = plans.storage(input);
      }
      offset = offset + output->shape()[1];
    }
  }
}

}  // namespace lathe::builder
