// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Ops on quantised tensors that ONNX Runtime's quantiser writes (domain com.microsoft). All but the products (products.cpp) mean
// the same: dequantise what comes in, do the op in float, quantise what goes out.
#include "ops/contrib_quantize/contrib_quantize.h"

#include "ops/expand_util.h"
#include "ops/expansion.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

/// Without an axis a scale is one number.
bool dequantize(ExpandContext& ctx) {
  Parts p(ctx);
  const Node& node = ctx.node;
  ctx.replace(0, p.dequantized(node.input(0), node.input(1), node.input(2), ctx.attrs().get_int("axis", 1)));
  return true;
}

bool quantize(ExpandContext& ctx) {
  const Node& node = ctx.node;
  Attrs attrs = attrs_of({{"axis", ctx.attrs().get_int("axis", 1)}});
  ctx.replace(0, ctx.add("QuantizeLinear", {node.input(0), node.input(1), node.input(2)}, std::move(attrs)));
  return true;
}

/// The three inputs from `first` on: a tensor, its scale and its zero point.
Value* real(Parts& p, std::size_t first) { return p.dequantized(p.ctx.node.input(first), p.ctx.node.input(first + 1), p.ctx.node.input(first + 2)); }

/// Output 0: `y` quantised by the scale and zero point from input `first` on.
bool finish(Parts& p, Value* y, std::size_t first, std::size_t like = 0) {
  const Node& node = p.ctx.node;
  p.ctx.replace(0, p.quantized(y, node.input(first), node.input(first + 1), node.input(like)->dtype()));
  return true;
}

template <bool kProduct>
bool qlinear_binary(ExpandContext& ctx) {
  Parts p(ctx);
  Value *a = real(p, 0), *b = real(p, 3);
  return finish(p, p.binary(kProduct ? "Mul" : "Add", a, b), 6);
}

bool qlinear_leaky(ExpandContext& ctx) {
  Parts p(ctx);
  return finish(p, p.unary("LeakyRelu", real(p, 0), some_attrs(ctx.attrs(), {"alpha"})), 3);
}

bool qlinear_sigmoid(ExpandContext& ctx) {
  Parts p(ctx);
  return finish(p, p.unary("Sigmoid", real(p, 0)), 3);
}

/// Softmax of the opset that the node names: before 13 it flattened the axes from `axis` on.
bool qlinear_softmax(ExpandContext& ctx) {
  const auto rank = rank_of(ctx.node.input(0));
  if (!rank) return false;
  const auto r = static_cast<std::int64_t>(*rank);
  std::int64_t axis = ctx.attrs().get_int("axis", -1);
  if (axis < -r || axis >= r) ctx.fail("axis " + std::to_string(axis) + " is outside a tensor of rank " + std::to_string(r));
  if (axis < 0) axis += r;
  Parts p(ctx);
  Value* x = real(p, 0);
  if (ctx.attrs().get_int("opset", 13) >= 13 || axis + 1 == r) return finish(p, p.unary("Softmax", x, attrs_of({{"axis", axis}})), 3);
  Value* soft = p.unary("Softmax", p.unary("Flatten", x, attrs_of({{"axis", axis}})), attrs_of({{"axis", -1}}));
  return finish(p, p.binary("Reshape", soft, p.unary("Shape", ctx.node.input(0))), 3);
}

bool qlinear_where(ExpandContext& ctx) {
  Parts p(ctx);
  Value *x = real(p, 1), *y = real(p, 4);
  return finish(p, ctx.add("Where", {ctx.node.input(0), x, y}), 7, 1);
}

bool qlinear_concat(ExpandContext& ctx) {
  const Node& node = ctx.node;
  if (node.inputs.size() < 5 || (node.inputs.size() - 2) % 3 != 0)
    ctx.fail("takes a scale, a zero point and groups of three inputs, got " + std::to_string(node.inputs.size()));
  for (const Value* input : node.inputs)
    if (!input) ctx.fail("leaves out one of its inputs");
  Parts p(ctx);
  std::vector<Value*> parts;
  for (std::size_t i = 2; i < node.inputs.size(); i += 3) {
    if (!is_integer(node.inputs[i]->dtype())) ctx.fail("input " + std::to_string(i) + " is no quantised tensor");
    parts.push_back(real(p, i));
  }
  return finish(p, p.concat(std::move(parts), ctx.attrs().get_int("axis", 0)), 0, 1);
}

template <bool kGlobal>
bool qlinear_average(ExpandContext& ctx) {
  const auto rank = rank_of(ctx.node.input(0));
  const bool last = ctx.attrs().get_int("channels_last", 0) != 0;
  if (last && !rank) return false;
  if (last && *rank < 3) ctx.fail("takes images of rank 3 or more");
  Parts p(ctx);
  Value* x = real(p, 0);
  if (last) x = p.channels_first(x, *rank);
  x = kGlobal ? p.unary("GlobalAveragePool", x)
              : p.unary("AveragePool", x, some_attrs(ctx.attrs(), {"auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides"}));
  return finish(p, last ? p.channels_last(x, *rank) : x, 3);
}

bool qlinear_mean(ExpandContext& ctx) {
  Parts p(ctx);
  Value* mean = ctx.add("ReduceMean", {real(p, 0), p.ints(ctx.attrs().get_ints("axes"))}, attrs_of({{"keepdims", ctx.attrs().get_int("keepdims", 1)}}));
  return finish(p, mean, 3);
}

OpDef qlinear(std::string_view name, std::string_view signature, std::string_view attributes, bool (*expand)(ExpandContext&), std::string_view doc) {
  return {.domain = "com.microsoft",
          .name = name,
          .versions = {{1, signature, attributes, "T: int8 uint8"}},
          .infer = infer_expanded,
          .tolerance = {.absolute = 1},
          .expand = expand,
          .doc = doc};
}

}  // namespace

std::span<const OpDef> ops_contrib_quantize() {
  constexpr std::string_view kUnary = "X:T X_scale:float X_zero_point?:T Y_scale:float Y_zero_point?:T -> Y:T";
  constexpr std::string_view kBinary = "A:T A_scale:float A_zero_point?:T B:T B_scale:float B_zero_point?:T C_scale:float C_zero_point?:T -> C:T";
  static const std::vector<OpDef> ops = [=] {
    std::vector<OpDef> list{
        {.domain = "com.microsoft",
         .name = "DequantizeLinear",
         .versions = {{1, "x:T1 x_scale:T2 x_zero_point?:T1 -> y:T2", "axis:int?", "T1: int4 int8 int16 int32 uint4 uint8 uint16; T2: float float16"}},
         .infer = infer_expanded,
         .tolerance = {.relative = 1e-6},
         .expand = dequantize,
         .doc = "DequantizeLinear of more types"},
        {.domain = "com.microsoft",
         .name = "QuantizeLinear",
         .versions = {{1, "x:T1 y_scale:T1 y_zero_point?:T2 -> y:T2", "axis:int?", "T1: float float16; T2: int4 int8 int16 uint4 uint8 uint16"}},
         .infer = infer_expanded,
         .tolerance = {.absolute = 1},
         .expand = quantize,
         .doc = "QuantizeLinear to more types"},
        qlinear("QLinearAdd", kBinary, "", qlinear_binary<false>, "Add of quantised tensors"),
        qlinear("QLinearMul", kBinary, "", qlinear_binary<true>, "Mul of quantised tensors"),
        qlinear("QLinearLeakyRelu", kUnary, "alpha:float=0.00999999978", qlinear_leaky, "LeakyRelu of a quantised tensor"),
        qlinear("QLinearSigmoid", kUnary, "", qlinear_sigmoid, "Sigmoid of a quantised tensor"),
        qlinear("QLinearSoftmax", "X:T X_scale:float x_zero_point?:T y_scale:float y_zero_point:T -> Y:T", "axis:int=-1 opset:int", qlinear_softmax,
                "Softmax of a quantised tensor"),
        qlinear("QLinearGlobalAveragePool", "X:T x_scale:float x_zero_point:T y_scale:float y_zero_point:T -> Y:T", "channels_last:int=0",
                qlinear_average<true>, "GlobalAveragePool of a quantised tensor"),
        qlinear("QLinearAveragePool", "X:T x_scale:float x_zero_point?:T y_scale:float y_zero_point?:T -> Y:T",
                "auto_pad:string=NOTSET ceil_mode:int=0 channels_last:int=0 count_include_pad:int=0 kernel_shape:ints pads:ints? strides:ints?",
                qlinear_average<false>, "AveragePool of a quantised tensor"),
        qlinear("QLinearReduceMean", "data:T data_scale:float data_zero_point?:T reduced_scale:float reduced_zero_point?:T -> reduced:T",
                "axes:ints keepdims:int", qlinear_mean, "ReduceMean of a quantised tensor"),
        {.domain = "com.microsoft",
         .name = "QLinearWhere",
         .versions = {{1, "condition:B X:T x_scale:TF x_zero_point:T Y:T y_scale:TF y_zero_point:T z_scale:TF z_zero_point:T -> Z:T", "",
                       "B: bool; TF: float; T: int8 uint8"}},
         .infer = infer_expanded,
         .tolerance = {.absolute = 1},
         .expand = qlinear_where,
         .doc = "Where of quantised tensors"},
        {.domain = "com.microsoft",
         .name = "QLinearConcat",
         .versions = {{1, "Y_scale:TF Y_zero_point:T8 inputs++:TV -> Y:T8", "axis:int", "T8: int8 uint8; TF: float; TV: float int8 uint8"}},
         .infer = infer_expanded,
         .tolerance = {.absolute = 1},
         .expand = qlinear_concat,
         .doc = "Concat of quantised tensors"},
    };
    for (auto& op : quantized_product_ops()) list.push_back(std::move(op));
    return list;
  }();
  return ops;
}

}  // namespace lathe::ops
