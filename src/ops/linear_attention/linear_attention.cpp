// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// LinearAttention: attention as a recurrence over a state of keys times values, which a decoder carries on. For each step of a sequence and each
// key head (Yang et al., Gated Delta Networks, 2024):
//   S = exp(decay) * S              rules gated, gated_delta
//   v = beta * (v - S' k)           rules delta, gated_delta
//   S = S + k v'
//   y = scale * S' q                for each query head of the group
#include <algorithm>
#include <cmath>

#include "ops/ref_util.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

struct Rule {
  bool gated = false, delta = false;
};

std::optional<Rule> rule_of(const Attrs& attrs) {
  const std::string name = attrs.get_string("update_rule", "gated_delta");
  if (name == "linear") return Rule{};
  if (name == "gated") return Rule{true, false};
  if (name == "delta") return Rule{false, true};
  if (name == "gated_delta") return Rule{true, true};
  return std::nullopt;
}

/// A defect of attributes and presence of inputs, or "".
std::string linear_defect(const Attrs& attrs, bool decay, bool beta) {
  const auto rule = rule_of(attrs);
  if (!rule) return "the update_rule '" + attrs.get_string("update_rule", "") + "' is none of linear, gated, delta, gated_delta";
  const std::int64_t q_heads = attrs.get_int("q_num_heads", 0), kv_heads = attrs.get_int("kv_num_heads", 0);
  if (kv_heads < 1 || q_heads < 1 || q_heads % kv_heads != 0) return "q_num_heads must be a positive multiple of kv_num_heads";
  if (rule->gated != decay) return rule->gated ? "this update_rule needs the input decay" : "this update_rule takes no decay";
  if (rule->delta != beta) return rule->delta ? "this update_rule needs the input beta" : "this update_rule takes no beta";
  return "";
}

void linear_infer(InferContext& ctx) {
  const std::string defect = linear_defect(ctx.attrs(), ctx.has_input(4), ctx.has_input(5));
  if (!defect.empty()) ctx.fail(defect);
  const std::int64_t q_heads = ctx.attrs().get_int("q_num_heads", 1), kv_heads = ctx.attrs().get_int("kv_num_heads", 1);
  const auto &q = ctx.shape(0), &k = ctx.shape(1), &v = ctx.shape(2);
  for (std::size_t i = 0; i < 3; ++i)
    if (ctx.shape(i) && ctx.shape(i)->size() != 3) ctx.fail("query, key and value have rank 3, got " + ir::to_string(*ctx.shape(i)));
  const Dim value_size = v ? Dim::floordiv((*v)[2], Dim(kv_heads)) : ctx.fresh_symbol();
  const Dim key_size = k ? Dim::floordiv((*k)[2], Dim(kv_heads)) : ctx.fresh_symbol();
  const Dim batch = q ? (*q)[0] : ctx.fresh_symbol();
  ctx.set(0, ctx.dtype(0), {batch, q ? (*q)[1] : ctx.fresh_symbol(), value_size * Dim(q_heads)});
  if (ctx.node().outputs.size() > 1 && ctx.node().outputs[1])
    ctx.set(1, ctx.has_input(3) ? ctx.dtype(3) : ctx.dtype(0), {batch, Dim(kv_heads), key_size, value_size});
}

void linear_reference(RefContext& ctx) {
  const Tensor &q = ctx.input(0), &k = ctx.input(1), &v = ctx.input(2);
  const std::string defect = linear_defect(ctx.attrs(), ctx.has_input(4), ctx.has_input(5));
  if (!defect.empty()) ctx.fail(defect);
  const std::int64_t q_heads = ctx.attrs().get_int("q_num_heads", 1), kv_heads = ctx.attrs().get_int("kv_num_heads", 1), group = q_heads / kv_heads;
  const Rule rule = *rule_of(ctx.attrs());
  const bool ranks = q.rank() == 3 && k.rank() == 3 && v.rank() == 3;
  if (!ranks || q.dims()[0] != k.dims()[0] || q.dims()[0] != v.dims()[0] || q.dims()[1] != k.dims()[1] || q.dims()[1] != v.dims()[1] ||
      k.dims()[2] % kv_heads != 0 || v.dims()[2] % kv_heads != 0 || q.dims()[2] != k.dims()[2] * group)
    ctx.fail("query " + lathe::to_string(q.dims()) + ", key " + lathe::to_string(k.dims()) + " and value " + lathe::to_string(v.dims()) + " do not fit");
  const std::int64_t batch = q.dims()[0], steps = q.dims()[1], key_size = k.dims()[2] / kv_heads, value_size = v.dims()[2] / kv_heads;
  const auto optional = [&](std::size_t i) { return ctx.has_input(i) ? to_doubles(ctx.input(i)) : std::vector<double>(); };
  const auto qs = to_doubles(q), ks = to_doubles(k), vs = to_doubles(v), decay = optional(4), beta = optional(5);
  const auto per_step = [&](std::size_t i, std::initializer_list<std::int64_t> allowed) {
    if (!ctx.has_input(i)) return std::int64_t{0};
    const Dims& dims = ctx.input(i).dims();
    const bool fits = dims.size() == 3 && dims[0] == batch && dims[1] == steps && std::find(allowed.begin(), allowed.end(), dims[2]) != allowed.end();
    if (!fits) ctx.fail(lathe::to_string(dims) + " does not fit " + std::to_string(batch) + " sequences of " + std::to_string(steps) + " steps");
    return dims[2];
  };
  const std::int64_t decays = per_step(4, {kv_heads, kv_heads * key_size}), betas = per_step(5, {kv_heads, 1});
  std::vector<double> state = optional(3);
  const Dims state_dims{batch, kv_heads, key_size, value_size};
  if (state.empty()) state.assign(static_cast<std::size_t>(element_count(state_dims)), 0.0);
  else if (ctx.input(3).dims() != state_dims) ctx.fail("past_state " + lathe::to_string(ctx.input(3).dims()) + " should be " + lathe::to_string(state_dims));
  double scale = static_cast<double>(ctx.attrs().get_float("scale", 0));
  if (scale == 0) scale = 1 / std::sqrt(static_cast<double>(key_size));
  std::vector<double> y(static_cast<std::size_t>(batch * steps * q_heads * value_size)), written(static_cast<std::size_t>(value_size));
  for (std::int64_t b = 0; b < batch; ++b)
    for (std::int64_t t = 0; t < steps; ++t)
      for (std::int64_t h = 0; h < kv_heads; ++h) {
        const std::int64_t row = b * steps + t;
        double* s = state.data() + (b * kv_heads + h) * key_size * value_size;
        const double *key = ks.data() + (row * kv_heads + h) * key_size, *value = vs.data() + (row * kv_heads + h) * value_size;
        if (rule.gated)
          for (std::int64_t d = 0; d < key_size; ++d) {
            const double factor = std::exp(decay[static_cast<std::size_t>(row * decays + (decays == kv_heads ? h : h * key_size + d))]);
            for (std::int64_t m = 0; m < value_size; ++m) s[d * value_size + m] *= factor;
          }
        for (std::int64_t m = 0; m < value_size; ++m) {
          double w = value[m];
          if (rule.delta) {
            for (std::int64_t d = 0; d < key_size; ++d) w -= s[d * value_size + m] * key[d];
            w *= beta[static_cast<std::size_t>(row * betas + (betas == 1 ? 0 : h))];
          }
          written[static_cast<std::size_t>(m)] = w;
        }
        for (std::int64_t d = 0; d < key_size; ++d)
          for (std::int64_t m = 0; m < value_size; ++m) s[d * value_size + m] += key[d] * written[static_cast<std::size_t>(m)];
        for (std::int64_t g = h * group; g < (h + 1) * group; ++g)
          for (std::int64_t m = 0; m < value_size; ++m) {
            double sum = 0;
            for (std::int64_t d = 0; d < key_size; ++d) sum += qs[static_cast<std::size_t>((row * q_heads + g) * key_size + d)] * s[d * value_size + m];
            y[static_cast<std::size_t>((row * q_heads + g) * value_size + m)] = scale * sum;
          }
      }
  ctx.set_output(0, from_doubles(q.dtype(), {batch, steps, q_heads * value_size}, y));
  if (ctx.wants_output(1)) ctx.set_output(1, from_doubles(ctx.has_input(3) ? ctx.input(3).dtype() : q.dtype(), state_dims, state));
}

}  // namespace

std::span<const OpDef> ops_linear_attention() {
  static const std::vector<OpDef> ops{
      {.name = "LinearAttention",
       .versions = {{27, "query:T key:T value:T past_state?:S decay?:T beta?:T -> output:T present_state:S",
                     "chunk_size:int=64 kv_num_heads:int q_num_heads:int scale:float=0 update_rule:string=gated_delta",
                     "T: float float16 bfloat16; S: float float16 bfloat16"}},
       .infer = linear_infer,
       .reference = linear_reference,
       .tolerance = {.relative = 1e-4, .absolute = 1e-5},
       .doc = "attention as a recurrence over a state of keys times values"},
  };
  return ops;
}

}  // namespace lathe::ops
