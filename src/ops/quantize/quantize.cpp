// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// QuantizeLinear and DequantizeLinear: between real numbers and few-bit ones by a scale and a zero point.
//
//   quantised = saturate(round_half_even(x / scale) + zero_point)         8-bit and narrower floats: convert(x / scale)
//   x         = (quantised - zero_point) * scale
#include <algorithm>
#include <cmath>

#include "loops/builder.h"
#include "ops/cast/cast.h"
#include "ops/quantize/granularity.h"
#include "ops/quantize/quantize.h"
#include "ops/ref_util.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {

std::vector<OpDef> integer_product_ops();   // integer_products.cpp: MatMulInteger, ConvInteger, QLinearMatMul, QLinearConv
std::vector<OpDef> dynamic_quantize_ops();  // dynamic.cpp: DynamicQuantizeLinear

std::pair<std::int64_t, std::int64_t> integer_range(DType dtype) {
  const int bits = dtype_bits(dtype);
  if (is_signed_integer(dtype)) return {-(std::int64_t{1} << (bits - 1)), (std::int64_t{1} << (bits - 1)) - 1};
  return {0, (std::int64_t{1} << bits) - 1};
}

double quantised_integer(double ratio, double zero_point, DType dtype) {
  const auto [low, high] = integer_range(dtype);
  const double value = std::nearbyint(ratio) + zero_point;
  return value < static_cast<double>(low) ? static_cast<double>(low) : value > static_cast<double>(high) ? static_cast<double>(high) : value;
}

namespace {

using loops::ExprId;
using loops::ExprOp;

bool is_single(const Shape& shape) { return std::all_of(shape.begin(), shape.end(), is_one); }

/// The scale's granularity as far as types tell; nullopt while a rank is unknown.
std::optional<Granularity> infer_granularity(InferContext& ctx) {
  const auto &x = ctx.shape(0), &scale = ctx.shape(1);
  if (!x || !scale) return std::nullopt;
  std::string defect;
  const Granularity g =
      granularity_of(x->size(), scale->size(), is_single(*scale), ctx.attrs().get_int("axis", 1), ctx.attrs().get_int("block_size", 0), defect);
  if (!defect.empty()) ctx.fail(defect);
  if (g.kind == Granularity::Kind::kAxis) {
    const auto n = (*scale)[0].constant(), extent = (*x)[g.axis].constant();
    if (n && extent && *n != *extent) ctx.fail("has " + std::to_string(*n) + " scales for axis " + std::to_string(g.axis) + " of " + ir::to_string(*x));
  }
  if (ctx.has_input(2) && ctx.shape(2)) {
    const auto &a = *scale, &b = *ctx.shape(2);
    if (a.size() != b.size() && !(is_single(a) && is_single(b)))
      ctx.fail("scale " + ir::to_string(a) + " and zero point " + ir::to_string(b) + " differ in rank");
  }
  return g;
}

DType attribute_dtype(InferContext& ctx, std::string_view name) {
  const std::int64_t value = ctx.attrs().get_int(name, 0);
  if (value < 0 || value >= kDTypeCount) ctx.fail("attribute '" + std::string(name) + "' is " + std::to_string(value) + ", which is no element type");
  return static_cast<DType>(value);
}

void quantize_infer(InferContext& ctx) {
  infer_granularity(ctx);
  DType dtype = attribute_dtype(ctx, "output_dtype");
  if (ctx.has_input(2)) {
    if (dtype != DType::kUndefined && dtype != ctx.dtype(2))
      ctx.fail("output_dtype is " + std::string(dtype_name(dtype)) + ", the zero point " + std::string(dtype_name(ctx.dtype(2))));
    dtype = ctx.dtype(2);
  }
  set_like_input(ctx, dtype == DType::kUndefined ? DType::kUint8 : dtype);
}

void dequantize_infer(InferContext& ctx) {
  infer_granularity(ctx);
  DType dtype = attribute_dtype(ctx, "output_dtype");
  if (dtype == DType::kUndefined) dtype = ctx.dtype(1);
  if (dtype == DType::kFloat8E8M0) ctx.fail("a scale of float8e8m0 needs output_dtype");
  set_like_input(ctx, dtype);
}

/// Position of an element's scale.
class ScalePosition {
 public:
  ScalePosition(const RefContext& ctx, const Granularity& g) : g_(g) {
    const Dims &x = ctx.input(0).dims(), &scale = ctx.input(1).dims();
    if (g.kind == Granularity::Kind::kTensor) return;
    const AxisView view = around_axis(x, static_cast<std::int64_t>(g.axis));
    extent_ = view.extent;
    inner_ = view.inner;
    if (g.kind == Granularity::Kind::kAxis && scale[0] != view.extent)
      ctx.fail("has " + std::to_string(scale[0]) + " scales for axis " + std::to_string(g.axis) + " of " + lathe::to_string(x));
    if (g.kind != Granularity::Kind::kBlock) return;
    for (std::size_t a = 0; a < x.size(); ++a) {
      const bool fits = a == g.axis ? scale[a] == (x[a] + g.block - 1) / g.block : scale[a] == x[a];
      if (!fits) ctx.fail("scales " + lathe::to_string(scale) + " do not fit " + lathe::to_string(x) + " in blocks of " + std::to_string(g.block));
    }
    blocks_ = scale[g.axis];
  }
  std::int64_t of(std::int64_t i) const {
    if (g_.kind == Granularity::Kind::kTensor) return 0;
    const std::int64_t at = i / inner_ % extent_;
    if (g_.kind == Granularity::Kind::kAxis) return at;
    return (i / inner_ / extent_ * blocks_ + at / g_.block) * inner_ + i % inner_;
  }

 private:
  Granularity g_;
  std::int64_t extent_ = 1, inner_ = 1, blocks_ = 1;
};

ScalePosition ref_position(const RefContext& ctx) {
  const Tensor &x = ctx.input(0), &scale = ctx.input(1);
  std::string defect;
  const Granularity g =
      granularity_of(x.dims().size(), scale.dims().size(), scale.size() == 1, ctx.attrs().get_int("axis", 1), ctx.attrs().get_int("block_size", 0), defect);
  if (!defect.empty()) ctx.fail(defect);
  if (scale.size() == 0 && x.size() != 0) ctx.fail("the scale is empty");
  if (ctx.has_input(2) && ctx.input(2).size() != scale.size())
    ctx.fail("scale " + lathe::to_string(scale.dims()) + " and zero point " + lathe::to_string(ctx.input(2).dims()) + " differ");
  return {ctx, g};
}

/// The type in which x / scale is rounded: attribute precision, else the scale's own.
DType ratio_dtype(const Attrs& attrs, DType x, DType scale) {
  const auto precision = static_cast<DType>(attrs.get_int("precision", 0));
  if (precision != DType::kUndefined) return precision;
  if (is_float(scale) && scale != DType::kFloat8E8M0) return scale;
  return is_float(x) ? x : DType::kFloat32;
}

/// The type of the result; where a graph is run as read, its value may not know.
DType result_dtype(const RefContext& ctx, std::size_t deciding, DType otherwise) {
  if (const DType inferred = ctx.node().output()->dtype(); inferred != DType::kUndefined) return inferred;
  const std::int64_t given = ctx.attrs().get_int("output_dtype", 0);
  if (given < 0 || given >= kDTypeCount) ctx.fail("attribute 'output_dtype' is " + std::to_string(given) + ", which is no element type");
  if (given != 0) return static_cast<DType>(given);
  return ctx.has_input(deciding) ? ctx.input(deciding).dtype() : otherwise;
}

void quantize_reference(RefContext& ctx) {
  const Tensor &x = ctx.input(0), &scale = ctx.input(1);
  const ScalePosition position = ref_position(ctx);
  const DType compute = ratio_dtype(ctx.attrs(), x.dtype(), scale.dtype());
  const DType out = result_dtype(ctx, 2, DType::kUint8);
  const auto xs = to_doubles(x), scales = to_doubles(scale);
  const auto zeros = ctx.has_input(2) ? to_doubles(ctx.input(2)) : std::vector<double>(scales.size(), 0.0);
  std::vector<double> result(xs.size());
  for (std::size_t i = 0; i < xs.size(); ++i) {
    const auto at = static_cast<std::size_t>(position.of(static_cast<std::int64_t>(i)));
    const double ratio = round_as(compute, round_as(compute, xs[i]) / round_as(compute, scales[at]));
    result[i] = is_integer(out) ? quantised_integer(ratio, zeros[at], out) : ratio + zeros[at];
  }
  if (is_integer(out)) return ctx.set_output(0, from_doubles(out, x.dims(), result));
  const Tensor ratios = from_doubles(DType::kFloat64, x.dims(), result);
  ctx.set_output(0, convert_tensor(ratios, out, ctx.attrs().get_int("saturate", 1) != 0, "nearest"));
}

void dequantize_reference(RefContext& ctx) {
  const Tensor &x = ctx.input(0), &scale = ctx.input(1);
  const ScalePosition position = ref_position(ctx);
  const auto xs = to_doubles(x), scales = to_doubles(scale);
  const auto zeros = ctx.has_input(2) ? to_doubles(ctx.input(2)) : std::vector<double>(scales.size(), 0.0);
  std::vector<double> result(xs.size());
  for (std::size_t i = 0; i < xs.size(); ++i) {
    const auto at = static_cast<std::size_t>(position.of(static_cast<std::int64_t>(i)));
    result[i] = round_as(DType::kFloat32, (xs[i] - zeros[at]) * scales[at]);
  }
  ctx.set_output(0, from_doubles(result_dtype(ctx, 1, DType::kFloat32), x.dims(), result));
}

/// Reads input `which` (scale or zero point) for an element of x.
loops::RegionBuilder::Body read_scale(const Value* value, const Granularity& g) {
  return [value, g](loops::RegionBuilder& b, const loops::RegionBuilder::Indices& i) {
    loops::RegionBuilder::Indices at;
    switch (g.kind) {
      case Granularity::Kind::kTensor: at.assign(value->shape().size(), b.integer(0)); break;
      case Granularity::Kind::kAxis: at = {i[g.axis]}; break;
      case Granularity::Kind::kBlock:
        at = i;
        at[g.axis] = b.binary(ExprOp::kFloorDiv, i[g.axis], b.integer(g.block));
        break;
    }
    return b.read(value, at);
  };
}

struct Lowering {
  Granularity granularity;
  bool possible = false;
};

/// Declines what a region cannot say, or cannot know to be in bounds.
Lowering lowering_of(const Node& node, loops::RegionBuilder& builder) {
  const auto plain = [](DType t) { return (is_float(t) || is_integer(t)) && t != DType::kFloat8E8M0; };
  for (const Value* value : node.inputs) {
    if (!value) continue;
    if (!value->has_shape() || !plain(value->dtype())) {
      builder.decline("unknown rank, or a scale of float8e8m0");
      return {};
    }
  }
  const Value *x = node.input(0), *scale = node.input(1), *zero = node.input(2);
  std::string defect;
  Lowering lowering;
  lowering.granularity = granularity_of(x->shape().size(), scale->shape().size(), is_single(scale->shape()), node.attrs.get_int("axis", 1),
                                        node.attrs.get_int("block_size", 0), defect);
  const Granularity& g = lowering.granularity;
  bool fits = defect.empty();
  if (fits && g.kind == Granularity::Kind::kAxis) fits = scale->shape()[0] == x->shape()[g.axis];
  if (fits && g.kind == Granularity::Kind::kBlock)
    for (std::size_t a = 0; a < x->shape().size(); ++a) fits &= scale->shape()[a] == (a == g.axis ? Dim::ceildiv(x->shape()[a], Dim(g.block)) : x->shape()[a]);
  if (fits && zero) fits = zero->shape() == scale->shape() || (is_single(zero->shape()) && is_single(scale->shape()));
  if (!fits) builder.decline("scales whose extents only a run tells");
  lowering.possible = fits;
  return lowering;
}

bool quantize_lower(const Node& node, loops::RegionBuilder& builder) {
  const Lowering lowering = lowering_of(node, builder);
  if (!lowering.possible) return false;
  const Value *x = node.input(0), *out = node.output(), *zero = node.input(2);
  if (!is_integer(out->dtype()) && (zero || node.attrs.get_int("saturate", 1) == 0 || dtype_bits(out->dtype()) < 8)) {
    builder.decline("a float of few bits with a zero point or without saturation");
    return false;
  }
  const DType compute = ratio_dtype(node.attrs, x->dtype(), node.input(1)->dtype());
  if (compute != DType::kFloat32 && compute != DType::kFloat64 && compute != DType::kFloat16 && compute != DType::kBFloat16) {
    builder.decline("division in a type of few bits");
    return false;
  }
  const auto scale = read_scale(node.input(1), lowering.granularity);
  const auto zero_point = zero ? read_scale(zero, lowering.granularity) : nullptr;
  builder.define(out, [=](loops::RegionBuilder& b, const auto& i) {
    // Narrow floats are rounded where the definition rounds them: operands, then the ratio.
    const auto wide = [&](ExprId e) { return b.cast(b.cast(e, compute), compute == DType::kFloat64 ? compute : DType::kFloat32); };
    const ExprId ratio = wide(b.binary(ExprOp::kDiv, wide(b.read(x, i)), wide(scale(b, i))));
    if (!is_integer(out->dtype())) return b.cast(ratio, out->dtype());
    const DType type = b.type_of(ratio);
    ExprId value = b.unary(ExprOp::kRound, ratio);
    if (zero_point) value = b.binary(ExprOp::kAdd, value, b.cast(zero_point(b, i), type));
    const auto [low, high] = integer_range(out->dtype());
    value = b.binary(ExprOp::kMin, b.binary(ExprOp::kMax, value, b.constant(static_cast<double>(low), type)), b.constant(static_cast<double>(high), type));
    return b.cast(value, out->dtype());
  });
  return true;
}

bool dequantize_lower(const Node& node, loops::RegionBuilder& builder) {
  const Lowering lowering = lowering_of(node, builder);
  if (!lowering.possible) return false;
  const Value *x = node.input(0), *out = node.output(), *zero = node.input(2);
  const auto scale = read_scale(node.input(1), lowering.granularity);
  const auto zero_point = zero ? read_scale(zero, lowering.granularity) : nullptr;
  // 32-bit integers and their zero point may need more digits than float32 has.
  const DType exact = dtype_bits(x->dtype()) > 16 ? DType::kFloat64 : DType::kFloat32;
  builder.define(out, [=](loops::RegionBuilder& b, const auto& i) {
    ExprId value = b.cast(b.read(x, i), exact);
    if (zero_point) value = b.binary(ExprOp::kSub, value, b.cast(zero_point(b, i), exact));
    const ExprId product = b.binary(ExprOp::kMul, value, b.cast(scale(b, i), exact));
    return b.cast(b.cast(product, DType::kFloat32), out->dtype());
  });
  return true;
}

}  // namespace

std::span<const OpDef> ops_quantize() {
  constexpr std::string_view kQuantize = "x:T1 y_scale:T2 y_zero_point?:T3 -> y:T3", kDequantize = "x:T1 x_scale:T2 x_zero_point?:T1 -> y:T3";
  constexpr std::string_view kQuantizeAttrs = "precision:int=0 output_dtype:int=0 block_size:int=0 saturate:int=1 axis:int=1";
  constexpr std::string_view kDequantizeAttrs = "output_dtype:int=0 block_size:int=0 axis:int=1";
#define LATHE_FLOAT8 "float8e4m3fn float8e4m3fnuz float8e5m2 float8e5m2fnuz "
#define LATHE_FLOATS "float float16 bfloat16 "
  static const std::vector<OpDef> ops = [=] {
    std::vector<OpDef> list{
        {.name = "QuantizeLinear",
         .versions = {{10, "x:T1 y_scale:float y_zero_point?:T2 -> y:T2", "", "T1: float int32; T2: int8 uint8"},
                      {13, "x:T1 y_scale:float y_zero_point?:T2 -> y:T2", "axis:int=1", "T1: float int32; T2: int8 uint8"},
                      {19, "x:T1 y_scale:T1 y_zero_point?:T2 -> y:T2", "saturate:int=1 axis:int=1",
                       "T1: " LATHE_FLOATS "int32; T2: " LATHE_FLOAT8 "int8 uint8"},
                      {21, "x:T1 y_scale:T1 y_zero_point?:T2 -> y:T2", "output_dtype:int=0 block_size:int=0 saturate:int=1 axis:int=1",
                       "T1: " LATHE_FLOATS "int32; T2: " LATHE_FLOAT8 "int16 int4 int8 uint16 uint4 uint8"},
                      {23, kQuantize, kQuantizeAttrs,
                       "T1: " LATHE_FLOATS "int32; T2: " LATHE_FLOATS "int32; T3: " LATHE_FLOAT8 "float4e2m1 int16 int4 int8 uint16 uint4 uint8"},
                      {24, kQuantize, kQuantizeAttrs,
                       "T1: " LATHE_FLOATS "int32; T2: " LATHE_FLOATS "float8e8m0 int32; T3: " LATHE_FLOAT8 "float4e2m1 int16 int4 int8 uint16 uint4 uint8"},
                      {25, kQuantize, kQuantizeAttrs,
                       "T1: " LATHE_FLOATS "int32; T2: " LATHE_FLOATS "float8e8m0 int32; T3: " LATHE_FLOAT8
                       "float4e2m1 int16 int2 int4 int8 uint16 uint2 uint4 uint8"},
                      {28, kQuantize, kQuantizeAttrs,
                       "T1: " LATHE_FLOATS "int32; T2: " LATHE_FLOATS "float8e8m0 int32; T3: " LATHE_FLOAT8
                       "float4e2m1 float6e2m3 float6e3m2 int16 int2 int4 int8 uint16 uint2 uint4 uint8"}},
         .infer = quantize_infer,
         .reference = quantize_reference,
         .tolerance = {.absolute = 1},
         .lower = quantize_lower,
         .doc = "real numbers to few-bit ones by scale and zero point"},
        {.name = "DequantizeLinear",
         .versions = {{10, "x:T x_scale:float x_zero_point?:T -> y:float", "", "T: int32 int8 uint8"},
                      {13, "x:T x_scale:float x_zero_point?:T -> y:float", "axis:int=1", "T: int32 int8 uint8"},
                      {19, "x:T1 x_scale:T2 x_zero_point?:T1 -> y:T2", "axis:int=1", "T1: " LATHE_FLOAT8 "int32 int8 uint8; T2: " LATHE_FLOATS},
                      {21, "x:T1 x_scale:T2 x_zero_point?:T1 -> y:T2", "block_size:int=0 axis:int=1",
                       "T1: " LATHE_FLOAT8 "int16 int32 int4 int8 uint16 uint4 uint8; T2: " LATHE_FLOATS},
                      {23, kDequantize, kDequantizeAttrs,
                       "T1: " LATHE_FLOAT8 "float4e2m1 int16 int32 int4 int8 uint16 uint4 uint8; T2: " LATHE_FLOATS "; T3: " LATHE_FLOATS},
                      {24, kDequantize, kDequantizeAttrs,
                       "T1: " LATHE_FLOAT8 "float4e2m1 int16 int32 int4 int8 uint16 uint4 uint8; T2: " LATHE_FLOATS "float8e8m0; T3: " LATHE_FLOATS},
                      {25, kDequantize, kDequantizeAttrs,
                       "T1: " LATHE_FLOAT8 "float4e2m1 int16 int2 int32 int4 int8 uint16 uint2 uint4 uint8; T2: " LATHE_FLOATS "float8e8m0; T3: " LATHE_FLOATS},
                      {28, kDequantize, kDequantizeAttrs,
                       "T1: " LATHE_FLOAT8 "float4e2m1 float6e2m3 float6e3m2 int16 int2 int32 int4 int8 uint16 uint2 uint4 uint8; T2: " LATHE_FLOATS
                       "float8e8m0; T3: " LATHE_FLOATS}},
         .infer = dequantize_infer,
         .reference = dequantize_reference,
         .tolerance = {.relative = 2.5e-7},
         .lower = dequantize_lower,
         .doc = "few-bit numbers to real ones by scale and zero point"},
    };
    for (auto more : {integer_product_ops(), dynamic_quantize_ops()}) list.insert(list.end(), more.begin(), more.end());
    return list;
  }();
#undef LATHE_FLOAT8
#undef LATHE_FLOATS
  return ops;
}

}  // namespace lathe::ops
