// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// CumSum, CumProd: running sums and products along an axis.
#include "ops/infer.h"
#include "ops/ref_util.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

void cumulative_infer(InferContext& ctx) {
  const auto& in = ctx.shape(0);
  if (const auto axis = constant_content(ctx, 1); in && axis && axis->size() == 1) {
    infer_axis(ctx, axis->front(), static_cast<std::int64_t>(in->size()));
  }
  ctx.set_type(0, ctx.node().input(0)->type);
}

template <bool kSum, class T>
std::vector<T> run(const std::vector<T>& x, const AxisView& view, bool exclusive, bool reverse) {
  std::vector<T> y(x.size());
  for (std::int64_t o = 0; o < view.outer; ++o) {
    for (std::int64_t i = 0; i < view.inner; ++i) {
      T running = kSum ? 0 : 1;
      for (std::int64_t k = 0; k < view.extent; ++k) {
        const std::int64_t position = reverse ? view.extent - 1 - k : k;
        const auto at = static_cast<std::size_t>((o * view.extent + position) * view.inner + i);
        const T before = running;
        running = kSum ? running + x[at] : running * x[at];
        y[at] = exclusive ? before : running;
      }
    }
  }
  return y;
}

template <bool kSum>
void cumulative_reference(RefContext& ctx) {
  const Tensor& in = ctx.input(0);
  if (ctx.input(1).size() != 1) ctx.fail("axis must be one number");
  const AxisView view = around_axis(in.dims(), ref_axis(ctx, ctx.input(1).as_int64(0), in.rank()));
  const bool exclusive = ctx.attrs().get_int("exclusive", 0) != 0, reverse = ctx.attrs().get_int("reverse", 0) != 0;
  if (is_float(in.dtype())) {
    ctx.set_output(0, from_doubles(in.dtype(), in.dims(), run<kSum>(to_doubles(in), view, exclusive, reverse)));
    return;
  }
  const auto signed_values = to_int64s(in);
  const std::vector<std::uint64_t> values(signed_values.begin(), signed_values.end());  // unsigned: wraps without undefined behaviour
  const auto sums = run<kSum>(values, view, exclusive, reverse);
  ctx.set_output(0, from_int64s(in.dtype(), in.dims(), {sums.begin(), sums.end()}));
}

}  // namespace

std::vector<OpDef> cumulative_ops() {
  constexpr std::string_view kIo = "x:T axis:T2 -> y:T", kAttrs = "exclusive:int=0 reverse:int=0";
  return {
      {.name = "CumSum",
       .versions = {{11, kIo, kAttrs, "T: uint32 uint64 int32 int64 float double; T2: int32 int64"}, {14, kIo, kAttrs, "T: @high13; T2: int32 int64"}},
       .infer = cumulative_infer,
       .reference = cumulative_reference<true>,
       .tolerance = {.relative = 2e-5, .absolute = 1e-6},
       .doc = "running sum along an axis"},
      {.name = "CumProd",
       .versions = {{26, kIo, kAttrs, "T: @high13; T2: int32 int64"}},
       .infer = cumulative_infer,
       .reference = cumulative_reference<false>,
       .tolerance = {.relative = 2e-5, .absolute = 1e-6},
       .doc = "running product along an axis"},
  };
}

}  // namespace lathe::ops
