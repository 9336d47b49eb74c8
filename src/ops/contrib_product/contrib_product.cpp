// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Products with what ONNX Runtime's optimisers fuse to them (domain com.microsoft): transpositions and a factor, activations, a residual.
//
//   FusedMatMul = alpha A' B'      transBatchA: A is [M, batch..., K], else [batch..., M, K]; transA: the two matrix axes swapped
//   FusedConv   = act(Conv(X, W, B) + Z)        FusedGemm = act(alpha A' B' + beta C)
#include "ops/contrib_product/contrib_product.h"

#include "ops/expand_util.h"
#include "ops/expansion.h"
#include "ops/registry_internal.h"

namespace lathe::ops {
namespace {

bool needs_turn(const Attrs& attrs, const char* matrix, const char* batch) { return attrs.get_int(matrix, 0) != 0 || attrs.get_int(batch, 0) != 0; }

/// The operand with its axes in MatMul's order. A vector stays one.
Value* turned(Parts& p, Value* x, bool matrix, bool batch) {
  const std::size_t rank = x->shape().size();
  if (rank < 2 || (!matrix && !batch)) return x;
  std::vector<std::int64_t> perm;
  const auto last = static_cast<std::int64_t>(rank) - 1;
  for (std::int64_t i = 0; i + 2 <= last; ++i) perm.push_back(batch ? i + 1 : i);
  const std::int64_t row = batch ? 0 : last - 1;
  perm.push_back(matrix ? last : row);
  perm.push_back(matrix ? row : last);
  return p.transpose(x, std::move(perm));
}

Value* fused_product(ExpandContext& ctx) {
  const Attrs& attrs = ctx.attrs();
  Value *a = ctx.node.input(0), *b = ctx.node.input(1);
  const bool turn_a = needs_turn(attrs, "transA", "transBatchA"), turn_b = needs_turn(attrs, "transB", "transBatchB");
  if ((turn_a && !rank_of(a)) || (turn_b && !rank_of(b))) return nullptr;
  Parts p(ctx);
  if (turn_a) a = turned(p, a, attrs.get_int("transA", 0) != 0, attrs.get_int("transBatchA", 0) != 0);
  if (turn_b) b = turned(p, b, attrs.get_int("transB", 0) != 0, attrs.get_int("transBatchB", 0) != 0);
  return p.scaled(p.binary("MatMul", a, b), ctx.node.input(0)->dtype(), static_cast<double>(attrs.get_float("alpha", 1)));
}

bool fused_matmul(ExpandContext& ctx) {
  Value* y = fused_product(ctx);
  if (!y) return false;
  ctx.replace(0, y);
  return true;
}

std::string known_activation(ExpandContext& ctx) {
  const std::string name = ctx.attrs().get_string("activation", "");
  if (!is_activation(name)) ctx.fail("activation '" + name + "' is not known");
  return name;
}

bool fused_matmul_activation(ExpandContext& ctx) {
  const std::string name = ctx.attrs().get_string("activation", "");
  if (name != "Softmax") known_activation(ctx);
  Value* y = fused_product(ctx);
  if (!y) return false;
  if (name == "Softmax") {
    y = ctx.add("Softmax", {y}, attrs_of({{"axis", ctx.attrs().get_int("activation_axis", -1)}}));
  } else {
    y = Parts(ctx).activation(y, ctx.node.input(0)->dtype(), name, given_float(ctx.attrs(), "activation_alpha"), given_float(ctx.attrs(), "activation_beta"));
  }
  ctx.replace(0, y);
  return true;
}

bool fused_gemm(ExpandContext& ctx) {
  const std::string name = known_activation(ctx);
  Value* y = ctx.add("Gemm", ctx.node.inputs, some_attrs(ctx.attrs(), {"alpha", "beta", "transA", "transB"}));
  const auto alpha = given_float(ctx.attrs(), "activation_alpha"), beta = given_float(ctx.attrs(), "activation_beta");
  ctx.replace(0, Parts(ctx).activation(y, ctx.node.input(0)->dtype(), name, alpha, beta));
  return true;
}

bool gemm_fast_gelu(ExpandContext& ctx) {
  Parts p(ctx);
  Value* product = p.binary("MatMul", ctx.node.input(0), ctx.node.input(1));
  ctx.replace(0, ctx.add("Gelu", {p.plus(product, ctx.node.input(2))}, attrs_of({{"approximate", "tanh"}})));
  return true;
}

Attrs conv_attrs(const Attrs& attrs) { return some_attrs(attrs, {"auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"}); }

Value* activated(ExpandContext& ctx, Value* y) {
  const auto params = ctx.attrs().get_floats("activation_params");
  const auto param = [&](std::size_t i) { return i < params.size() ? std::optional<float>(params[i]) : std::nullopt; };
  return Parts(ctx).activation(y, ctx.node.input(0)->dtype(), known_activation(ctx), param(0), param(1));
}

bool fused_conv(ExpandContext& ctx) {
  known_activation(ctx);
  const Node& node = ctx.node;
  Value* y = ctx.add("Conv", {node.input(0), node.input(1), node.input(2)}, conv_attrs(ctx.attrs()));
  ctx.replace(0, activated(ctx, Parts(ctx).plus(y, node.input(3))));
  return true;
}

/// Images with channels last. NhwcConv's weights are [M, kernel..., C / group], NhwcFusedConv's are Conv's own.
template <bool kTurnedWeights>
bool nhwc_conv(ExpandContext& ctx) {
  const Node& node = ctx.node;
  const auto rank = rank_of(node.input(0)), weight_rank = rank_of(node.input(1));
  if (!rank || !weight_rank) return false;
  if (*rank < 3 || *weight_rank != *rank) ctx.fail("takes images and weights of one rank, at least 3");
  known_activation(ctx);
  Parts p(ctx);
  Value* w = kTurnedWeights ? p.channels_first(node.input(1), *rank) : node.input(1);
  Value* y = ctx.add("Conv", {p.channels_first(node.input(0), *rank), w, node.input(2)}, conv_attrs(ctx.attrs()));
  ctx.replace(0, activated(ctx, p.plus(p.channels_last(y, *rank), node.input(3))));
  return true;
}

bool nhwc_max_pool(ExpandContext& ctx) {
  const auto rank = rank_of(ctx.node.input(0));
  if (!rank) return false;
  if (*rank < 3) ctx.fail("takes images of rank 3 or more");
  Parts p(ctx);
  Value* y = p.unary("MaxPool", p.channels_first(ctx.node.input(0), *rank),
                     some_attrs(ctx.attrs(), {"auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "strides"}));
  ctx.replace(0, p.channels_last(y, *rank));
  return true;
}

}  // namespace

std::span<const OpDef> ops_contrib_product() {
  constexpr std::string_view kMs = "com.microsoft", kTrans = "alpha:float=1 transA:int=0 transB:int=0",
                             kBatch = "alpha:float=1 transA:int=0 transB:int=0 transBatchA:int=0 transBatchB:int=0";
  constexpr std::string_view kConv =
      "activation:string? activation_params:floats? auto_pad:string=NOTSET dilations:ints? group:int=1 kernel_shape:ints? pads:ints? strides:ints?";
  constexpr Tolerance kTolerance{.contraction = true};
  static const std::vector<OpDef> ops = [=] {
    std::vector<OpDef> list{
        {.domain = kMs,
         .name = "FusedMatMul",
         .versions = {{1, "A:T B:T -> Y:T", kBatch, "T: @float13"}},
         .infer = infer_expanded,
         .tolerance = kTolerance,
         .expand = fused_matmul,
         .doc = "alpha A' B' with matrix and batch axes transposed"},
        {.domain = kMs,
         .name = "TransposeMatMul",
         .versions = {{1, "A:T B:T -> Y:T", kTrans, "T: @float13"}},
         .infer = infer_expanded,
         .tolerance = kTolerance,
         .expand = fused_matmul,
         .doc = "alpha A' B' with matrix axes transposed"},
        {.domain = kMs,
         .name = "FusedMatMulActivation",
         .versions =
             {{1, "A:T B:T -> Y:T",
               "activation:string activation_alpha:float? activation_axis:int? activation_beta:float? activation_gamma:float? alpha:float=1 transA:int=0 "
               "transB:int=0 transBatchA:int=0 transBatchB:int=0",
               "T: @float13"}},
         .infer = infer_expanded,
         .tolerance = kTolerance,
         .expand = fused_matmul_activation,
         .doc = "an activation of FusedMatMul"},
        {.domain = kMs,
         .name = "FusedGemm",
         .versions =
             {{1, "A:T B:T C?:T -> Y:T",
               "activation:string? activation_alpha:float? activation_beta:float? activation_gamma:float? alpha:float=1 beta:float=1 transA:int=0 transB:int=0",
               "T: @float int32 int64 uint32 uint64"}},
         .infer = infer_expanded,
         .tolerance = kTolerance,
         .expand = fused_gemm,
         .doc = "an activation of Gemm"},
        {.domain = kMs,
         .name = "GemmFastGelu",
         .versions = {{1, "X:T W:T bias?:T -> Y:T", "", "T: float float16 bfloat16"}},
         .infer = infer_expanded,
         .tolerance = kTolerance,
         .expand = gemm_fast_gelu,
         .doc = "Gelu by tanh, of X W + bias"},
        {.domain = kMs,
         .name = "FusedConv",
         .versions = {{1, "X:T W:T B?:T Z?:T -> Y:T", kConv, "T: @float"}},
         .infer = infer_expanded,
         .tolerance = kTolerance,
         .expand = fused_conv,
         .doc = "an activation of Conv + Z"},
        {.domain = kMs,
         .name = "NhwcFusedConv",
         .versions = {{1, "X:T W:T B?:T Z?:T -> Y:T", kConv, "T: float float16"}},
         .infer = infer_expanded,
         .tolerance = kTolerance,
         .expand = nhwc_conv<false>,
         .doc = "an activation of Conv + Z on images with channels last"},
        {.domain = kMs,
         .name = "NhwcConv",
         .versions = {{1, "X:T W:T B?:T -> Y:T", kConv.substr(kConv.find("auto_pad")), "T: @float"}},
         .infer = infer_expanded,
         .tolerance = kTolerance,
         .expand = nhwc_conv<true>,
         .doc = "Conv on images and weights with channels last"},
        {.domain = kMs,
         .name = "NhwcMaxPool",
         .versions = {{1, "x:T -> y:T", "auto_pad:string=NOTSET ceil_mode:int=0 dilations:ints? kernel_shape:ints pads:ints? strides:ints?", "T: int8 uint8"}},
         .infer = infer_expanded,
         .expand = nhwc_max_pool,
         .doc = "MaxPool on images with channels last"},
    };
    for (auto& op : block_quantized_ops()) list.push_back(std::move(op));
    return list;
  }();
  return ops;
}

}  // namespace lathe::ops
