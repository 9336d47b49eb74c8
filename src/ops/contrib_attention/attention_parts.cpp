// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Parts of attentions.
#include "ops/contrib_attention/attention_parts.h"

#include <limits>

namespace lathe::ops {

Value* split_heads(Parts& p, Value* x, std::int64_t heads) { return p.transpose(p.reshape(x, {0, 0, heads, -1}), {0, 2, 1, 3}); }

Value* merge_heads(Parts& p, Value* x) { return p.reshape(p.transpose(x, {0, 2, 1, 3}), {0, 0, -1}); }

Value* attend(Parts& p, const Softmaxed& a) {
  const bool grouped = a.groups > 1;
  // Heads that share keys stand as more rows of one product.
  // A narrow type is scaled before the product, which might overflow it.
  const bool narrow = a.dtype == DType::kFloat16;
  Value* q = narrow ? p.scaled(a.q, a.dtype, a.scale) : a.q;
  if (grouped) q = p.binary("Reshape", q, p.concat({p.extent(a.q, 0), p.ints({a.heads / a.groups, -1}), p.extent(a.q, 3)}, 0));
  Value* scores = p.scaled(p.binary("MatMul", q, p.transpose(a.k, {0, 1, 3, 2})), a.dtype, narrow ? 1 : a.scale);
  if (grouped) scores = p.binary("Reshape", scores, p.concat({p.extent(a.q, 0), p.ints({a.heads}), p.extent(a.q, 2), p.extent(a.k, 2)}, 0));
  if (a.softcap > 0) scores = p.scaled(p.unary("Tanh", p.scaled(scores, a.dtype, 1 / a.softcap)), a.dtype, a.softcap);
  Value* bias = nullptr;
  for (Value* more : a.biases) bias = p.plus(more, bias);
  scores = p.plus(scores, bias);
  Value* weights = nullptr;
  if (a.sink) {
    Value* column = p.binary("Expand", a.sink, p.concat({p.extent(a.q, 0), p.ints({a.heads}), p.extent(a.q, 2), p.ints({1})}, 0));
    weights = p.unary("Softmax", p.concat({scores, column}, 3), attrs_of({{"axis", -1}}));
    weights = p.slice(weights, 3, 0, -1);
  } else {
    weights = p.unary("Softmax", scores, attrs_of({{"axis", -1}}));
  }
  if (a.rows_may_be_empty && bias) {
    Value* most = p.ctx.add("ReduceMax", {bias, p.ints({-1})}, attrs_of({{"keepdims", 1}}));
    Value* empty = p.binary("Equal", most, p.number(a.dtype, -std::numeric_limits<double>::infinity()));
    weights = p.ctx.add("Where", {empty, p.number(a.dtype, 0), weights});
  }
  if (!grouped) return p.binary("MatMul", weights, a.v);
  weights = p.binary("Reshape", weights, p.concat({p.extent(a.q, 0), p.ints({a.heads / a.groups, -1}), p.extent(a.k, 2)}, 0));
  Value* y = p.binary("MatMul", weights, a.v);
  return p.binary("Reshape", y, p.concat({p.extent(a.q, 0), p.ints({a.heads}), p.extent(a.q, 2), p.extent(a.v, 3)}, 0));
}

Value* where_not(Parts& p, Value* condition, DType dtype, double value) { return p.ctx.add("Where", {condition, p.number(dtype, 0), p.number(dtype, value)}); }

Value* counted(Parts& p, Value* length) { return p.ctx.add("Range", {p.whole(0), p.squeeze(length, {0}), p.whole(1)}); }

Value* causal_bias(Parts& p, Value* q, Value* k, DType dtype) {
  Value *queries = p.extent(q, 2), *keys = p.extent(k, 2);
  Value* position = p.plus(counted(p, queries), p.binary("Sub", keys, queries));
  Value* seen = p.binary("LessOrEqual", p.unsqueeze(counted(p, keys), {0}), p.unsqueeze(position, {1}));
  const double lowest = dtype == DType::kFloat16 ? -65504.0 : -static_cast<double>(std::numeric_limits<float>::max());
  return where_not(p, seen, dtype, lowest);
}

Value* padding_bias(Parts& p, Value* mask, const Dim& batch, Value* q, Value* k, DType dtype, double filter) {
  const Shape& shape = mask->shape();
  if (shape.size() == 1) {
    Value* column = p.unsqueeze(p.cast(counted(p, p.extent(k, 2)), DType::kInt32), {0});
    const auto before = [&](Value* bound) { return p.binary("Less", column, p.unsqueeze(bound, {1})); };
    Value* real = nullptr;
    if (shape[0] == batch) {
      real = before(mask);
    } else if (shape[0] == Dim(2) * batch) {
      Value* rows = p.extent(k, 0);
      Value* end = p.slice(mask, 0, p.ints({0}), rows);
      Value* start = p.slice(mask, 0, rows, p.ints({std::numeric_limits<std::int64_t>::max()}));
      real = p.binary("And", before(end), p.unary("Not", before(start)));
    } else {
      p.ctx.fail("a mask " + ir::to_string(shape) + " does not fit a batch of " + batch.to_string());
    }
    return where_not(p, p.unsqueeze(real, {1, 2}), dtype, filter);
  }
  Value* real = p.cast(mask, DType::kBool);
  if (shape.size() == 2) {
    real = p.unsqueeze(real, {1, 2});
  } else if (shape.size() == 3) {
    real = p.unsqueeze(real, {1});
  } else if (shape.size() == 4) {
    // For a longest sequence: the rows of these queries, the columns of these keys.
    Value *queries = p.extent(q, 2), *keys = p.extent(k, 2);
    real = p.slice(p.slice(real, 2, p.binary("Sub", keys, queries), keys), 3, p.ints({0}), keys);
  } else {
    p.ctx.fail("a mask " + ir::to_string(shape) + " of rank " + std::to_string(shape.size()));
  }
  return where_not(p, real, dtype, filter);
}

}  // namespace lathe::ops
