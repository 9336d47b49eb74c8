// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Normalisations that ONNX Runtime's optimisers write (domain com.microsoft; SimplifiedLayerNormalization they put into ai.onnx).
//
//   Skip...: of the sum input + skip + bias, which is an output too        GroupNorm: with channels last, and a SiLU behind
//   EmbedLayerNormalization: of the sum of word, position and segment embeddings
#include "ops/expand_util.h"
#include "ops/expansion.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

bool used(const Node& node, std::size_t output) { return node.output(output) != nullptr; }

/// 1 / sqrt(mean(x^2) + epsilon) over the axes from `axis` on, in float.
Value* inverse_rms(Parts& p, Value* x, DType dtype, const std::vector<std::int64_t>& axes, double epsilon, DType result) {
  const DType wide = dtype == DType::kFloat64 ? dtype : DType::kFloat32;
  Value* v = p.as(x, dtype, wide);
  Value* mean = p.ctx.add("ReduceMean", {p.times(v, v), p.ints(axes)}, attrs_of({{"keepdims", 1}}));
  Value* root = p.unary("Sqrt", p.plus(mean, p.number(wide, epsilon)));
  return p.as(p.unary("Reciprocal", root), wide, result);
}

bool simplified_norm(ExpandContext& ctx) {
  const Node& node = ctx.node;
  const auto rank = rank_of(node.input(0));
  if (used(node, 1) && !rank) return false;
  Parts p(ctx);
  const double epsilon = static_cast<double>(ctx.attrs().get_float("epsilon", 1e-5f));
  if (used(node, 1)) {
    const auto r = static_cast<std::int64_t>(*rank);
    std::int64_t axis = ctx.attrs().get_int("axis", -1);
    if (axis < -r || axis >= r) ctx.fail("axis " + std::to_string(axis) + " is outside a tensor of rank " + std::to_string(r));
    std::vector<std::int64_t> axes;
    for (axis = axis < 0 ? axis + r : axis; axis < r; ++axis) axes.push_back(axis);
    const DType dtype = node.input(0)->dtype();
    ctx.replace(1, inverse_rms(p, node.input(0), dtype, axes, epsilon, dtype == DType::kFloat64 ? dtype : DType::kFloat32));
  }
  ctx.replace(0, ctx.add("RMSNormalization", {node.input(0), node.input(1)}, some_attrs(ctx.attrs(), {"axis", "epsilon", "stash_type"})));
  return true;
}

template <bool kSimplified>
bool skip_norm(ExpandContext& ctx) {
  const Node& node = ctx.node;
  Parts p(ctx);
  Value* sum = p.plus(p.plus(node.input(0), node.input(1)), node.input(kSimplified ? 3 : 4));
  const float epsilon = ctx.attrs().get_float("epsilon", 1e-12f);
  const Attrs attrs = attrs_of({{"axis", -1}, {"epsilon", epsilon}});
  if (kSimplified) {
    if (used(node, 1)) ctx.fail("the mean of a normalisation that has none is asked for");
    if (used(node, 2)) ctx.replace(2, inverse_rms(p, sum, node.input(0)->dtype(), {-1}, static_cast<double>(epsilon), DType::kFloat32));
    ctx.replace(0, ctx.add("RMSNormalization", {sum, node.input(2)}, attrs));
  } else {
    const std::size_t outputs = used(node, 2) ? 3 : used(node, 1) ? 2 : 1;
    const Node* norm = ctx.add_node("LayerNormalization", {sum, node.input(2), node.input(3)}, outputs, attrs);
    for (std::size_t i = 0; i < outputs; ++i) ctx.replace(i, norm->outputs[i]);
  }
  ctx.replace(3, sum);
  return true;
}

bool embed_norm(ExpandContext& ctx) {
  const Node& node = ctx.node;
  enum : std::size_t { kIds, kSegments, kWords, kPositions, kSegmentTable, kGamma, kBeta, kMask, kPositionIds };
  Parts p(ctx);
  Value* sum = p.gather(node.input(kWords), node.input(kIds), 0);
  if (Value* ids = node.input(kPositionIds)) {
    sum = p.plus(sum, p.gather(node.input(kPositions), ids, 0));
  } else {
    sum = p.plus(sum, p.slice(node.input(kPositions), 0, p.ints({0}), p.extent(node.input(kIds), 1)));
  }
  if (node.input(kSegments) && node.input(kSegmentTable)) sum = p.plus(sum, p.gather(node.input(kSegmentTable), node.input(kSegments), 0));
  const Attrs attrs = attrs_of({{"axis", -1}, {"epsilon", ctx.attrs().get_float("epsilon", 1e-12f)}});
  ctx.replace(0, ctx.add("LayerNormalization", {sum, node.input(kGamma), node.input(kBeta)}, attrs));
  if (used(node, 1)) {
    // How many words of each row count; without a mask the output is there, and zero.
    Value* counted = node.input(kMask) ? node.input(kMask) : p.binary("Sub", node.input(kIds), node.input(kIds));
    ctx.replace(1, ctx.add("ReduceSum", {counted, p.ints({1})}, attrs_of({{"keepdims", 0}})));
  }
  ctx.replace(2, sum);
  return true;
}

template <bool kSkip>
bool group_norm(ExpandContext& ctx) {
  const Node& node = ctx.node;
  const auto rank = rank_of(node.input(0)), skip_rank = rank_of(node.input(3));
  if (!rank || (kSkip && !skip_rank)) return false;
  if (*rank < 3) ctx.fail("takes images of rank 3 or more");
  const std::int64_t activation = ctx.attrs().get_int("activation", 0);
  if (activation != 0 && activation != 1) ctx.fail("activation is " + std::to_string(activation) + "; 0 and 1 are possible");
  const bool last = ctx.attrs().get_int("channels_last", 1) != 0;
  const DType dtype = node.input(0)->dtype();
  Parts p(ctx);
  Value* x = node.input(0);
  const std::vector<std::int64_t> spatial = [&] {
    std::vector<std::int64_t> axes;
    for (std::int64_t a = last ? 1 : 2; a + (last ? 1 : 0) < static_cast<std::int64_t>(*rank); ++a) axes.push_back(a);
    return axes;
  }();
  if (kSkip) {
    Value* skip = node.input(3);
    if (*skip_rank == 2) skip = p.unsqueeze(skip, spatial);
    x = p.plus(x, skip);
    if (Value* bias = node.input(4))
      x = p.plus(x, last ? bias : p.unsqueeze(bias, [&] {
        std::vector<std::int64_t> axes;
        for (std::int64_t a = 1; a + 1 < static_cast<std::int64_t>(*rank); ++a) axes.push_back(a);
        return axes;
      }()));
    ctx.replace(1, x);
  }
  Value* image = last ? p.channels_first(x, *rank) : x;
  Value *gamma = p.as(node.input(1), node.input(1)->dtype(), dtype), *beta = p.as(node.input(2), node.input(2)->dtype(), dtype);
  Value* y = ctx.add("GroupNormalization", {image, gamma, beta},
                     attrs_of({{"num_groups", ctx.attrs().get_int("groups", 1)}, {"epsilon", ctx.attrs().get_float("epsilon", 1e-5f)}}));
  if (activation == 1) y = p.unary("Swish", y);
  ctx.replace(0, last ? p.channels_last(y, *rank) : y);
  return true;
}

}  // namespace

std::span<const OpDef> ops_contrib_norm() {
  constexpr std::string_view kMs = "com.microsoft", kGroup = "activation:int channels_last:int=1 epsilon:float=9.99999975e-06 groups:int";
  constexpr Tolerance kTolerance{.relative = 2e-5, .absolute = 2e-5};
  static const std::vector<OpDef> ops{
      {.name = "SimplifiedLayerNormalization",
       .versions = {{1, "X:T scale:V -> Y:V inv_std_var?:U", "axis:int=-1 epsilon:float=9.99999975e-06 stash_type:int=1",
                     "T: @float13; U: float double; V: @float13"}},
       .infer = infer_expanded,
       .tolerance = kTolerance,
       .expand = simplified_norm,
       .doc = "RMSNormalization, as ONNX Runtime writes it"},
      {.domain = kMs,
       .name = "SkipLayerNormalization",
       .versions = {{1, "input:T skip:T gamma:T beta?:T bias?:T -> output:T mean?:U inv_std_var?:U input_skip_bias_sum?:T", "epsilon:float=9.99999996e-13",
                     "T: float float16 bfloat16; U: float"}},
       .infer = infer_expanded,
       .tolerance = kTolerance,
       .expand = skip_norm<false>,
       .doc = "LayerNormalization of input + skip + bias"},
      {.domain = kMs,
       .name = "SkipSimplifiedLayerNormalization",
       .versions = {{1, "input:T skip:T gamma:T bias?:T -> output:T mean?:U inv_std_var?:U input_skip_bias_sum?:T", "epsilon:float=9.99999996e-13",
                     "T: float float16 bfloat16; U: float"}},
       .infer = infer_expanded,
       .tolerance = kTolerance,
       .expand = skip_norm<true>,
       .doc = "RMSNormalization of input + skip + bias"},
      {.domain = kMs,
       .name = "EmbedLayerNormalization",
       .versions =
           {{1,
             "input_ids:T1 segment_ids?:T1 word_embedding:T position_embedding:T segment_embedding?:T gamma:T beta:T mask?:T1 position_ids?:T1 -> output:T "
             "mask_index?:T1 embedding_sum?:T",
             "epsilon:float=9.99999996e-13 mask_index_type:int?", "T1: int32; T: float float16"}},
       .infer = infer_expanded,
       .tolerance = kTolerance,
       .expand = embed_norm,
       .doc = "LayerNormalization of word, position and segment embeddings"},
      {.domain = kMs,
       .name = "GroupNorm",
       .versions = {{1, "X:T gamma:M beta:M -> Y:T", kGroup, "T: float float16; M: float float16"}},
       .infer = infer_expanded,
       .tolerance = kTolerance,
       .expand = group_norm<false>,
       .doc = "GroupNormalization, channels last or first, with a SiLU"},
      {.domain = kMs,
       .name = "SkipGroupNorm",
       .versions = {{1, "X:T gamma:M beta:M skip:T bias?:T -> Y:T S?:T", kGroup, "T: float float16; M: float float16"}},
       .infer = infer_expanded,
       .tolerance = kTolerance,
       .expand = group_norm<true>,
       .doc = "GroupNorm of X + skip + bias"},
  };
  return ops;
}

}  // namespace lathe::ops
