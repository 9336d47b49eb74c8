// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// MatMulInteger, ConvInteger, QLinearMatMul, QLinearConv: products of quantised tensors, exact in 32-bit integers.
//
//   sums  = product(a - a_zero_point, b - b_zero_point) (+ bias)
//   QLinear: y = saturate(round_half_even(sums * (a_scale * b_scale / y_scale)) + y_zero_point)
//
// The zero points are subtracted first, so padding counts as zero. The product itself is MatMul's or Conv's own definition, in double
// precision, which holds such sums exactly.
#include <cmath>

#include "ops/cast/cast.h"
#include "ops/quantize/quantize.h"
#include "ops/ref_util.h"
#include "ops/registry.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

/// MatMul or Conv run on other tensors than the node's.
class ProductContext final : public RefContext {
 public:
  ProductContext(const RefContext& outer, std::vector<Tensor> inputs) : outer_(outer), inputs_(std::move(inputs)) {}
  const Node& node() const override { return outer_.node(); }
  std::size_t input_count() const override { return inputs_.size(); }
  bool has_input(std::size_t i) const override { return i < inputs_.size() && inputs_[i].defined(); }
  const Tensor& input(std::size_t i) const override { return inputs_.at(i); }
  std::size_t output_count() const override { return 1; }
  bool wants_output(std::size_t i) const override { return i == 0; }
  void set_output(std::size_t, Tensor tensor) override { result_ = std::move(tensor); }
  std::vector<Tensor> run_subgraph(const ir::Graph&, std::span<const Tensor>) override { fail("a product has no nested graph"); }
  [[noreturn]] void fail(std::string message) const override {
    outer_.fail(std::move(message));
    throw Error(Code::kInternal, "a failure that returned");  // a virtual call's noreturn is not seen
  }
  Tensor take() { return std::move(result_); }

 private:
  const RefContext& outer_;
  std::vector<Tensor> inputs_;
  Tensor result_;
};

Tensor product(const RefContext& ctx, std::string_view op, std::vector<Tensor> inputs, bool blocked) {
  const OpDef& definition = *find_op("", op);
  ProductContext inner(ctx, std::move(inputs));
  (blocked ? definition.oracle : definition.reference)(inner);
  return inner.take();
}

/// Values minus zero points, which are one number or one for each index of `axis`.
Tensor shifted(const RefContext& ctx, const Tensor& x, const Tensor* zero, std::int64_t axis) {
  std::vector<double> values = to_doubles(x);
  if (zero && zero->size() == 1) {
    const double z = zero->as_double(0);
    for (double& v : values) v -= z;
  } else if (zero && zero->rank() <= 1) {
    const AxisView view = around_axis(x.dims(), axis < 0 ? axis + x.rank() : axis);
    if (zero->size() != view.extent)
      ctx.fail("has " + std::to_string(zero->size()) + " zero points for " + std::to_string(view.extent) + " indices of an axis");
    for (std::size_t i = 0; i < values.size(); ++i) values[i] -= zero->as_double(static_cast<std::int64_t>(i) / view.inner % view.extent);
  } else if (zero) {
    // Zero points of stacked matrices: the matrix's own shape with an extent of 1.
    if (zero->rank() != x.rank()) ctx.fail("zero points " + lathe::to_string(zero->dims()) + " do not fit " + lathe::to_string(x.dims()));
    const Dims strides = strides_of(zero->dims());
    std::size_t n = 0;
    for_each_index(x.dims(), [&](const Dims& at) {
      std::int64_t o = 0;
      for (std::size_t a = 0; a < at.size(); ++a) {
        if (zero->dims()[a] != 1 && zero->dims()[a] != x.dims()[a])
          ctx.fail("zero points " + lathe::to_string(zero->dims()) + " do not fit " + lathe::to_string(x.dims()));
        o += zero->dims()[a] == 1 ? 0 : at[a] * strides[a];
      }
      values[n++] -= zero->as_double(o);
    });
  }
  return from_doubles(DType::kFloat64, x.dims(), values);
}

const Tensor* optional_input(const RefContext& ctx, std::size_t i) { return ctx.has_input(i) ? &ctx.input(i) : nullptr; }

/// 32-bit sums wrap.
Tensor as_int32(const Tensor& sums) {
  Tensor out(DType::kInt32, sums.dims());
  for (std::int64_t i = 0; i < sums.size(); ++i) out.set_from_int64(i, static_cast<std::int32_t>(static_cast<std::int64_t>(sums.as_double(i))));
  return out;
}

template <bool kBlocked>
void matmul_integer(RefContext& ctx) {
  const Tensor a = shifted(ctx, ctx.input(0), optional_input(ctx, 2), -2), b = shifted(ctx, ctx.input(1), optional_input(ctx, 3), -1);
  ctx.set_output(0, as_int32(product(ctx, "MatMul", {a, b}, kBlocked)));
}

template <bool kBlocked>
void conv_integer(RefContext& ctx) {
  const Tensor x = shifted(ctx, ctx.input(0), optional_input(ctx, 2), 1), w = shifted(ctx, ctx.input(1), optional_input(ctx, 3), 0);
  ctx.set_output(0, as_int32(product(ctx, "Conv", {x, w}, kBlocked)));
}

/// Sums to the output's type. `axis`: the result's axis that a scale of several elements runs along.
Tensor requantised(const RefContext& ctx, const Tensor& sums, const Tensor& a_scale, const Tensor& b_scale, const Tensor& y_scale, const Tensor& y_zero,
                   std::int64_t a_axis, std::int64_t b_axis) {
  const DType compute = a_scale.dtype(), out = y_zero.dtype();
  const auto per = [&](const Tensor& scale, std::int64_t axis) {
    const std::int64_t at = axis < 0 ? axis + sums.rank() : axis;
    const AxisView view = around_axis(sums.dims(), at);
    if (scale.size() != 1 && (scale.size() != view.extent || at < 0))
      ctx.fail("scale " + lathe::to_string(scale.dims()) + " does not fit the result " + lathe::to_string(sums.dims()));
    return [&scale, view](std::int64_t i) { return scale.as_double(scale.size() == 1 ? 0 : i / view.inner % view.extent); };
  };
  if (y_scale.size() != 1 || y_zero.size() != 1) ctx.fail("the result's scale and zero point must be single numbers");
  const auto a = per(a_scale, a_axis), b = per(b_scale, b_axis);
  std::vector<double> values(static_cast<std::size_t>(sums.size()));
  for (std::int64_t i = 0; i < sums.size(); ++i) {
    const double scale = round_as(compute, round_as(compute, a(i) * b(i)) / y_scale.as_double(0));
    const double ratio = sums.as_double(i) * scale;
    values[static_cast<std::size_t>(i)] = is_integer(out) ? quantised_integer(ratio, y_zero.as_double(0), out) : ratio + y_zero.as_double(0);
  }
  if (is_integer(out)) return from_doubles(out, sums.dims(), values);
  return convert_tensor(from_doubles(DType::kFloat64, sums.dims(), values), out, true, "nearest");
}

template <bool kBlocked>
void qlinear_matmul(RefContext& ctx) {
  const Tensor a = shifted(ctx, ctx.input(0), &ctx.input(2), -2), b = shifted(ctx, ctx.input(3), &ctx.input(5), -1);
  const Tensor sums = product(ctx, "MatMul", {a, b}, kBlocked);
  ctx.set_output(0, requantised(ctx, sums, ctx.input(1), ctx.input(4), ctx.input(6), ctx.input(7), -2, -1));
}

template <bool kBlocked>
void qlinear_conv(RefContext& ctx) {
  const Tensor x = shifted(ctx, ctx.input(0), &ctx.input(2), 1), w = shifted(ctx, ctx.input(3), &ctx.input(5), 0);
  std::vector<Tensor> inputs{x, w};
  if (ctx.has_input(8)) inputs.push_back(ctx.input(8));
  const Tensor sums = product(ctx, "Conv", std::move(inputs), kBlocked);
  ctx.set_output(0, requantised(ctx, sums, ctx.input(1), ctx.input(4), ctx.input(6), ctx.input(7), 1, 1));
}

// Shapes are those of MatMul and Conv on other inputs -----------------------------------------------------------------------

/// MatMul's or Conv's shape rule on chosen inputs of this node.
class ProductInfer final : public InferContext {
 public:
  ProductInfer(InferContext& outer, std::size_t second, DType result) : outer_(outer), second_(second), result_(result), node_(outer.node()) {
    node_.inputs = {outer.node().inputs[0], outer.node().inputs[second]};
  }
  Node& node() override { return node_; }
  std::optional<std::vector<Dim>> content(std::size_t i) override { return outer_.content(i == 0 ? 0 : second_); }
  Tensor constant(std::size_t i) override { return outer_.constant(i == 0 ? 0 : second_); }
  void set_type(std::size_t output, ir::Type type) override {
    if (type.shape) outer_.set(output, result_, *type.shape);
    else outer_.set_unknown(output, result_);
  }
  void set_content(std::size_t, std::vector<Dim>) override {}
  Dim fresh_symbol() override { return outer_.fresh_symbol(); }
  bool is_extent(const Dim& dim) override { return outer_.is_extent(dim); }
  std::int64_t opset() override { return outer_.opset(); }
  std::vector<ir::Type> infer_subgraph(ir::Graph& graph, std::span<const ir::Type> inputs) override { return outer_.infer_subgraph(graph, inputs); }
  [[noreturn]] void fail(std::string message) override {
    outer_.fail(std::move(message));
    throw Error(Code::kInternal, "a failure that returned");
  }

 private:
  InferContext& outer_;
  std::size_t second_;
  DType result_;
  Node node_;
};

void infer_product(InferContext& ctx, std::string_view op, std::size_t second, DType result) {
  ProductInfer inner(ctx, second, result);
  find_op("", op)->infer(inner);
}

}  // namespace

std::vector<OpDef> integer_product_ops() {
  constexpr std::string_view kConv = "group:int=1 pads:ints? strides:ints? dilations:ints? kernel_shape:ints? auto_pad:string=NOTSET";
  constexpr std::string_view kBytes = "T1: int8 uint8; T2: int8 uint8; T3: int32";
#define LATHE_BYTES "float8e4m3fn float8e4m3fnuz float8e5m2 float8e5m2fnuz int8 uint8"
  return {
      {.name = "MatMulInteger",
       .versions = {{10, "A:T1 B:T2 a_zero_point?:T1 b_zero_point?:T2 -> Y:T3", "", kBytes}},
       .infer = [](InferContext& ctx) { infer_product(ctx, "MatMul", 1, DType::kInt32); },
       .reference = matmul_integer<false>,
       .oracle = matmul_integer<true>,
       .lower = matmul_integer_lower,
       .doc = "MatMul of 8-bit integers, exact"},
      {.name = "ConvInteger",
       .versions = {{10, "x:T1 w:T2 x_zero_point?:T1 w_zero_point?:T2 -> y:T3", kConv, kBytes}},
       .infer = [](InferContext& ctx) { infer_product(ctx, "Conv", 1, DType::kInt32); },
       .reference = conv_integer<false>,
       .oracle = conv_integer<true>,
       .lower = conv_integer_lower,
       .doc = "Conv of 8-bit integers, exact"},
      {.name = "QLinearMatMul",
       .versions = {{10, "a:T1 a_scale:float a_zero_point:T1 b:T2 b_scale:float b_zero_point:T2 y_scale:float y_zero_point:T3 -> y:T3", "",
                     "T1: int8 uint8; T2: int8 uint8; T3: int8 uint8"},
                    {21, "a:T1 a_scale:TS a_zero_point:T1 b:T2 b_scale:TS b_zero_point:T2 y_scale:TS y_zero_point:T3 -> y:T3", "",
                     "TS: bfloat16 float float16; T1: " LATHE_BYTES "; T2: " LATHE_BYTES "; T3: " LATHE_BYTES}},
       .infer = [](InferContext& ctx) { infer_product(ctx, "MatMul", 3, ctx.dtype(7)); },
       .reference = qlinear_matmul<false>,
       .oracle = qlinear_matmul<true>,
       .doc = "MatMul of quantised tensors, quantised again"},
      {.name = "QLinearConv",
       .versions = {{10, "x:T1 x_scale:float x_zero_point:T1 w:T2 w_scale:float w_zero_point:T2 y_scale:float y_zero_point:T3 B?:T4 -> y:T3", kConv,
                     "T1: int8 uint8; T2: int8 uint8; T3: int8 uint8; T4: int32"}},
       .infer = [](InferContext& ctx) { infer_product(ctx, "Conv", 3, ctx.dtype(7)); },
       .reference = qlinear_conv<false>,
       .oracle = qlinear_conv<true>,
       .doc = "Conv of quantised tensors, quantised again"},
  };
#undef LATHE_BYTES
}

}  // namespace lathe::ops
