// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Activations that ONNX Runtime's optimisers write (domain com.microsoft), with the bias that stood in front.
//
//   Gelu(x) = x Phi(x)            FastGelu: its tanh form        QuickGelu(x) = x sigmoid(alpha x)
//   BiasSplitGelu: the first half of the last axis times the Gelu of the second
#include "ops/expand_util.h"
#include "ops/expansion.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

Attrs tanh_form() { return attrs_of({{"approximate", "tanh"}}); }

bool gelu(ExpandContext& ctx) {
  ctx.replace(0, ctx.add("Gelu", {ctx.node.input(0)}));
  return true;
}

bool bias_gelu(ExpandContext& ctx) {
  ctx.replace(0, ctx.add("Gelu", {Parts(ctx).plus(ctx.node.input(0), ctx.node.input(1))}));
  return true;
}

bool fast_gelu(ExpandContext& ctx) {
  ctx.replace(0, ctx.add("Gelu", {Parts(ctx).plus(ctx.node.input(0), ctx.node.input(1))}, tanh_form()));
  return true;
}

bool quick_gelu(ExpandContext& ctx) {
  ctx.replace(0, ctx.add("Swish", {ctx.node.input(0)}, attrs_of({{"alpha", ctx.attrs().get_float("alpha", 1.702f)}})));
  return true;
}

bool bias_add(ExpandContext& ctx) {
  Parts p(ctx);
  ctx.replace(0, p.plus(p.plus(ctx.node.input(0), ctx.node.input(1)), ctx.node.input(2)));
  return true;
}

bool bias_split_gelu(ExpandContext& ctx) {
  Parts p(ctx);
  const auto halves = ctx.add_node("Split", {p.plus(ctx.node.input(0), ctx.node.input(1))}, 2, attrs_of({{"axis", -1}, {"num_outputs", 2}}))->outputs;
  ctx.replace(0, p.times(halves[0], ctx.add("Gelu", {halves[1]})));
  return true;
}

/// Softmax over the axes from `axis` on together.
bool bias_softmax(ExpandContext& ctx) {
  const auto rank = rank_of(ctx.node.input(0));
  if (!rank) return false;
  std::int64_t axis = ctx.attrs().get_int("axis", 1);
  const auto r = static_cast<std::int64_t>(*rank);
  if (axis < -r || axis >= std::max<std::int64_t>(r, 1)) ctx.fail("axis " + std::to_string(axis) + " is outside a tensor of rank " + std::to_string(r));
  if (axis < 0) axis += r;
  Parts p(ctx);
  Value* x = p.plus(ctx.node.input(0), ctx.node.input(1));
  if (axis + 1 >= r) {
    ctx.replace(0, ctx.add("Softmax", {x}, attrs_of({{"axis", -1}})));
    return true;
  }
  Value* rows = ctx.add("Flatten", {x}, attrs_of({{"axis", axis}}));
  Value* soft = ctx.add("Softmax", {rows}, attrs_of({{"axis", -1}}));
  ctx.replace(0, p.binary("Reshape", soft, p.unary("Shape", ctx.node.input(0))));
  return true;
}

}  // namespace

std::span<const OpDef> ops_contrib_activation() {
  constexpr std::string_view kMs = "com.microsoft";
  constexpr Tolerance kTolerance{.relative = 4e-6, .absolute = 4e-7};
  static const std::vector<OpDef> ops{
      {.domain = kMs,
       .name = "Gelu",
       .versions = {{1, "X:T -> Y:T", "", "T: @float13"}},
       .infer = infer_same_as_input,
       .tolerance = kTolerance,
       .expand = gelu,
       .doc = "Gelu by erf"},
      {.domain = kMs,
       .name = "FastGelu",
       .versions = {{1, "X:T bias?:T -> Y:T", "", "T: @float13"}},
       .infer = infer_expanded,
       .tolerance = kTolerance,
       .expand = fast_gelu,
       .doc = "Gelu by tanh, of X + bias"},
      {.domain = kMs,
       .name = "BiasGelu",
       .versions = {{1, "A:T B:T -> C:T", "", "T: @float13"}},
       .infer = infer_expanded,
       .tolerance = kTolerance,
       .expand = bias_gelu,
       .doc = "Gelu by erf, of A + B"},
      {.domain = kMs,
       .name = "QuickGelu",
       .versions = {{1, "X:T -> Y:T", "alpha:float=1.70200002", "T: @float13"}},
       .infer = infer_same_as_input,
       .tolerance = kTolerance,
       .expand = quick_gelu,
       .doc = "X sigmoid(alpha X)"},
      {.domain = kMs,
       .name = "BiasAdd",
       .versions = {{1, "X:T bias:T skip:T -> Y:T", "", "T: float float16"}},
       .infer = infer_expanded,
       .tolerance = kTolerance,
       .expand = bias_add,
       .doc = "X + bias + skip"},
      {.domain = kMs,
       .name = "BiasSplitGelu",
       .versions = {{1, "X:T bias:T -> Y:T", "", "T: float float16"}},
       .infer = infer_expanded,
       .tolerance = kTolerance,
       .expand = bias_split_gelu,
       .doc = "the first half of X + bias times the Gelu of the second"},
      {.domain = kMs,
       .name = "BiasSoftmax",
       .versions = {{1, "data:T bias:T -> output:T", "axis:int=1 is_inner_broadcast:int", "T: @float"}},
       .infer = infer_expanded,
       .tolerance = kTolerance,
       .expand = bias_softmax,
       .doc = "softmax of data + bias over the axes from `axis` on"},
  };
  return ops;
}

}  // namespace lathe::ops
