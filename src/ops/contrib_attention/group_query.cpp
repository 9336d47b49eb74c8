// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// GroupQueryAttention: causal attention with a cache of keys and values, fewer heads of which than of queries, as decoders run it.
//
// Row b holds `seqlens_k[b] + 1` positions after this step, the last `sequence` of which are new: they begin at start[b] (0 for a first
// prompt, whose rows are padded at their ends). The cache has max(length of the old one, total_sequence_length) rows:
//
//   present[b, p] = past[b, p] for p < start[b], new[b, p - start[b]] from there on; what lies beyond is nobody's
//
// A query at position i sees keys at positions <= i, and with a window only the last `local_window_size` of them.
#include <cmath>
#include <limits>

#include "ops/contrib_attention/attention_parts.h"
#include "ops/contrib_attention/contrib_attention.h"
#include "ops/expansion.h"

namespace lathe::ops {
namespace {

enum Input : std::size_t {
  kQuery,
  kKey,
  kValue,
  kPastKey,
  kPastValue,
  kLengths,
  kTotal,
  kCos,
  kSin,
  kPositions,
  kScoreBias,
  kSink,
  kKScale,
  kVScale,
  kQNorm,
  kKNorm,
  kQueryLengths
};

struct Sizes {
  std::int64_t heads = 0, kv_heads = 0, size = 0;
};

/// Heads and their size, or nothing where only a run tells.
std::optional<Sizes> sizes_of(ExpandContext& ctx) {
  const Node& node = ctx.node;
  const bool packed = !node.input(kKey);
  if (packed != !node.input(kValue)) ctx.fail("key and value come together");
  for (const std::size_t i : {kQuery, kKey, kValue})
    if (const auto rank = rank_of(node.input(i)); rank && *rank != 3) ctx.fail("query, key and value must have rank 3");
  Sizes s;
  s.heads = ctx.attrs().get_int("num_heads", 0);
  s.kv_heads = ctx.attrs().get_int("kv_num_heads", 0);
  constexpr std::int64_t kMost = std::int64_t{1} << 20;
  if (s.heads < 1 || s.kv_heads < 1 || s.heads > kMost || s.heads % s.kv_heads != 0)
    ctx.fail("num_heads is " + std::to_string(s.heads) + ", kv_num_heads " + std::to_string(s.kv_heads));
  const auto hidden = extent_of(node.input(kQuery), 2);
  if (!hidden) return std::nullopt;
  const std::int64_t parts = packed ? s.heads + 2 * s.kv_heads : s.heads;
  if (*hidden < parts || *hidden % parts != 0) ctx.fail("a query of " + std::to_string(*hidden) + " cannot be split into " + std::to_string(parts) + " heads");
  s.size = *hidden / parts;
  return s;
}

/// Forms that other runtimes know and this expansion does not.
bool is_plain(ExpandContext& ctx) {
  const Node& node = ctx.node;
  const Attrs& attrs = ctx.attrs();
  return !node.input(kKScale) && !node.input(kVScale) && !node.input(kQueryLengths) && !node.output(3) && attrs.get_int("sliding_window_cache", 0) == 0 &&
         attrs.get_string("k_quant_type", "NONE") == "NONE" && attrs.get_string("v_quant_type", "NONE") == "NONE" && !node.input(kQNorm) == !node.input(kKNorm);
}

/// Rows of the old and then the new, each where it belongs: `index` is [batch, rows].
Value* with_cache(Parts& p, Value* past, Value* fresh, Value* index, Value* rows) {
  Value* all = past ? p.concat({past, fresh}, 2) : fresh;
  Value* wide = p.binary("Expand", p.unsqueeze(index, {1, 3}), p.concat({p.extent(fresh, 0), p.extent(fresh, 1), rows, p.extent(fresh, 3)}, 0));
  return p.ctx.add("GatherElements", {all, wide}, attrs_of({{"axis", 2}}));
}

bool group_query(ExpandContext& ctx) {
  const Node& node = ctx.node;
  const Attrs& attrs = ctx.attrs();
  if (!is_plain(ctx)) return false;
  const auto sizes = sizes_of(ctx);
  if (!sizes) return false;
  const auto [heads, kv_heads, size] = *sizes;
  const bool turns = attrs.get_int("do_rotary", 0) != 0;
  const auto half = turns ? extent_of(node.input(kCos), 1) : std::optional<std::int64_t>(0);
  if (turns && (!node.input(kCos) || !node.input(kSin))) ctx.fail("do_rotary needs cos_cache and sin_cache");
  if (!half || (node.input(kScoreBias) && !rank_of(node.input(kScoreBias)))) return false;
  if (turns && (*half < 1 || *half > size / 2)) ctx.fail("caches of " + std::to_string(*half) + " columns do not fit heads of " + std::to_string(size));
  const DType dtype = node.input(kQuery)->dtype();
  Parts p(ctx);

  Value *q = node.input(kQuery), *k = node.input(kKey), *v = node.input(kValue);
  if (!k) {
    const auto parts = p.split(q, 2, {heads * size, kv_heads * size, kv_heads * size});
    q = parts[0], k = parts[1], v = parts[2];
  }
  q = split_heads(p, q, heads);
  k = split_heads(p, k, kv_heads);
  v = split_heads(p, v, kv_heads);
  if (node.input(kQNorm)) {
    const float both = attrs.get_float("qk_norm_epsilon", 1e-6f);
    const auto norm = [&](Value* x, std::size_t weight, const char* own) {
      return ctx.add("RMSNormalization", {x, node.input(weight)}, attrs_of({{"axis", -1}, {"epsilon", attrs.get_float(own, both)}}));
    };
    q = norm(q, kQNorm, "q_norm_epsilon");
    k = norm(k, kKNorm, "k_norm_epsilon");
  }

  // Where the new rows begin, [batch, 1].
  Value* length = p.extent(node.input(kQuery), 1);
  Value* total = p.reshape(p.cast(node.input(kTotal), DType::kInt64), {1});
  Value* ends = p.plus(p.reshape(p.cast(node.input(kLengths), DType::kInt64), {-1, 1}), p.whole(1));
  Value* start = ctx.add("Where", {p.binary("Equal", total, length), p.whole(0), p.binary("Sub", ends, length)});
  Value* position = p.plus(start, p.unsqueeze(counted(p, length), {0}));  // [batch, sequence]
  if (turns) {
    Attrs turn = attrs_of({{"interleaved", attrs.get_int("rotary_interleaved", 0)}});
    if (2 * *half < size) turn.set("rotary_embedding_dim", 2 * *half);
    // Padded rows may stand anywhere; the tables end somewhere.
    Value* most = p.binary("Sub", p.extent(node.input(kCos), 0), p.ints({1}));
    Value* at = node.input(kPositions) ? node.input(kPositions) : ctx.add("Min", {ctx.add("Max", {position, p.whole(0)}), most});
    q = ctx.add("RotaryEmbedding", {q, node.input(kCos), node.input(kSin), at}, turn);
    k = ctx.add("RotaryEmbedding", {k, node.input(kCos), node.input(kSin), at}, turn);
  }

  Value *past_key = node.input(kPastKey), *past_value = node.input(kPastValue);
  Value* old_rows = past_key ? p.extent(past_key, 2) : p.ints({0});
  Value* rows = past_key ? ctx.add("Max", {old_rows, total}) : total;
  Value* column = p.unsqueeze(counted(p, rows), {0});  // [1, rows]
  Value* behind = p.binary("Sub", column, start);      // of the new rows, [batch, rows]
  Value* of_new = p.plus(behind, old_rows);
  Value* index = ctx.add("Where", {p.binary("Less", column, start), column, of_new});
  index = ctx.add("Max", {ctx.add("Min", {index, p.binary("Sub", p.plus(old_rows, length), p.ints({1}))}), p.whole(0)});
  k = with_cache(p, past_key, k, index, rows);
  v = with_cache(p, past_value, v, index, rows);
  ctx.replace(1, k);
  ctx.replace(2, v);

  Softmaxed a{.q = q, .k = k, .v = v, .dtype = dtype, .heads = heads, .groups = heads / kv_heads};
  const double scale = static_cast<double>(attrs.get_float("scale", 0));
  a.scale = scale != 0 ? scale : 1 / std::sqrt(static_cast<double>(size));
  a.softcap = static_cast<double>(attrs.get_float("softcap", 0));
  Value *query_at = p.unsqueeze(position, {1, 3}), *key_at = p.unsqueeze(column, {1, 2});
  Value* seen = nullptr;
  if (attrs.get_int("causal", 1) != 0) {
    seen = p.binary("LessOrEqual", key_at, query_at);
    if (const std::int64_t window = attrs.get_int("local_window_size", -1); window >= 0)
      seen = p.binary("And", seen, p.binary("Less", p.binary("Sub", query_at, key_at), p.whole(window)));
  } else {
    seen = p.binary("Less", key_at, p.unsqueeze(p.plus(start, length), {1, 3}));
  }
  const double lowest = dtype == DType::kFloat16 ? -65504.0 : -static_cast<double>(std::numeric_limits<float>::max());
  if (Value* bias = node.input(kScoreBias)) {
    // Its columns are those of the sequence; the cache may have more.
    Value* more = p.binary("Sub", rows, p.extent(bias, 3));
    a.biases.push_back(ctx.add("Pad", {bias, p.concat({p.ints({0, 0, 0, 0, 0, 0, 0}), more}, 0)}));
  }
  a.biases.push_back(where_not(p, seen, dtype, lowest));
  if (node.input(kSink)) a.sink = p.reshape(node.input(kSink), {1, heads, 1, 1});
  else if (attrs.get_int("smooth_softmax", -1) == 1) a.sink = p.reshape(p.number(dtype, 0), {1, 1, 1, 1});
  ctx.replace(0, merge_heads(p, attend(p, a)));
  return true;
}

}  // namespace

OpDef group_query_attention() {
  return {.domain = "com.microsoft",
          .name = "GroupQueryAttention",
          .versions = {{1,
                        "query:T key?:T value?:T past_key?:T_CACHE past_value?:T_CACHE seqlens_k:M total_sequence_length:M cos_cache?:T sin_cache?:T "
                        "position_ids?:int64 attention_bias?:T head_sink?:T k_scale?:T_KV_SCALE v_scale?:T_KV_SCALE q_norm_weight?:T k_norm_weight?:T "
                        "query_seqlens?:M -> output:T present_key?:T_CACHE present_value?:T_CACHE output_qk?:T",
                        "causal:int=1 do_rotary:int? k_norm_epsilon:float? k_quant_type:string=NONE kv_cache_bit_width:int? kv_num_heads:int "
                        "local_window_size:int=-1 num_heads:int q_norm_epsilon:float? qk_norm_epsilon:float=9.99999997e-07 qk_output:int=0 "
                        "rotary_interleaved:int? scale:float? sliding_window_cache:int=0 smooth_softmax:int=-1 softcap:float? v_quant_type:string=NONE",
                        "T: float float16 bfloat16; T_CACHE: float float16 bfloat16 float8e4m3fn int8 uint8; T_KV_SCALE: float; M: int32"}},
          .infer = infer_expanded,
          .tolerance = {.relative = 1e-4, .absolute = 1e-5},
          .expand = group_query,
          .doc = "causal attention with grouped heads, a cache and rotary embedding"};
}

}  // namespace lathe::ops
