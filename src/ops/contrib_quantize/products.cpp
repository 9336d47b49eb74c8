// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Products of 8-bit integers (domain com.microsoft): exact sums, then one scale.
//
//   QGemm = (A' - za)(B' - zb) + C, times alpha sa sb, quantised again where the result's scale is given
//   DynamicQuantizeLSTM: an LSTM with its weights dequantised. A runtime may round the activations to 8 bits as well; the meaning is the
//   network before that.
#include "ops/contrib_quantize/contrib_quantize.h"
#include "ops/expand_util.h"
#include "ops/expansion.h"
#include "ops/ref_util.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

Value* maybe_transposed(Parts& p, Value* x, bool turn) { return turn ? p.transpose(x, {1, 0}) : x; }

bool qgemm(ExpandContext& ctx) {
  enum : std::size_t { kA, kAScale, kAZero, kB, kBScale, kBZero, kC, kYScale, kYZero };
  const Node& node = ctx.node;
  for (const std::size_t i : {kA, kB})
    if (const auto rank = rank_of(node.input(i)); rank && *rank != 2) ctx.fail("A and B must be matrices");
  Parts p(ctx);
  Value* a = maybe_transposed(p, node.input(kA), ctx.attrs().get_int("transA", 0) != 0);
  Value* b = maybe_transposed(p, node.input(kB), ctx.attrs().get_int("transB", 0) != 0);
  Value* sums = p.plus(ctx.add("MatMulInteger", {a, b, node.input(kAZero), node.input(kBZero)}), node.input(kC));
  Value* scale = p.scaled(p.times(node.input(kAScale), node.input(kBScale)), DType::kFloat32, static_cast<double>(ctx.attrs().get_float("alpha", 1)));
  Value* real = p.cast(sums, DType::kFloat32);
  if (!node.input(kYScale)) {
    ctx.replace(0, p.times(real, scale));
    return true;
  }
  // One scale for all, as the integer kernels have it: a tie then falls to the same side.
  Value* ratio = p.times(real, p.binary("Div", scale, node.input(kYScale)));
  ctx.replace(0, p.quantized(ratio, p.number(DType::kFloat32, 1), node.input(kYZero), DType::kUint8));
  return true;
}

void qgemm_infer(InferContext& ctx) {
  infer_expanded(ctx);
  if (ctx.has_input(7) != ctx.has_input(8)) ctx.fail("y_scale and y_zero_point come together");
}

bool integer_to_float(ExpandContext& ctx) {
  enum : std::size_t { kA, kB, kAScale, kBScale, kAZero, kBZero, kBias };
  const Node& node = ctx.node;
  Parts p(ctx);
  Value* sums = ctx.add("MatMulInteger", {node.input(kA), node.input(kB), node.input(kAZero), node.input(kBZero)});
  const DType dtype = node.input(kAScale)->dtype();
  const DType wide = dtype == DType::kFloat16 ? DType::kFloat32 : dtype;  // sums overflow the narrow type before they are scaled
  Value* scale = p.times(p.as(node.input(kAScale), dtype, wide), p.as(node.input(kBScale), dtype, wide));
  ctx.replace(0, p.plus(p.as(p.times(p.cast(sums, wide), scale), wide, dtype), node.input(kBias)));
  return true;
}

bool dynamic_matmul(ExpandContext& ctx) {
  enum : std::size_t { kA, kB, kBScale, kBZero, kBias };
  const Node& node = ctx.node;
  Parts p(ctx);
  const auto a = ctx.add_node("DynamicQuantizeLinear", {node.input(kA)}, 3)->outputs;
  Value* sums = ctx.add("MatMulInteger", {a[0], node.input(kB), a[2], node.input(kBZero)});
  ctx.replace(0, p.plus(p.times(p.cast(sums, DType::kFloat32), p.times(a[1], node.input(kBScale))), node.input(kBias)));
  return true;
}

/// Weights of an LSTM: [directions, in, 4 hidden] of integers to [directions, 4 hidden, in] of numbers. Scales are [directions] or
/// [directions, 4 hidden].
Value* lstm_weights(Parts& p, Value* q, Value* scale, Value* zero) {
  ExpandContext& ctx = p.ctx;
  if (*rank_of(q) != 3) ctx.fail("weights must have rank 3, got " + ir::to_string(q->shape()));
  if (!q->is_constant() || !scale->is_constant() || !zero->is_constant()) {
    const bool one = *rank_of(scale) == 1;
    const auto spread = [&](Value* v) { return p.reshape(v, one ? std::vector<std::int64_t>{-1, 1, 1} : std::vector<std::int64_t>{0, 1, -1}); };
    Value* centred = p.binary("Sub", p.cast(q, DType::kFloat32), spread(p.cast(zero, DType::kFloat32)));
    return p.transpose(p.times(centred, spread(scale)), {0, 2, 1});
  }
  // Constants stay constants: the recurrent kernels pack them when they build.
  const Dims& dims = q->constant.dims();
  const std::int64_t directions = dims[0], in = dims[1], out = dims[2];
  const Tensor &s = scale->constant, &z = zero->constant;
  const bool per_column = s.rank() == 2;
  if (s.size() != directions * (per_column ? out : 1) || z.size() != s.size())
    ctx.fail("scales " + lathe::to_string(s.dims()) + " and zero points " + lathe::to_string(z.dims()) + " do not fit weights " + lathe::to_string(dims));
  Tensor weights(DType::kFloat32, {directions, out, in});
  const auto to = weights.mutable_data<float>();
  const auto from = to_doubles(q->constant), scales = to_doubles(s), zeros = to_doubles(z);
  for (std::int64_t d = 0; d < directions; ++d)
    for (std::int64_t i = 0; i < in; ++i)
      for (std::int64_t o = 0; o < out; ++o) {
        const auto at = static_cast<std::size_t>(per_column ? d * out + o : d);
        to[static_cast<std::size_t>((d * out + o) * in + i)] =
            static_cast<float>((from[static_cast<std::size_t>((d * in + i) * out + o)] - zeros[at]) * scales[at]);
      }
  return ctx.constant(q->name + "_dequantized", std::move(weights));
}

bool dynamic_lstm(ExpandContext& ctx) {
  enum : std::size_t { kX, kW, kR, kB, kLengths, kH, kC, kP, kWScale, kWZero, kRScale, kRZero };
  const Node& node = ctx.node;
  for (const std::size_t i : {kW, kR, kWScale, kRScale})
    if (!rank_of(node.input(i))) return false;
  for (const std::size_t i : {kWScale, kRScale})
    if (const auto rank = *rank_of(node.input(i)); rank != 1 && rank != 2) ctx.fail("scales must have rank 1 or 2");
  Parts p(ctx);
  Value* w = lstm_weights(p, node.input(kW), node.input(kWScale), node.input(kWZero));
  Value* r = lstm_weights(p, node.input(kR), node.input(kRScale), node.input(kRZero));
  Attrs attrs = some_attrs(ctx.attrs(), {"activation_alpha", "activation_beta", "activations", "clip", "direction", "hidden_size", "input_forget"});
  const Node* lstm =
      ctx.add_node("LSTM", {node.input(kX), w, r, node.input(kB), node.input(kLengths), node.input(kH), node.input(kC), node.input(kP)}, 3, std::move(attrs));
  for (std::size_t i = 0; i < 3; ++i) ctx.replace(i, lstm->outputs[i]);
  return true;
}

/// Y is [steps, directions, batch, hidden]; shapes only, since the weights are long.
void dynamic_lstm_infer(InferContext& ctx) {
  const std::string direction = ctx.attrs().get_string("direction", "forward");
  const auto &x = ctx.shape(0), &r = ctx.shape(2);
  const Dim directions(direction == "bidirectional" ? 2 : 1);
  if ((x && x->size() != 3) || (r && r->size() != 3)) ctx.fail("X and R must have rank 3");
  const std::int64_t given = ctx.attrs().get_int("hidden_size", 0);
  const Dim hidden = r ? (*r)[1] : given > 0 ? Dim(given) : ctx.fresh_symbol();
  const Dim steps = x ? (*x)[0] : ctx.fresh_symbol(), batch = x ? (*x)[1] : ctx.fresh_symbol();
  ctx.set(0, DType::kFloat32, {steps, directions, batch, hidden});
  ctx.set(1, DType::kFloat32, {directions, batch, hidden});
  ctx.set(2, DType::kFloat32, {directions, batch, hidden});
}

bool qlinear_conv(ExpandContext& ctx) {
  const Node& node = ctx.node;
  const bool last = ctx.attrs().get_int("channels_last", 0) != 0;
  const auto rank = rank_of(node.input(0));
  if (last && !rank) return false;
  if (last && *rank < 3) ctx.fail("takes images of rank 3 or more");
  Parts p(ctx);
  std::vector<Value*> inputs = node.inputs;
  if (last) inputs[0] = p.channels_first(inputs[0], *rank);
  Value* y = ctx.add("QLinearConv", std::move(inputs), some_attrs(ctx.attrs(), {"auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"}));
  ctx.replace(0, last ? p.channels_last(y, *rank) : y);
  return true;
}

}  // namespace

std::vector<OpDef> quantized_product_ops() {
  constexpr std::string_view kMs = "com.microsoft";
  constexpr Tolerance kTolerance{.contraction = true};
  return {
      {.domain = kMs,
       .name = "QGemm",
       .versions = {{1, "A:TA a_scale:T a_zero_point:TA B:TB b_scale:T b_zero_point:TB C?:TC y_scale?:T y_zero_point?:TYZ -> Y:TY",
                     "alpha:float=1 transA:int=0 transB:int=0", "T: float; TA: int8 uint8; TB: int8 uint8; TC: int32; TYZ: int8 uint8; TY: float int8 uint8"}},
       .infer = qgemm_infer,
       .tolerance = {.absolute = 1},
       .expand = qgemm,
       .doc = "Gemm of quantised matrices, quantised again or not"},
      {.domain = kMs,
       .name = "MatMulIntegerToFloat",
       .versions = {{1, "A:T1 B:T2 a_scale:T3 b_scale:T3 a_zero_point?:T1 b_zero_point?:T2 bias?:T3 -> Y:T3", "",
                     "T1: int8 uint8; T2: int8 uint8; T3: float float16"}},
       .infer = infer_expanded,
       .tolerance = kTolerance,
       .expand = integer_to_float,
       .doc = "MatMulInteger, scaled, with a bias"},
      {.domain = kMs,
       .name = "DynamicQuantizeMatMul",
       .versions = {{1, "A:T1 B:T2 b_scale:T1 b_zero_point?:T2 bias?:T1 -> Y:T1", "", "T1: float; T2: int8 uint8"}},
       .infer = infer_expanded,
       .tolerance = kTolerance,
       .expand = dynamic_matmul,
       .doc = "MatMul of A, quantised by its own range, and quantised weights"},
      {.domain = kMs,
       .name = "DynamicQuantizeLSTM",
       .versions = {{1,
                     "X:T W:T2 R:T2 B?:T sequence_lens?:T1 initial_h?:T initial_c?:T P?:T W_scale:T W_zero_point:T2 R_scale:T R_zero_point:T2 -> Y?:T Y_h?:T "
                     "Y_c?:T",
                     "activation_alpha:floats? activation_beta:floats? activations:strings? clip:float? direction:string=forward hidden_size:int? "
                     "input_forget:int=0",
                     "T: float; T1: int32; T2: int8 uint8"}},
       .infer = dynamic_lstm_infer,
       .tolerance = kTolerance,
       .expand = dynamic_lstm,
       .doc = "LSTM with quantised weights"},
      {.domain = kMs,
       .name = "QLinearConv",
       .versions = {{1, "x:T1 x_scale:float x_zero_point:T1 w:T2 w_scale:float w_zero_point:T2 y_scale:float y_zero_point:T3 B?:T4 -> y:T3",
                     "auto_pad:string=NOTSET channels_last:int=0 dilations:ints? group:int=1 kernel_shape:ints? pads:ints? strides:ints?",
                     "T1: int8 uint8; T2: int8 uint8; T3: int8 uint8; T4: int32"}},
       .infer = infer_expanded,
       .tolerance = {.absolute = 1},
       .expand = qlinear_conv,
       .doc = "QLinearConv, channels last or first"},
  };
}

}  // namespace lathe::ops
