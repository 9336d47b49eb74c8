// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Attention: softmax(Q K' + bias) V for several heads, with grouped keys and values, caches, masks, soft caps and windows
// (Vaswani et al. 2017; grouped queries: Ainslie et al. 2023).
//
// With heads in the last axis (rank 3) Q, K and V are [batch, sequence, heads * size], else [batch, heads, sequence, size]. The bias of
// query i and key j is the mask's element, and minus infinity where causality, a window or the number of real keys excludes the pair.
// Positions count from the end of the cache: query i stands at past length + i, or at (number of real keys - queries) + i. A query that
// sees no key gives zeros.
#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/attention/attention.h"
#include "ops/ref_util.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

constexpr double kNever = -std::numeric_limits<double>::infinity();

enum Input : std::size_t { kQ, kK, kV, kMask, kPastKey, kPastValue, kRealKeys };
enum Output : std::size_t { kY, kPresentKey, kPresentValue, kScores };

void attention_infer(InferContext& ctx) {
  const auto& outputs = ctx.node().outputs;
  const auto wants = [&](std::size_t i) { return i < outputs.size() && outputs[i]; };
  const auto unknown = [&] {
    for (std::size_t i = 0; i < outputs.size(); ++i)
      if (outputs[i]) ctx.set_unknown(i, ctx.dtype(i == kPresentValue ? kV : kQ));
  };
  const auto &q = ctx.shape(kQ), &k = ctx.shape(kK), &v = ctx.shape(kV);
  if (ctx.has_input(kPastKey) != ctx.has_input(kPastValue)) ctx.fail("past_key and past_value come together");
  if (ctx.has_input(kRealKeys) && ctx.has_input(kPastKey)) ctx.fail("nonpad_kv_seqlen cannot be combined with past_key");
  if (!q || !k || !v) return unknown();
  if (q->size() != k->size() || q->size() != v->size() || (q->size() != 3 && q->size() != 4))
    ctx.fail("Q " + ir::to_string(*q) + ", K " + ir::to_string(*k) + " and V " + ir::to_string(*v) + " must all have rank 3 or all rank 4");
  const std::int64_t q_heads = ctx.attrs().get_int("q_num_heads", 0), kv_heads = ctx.attrs().get_int("kv_num_heads", 0);
  const bool flat = q->size() == 3;
  if (flat && (q_heads < 1 || kv_heads < 1)) ctx.fail("inputs of rank 3 need q_num_heads and kv_num_heads");
  const Dim batch = (*q)[0], heads = flat ? Dim(q_heads) : (*q)[1], key_heads = flat ? Dim(kv_heads) : (*k)[1];
  const Dim queries = (*q)[flat ? 1 : 2], fresh_keys = (*k)[flat ? 1 : 2];
  const auto size = [&](const Shape& s, std::int64_t n) { return flat ? Dim::floordiv(s[2], Dim(n)) : s[3]; };
  const Dim key_size = size(*k, std::max<std::int64_t>(kv_heads, 1)), value_size = size(*v, std::max<std::int64_t>(kv_heads, 1));
  Dim keys = fresh_keys;
  if (ctx.has_input(kPastKey)) {
    const auto& past = ctx.shape(kPastKey);
    if (past && past->size() != 4) ctx.fail("past_key " + ir::to_string(*past) + " is not [batch, heads, sequence, size]");
    keys = past ? keys + (*past)[2] : ctx.fresh_symbol();
  }
  if (flat) ctx.set(kY, ctx.dtype(kQ), {batch, queries, heads * value_size});
  else ctx.set(kY, ctx.dtype(kQ), {batch, heads, queries, value_size});
  if (wants(kPresentKey)) ctx.set(kPresentKey, ctx.dtype(kK), {batch, key_heads, keys, key_size});
  if (wants(kPresentValue)) ctx.set(kPresentValue, ctx.dtype(kV), {batch, key_heads, keys, value_size});
  if (wants(kScores)) ctx.set(kScores, ctx.dtype(kQ), {batch, heads, queries, keys});
}

/// [batch, heads, sequence, size], whatever the rank of the input.
struct Heads {
  std::int64_t batch = 0, heads = 0, sequence = 0, size = 0;
  std::vector<double> values;
  const double* row(std::int64_t b, std::int64_t h, std::int64_t s) const { return values.data() + ((b * heads + h) * sequence + s) * size; }
};

Heads heads_of(const RefContext& ctx, const Tensor& x, std::int64_t heads) {
  Heads result;
  if (x.rank() == 4) {
    result = {x.dims()[0], x.dims()[1], x.dims()[2], x.dims()[3], to_doubles(x)};
    return result;
  }
  if (x.rank() != 3 || heads < 1 || x.dims()[2] % heads != 0)
    ctx.fail(lathe::to_string(x.dims()) + " cannot be split into " + std::to_string(heads) + " heads");
  const auto flat = to_doubles(x);
  result = {x.dims()[0], heads, x.dims()[1], x.dims()[2] / heads, std::vector<double>(flat.size())};
  for (std::int64_t b = 0; b < result.batch; ++b)
    for (std::int64_t h = 0; h < heads; ++h)
      for (std::int64_t s = 0; s < result.sequence; ++s)
        std::copy_n(flat.data() + ((b * result.sequence + s) * heads + h) * result.size, result.size,
                    result.values.data() + ((b * heads + h) * result.sequence + s) * result.size);
  return result;
}

/// `past` followed by `fresh` along the sequence.
Heads with_past(const RefContext& ctx, const Tensor& past, const Heads& fresh) {
  const Heads old = heads_of(ctx, past, 0);
  if (past.rank() != 4 || old.batch != fresh.batch || old.heads != fresh.heads || old.size != fresh.size)
    ctx.fail("the cache " + lathe::to_string(past.dims()) + " does not fit the new keys or values");
  Heads all{fresh.batch, fresh.heads, old.sequence + fresh.sequence, fresh.size, {}};
  for (std::int64_t g = 0; g < all.batch * all.heads; ++g) {
    all.values.insert(all.values.end(), old.row(0, g, 0), old.row(0, g, 0) + old.sequence * old.size);
    all.values.insert(all.values.end(), fresh.row(0, g, 0), fresh.row(0, g, 0) + fresh.sequence * fresh.size);
  }
  return all;
}

Tensor tensor_of(DType dtype, const Heads& x) { return from_doubles(dtype, {x.batch, x.heads, x.sequence, x.size}, x.values); }

/// The mask's part of the bias: broadcast from the right; keys beyond its last axis are excluded.
class Mask {
 public:
  Mask(const RefContext& ctx, std::int64_t batch, std::int64_t heads, std::int64_t queries, std::int64_t keys) {
    if (!ctx.has_input(kMask)) return;
    mask_ = &ctx.input(kMask);
    const Dims& dims = mask_->dims();
    const Dims full{batch, heads, queries, keys};
    bool fits = !dims.empty() && dims.size() <= 4;
    for (std::size_t i = 0; fits && i < dims.size(); ++i) {
      const std::int64_t want = full[4 - dims.size() + i];
      fits = i + 1 == dims.size() ? dims[i] <= want : dims[i] == 1 || dims[i] == want;
    }
    if (!fits) ctx.fail("the mask " + lathe::to_string(dims) + " does not broadcast to " + lathe::to_string(full));
    columns_ = dims.back();
    const Dims own = strides_of(dims);
    for (std::size_t i = 0; i < dims.size(); ++i) strides_[4 - dims.size() + i] = dims[i] == 1 && i + 1 < dims.size() ? 0 : own[i];
  }
  double at(std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t j) const {
    if (!mask_) return 0;
    if (j >= columns_) return kNever;
    const std::int64_t offset = b * strides_[0] + h * strides_[1] + i * strides_[2] + j * strides_[3];
    if (mask_->dtype() == DType::kBool) return mask_->as_int64(offset) ? 0 : kNever;
    return mask_->as_double(offset);
  }

 private:
  const Tensor* mask_ = nullptr;
  std::int64_t columns_ = 0, strides_[4] = {};
};

void attention_reference(RefContext& ctx) {
  const Attrs& attrs = ctx.attrs();
  const std::int64_t q_heads = attrs.get_int("q_num_heads", 0), kv_heads = attrs.get_int("kv_num_heads", 0);
  const Heads q = heads_of(ctx, ctx.input(kQ), q_heads);
  Heads k = heads_of(ctx, ctx.input(kK), kv_heads), v = heads_of(ctx, ctx.input(kV), kv_heads);
  const bool cached = ctx.has_input(kPastKey);
  const std::int64_t past = cached ? ctx.input(kPastKey).dims().at(2) : 0;
  if (cached) {
    k = with_past(ctx, ctx.input(kPastKey), k);
    v = with_past(ctx, ctx.input(kPastValue), v);
  }
  const bool fits =
      q.batch == k.batch && k.batch == v.batch && k.sequence == v.sequence && q.size == k.size && k.heads == v.heads && k.heads > 0 && q.heads % k.heads == 0;
  if (!fits)
    ctx.fail("Q " + lathe::to_string(ctx.input(kQ).dims()) + ", K " + lathe::to_string(ctx.input(kK).dims()) + " and V " +
             lathe::to_string(ctx.input(kV).dims()) + " do not fit");
  const DType dtype = ctx.input(kQ).dtype();
  const double scale = attrs.has("scale") ? static_cast<double>(attrs.get_float("scale", 0)) : 1 / std::sqrt(static_cast<double>(q.size));
  // The format defines the operator by a graph of others, each of which rounds what it gives; for narrow types that shows.
  const DType soft = attrs.has("softmax_precision") ? static_cast<DType>(attrs.get_int("softmax_precision", 0)) : dtype;
  const auto stored = [dtype](double v) { return round_as(dtype, v); };
  const auto softened = [soft](double v) { return round_as(soft, v); };
  const bool stepwise = soft == DType::kBFloat16;  // the format's own cases sum this type so, float16 in a wider one
  const double factor = stored(std::sqrt(scale)), cap = static_cast<double>(attrs.get_float("softcap", 0));
  const bool causal = attrs.get_int("is_causal", 0) != 0;
  const std::int64_t left = attrs.get_int("left_window_size", -1), right = attrs.get_int("right_window_size", -1);
  const std::int64_t mode = attrs.get_int("qk_matmul_output_mode", 0), group = q.heads / k.heads, keys = k.sequence;
  const Mask mask(ctx, q.batch, q.heads, q.sequence, keys);
  std::vector<std::int64_t> real(static_cast<std::size_t>(q.batch), keys);
  const bool counted = ctx.has_input(kRealKeys);
  if (counted) real = ctx.input(kRealKeys).to_int64_vector();
  if (static_cast<std::int64_t>(real.size()) != q.batch)
    ctx.fail("nonpad_kv_seqlen has " + std::to_string(real.size()) + " numbers for a batch of " + std::to_string(q.batch));

  Heads y{q.batch, q.heads, q.sequence, v.size, {}}, scores{q.batch, q.heads, q.sequence, keys, {}};
  std::vector<double> raw(static_cast<std::size_t>(keys)), capped(raw), biased(raw), bias(raw), weight(raw);
  for (std::int64_t b = 0; b < q.batch; ++b)
    for (std::int64_t h = 0; h < q.heads; ++h)
      for (std::int64_t i = 0; i < q.sequence; ++i) {
        const std::int64_t n = real[static_cast<std::size_t>(b)], position = i + (counted && !cached ? n - q.sequence : past);
        double largest = kNever, most = kNever, sum = 0;
        for (std::int64_t j = 0; j < keys; ++j) {
          const auto at = static_cast<std::size_t>(j);
          double product = 0;
          for (std::int64_t d = 0; d < q.size; ++d) product += stored(q.row(b, h, i)[d] * factor) * stored(k.row(b, h / group, j)[d] * factor);
          raw[at] = stored(product);
          capped[at] = cap > 0 ? stored(cap * stored(std::tanh(stored(raw[at] / cap)))) : raw[at];
          bias[at] = mask.at(b, h, i, j);
          const bool seen = (!causal || j <= position) && (left < 0 || position - j <= left) && (right < 0 || j - position <= right) && (!counted || j < n);
          if (!seen) bias[at] = kNever;
          biased[at] = stored(capped[at] + bias[at]);
          most = std::max(most, bias[at]);
          largest = std::max(largest, biased[at]);
        }
        for (std::int64_t j = 0; j < keys; ++j) {
          const auto at = static_cast<std::size_t>(j);
          weight[at] = largest == kNever ? 0 : softened(std::exp(softened(biased[at] - largest)));
          sum = stepwise ? softened(sum + weight[at]) : sum + weight[at];
        }
        sum = softened(sum);
        for (double& w : weight) w = most == kNever ? 0 : stored(softened(sum == 0 ? w : w / sum));
        for (std::int64_t d = 0; d < v.size; ++d) {
          double total = 0;
          for (std::int64_t j = 0; j < keys; ++j) total += weight[static_cast<std::size_t>(j)] * v.row(b, h / group, j)[d];
          y.values.push_back(total);
        }
        const auto& shown = mode == 3 ? weight : mode == 2 ? biased : mode == 1 ? capped : raw;
        if (ctx.wants_output(kScores)) scores.values.insert(scores.values.end(), shown.begin(), shown.end());
      }
  Tensor result = tensor_of(dtype, y);
  if (ctx.input(kQ).rank() == 3)
    result = remap_nd(result, {y.batch, y.sequence, y.heads * y.size},
                      [&](const Dims& at) { return ((at[0] * y.heads + at[2] / y.size) * y.sequence + at[1]) * y.size + at[2] % y.size; });
  ctx.set_output(kY, std::move(result));
  if (ctx.wants_output(kPresentKey)) ctx.set_output(kPresentKey, tensor_of(ctx.input(kK).dtype(), k));
  if (ctx.wants_output(kPresentValue)) ctx.set_output(kPresentValue, tensor_of(ctx.input(kV).dtype(), v));
  if (ctx.wants_output(kScores)) ctx.set_output(kScores, tensor_of(dtype, scores));
}

}  // namespace

std::span<const OpDef> ops_attention() {
  constexpr std::string_view kOutputs = " -> Y:T1 present_key?:T1 present_value?:T2 qk_matmul_output?:T1";
  static const std::string kOld = "Q:T1 K:T1 V:T2 attn_mask?:U past_key?:T1 past_value?:T2" + std::string(kOutputs);
  static const std::string kNew = "Q:T1 K:T1 V:T2 attn_mask?:U past_key?:T1 past_value?:T2 nonpad_kv_seqlen?:int64" + std::string(kOutputs);
  constexpr std::string_view kAttrs =
      "is_causal:int=0 kv_num_heads:int? q_num_heads:int? qk_matmul_output_mode:int=0 scale:float? softcap:float=0 softmax_precision:int?";
  static const std::string kWindow = std::string(kAttrs) + " left_window_size:int=-1 right_window_size:int=-1";
  constexpr std::string_view kTypes = "T1: @float13; T2: @float13; U: @num13 bool";
  static const std::vector<OpDef> ops = [=] {
    std::vector<OpDef> list{
        {.name = "Attention",
         .versions = {{23, kOld, kAttrs, kTypes}, {24, kNew, kAttrs, kTypes}, {25, kNew, kWindow, kTypes}},
         .infer = attention_infer,
         .reference = attention_reference,
         .tolerance = {.relative = 1e-4, .absolute = 1e-5},
         .expand = attention_expand,
         .doc = "softmax(Q K' + bias) V with heads, groups, caches, masks and windows"},
    };
    for (auto more : {rotary_ops(), causal_conv_ops()}) list.insert(list.end(), more.begin(), more.end());
    return list;
  }();
  return ops;
}

}  // namespace lathe::ops
