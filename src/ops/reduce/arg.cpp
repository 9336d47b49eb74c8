// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// ArgMax, ArgMin: the position of an extreme element along an axis.
#include <cmath>

#include "ops/lower_util.h"
#include "ops/ref_util.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

using loops::Reduce;

void arg_infer(InferContext& ctx) {
  const auto& in = ctx.shape(0);
  if (!in) return ctx.set_unknown(0, DType::kInt64);
  const auto axis = infer_axis(ctx, ctx.attrs().get_int("axis", 0), static_cast<std::int64_t>(in->size()));
  ctx.set(0, DType::kInt64, ReducedAxes(in->size(), {axis}, ctx.attrs().get_int("keepdims", 1) != 0).kept_shape(*in));
}

template <bool kMax>
void arg_reference(RefContext& ctx) {
  const Tensor& in = ctx.input(0);
  const std::int64_t axis = ref_axis(ctx, ctx.attrs().get_int("axis", 0), in.rank());
  const AxisView view = around_axis(in.dims(), axis);
  const bool last = ctx.attrs().get_int("select_last_index", 0) != 0;
  if (view.extent == 0 && view.outer * view.inner > 0) ctx.fail("the axis is empty");
  const bool whole = is_integer(in.dtype());
  const auto better = [&](std::int64_t a, std::int64_t b) {  // element a against the best so far, b
    if (whole) {
      const std::int64_t x = in.as_int64(a), y = in.as_int64(b);
      if (in.dtype() == DType::kUint64) {
        const auto ux = static_cast<std::uint64_t>(x), uy = static_cast<std::uint64_t>(y);
        return kMax ? ux > uy : ux < uy;
      }
      return kMax ? x > y : x < y;
    }
    const double x = in.as_double(a), y = in.as_double(b);
    if (std::isnan(y)) return false;  // the first NaN wins, as it propagates in the reductions
    return std::isnan(x) || (kMax ? x > y : x < y);
  };
  std::vector<std::int64_t> found;
  for (std::int64_t o = 0; o < view.outer; ++o) {
    for (std::int64_t i = 0; i < view.inner; ++i) {
      const auto at = [&](std::int64_t k) { return (o * view.extent + k) * view.inner + i; };
      std::int64_t best = 0;
      for (std::int64_t k = 1; k < view.extent; ++k) {
        if (better(at(k), at(best)) || (last && !better(at(best), at(k)))) best = k;
      }
      found.push_back(best);
    }
  }
  Dims dims = in.dims();
  if (ctx.attrs().get_int("keepdims", 1) != 0) {
    dims[static_cast<std::size_t>(axis)] = 1;
  } else {
    dims.erase(dims.begin() + axis);
  }
  ctx.set_output(0, from_int64s(DType::kInt64, dims, found));
}

template <bool kMax>
bool arg_lower(const Node& node, loops::RegionBuilder& builder) {
  const Value *in = node.input(0), *out = node.output();
  if (!can_lower_real(in, builder)) return false;
  const bool last = node.attrs.get_int("select_last_index", 0) != 0;
  const Reduce fold = kMax ? (last ? Reduce::kArgMaxLast : Reduce::kArgMax) : last ? Reduce::kArgMinLast : Reduce::kArgMin;
  const Shape shape = in->shape();
  const ReducedAxes axes(shape.size(), {node.attrs.get_int("axis", 0)}, node.attrs.get_int("keepdims", 1) != 0);
  const DType wide = in->dtype() == DType::kUint64 ? DType::kUint64 : compute_dtype(in->dtype());
  builder.define_reduction(
      out, fold, axes.reduction_space(shape),
      [=](loops::RegionBuilder& b, const auto& kept, const auto& reduced) { return b.cast(b.read(in, axes.input_indices(kept, reduced)), wide); }, wide);
  return true;
}

}  // namespace

std::vector<OpDef> arg_ops() {
  constexpr std::string_view kIo = "data:T -> reduced:int64", kOld = "axis:int=0 keepdims:int=1", kNew = "axis:int=0 keepdims:int=1 select_last_index:int=0";
  const std::vector<VersionDef> versions{{1, kIo, kOld, "T: @num"}, {11, kIo, kOld, "T: @num"}, {12, kIo, kNew, "T: @num"}, {13, kIo, kNew, "T: @num13"}};
  return {
      {.name = "ArgMax",
       .versions = versions,
       .infer = arg_infer,
       .reference = arg_reference<true>,
       .lower = arg_lower<true>,
       .doc = "position of the largest element"},
      {.name = "ArgMin",
       .versions = versions,
       .infer = arg_infer,
       .reference = arg_reference<false>,
       .lower = arg_lower<false>,
       .doc = "position of the smallest element"},
  };
}

}  // namespace lathe::ops
