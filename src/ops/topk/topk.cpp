// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// TopK: the k largest (or smallest) elements along an axis and where they stand, best first. Of equal elements the first comes first;
// a NaN ranks above every number. The kernel is in topk_cpu.cpp.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "ops/ref_util.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

/// Version 1 had k as an attribute.
void topk_upgrade(UpgradeContext& ctx) {
  if (ctx.from_version >= 10) return;
  const std::int64_t k[] = {ctx.node.attrs.get_int("k", 0)};
  ctx.node.attrs.erase("k");
  ctx.graph.set_inputs(&ctx.node, {ctx.node.input(0), ctx.constant("k", Tensor::vector(k))});
}

void topk_infer(InferContext& ctx) {
  const auto& in = ctx.shape(0);
  if (!in) {
    ctx.set_unknown(0, ctx.dtype(0));
    ctx.set_unknown(1, DType::kInt64);
    return;
  }
  Shape out = *in;
  Dim& extent = out[static_cast<std::size_t>(infer_axis(ctx, ctx.attrs().get_int("axis", -1), static_cast<std::int64_t>(in->size())))];
  const auto k = ctx.content(1);
  if (k && k->size() != 1) ctx.fail("K must have one element");
  if (k && k->front().constant()) {
    const std::int64_t wanted = *k->front().constant();
    if (wanted < 0) ctx.fail("K is negative");
    if (const auto there = extent.constant(); there && wanted > *there)
      ctx.fail("K = " + std::to_string(wanted) + " of " + std::to_string(*there) + " elements");
  }
  extent = k && ctx.is_extent(k->front()) ? k->front() : ctx.fresh_symbol();
  ctx.set(0, ctx.dtype(0), out);
  ctx.set(1, DType::kInt64, std::move(out));
}

void topk_reference(RefContext& ctx) {
  const Tensor& in = ctx.input(0);
  const std::int64_t axis = ref_axis(ctx, ctx.attrs().get_int("axis", -1), in.rank());
  const AxisView view = around_axis(in.dims(), axis);
  if (ctx.input(1).size() != 1) ctx.fail("K must have one element");
  const std::int64_t k = ctx.input(1).as_int64(0);
  if (k < 0 || k > view.extent) ctx.fail("K = " + std::to_string(k) + " of " + std::to_string(view.extent) + " elements");
  const bool largest = ctx.attrs().get_int("largest", 1) != 0;
  const auto above = [&](std::int64_t a, std::int64_t b) {
    if (in.dtype() == DType::kUint64) return static_cast<std::uint64_t>(in.as_int64(a)) > static_cast<std::uint64_t>(in.as_int64(b));
    if (is_integer(in.dtype())) return in.as_int64(a) > in.as_int64(b);
    const double x = in.as_double(a), y = in.as_double(b);
    return std::isnan(x) ? !std::isnan(y) : x > y;
  };
  Dims dims = in.dims();
  dims[static_cast<std::size_t>(axis)] = k;
  Tensor values(in.dtype(), dims);
  std::vector<std::int64_t> found(static_cast<std::size_t>(view.outer * k * view.inner));
  std::vector<std::int64_t> order(static_cast<std::size_t>(view.extent));
  for (std::int64_t o = 0; o < view.outer; ++o)
    for (std::int64_t i = 0; i < view.inner; ++i) {
      const auto at = [&](std::int64_t place) { return (o * view.extent + place) * view.inner + i; };
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) { return largest ? above(at(a), at(b)) : above(at(b), at(a)); });
      for (std::int64_t j = 0; j < k; ++j) {
        const std::int64_t place = order[static_cast<std::size_t>(j)], to = (o * k + j) * view.inner + i;
        copy_element(values, to, in, at(place));
        found[static_cast<std::size_t>(to)] = place;
      }
    }
  ctx.set_output(0, std::move(values));
  ctx.set_output(1, from_int64s(DType::kInt64, dims, found));
}

}  // namespace

std::span<const OpDef> ops_topk() {
  constexpr std::string_view kIo = "X:T K:int64 -> Values:T Indices:I", kAttrs = "axis:int=-1 largest:int=1 sorted:int=1";
  static const std::vector<OpDef> ops{
      {.name = "TopK",
       .versions = {{1, "X:T -> Values:T Indices:I", "axis:int=-1 k:int", "T: @float; I: int64"},
                    {10, kIo, "axis:int=-1", "T: @float; I: int64"},
                    {11, kIo, kAttrs, "T: @num; I: int64"},
                    {24, kIo, kAttrs, "T: @num13; I: int64"}},
       .upgrade = topk_upgrade,
       .infer = topk_infer,
       .reference = topk_reference,
       .doc = "the k largest or smallest elements along an axis, and their positions"},
  };
  return ops;
}

}  // namespace lathe::ops
