// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Resizes that the region language does not hold (antialiasing, scales that are no small fraction, ...), and cubic ones of small images, as
// sums with constant weights, axis by axis, where the extents are known:
//
//   the last two axes, while the matrix is small   ->   MatMul(x, weights), the last but one turned round
//   y[.., o, ..] = sum over t of weight[o, t] x[.., place[o, t], ..]   ->   ReduceSum(Mul(Gather(x, place), weight))
#include <algorithm>
#include <numeric>

#include "lathe/status.h"
#include "loops/builder.h"
#include "ops/expand_util.h"
#include "ops/lower_util.h"
#include "ops/resize/resize.h"

namespace lathe::ops {
namespace {

constexpr std::int64_t kMostTaps = std::int64_t{1} << 20;  // of an axis
// Of a matrix; and input extents up to which it is no more work than four taps are.
constexpr std::int64_t kMostElements = std::int64_t{1} << 20, kShortAxis = 512;

/// An axis as it is resized.
struct Places {
  std::int64_t axis = 0, taps = 0, in = 0, out = 0;  ///< `taps` for each of `out` positions
  std::vector<std::int64_t> places;
  std::vector<double> weights;
};

Places places_of(const ResizeMode& mode, std::int64_t axis, double scale, std::int64_t in, std::int64_t out) {
  Places p{axis, 0, in, out, {}, {}};
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

bool is_matrix(const Places& p, std::size_t rank) { return p.axis + 2 >= static_cast<std::int64_t>(rank) && rank >= 2 && p.in <= kMostElements / p.out; }

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
  const auto is_short = [&](const Places& p) { return p.in <= kShortAxis && is_matrix(p, in.size()); };
  if (mode.kind == ResizeMode::Kind::kCubic && std::all_of(plan.begin(), plan.end(), is_short)) return plan;
  loops::RegionBuilder builder;
  if (resize_lower(node, builder)) return std::nullopt;
  return plan;
}

/// x along its last axis.
Value* product(Parts& p, Value* x, const Places& axis) {
  Tensor weights(DType::kFloat32, {axis.in, axis.out});
  const auto to = weights.mutable_data<float>();
  for (std::int64_t o = 0; o < axis.out; ++o)
    for (std::int64_t t = 0; t < axis.taps; ++t) {
      const auto at = static_cast<std::size_t>(o * axis.taps + t);
      to[static_cast<std::size_t>(axis.places[at] * axis.out + o)] += static_cast<float>(axis.weights[at]);
    }
  return p.binary("MatMul", x, p.ctx.constant("weights", std::move(weights)));
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
  std::vector<std::int64_t> turned(rank);
  std::iota(turned.begin(), turned.end(), 0);
  if (rank > 1) std::swap(turned[rank - 2], turned[rank - 1]);
  // The last axis first: what is turned round is smaller then, as a rule.
  for (auto next = plan->rbegin(); next != plan->rend(); ++next) {
    const Places& axis = *next;
    if (type == DType::kFloat32 && is_matrix(axis, rank)) {
      const bool last = axis.axis + 1 == static_cast<std::int64_t>(rank);
      x = last ? product(p, x, axis) : p.transpose(product(p, p.transpose(x, turned), axis), turned);
      continue;
    }
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
