// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Attention as products around a softmax. Forms whose head sizes only a run tells stay, and those that show their scores.
#include <cmath>
#include <limits>

#include "ops/attention/attention.h"
#include "ops/contrib_attention/attention_parts.h"

namespace lathe::ops {
namespace {

enum Input : std::size_t { kQ, kK, kV, kMask, kPastKey, kPastValue, kRealKeys };

constexpr double kNever = -std::numeric_limits<double>::infinity();

struct Plan {
  std::int64_t heads = 0, kv_heads = 0;
  double scale = 1;
  bool flat = false;
};

std::optional<Plan> plan_of(const ExpandContext& ctx) {
  const Node& node = ctx.node;
  const Attrs& attrs = ctx.attrs();
  const auto rank = rank_of(node.input(kQ));
  if (!rank || rank != rank_of(node.input(kK)) || rank != rank_of(node.input(kV)) || (*rank != 3 && *rank != 4)) return std::nullopt;
  Plan plan;
  plan.flat = *rank == 3;
  const auto last = extent_of(node.input(kQ), *rank - 1);
  plan.heads = plan.flat ? attrs.get_int("q_num_heads", 0) : extent_of(node.input(kQ), 1).value_or(0);
  plan.kv_heads = plan.flat ? attrs.get_int("kv_num_heads", 0) : extent_of(node.input(kK), 1).value_or(0);
  if (plan.heads < 1 || plan.kv_heads < 1 || plan.heads % plan.kv_heads != 0) return std::nullopt;
  if (plan.flat && last && *last % plan.heads != 0) return std::nullopt;
  if (attrs.has("scale")) {
    plan.scale = static_cast<double>(attrs.get_float("scale", 1));
  } else {
    const std::int64_t size = last ? (plan.flat ? *last / plan.heads : *last) : 0;
    if (size < 1) return std::nullopt;
    plan.scale = 1 / std::sqrt(static_cast<double>(size));
  }
  return plan;
}

/// The mask as a bias over all keys: those beyond its last axis are excluded.
Value* mask_bias(Parts& p, Value* mask, Value* k, DType dtype) {
  const bool condition = mask->dtype() == DType::kBool;
  Value* bias = condition ? where_not(p, mask, dtype, kNever) : p.as(mask, mask->dtype(), dtype);
  const Dim columns = mask->shape().back();
  const Value* key = p.ctx.node.input(kK);
  const Dim keys = key->shape()[key->shape().size() == 3 ? 1 : 2];
  if (!p.ctx.node.input(kPastKey) && columns == keys) return bias;
  const auto rank = static_cast<std::int64_t>(mask->shape().size());
  Value* missing = p.binary("Sub", p.extent(k, 2), p.extent(mask, rank - 1));
  Value* pads = p.concat({p.ints(std::vector<std::int64_t>(static_cast<std::size_t>(2 * rank - 1), 0)), missing}, 0);
  return p.ctx.add("Pad", {bias, pads, p.number(dtype, kNever)});
}

/// The pairs that causality, windows and the number of real keys leave; nullptr: all.
Value* seen_pairs(Parts& p, Value* q, Value* k) {
  const Attrs& attrs = p.ctx.attrs();
  const bool causal = attrs.get_int("is_causal", 0) != 0;
  const std::int64_t left = attrs.get_int("left_window_size", -1), right = attrs.get_int("right_window_size", -1);
  Value *real = p.ctx.node.input(kRealKeys), *past = p.ctx.node.input(kPastKey);
  if (!causal && left < 0 && right < 0 && !real) return nullptr;
  // [batch or 1, 1, queries, 1] and [1, 1, 1, keys].
  Value* position = p.unsqueeze(counted(p, p.extent(q, 2)), {0, 1, 3});
  Value* key = p.unsqueeze(counted(p, p.extent(k, 2)), {0, 1, 2});
  Value* count = real ? p.unsqueeze(real, {1, 2, 3}) : nullptr;
  if (real) position = p.plus(position, p.binary("Sub", count, p.extent(q, 2)));
  else if (past) position = p.plus(position, p.extent(past, 2));
  Value* seen = nullptr;
  const auto also = [&](Value* more) { seen = seen ? p.binary("And", seen, more) : more; };
  if (causal) also(p.binary("LessOrEqual", key, position));
  if (left >= 0) also(p.binary("LessOrEqual", p.binary("Sub", position, key), p.whole(left)));
  if (right >= 0) also(p.binary("LessOrEqual", p.binary("Sub", key, position), p.whole(right)));
  if (real) also(p.binary("Less", key, count));
  return seen;
}

}  // namespace

bool attention_expand(ExpandContext& ctx) {
  const Node& node = ctx.node;
  const Attrs& attrs = ctx.attrs();
  const auto plan = plan_of(ctx);
  if (!plan || node.output(3) || (node.input(kMask) && (!rank_of(node.input(kMask)) || node.input(kMask)->shape().empty()))) return false;
  if (!node.input(kPastKey) != !node.input(kPastValue)) return false;
  const DType dtype = node.input(kQ)->dtype();
  const auto precision = static_cast<DType>(attrs.get_int("softmax_precision", static_cast<std::int64_t>(dtype)));
  if (node.input(kV)->dtype() != dtype || precision != dtype) return false;  // stays with the reference's rounding
  Parts p(ctx);
  Value *q = node.input(kQ), *k = node.input(kK), *v = node.input(kV);
  if (plan->flat) {
    q = split_heads(p, q, plan->heads);
    k = split_heads(p, k, plan->kv_heads);
    v = split_heads(p, v, plan->kv_heads);
  }
  if (node.input(kPastKey)) {
    k = p.concat({node.input(kPastKey), k}, 2);
    v = p.concat({node.input(kPastValue), v}, 2);
  }
  ctx.replace(1, k);
  ctx.replace(2, v);
  Softmaxed a{.q = q, .k = k, .v = v, .dtype = dtype, .scale = plan->scale, .heads = plan->heads, .groups = plan->heads / plan->kv_heads};
  a.softcap = static_cast<double>(attrs.get_float("softcap", 0));
  if (Value* seen = seen_pairs(p, q, k)) a.biases.push_back(where_not(p, seen, dtype, kNever));
  if (node.input(kMask)) a.biases.push_back(mask_bias(p, node.input(kMask), k, dtype));
  a.rows_may_be_empty = !a.biases.empty();
  Value* y = attend(p, a);
  ctx.replace(0, plan->flat ? merge_heads(p, y) : y);
  return true;
}

}  // namespace lathe::ops
