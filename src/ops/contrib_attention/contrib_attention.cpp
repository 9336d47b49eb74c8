// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Attentions of com.microsoft: with the projection in front (Attention, QAttention) or without (MultiHeadAttention), and the rotary
// embedding. Forms whose caches share their buffers, or that a beam search drives, stay: they mean something to a generation loop only.
#include "ops/contrib_attention/contrib_attention.h"

#include <cmath>

#include "ops/contrib_attention/attention_parts.h"
#include "ops/expansion.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

constexpr float kFilter = -10000.0f;
constexpr std::int64_t kMostHidden = std::int64_t{1} << 40;

std::int64_t heads_of(ExpandContext& ctx) {
  const std::int64_t heads = ctx.attrs().get_int("num_heads", 0);
  if (heads < 1 || heads > (std::int64_t{1} << 20)) ctx.fail("num_heads is " + std::to_string(heads));
  return heads;
}

double scale_of(const Attrs& attrs, std::int64_t size) {
  const double given = static_cast<double>(attrs.get_float("scale", 0));
  return given != 0 ? given : 1 / std::sqrt(static_cast<double>(size));
}

/// Attention from the sum of its three projections, [batch, sequence, q + k + v], on.
bool attention_from(Parts& p, Value* projected, const std::vector<std::int64_t>& sizes, DType dtype, Value* mask, Value* past, Value* bias) {
  ExpandContext& ctx = p.ctx;
  const std::int64_t heads = heads_of(ctx);
  for (const std::int64_t size : sizes)
    if (size < 1 || size % heads != 0) ctx.fail("a projection to " + std::to_string(size) + " cannot be split into " + std::to_string(heads) + " heads");
  if (sizes[0] != sizes[1]) ctx.fail("queries and keys differ in size: " + std::to_string(sizes[0]) + " and " + std::to_string(sizes[1]));
  const auto parts = p.split(projected, 2, sizes);
  Value *q = split_heads(p, parts[0], heads), *k = split_heads(p, parts[1], heads), *v = split_heads(p, parts[2], heads);
  if (past) {
    const auto cached = [&](std::int64_t which) { return p.squeeze(p.slice(past, 0, which, which + 1), {0}); };
    k = p.concat({cached(0), k}, 2);
    v = p.concat({cached(1), v}, 2);
  }
  if (ctx.node.output(1)) ctx.replace(1, p.concat({p.unsqueeze(k, {0}), p.unsqueeze(v, {0})}, 0));
  Softmaxed a{.q = q, .k = k, .v = v, .dtype = dtype, .scale = scale_of(ctx.attrs(), sizes[0] / heads)};
  const double filter = static_cast<double>(ctx.attrs().get_float("mask_filter_value", kFilter));
  if (mask) a.biases.push_back(padding_bias(p, mask, ctx.node.input(0)->shape()[0], q, k, dtype, filter));
  if (ctx.attrs().get_int("unidirectional", 0) != 0) a.biases.push_back(causal_bias(p, q, k, dtype));
  a.biases.push_back(bias);
  ctx.replace(0, merge_heads(p, attend(p, a)));
  return true;
}

/// Sizes of the projections; empty: only a run tells.
std::vector<std::int64_t> projection_sizes(ExpandContext& ctx) {
  std::vector<std::int64_t> sizes = ctx.attrs().get_ints("qkv_hidden_sizes");
  const auto rank = rank_of(ctx.node.input(0)), weight_rank = rank_of(ctx.node.input(1));
  if (!rank || !weight_rank) return {};
  if (*rank != 3 || *weight_rank != 2) ctx.fail("takes an input of rank 3 and weights of rank 2");
  const auto all = extent_of(ctx.node.input(1), 1);
  if (sizes.empty() && all) sizes.assign(3, *all / 3);
  if (sizes.empty()) return {};
  if (sizes.size() != 3) ctx.fail("qkv_hidden_sizes has " + std::to_string(sizes.size()) + " numbers, not 3");
  for (const std::int64_t size : sizes)
    if (size < 1 || size > kMostHidden) ctx.fail("a projection to " + std::to_string(size));
  if (all && sizes[0] + sizes[1] + sizes[2] != *all) ctx.fail("the weights' " + std::to_string(*all) + " columns are not those of three projections");
  return sizes;
}

bool attention(ExpandContext& ctx) {
  enum : std::size_t { kX, kWeights, kBias, kMask, kPast, kScoreBias, kPastLength };
  const Node& node = ctx.node;
  const auto sizes = projection_sizes(ctx);
  if (sizes.empty() || node.input(kPastLength) || ctx.attrs().get_int("do_rotary", 0) != 0) return false;
  if (node.input(kMask) && !rank_of(node.input(kMask))) return false;
  Parts p(ctx);
  Value* projected = p.plus(p.binary("MatMul", node.input(kX), node.input(kWeights)), node.input(kBias));
  return attention_from(p, projected, sizes, node.input(kX)->dtype(), node.input(kMask), node.input(kPast), node.input(kScoreBias));
}

bool quantized_attention(ExpandContext& ctx) {
  enum : std::size_t { kX, kWeights, kBias, kXScale, kWeightScale, kMask, kXZero, kWeightZero, kPast };
  const Node& node = ctx.node;
  const auto sizes = projection_sizes(ctx);
  if (sizes.empty() || ctx.attrs().get_int("do_rotary", 0) != 0) return false;
  if (node.input(kMask) && !rank_of(node.input(kMask))) return false;
  Parts p(ctx);
  const DType dtype = node.input(kBias)->dtype();
  Value* sums = ctx.add("MatMulInteger", {node.input(kX), node.input(kWeights), node.input(kXZero), node.input(kWeightZero)});
  const auto wide = [&](std::size_t i) { return p.as(node.input(i), dtype, DType::kFloat32); };
  Value* scaled = p.times(p.cast(sums, DType::kFloat32), p.times(wide(kXScale), wide(kWeightScale)));
  Value* projected = p.plus(p.as(scaled, DType::kFloat32, dtype), node.input(kBias));
  return attention_from(p, projected, sizes, dtype, node.input(kMask), node.input(kPast), nullptr);
}

struct MultiHead {
  Value *query, *key, *value, *bias, *mask, *score_bias, *past_key, *past_value;
};

bool multi_head_parts(ExpandContext& ctx, const MultiHead& in) {
  const auto q_rank = rank_of(in.query), k_rank = rank_of(in.key), v_rank = rank_of(in.value);
  if (!q_rank || (in.key && !k_rank) || (in.value && !v_rank) || (in.mask && !rank_of(in.mask))) return false;
  const std::int64_t heads = heads_of(ctx);
  const bool packed = *q_rank == 5, packed_pair = in.key && *k_rank == 5;
  const bool fits =
      packed ? !in.key && !in.value : *q_rank == 3 && in.key && (packed_pair ? !in.value : in.value && *k_rank == *v_rank && (*k_rank == 3 || *k_rank == 4));
  if (!fits) ctx.fail("query, key and value have ranks that do not belong together");
  // The size of a head, and where the bias of each projection begins.
  const auto last = extent_of(in.query, *q_rank - 1);
  if (!last || *last > kMostHidden || (in.bias && (packed || packed_pair))) return false;
  if (!packed && *last % heads != 0) ctx.fail("a query of " + std::to_string(*last) + " cannot be split into " + std::to_string(heads) + " heads");
  const std::int64_t size = packed ? *last : *last / heads;
  if (size < 1) ctx.fail("heads of size " + std::to_string(size));
  Parts p(ctx);
  const auto biased = [&](Value* x, std::int64_t from, std::int64_t to) { return in.bias ? p.plus(x, p.slice(in.bias, 0, from, to)) : x; };
  // One of several tensors in a row: [batch, sequence, heads, which, size].
  const auto unpacked = [&](Value* x, std::int64_t which) { return p.transpose(p.squeeze(p.slice(x, 3, which, which + 1), {3}), {0, 2, 1, 3}); };
  constexpr std::int64_t kEnd = std::int64_t{1} << 62;
  const std::int64_t hidden = heads * size;
  Value *q = nullptr, *k = nullptr, *v = nullptr;
  if (packed) {
    q = unpacked(in.query, 0);
    k = unpacked(in.query, 1);
    v = unpacked(in.query, 2);
  } else {
    q = split_heads(p, biased(in.query, 0, hidden), heads);
    if (packed_pair) {
      k = unpacked(in.key, 0);
      v = unpacked(in.key, 1);
    } else if (*k_rank == 4) {
      k = in.key;  // of a cross attention: projected and split already
      v = in.value;
    } else {
      k = split_heads(p, biased(in.key, hidden, 2 * hidden), heads);
      v = split_heads(p, biased(in.value, 2 * hidden, kEnd), heads);
    }
  }
  if (in.past_key && in.past_value) {
    k = p.concat({in.past_key, k}, 2);
    v = p.concat({in.past_value, v}, 2);
  }
  ctx.replace(1, k);
  ctx.replace(2, v);
  const DType dtype = in.query->dtype();
  Softmaxed a{.q = q, .k = k, .v = v, .dtype = dtype, .scale = scale_of(ctx.attrs(), size)};
  const double filter = static_cast<double>(ctx.attrs().get_float("mask_filter_value", kFilter));
  if (in.mask) a.biases.push_back(padding_bias(p, in.mask, in.query->shape()[0], q, k, dtype, filter));
  if (ctx.attrs().get_int("unidirectional", 0) != 0) a.biases.push_back(causal_bias(p, q, k, dtype));
  a.biases.push_back(in.score_bias);
  ctx.replace(0, merge_heads(p, attend(p, a)));
  return true;
}

bool multi_head(ExpandContext& ctx) {
  const auto in = [&](std::size_t i) { return ctx.node.input(i); };
  if (in(8) || in(9) || ctx.node.output(3)) return false;
  return multi_head_parts(ctx, {in(0), in(1), in(2), in(3), in(4), in(5), in(6), in(7)});
}

bool decoder_masked(ExpandContext& ctx) {
  const auto in = [&](std::size_t i) { return ctx.node.input(i); };
  if (in(7) || in(8) || in(9) || ctx.node.output(3) || ctx.attrs().get_int("past_present_share_buffer", 0) != 0) return false;
  return multi_head_parts(ctx, {in(0), in(1), in(2), in(10), in(3), in(4), in(5), in(6)});
}

bool rotary(ExpandContext& ctx) {
  enum : std::size_t { kX, kPositions, kCos, kSin };
  const Node& node = ctx.node;
  const auto rank = rank_of(node.input(kX)), position_rank = rank_of(node.input(kPositions));
  const auto half = extent_of(node.input(kCos), 1);
  if (!rank || !position_rank || !half) return false;
  if (*rank != 3 && *rank != 4) ctx.fail("takes rank 3 or 4, got " + ir::to_string(node.input(kX)->shape()));
  if (*half < 1 || *half > (std::int64_t{1} << 30)) ctx.fail("caches of " + std::to_string(*half) + " columns");
  if (ctx.attrs().get_int("is_packed_batching", 0) != 0) return false;
  std::int64_t heads = ctx.attrs().get_int("num_heads", 0);
  Attrs attrs = attrs_of({{"interleaved", ctx.attrs().get_int("interleaved", 0)}});
  if (*rank == 3) {
    const auto hidden = extent_of(node.input(kX), 2);
    if (heads == 0 && !hidden) return false;
    if (heads == 0) heads = *hidden / (2 * *half);
    if (heads < 1) ctx.fail("num_heads is " + std::to_string(heads));
    attrs.set("num_heads", heads);
  }
  if (const std::int64_t rotated = ctx.attrs().get_int("rotary_embedding_dim", 0); rotated != 0) attrs.set("rotary_embedding_dim", rotated);
  Parts p(ctx);
  Value* positions = node.input(kPositions);
  if (*position_rank < 2) {
    // The position of the first element; the others follow.
    Value* length = p.extent(node.input(kX), *rank == 3 ? 1 : 2);
    Value* row = p.plus(p.reshape(positions, {1}), counted(p, length));
    positions = p.binary("Expand", row, p.concat({p.extent(node.input(kX), 0), length}, 0));
  }
  ctx.replace(0, ctx.add("RotaryEmbedding", {node.input(kX), node.input(kCos), node.input(kSin), positions}, std::move(attrs)));
  return true;
}

}  // namespace

std::span<const OpDef> ops_contrib_attention() {
  constexpr std::string_view kMs = "com.microsoft";
  constexpr Tolerance kTolerance{.relative = 1e-4, .absolute = 1e-5};
  static const std::vector<OpDef> ops{
      {.domain = kMs,
       .name = "Attention",
       .versions = {{1, "input:T weights:T bias?:T mask_index?:M past?:T attention_bias?:T past_sequence_length?:M -> output:T present?:T",
                     "do_rotary:int? mask_filter_value:float? num_heads:int past_present_share_buffer:int? qkv_hidden_sizes:ints? rotary_embedding_dim:int? "
                     "scale:float? unidirectional:int=0",
                     "T: float float16 bfloat16; M: int32"}},
       .infer = infer_expanded,
       .tolerance = kTolerance,
       .expand = attention,
       .doc = "attention with its input projection, masks and a cache"},
      {.domain = kMs,
       .name = "QAttention",
       .versions =
           {{1,
             "input:T1 weight:T2 bias:T3 input_scale:T3 weight_scale:T3 mask_index?:T4 input_zero_point?:T1 weight_zero_point?:T2 past?:T3 -> output:T3 "
             "present?:T3",
             "do_rotary:int? mask_filter_value:float? num_heads:int past_present_share_buffer:int? scale:float? unidirectional:int=0",
             "T1: int8 uint8; T2: int8 uint8; T3: float float16; T4: int32"}},
       .infer = infer_expanded,
       .tolerance = kTolerance,
       .expand = quantized_attention,
       .doc = "Attention with a quantised projection"},
      {.domain = kMs,
       .name = "MultiHeadAttention",
       .versions = {{1,
                     "query:T key?:T value?:T bias?:T key_padding_mask?:M attention_bias?:T past_key?:T past_value?:T past_sequence_length?:M "
                     "cache_indirection?:M -> output:T present_key?:T present_value?:T qk?:QK",
                     "mask_filter_value:float? num_heads:int scale:float? unidirectional:int=0",
                     "T: float float16 bfloat16; QK: float float16 bfloat16; M: int32"}},
       .infer = infer_expanded,
       .tolerance = kTolerance,
       .expand = multi_head,
       .doc = "attention of projected queries, keys and values, packed or not"},
      {.domain = kMs,
       .name = "DecoderMaskedMultiHeadAttention",
       .versions = {{1,
                     "query:T key?:T value?:T mask_index?:M attention_bias?:T past_key?:T past_value?:T past_sequence_length?:M beam_width?:M "
                     "cache_indirection?:M bias?:T -> output:T present_key?:T present_value?:T qk?:QK",
                     "mask_filter_value:float? num_heads:int output_qk:int? past_present_share_buffer:int? scale:float?",
                     "T: float float16; QK: float float16; M: int32"}},
       .infer = infer_expanded,
       .tolerance = kTolerance,
       .expand = decoder_masked,
       .doc = "MultiHeadAttention of one step of a decoder"},
      {.domain = kMs,
       .name = "RotaryEmbedding",
       .versions = {{1, "input:T position_ids:M cos_cache:T sin_cache:T -> output:T",
                     "interleaved:int? is_packed_batching:int? num_heads:int? rotary_embedding_dim:int? scale:float?", "T: float float16 bfloat16; M: int64"}},
       .infer = infer_same_as_input,
       .tolerance = kTolerance,
       .expand = rotary,
       .doc = "RotaryEmbedding by position numbers or the first of them"},
      group_query_attention(),
  };
  return ops;
}

}  // namespace lathe::ops
