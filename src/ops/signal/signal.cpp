// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Window functions (Hann, Hamming, Blackman) and MelWeightMatrix: tables that depend on a few numbers.
#include <cmath>
#include <functional>
#include <numbers>

#include "loops/builder.h"
#include "ops/infer.h"
#include "ops/ref_util.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {

std::vector<OpDef> fourier_ops();  // fourier.cpp: DFT, STFT

namespace {

using loops::ExprId;
using loops::ExprOp;

DType output_dtype(const Attrs& attrs) { return dtype_of_number(attrs.get_int("output_datatype", 1)); }

DType infer_dtype(InferContext& ctx) {
  const DType dtype = output_dtype(ctx.attrs());
  if (!is_float(dtype) && !is_integer(dtype))
    ctx.fail("output_datatype " + std::to_string(ctx.attrs().get_int("output_datatype", 1)) + " is no type of numbers");
  return dtype;
}

// Windows: a0 - a1 cos(2 pi n / N) + a2 cos(4 pi n / N), N the size, or one less when not periodic -----------------------------------

struct Cosines {
  double a0, a1, a2;
};
constexpr Cosines kHann{0.5, 0.5, 0}, kHamming{25.0 / 46.0, 21.0 / 46.0, 0}, kBlackman{0.42, 0.5, 0.08};

double window_value(const Cosines& w, std::int64_t n, std::int64_t size, bool periodic) {
  const std::int64_t length = periodic ? size : size - 1;
  const double turn = length == 0 ? 0 : 2 * std::numbers::pi * static_cast<double>(n) / static_cast<double>(length);
  return w.a0 - w.a1 * std::cos(turn) + w.a2 * std::cos(2 * turn);
}

void window_infer(InferContext& ctx) {
  const DType dtype = infer_dtype(ctx);
  const auto size = ctx.content(0);
  if (size && size->size() != 1) ctx.fail("size must be one number");
  if (size)
    if (const auto n = size->front().constant(); n && *n < 0) ctx.fail("size " + std::to_string(*n) + " is negative");
  ctx.set(0, dtype, {extent_of(ctx, size, 0)});
}

template <const Cosines& kWindow>
void window_reference(RefContext& ctx) {
  const std::int64_t size = ctx.input(0).size() == 1 ? ctx.input(0).as_int64(0) : -1;
  if (size < 0) ctx.fail("size must be one number, not negative");
  const bool periodic = ctx.attrs().get_int("periodic", 1) != 0;
  std::vector<double> values;
  for (std::int64_t n = 0; n < size; ++n) values.push_back(window_value(kWindow, n, size, periodic));
  ctx.set_output(0, from_doubles(output_dtype(ctx.attrs()), {size}, values));
}

template <const Cosines& kWindow>
bool window_lower(const Node& node, loops::RegionBuilder& builder) {
  const Value* out = node.output();
  if (!out->has_shape() || !is_float(out->dtype()) || dtype_bits(out->dtype()) < 16) {
    builder.decline("a window of integers");
    return false;
  }
  const bool periodic = node.attrs.get_int("periodic", 1) != 0;
  builder.define(out, [out, periodic](loops::RegionBuilder& b, const auto& i) {
    const Dim& size = out->shape()[0];
    const auto number = [&](double v) { return b.constant(v, DType::kFloat64); };
    const ExprId length = b.cast(b.dim(periodic ? size : Dim::max(size - Dim(1), Dim(1))), DType::kFloat64);
    const ExprId turn = b.binary(ExprOp::kDiv, b.binary(ExprOp::kMul, number(2 * std::numbers::pi), b.cast(i[0], DType::kFloat64)), length);
    ExprId value = b.binary(ExprOp::kSub, number(kWindow.a0), b.binary(ExprOp::kMul, number(kWindow.a1), b.unary(ExprOp::kCos, turn)));
    if (kWindow.a2 != 0) {
      const ExprId twice = b.unary(ExprOp::kCos, b.binary(ExprOp::kMul, number(2), turn));
      value = b.binary(ExprOp::kAdd, value, b.binary(ExprOp::kMul, number(kWindow.a2), twice));
    }
    return b.cast(value, out->dtype());
  });
  return true;
}

// MelWeightMatrix: triangles over the bins of a spectrum, equally wide on the mel scale ---------------------------------------------

void mel_infer(InferContext& ctx) {
  const DType dtype = infer_dtype(ctx);
  const auto bins = single_extent(ctx, 0), length = single_extent(ctx, 1);
  ctx.set(0, dtype, {length ? Dim::floordiv(*length, Dim(2)) + Dim(1) : ctx.fresh_symbol(), bins ? *bins : ctx.fresh_symbol()});
}

void mel_reference(RefContext& ctx) {
  for (std::size_t i = 0; i < 5; ++i)
    if (ctx.input(i).size() != 1) ctx.fail("takes five single numbers");
  const std::int64_t bins = ctx.input(0).as_int64(0), length = ctx.input(1).as_int64(0), rate = ctx.input(2).as_int64(0);
  const double low = ctx.input(3).as_double(0), high = ctx.input(4).as_double(0);
  if (bins < 0 || length < 0 || rate <= 0) ctx.fail("num_mel_bins and dft_length must not be negative, sample_rate must be positive");
  const std::int64_t rows = length / 2 + 1;
  const auto mel = [](double hertz) { return 2595 * std::log10(1 + hertz / 700); };
  const double first = mel(low), step = (mel(high) - first) / static_cast<double>(bins + 2);
  std::vector<std::int64_t> edges;
  for (std::int64_t i = 0; i < bins + 2; ++i) {
    const double hertz = 700 * (std::pow(10, (first + step * static_cast<double>(i)) / 2595) - 1);
    edges.push_back(static_cast<std::int64_t>(std::floor(static_cast<double>(length + 1) * hertz / static_cast<double>(rate))));
    if (edges.back() < 0 || edges.back() >= rows)
      ctx.fail("a mel band ends at bin " + std::to_string(edges.back()) + " of a spectrum of " + std::to_string(rows));
  }
  std::vector<double> weights(static_cast<std::size_t>(rows * bins), 0.0);
  for (std::int64_t i = 0; i < bins; ++i) {
    const auto at = static_cast<std::size_t>(i);
    const std::int64_t left = edges[at], centre = edges[at + 1], right = edges[at + 2];
    const auto weight = [&](std::int64_t row) -> double& { return weights[static_cast<std::size_t>(row * bins + i)]; };
    if (left == centre) weight(centre) = 1;
    else
      for (std::int64_t row = left; row <= centre; ++row) weight(row) = static_cast<double>(row - left) / static_cast<double>(centre - left);
    for (std::int64_t row = centre; row < right; ++row) weight(row) = static_cast<double>(right - row) / static_cast<double>(right - centre);
  }
  ctx.set_output(0, from_doubles(output_dtype(ctx.attrs()), {rows, bins}, weights));
}

template <const Cosines& kWindow>
OpDef window_op(std::string_view name, std::string_view doc) {
  return {.name = name,
          .versions = {{17, "size:T1 -> output:T2", "periodic:int=1 output_datatype:int=1", "T1: int32 int64; T2: @num13"}},
          .infer = window_infer,
          .reference = window_reference<kWindow>,
          .tolerance = {.relative = 1e-6, .absolute = 1e-7},
          .lower = window_lower<kWindow>,
          .doc = doc};
}

}  // namespace

std::span<const OpDef> ops_signal() {
  static const std::vector<OpDef> ops = [] {
    std::vector<OpDef> list{
        window_op<kHann>("HannWindow", "0.5 - 0.5 cos(2 pi n / N)"),
        window_op<kHamming>("HammingWindow", "25/46 - 21/46 cos(2 pi n / N)"),
        window_op<kBlackman>("BlackmanWindow", "0.42 - 0.5 cos(2 pi n / N) + 0.08 cos(4 pi n / N)"),
        {.name = "MelWeightMatrix",
         .versions = {{17, "num_mel_bins:T1 dft_length:T1 sample_rate:T1 lower_edge_hertz:T2 upper_edge_hertz:T2 -> output:T3", "output_datatype:int=1",
                       "T1: int32 int64; T2: @float13; T3: @num13"}},
         .infer = mel_infer,
         .reference = mel_reference,
         .doc = "weights that bring a spectrum to the mel scale"},
    };
    for (OpDef& op : fourier_ops()) list.push_back(std::move(op));
    return list;
  }();
  return ops;
}

}  // namespace lathe::ops
