// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Resizes that the region language does not hold (antialiasing, scales that are no small fraction, ...) as sums with constant weights at
// constant places, axis by axis, where the extents are known:
//
//   y[.., o, ..] = sum over t of weight[o, t] x[.., place[o, t], ..]   ->   ReduceSum(Mul(Gather(x, place), weight))
#include "lathe/status.h"
#include "loops/builder.h"
#include "ops/expand_util.h"
#include "ops/lower_util.h"
#include "ops/resize/resize.h"

namespace lathe::ops {
namespace {

constexpr std::int64_t kMostTaps = std::int64_t{1} << 20;  // of an axis

/// An axis as it is resized.
struct Places {
  std::int64_t axis = 0, taps = 0, out = 0;  ///< `taps` for each of `out` positions
  std::vector<std::int64_t> places;
  std::vector<double> weights;
};

Places places_of(const ResizeMode& mode, std::int64_t axis, double scale, std::int64_t in, std::int64_t out) {
  Places p{axis, 0, out, {}, {}};
  const double reach = mode.antialias ? 4 / std::min(scale, 1.0) + 2 : 4;
  if (!(reach * static_cast<double>(out) <= static_cast<double>(kMostTaps))) return p;
  for (std::int64_t o = 0; o < out; ++o) {
    const Position position = position_of(mode, o, scale, in, out, 0, 1);
    p.taps = static_cast<std::int64_t>(position.taps.size());
    for (const Tap& tap : position.taps) {
      p.places.push_back(tap.index);
      p.weights.push_back(tap.weight);
    }
  }
  return p;
}

/// The axes that change; nullopt where this is not known or another way serves.
std::optional<std::vector<Places>> plan_of(const Node& node) {
  const Value *x = node.input(0), *scales = node.input(2), *sizes = node.input(3);
  if (!rank_of(x) || !is_float(x->dtype()) || dtype_bits(x->dtype()) < 16 || (scales && !scales->is_constant()) || (sizes && !sizes->is_constant()))
    return std::nullopt;
  const ResizeMode mode = read_resize_mode(node.attrs);
  if (mode.kind == ResizeMode::Kind::kNearest || mode.coordinates == "tf_crop_and_resize") return std::nullopt;
  // Extents of axes that stay may be open; a size is asked of an extent that is known.
  Dims in;
  std::vector<bool> open, sized(x->shape().size(), false);
  for (const Dim& dim : x->shape()) {
    open.push_back(!dim.constant());
    in.push_back(dim.constant().value_or(1));
  }
  if (sizes && sizes->constant.size() > 0)
    for (const std::int64_t axis : resized_axes(mode, in.size())) sized[static_cast<std::size_t>(axis)] = true;
  const ResizeTargets t = resize_targets(mode, in, scales ? scales->constant : Tensor(), sizes ? sizes->constant : Tensor());
  std::vector<Places> plan;
  for (std::size_t a = 0; a < in.size(); ++a) {
    if (t.out[a] == in[a] && t.scales[a] == 1.0 && !(open[a] && sized[a])) continue;
    if (open[a] || in[a] < 1 || t.out[a] < 1 || t.out[a] > kMostTaps) return std::nullopt;
    plan.push_back(places_of(mode, static_cast<std::int64_t>(a), t.scales[a], in[a], t.out[a]));
    if (plan.back().places.empty()) return std::nullopt;  // too many
  }
  if (plan.empty()) return std::nullopt;
  loops::RegionBuilder builder;
  if (resize_lower(node, builder)) return std::nullopt;
  return plan;
}

}  // namespace

bool resize_expand(ExpandContext& ctx) {
  std::optional<std::vector<Places>> plan;
  try {
    plan = plan_of(ctx.node);
  } catch (const Error&) {  // the shape rule says what is wrong
    return false;
  }
  if (!plan) return false;
  const DType dtype = ctx.node.input(0)->dtype(), type = compute_dtype(dtype);
  const std::size_t rank = ctx.node.input(0)->shape().size();
  Parts p(ctx);
  Value* x = p.as(ctx.node.input(0), dtype, type);
  for (const Places& axis : *plan) {
    Dims dims(rank + 1 - static_cast<std::size_t>(axis.axis), 1);
    dims[0] = axis.out;
    dims[1] = axis.taps;
    Tensor weights(type, dims);
    for (std::size_t i = 0; i < axis.weights.size(); ++i) weights.set_from_double(static_cast<std::int64_t>(i), axis.weights[i]);
    Value* places = ctx.constant("places", Tensor::from<std::int64_t>(DType::kInt64, {axis.out, axis.taps}, axis.places));
    x = p.times(p.gather(x, places, axis.axis), ctx.constant("weights", std::move(weights)));
    x = ctx.add("ReduceSum", {x, p.ints({axis.axis + 1})}, attrs_of({{"keepdims", 0}}));
  }
  ctx.replace(0, p.as(x, type, dtype));
  return true;
}

}  // namespace lathe::ops
