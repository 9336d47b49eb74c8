// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// FlexAttention (ai.onnx.preview): softmax(score_mod(Q K' * scale)) V, where nested graphs may change the scores before the softmax and
// the probabilities after it. Everything is [batch, heads, sequence, size]; groups of query heads share a head of keys and values.
#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "ops/ref_util.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

enum Input : std::size_t { kQ, kK, kV };
constexpr std::string_view kMods[] = {"score_mod", "prob_mod"};

/// The type of scores and probabilities.
template <class Context>
DType soft_dtype(Context& ctx, DType input) {
  if (!ctx.attrs().has("softmax_precision")) return input == DType::kFloat64 ? input : DType::kFloat32;
  const std::int64_t number = ctx.attrs().get_int("softmax_precision", 0);
  const DType dtype = number > 0 && number < kDTypeCount ? static_cast<DType>(number) : DType::kUndefined;
  if (dtype != DType::kFloat32 && dtype != DType::kFloat64 && dtype != DType::kFloat16 && dtype != DType::kBFloat16)
    ctx.fail("softmax_precision " + std::to_string(number) + " is none of float, double, float16 and bfloat16");
  return dtype;
}

void flex_infer(InferContext& ctx) {
  const auto &q = ctx.shape(kQ), &k = ctx.shape(kK), &v = ctx.shape(kV);
  const DType soft = soft_dtype(ctx, ctx.dtype(kQ));
  for (const auto* shape : {&q, &k, &v})
    if (*shape && (*shape)->size() != 4) ctx.fail("takes Q, K and V of rank 4, got " + ir::to_string(**shape));
  const auto extent = [&](const std::optional<Shape>& shape, std::size_t axis) { return shape ? (*shape)[axis] : ctx.fresh_symbol(); };
  const Shape scores{extent(q, 0), extent(q, 1), extent(q, 2), k ? (*k)[2] : extent(v, 2)};
  for (const std::string_view name : kMods) {
    const auto graph = ctx.attrs().get_graph(name);
    if (!graph) continue;
    if (graph->inputs().size() != 1 || graph->outputs().size() != 1)
      ctx.fail(std::string(name) + " must take one tensor and give one; it takes " + std::to_string(graph->inputs().size()) + " and gives " +
               std::to_string(graph->outputs().size()));
    const ir::Type type = ir::Type::tensor(soft, scores);
    const auto results = ctx.infer_subgraph(*graph, {&type, 1});
    if (results.size() == 1 && results[0].is_tensor() && results[0].dtype != DType::kUndefined && results[0].dtype != soft)
      ctx.fail(std::string(name) + " gives " + std::string(dtype_name(results[0].dtype)) + ", expected " + std::string(dtype_name(soft)));
  }
  ctx.set(0, ctx.dtype(kQ), {scores[0], scores[1], scores[2], extent(v, 3)});
}

Attrs attrs_of(const char* name, ir::Attribute value) {
  Attrs attrs;
  attrs.set(name, std::move(value));
  return attrs;
}

void modify(RefContext& ctx, std::string_view name, Tensor& values) {
  const auto graph = ctx.attrs().get_graph(name);
  if (!graph) return;
  auto results = ctx.run_subgraph(*graph, {&values, 1});
  if (results.size() != 1 || !results[0].is_tensor() || results[0].dims() != values.dims() || results[0].dtype() != values.dtype())
    ctx.fail(std::string(name) + " must give one tensor of the type and shape that it takes, " + std::string(dtype_name(values.dtype())) + " " +
             lathe::to_string(values.dims()));
  values = std::move(results[0]);
}

void flex_reference(RefContext& ctx) {
  const Tensor &q = ctx.input(kQ), &k = ctx.input(kK), &v = ctx.input(kV);
  const auto fit = [&] {
    if (q.rank() != 4 || k.rank() != 4 || v.rank() != 4) return false;
    const Dims &a = q.dims(), &b = k.dims(), &c = v.dims();
    return a[0] == b[0] && b[0] == c[0] && b[1] == c[1] && b[2] == c[2] && a[3] == b[3] && b[1] > 0 && a[1] % b[1] == 0;
  };
  if (!fit()) ctx.fail("Q " + lathe::to_string(q.dims()) + ", K " + lathe::to_string(k.dims()) + " and V " + lathe::to_string(v.dims()) + " do not fit");
  const std::int64_t batch = q.dims()[0], heads = q.dims()[1], queries = q.dims()[2], size = q.dims()[3];
  const std::int64_t key_heads = k.dims()[1], keys = k.dims()[2], value_size = v.dims()[3], group = heads / key_heads;
  const DType dtype = q.dtype(), soft = soft_dtype(ctx, dtype);
  const double scale = ctx.attrs().has("scale") ? static_cast<double>(ctx.attrs().get_float("scale", 0)) : 1 / std::sqrt(static_cast<double>(size));
  // The format's definition rounds what each of its steps gives to the type in which it is given.
  const double factor = round_as(dtype, static_cast<double>(std::sqrt(static_cast<float>(scale))));
  auto scaled_q = to_doubles(q), scaled_k = to_doubles(k);
  for (auto* values : {&scaled_q, &scaled_k})
    for (double& value : *values) value = round_as(dtype, value * factor);
  Tensor scores(soft, {batch, heads, queries, keys});
  std::int64_t at = 0;
  for (std::int64_t head = 0; head < batch * heads; ++head)
    for (std::int64_t i = 0; i < queries; ++i)
      for (std::int64_t j = 0; j < keys; ++j) {
        const double* a = scaled_q.data() + (head * queries + i) * size;
        const double* b = scaled_k.data() + ((head / heads * key_heads + head % heads / group) * keys + j) * size;
        double sum = 0;
        for (std::int64_t d = 0; d < size; ++d) sum += a[d] * b[d];
        scores.set_from_double(at++, round_as(dtype, sum));
      }
  modify(ctx, kMods[0], scores);

  auto weights = to_doubles(scores);
  for (std::int64_t row = 0; keys > 0 && row < batch * heads * queries; ++row) {
    double* w = weights.data() + row * keys;
    const double largest = *std::max_element(w, w + keys);
    double sum = 0;
    for (std::int64_t j = 0; j < keys; ++j) sum += w[j] = round_as(soft, std::exp(round_as(soft, w[j] - largest)));
    for (std::int64_t j = 0; j < keys; ++j) w[j] /= round_as(soft, sum);
  }
  Tensor probabilities = from_doubles(soft, scores.dims(), weights);
  modify(ctx, kMods[1], probabilities);

  weights = to_doubles(probabilities);
  const auto values = to_doubles(v);
  std::vector<double> y;
  y.reserve(static_cast<std::size_t>(batch * heads * queries * value_size));
  for (std::int64_t head = 0; head < batch * heads; ++head)
    for (std::int64_t i = 0; i < queries; ++i)
      for (std::int64_t d = 0; d < value_size; ++d) {
        const double* w = weights.data() + (head * queries + i) * keys;
        const double* from = values.data() + (head / heads * key_heads + head % heads / group) * keys * value_size + d;
        double sum = 0;
        for (std::int64_t j = 0; j < keys; ++j) sum += w[j] * round_as(soft, from[j * value_size]);
        y.push_back(round_as(soft, sum));
      }
  ctx.set_output(0, from_doubles(v.dtype(), {batch, heads, queries, value_size}, y));
}

/// No node of it has nested graphs in turn.
bool can_inline(const ir::Graph& graph) {
  bool plain = true;
  graph.for_each([&plain](const Node& node) {
    for (const auto& [name, attribute] : node.attrs) plain = plain && attribute.type() != ir::AttrType::kGraph && attribute.type() != ir::AttrType::kGraphs;
  });
  return plain;
}

/// The nodes of a nested graph in place of the node that has it.
Value* inlined(ExpandContext& ctx, const ir::Graph& graph, Value* input) {
  std::unordered_map<const Value*, Value*> outside{{graph.inputs()[0], input}};
  const auto place = [&](Value* value) -> Value* {
    if (!value || value->graph != &graph) return value;  // left out, or of the graphs around
    const auto it = outside.find(value);
    if (it != outside.end()) return it->second;
    return outside[value] = ctx.constant(value->name, value->constant);
  };
  graph.for_each([&](const Node& node) {
    std::vector<Value*> inputs;
    for (Value* value : node.inputs) inputs.push_back(place(value));
    const Node* made = ctx.add_node(node.op, std::move(inputs), node.outputs.size(), node.attrs, node.domain);
    for (std::size_t i = 0; i < node.outputs.size(); ++i)
      if (node.outputs[i]) outside[node.outputs[i]] = made->outputs[i];
  });
  return place(graph.outputs()[0]);
}

/// The products, the softmax and the nodes of the nested graphs. Query heads that share a head of keys are rows of one product.
bool flex_expand(ExpandContext& ctx) {
  const Value *q = ctx.node.input(kQ), *k = ctx.node.input(kK);
  if (!q->has_shape() || !k->has_shape() || q->shape().size() != 4 || k->shape().size() != 4) return false;
  for (const std::string_view name : kMods)
    if (const auto graph = ctx.attrs().get_graph(name)) {
      if (graph->inputs().size() != 1 || graph->outputs().size() != 1) ctx.fail(std::string(name) + " must take one tensor and give one");
      if (!can_inline(*graph)) return false;
    }
  const Dim &heads = q->shape()[1], &key_heads = k->shape()[1], &size = q->shape()[3];
  const bool grouped = heads != key_heads, scaled = ctx.attrs().has("scale");
  if ((grouped && (!heads.constant() || !key_heads.constant())) || (!scaled && !size.constant())) return false;
  const DType dtype = q->dtype(), soft = soft_dtype(ctx, dtype);
  const double scale = scaled ? static_cast<double>(ctx.attrs().get_float("scale", 0)) : 1 / std::sqrt(static_cast<double>(*size.constant()));
  Value* factor = ctx.constant("factor", from_doubles(dtype, {}, {static_cast<double>(std::sqrt(static_cast<float>(scale)))}));
  const auto cast = [&ctx](Value* x, DType from, DType to) { return from == to ? x : ctx.add("Cast", {x}, attrs_of("to", static_cast<std::int64_t>(to))); };
  const auto in_heads = [&](Value* x, const Dim& count) {
    if (!grouped) return x;
    const std::int64_t shape[] = {0, *count.constant(), -1, 0};
    return ctx.add("Reshape", {x, ctx.constant("heads", Tensor::vector(shape))});
  };
  Value* queries = ctx.add("Mul", {in_heads(ctx.node.input(kQ), key_heads), factor});
  Value* keys = ctx.add("Transpose", {ctx.add("Mul", {ctx.node.input(kK), factor})}, attrs_of("perm", std::vector<std::int64_t>{0, 1, 3, 2}));
  Value* x = in_heads(cast(ctx.add("MatMul", {queries, keys}), dtype, soft), heads);
  if (const auto graph = ctx.attrs().get_graph(kMods[0])) x = inlined(ctx, *graph, x);
  x = ctx.add("Softmax", {x}, attrs_of("axis", std::int64_t{-1}));
  if (const auto graph = ctx.attrs().get_graph(kMods[1])) x = inlined(ctx, *graph, x);
  x = ctx.add("MatMul", {in_heads(x, key_heads), cast(ctx.node.input(kV), dtype, soft)});
  ctx.replace(0, cast(in_heads(x, heads), soft, dtype));
  return true;
}

}  // namespace

std::span<const OpDef> ops_flex_attention() {
  static const std::vector<OpDef> ops{
      {.domain = "ai.onnx.preview",
       .name = "FlexAttention",
       .versions = {{1, "Q:T1 K:T1 V:T1 -> Y:T1", "prob_mod:graph? scale:float? score_mod:graph? softmax_precision:int?", "T1: @float13"}},
       .infer = flex_infer,
       .reference = flex_reference,
       .tolerance = {.relative = 1e-5, .absolute = 1e-5},
       .expand = flex_expand,
       .doc = "attention whose scores and probabilities nested graphs may change"},
  };
  return ops;
}

}  // namespace lathe::ops
