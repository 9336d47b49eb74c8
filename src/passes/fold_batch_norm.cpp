// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// BatchNormalization with constant statistics, in inference mode, into the weights in front of it:
//
//   y = (f(x) - mean) / sqrt(var + eps) * scale + bias  =  a * f(x) + b     a = scale / sqrt(var + eps),  b = bias - a * mean
//
//   BatchNormalization(Conv | ConvTranspose | Gemm)    ->  the same op with weights a * W and bias a * bias + b
//   Conv without padding (BatchNormalization(x))       ->  Conv with weights W * a[in], bias + sum(W * b[in])
//   BatchNormalization alone                           ->  stays one node, or Mul + Add when expand_batch_norm asks
//
// The convolution's output must have no other user. Computed in double and rounded once.

#include <algorithm>
#include <cmath>

#include "passes/channel_fold.h"
#include "passes/pass.h"
#include "passes/rewrite.h"

namespace lathe::passes {
namespace {

using ir::Graph;
using ir::Node;
using ir::Value;

std::optional<ChannelAffine> affine_of(const Node& node) {
  if (node.attrs.get_int("training_mode", 0) != 0 || node.inputs.size() < 5) return std::nullopt;
  for (std::size_t i = 1; i < node.outputs.size(); ++i) {
    if (node.outputs[i]) return std::nullopt;
  }
  for (std::size_t i = 1; i < 5; ++i) {
    if (!is_constant(node.inputs[i]) || node.inputs[i]->constant.size() != node.inputs[1]->constant.size()) return std::nullopt;
  }
  const Tensor &scale = node.inputs[1]->constant, &bias = node.inputs[2]->constant;
  const Tensor &mean = node.inputs[3]->constant, &variance = node.inputs[4]->constant;
  const double epsilon = node.attrs.get_float("epsilon", 1e-5f);
  ChannelAffine affine;
  for (std::int64_t c = 0; c < scale.size(); ++c) {
    const double a = scale.as_double(c) / std::sqrt(variance.as_double(c) + epsilon);
    const double b = bias.as_double(c) - a * mean.as_double(c);
    if (!std::isfinite(a) || !std::isfinite(b)) return std::nullopt;
    affine.scale.push_back(a);
    affine.shift.push_back(b);
  }
  return affine;
}

bool into_producer(Graph& graph, Node& norm, const ChannelAffine& affine) {
  Value* x = norm.inputs[0];
  Node* producer = x->producer;
  if (!producer || producer->graph != &graph || !single_use(x) || producer->is("MatMul")) return false;
  const auto channels = foldable_channels(*producer);
  if (!channels || *channels != static_cast<std::int64_t>(affine.scale.size())) return false;
  if (!fold_affine(graph, *producer, affine)) return false;
  const std::string name = norm.outputs[0]->name;
  merge_sources(*producer, norm);
  Value* result = producer->outputs[0];
  graph.replace_all_uses(norm.outputs[0], result);
  erase_dead(&norm);
  if (result->name != name) graph.rename(result, name);
  return true;
}

// Padding would be zeros after the normalisation and b before it, so only convolutions without padding qualify.
bool into_consumer(Graph& graph, Node& norm, const ChannelAffine& affine) {
  Value* y = norm.outputs[0];
  if (!single_use(y)) return false;
  Node& conv = *y->uses[0].node;
  if (!conv.is("Conv") || y->uses[0].index != 0 || conv.graph != &graph || conv.attrs.get_string("auto_pad", "NOTSET") != "NOTSET") return false;
  const auto pads = conv.attrs.get_ints("pads");
  if (std::any_of(pads.begin(), pads.end(), [](std::int64_t p) { return p != 0; })) return false;
  const auto outputs = foldable_channels(conv);
  if (!outputs) return false;
  const Tensor& old = conv.inputs[1]->constant;
  const std::int64_t group = conv.attrs.get_int("group", 1), inputs = old.dims()[1] * group;
  if (inputs != static_cast<std::int64_t>(affine.scale.size()) || *outputs % group != 0) return false;
  const std::int64_t taps = old.size() / (old.dims()[0] * old.dims()[1]);
  Tensor weight(old.dtype(), old.dims()), bias(old.dtype(), {*outputs});
  for (std::int64_t o = 0, i = 0; o < *outputs; ++o) {
    double sum = conv.input(2) ? conv.inputs[2]->constant.as_double(o) : 0;
    for (std::int64_t c = 0; c < old.dims()[1]; ++c) {
      const auto channel = static_cast<std::size_t>(o / (*outputs / group) * old.dims()[1] + c);
      for (std::int64_t t = 0; t < taps; ++t, ++i) {
        sum += old.as_double(i) * affine.shift[channel];
        weight.set_from_double(i, old.as_double(i) * affine.scale[channel]);
      }
    }
    bias.set_from_double(o, sum);
  }
  if (adds_non_finite(weight, &old) || adds_non_finite(bias, conv.input(2) ? &conv.inputs[2]->constant : nullptr)) return false;
  graph.set_input(&conv, 0, norm.inputs[0]);
  graph.set_input(&conv, 1, add_constant(graph, conv.inputs[1]->name, std::move(weight)));
  graph.set_input(&conv, 2, add_constant(graph, conv.input(2) ? conv.inputs[2]->name : conv.inputs[1]->name + "_bias", std::move(bias)));
  merge_sources(conv, norm);
  erase_dead(&norm);
  return true;
}

bool expand_alone(Graph& graph, Node& norm, const ChannelAffine& affine) {
  const auto rank = rank_of(norm.inputs[0]);
  if (!rank || *rank < 2) return false;
  const auto channels = static_cast<std::int64_t>(affine.scale.size());
  Dims dims(static_cast<std::size_t>(*rank - 1), 1);
  dims[0] = channels;
  Tensor scale(norm.outputs[0]->dtype(), dims), shift(norm.outputs[0]->dtype(), dims);
  if (scale.dtype() == DType::kUndefined) return false;
  for (std::int64_t c = 0; c < channels; ++c) {
    scale.set_from_double(c, affine.scale[static_cast<std::size_t>(c)]);
    shift.set_from_double(c, affine.shift[static_cast<std::size_t>(c)]);
  }
  const std::string base = norm.outputs[0]->name;
  Node* product =
      graph.add_node("", "Mul", {norm.inputs[0], add_constant(graph, base + "_scale", std::move(scale))}, {graph.unique_name(base + "_scaled")}, {}, &norm);
  product->outputs[0]->type = norm.outputs[0]->type;
  merge_sources(*product, norm);
  transmute(norm, "Add", {product->outputs[0], add_constant(graph, base + "_shift", std::move(shift))});
  return true;
}

}  // namespace

int fold_batch_norm(Graph& graph, PassContext& context) {
  int rewrites = 0;
  graph.for_each([&](Node& node) {
    if (!node.is("BatchNormalization") || !node.output(0)) return;
    const auto affine = affine_of(node);
    if (!affine) return;
    const bool done =
        into_producer(graph, node, *affine) || into_consumer(graph, node, *affine) || (context.options.expand_batch_norm && expand_alone(graph, node, *affine));
    rewrites += done ? 1 : 0;
  });
  return rewrites;
}

}  // namespace lathe::passes
