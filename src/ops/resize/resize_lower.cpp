// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Resize in the region language: nearest, linear and cubic, on any axes, with symbolic extents. Coordinates are exact fractions N / D in
// integer arithmetic, so that positions never depend on the rounding of a float.

#include <algorithm>
#include <array>

#include "loops/builder.h"
#include "ops/lower_util.h"
#include "ops/resize/resize.h"

namespace lathe::ops {
namespace {

using loops::ExprId;
using loops::ExprOp;
using loops::RegionBuilder;

/// scale = p / q of one axis.
struct Scale {
  Dim p, q;
  std::optional<std::int64_t> whole;  ///< when it is an integer
  bool asked = false;                 ///< by `scales`: the output's extent is what is left of in * p / q without its fraction
  bool one() const { return whole == std::int64_t{1}; }
};

std::optional<Scale> scale_of(const Node& node, const ResizeMode& mode, std::size_t axis) {
  const Dim &in = node.input(0)->shape()[axis], &out = node.output()->shape()[axis];
  const Value* scales = node.input(2);
  const bool asked = scales && scales->is_constant() && scales->constant.size() > 0;
  if (in == out && !asked) return Scale{Dim(1), Dim(1), 1};
  if (asked) {
    std::size_t at = axis;
    if (!mode.axes.empty()) {
      const auto rank = static_cast<std::int64_t>(node.input(0)->shape().size());
      const auto found =
          std::find_if(mode.axes.begin(), mode.axes.end(), [&](std::int64_t a) { return (a < 0 ? a + rank : a) == static_cast<std::int64_t>(axis); });
      if (found == mode.axes.end()) return Scale{Dim(1), Dim(1), 1};
      at = static_cast<std::size_t>(found - mode.axes.begin());
    }
    const auto fraction = as_fraction(scales->constant.as_double(static_cast<std::int64_t>(at)));
    if (!fraction) return std::nullopt;
    return Scale{Dim(fraction->first), Dim(fraction->second), fraction->second == 1 ? std::optional(fraction->first) : std::nullopt, true};
  }
  if (mode.aspect != "stretch") return std::nullopt;
  Scale scale{out, in, std::nullopt};
  if (const auto o = out.constant(), i = in.constant(); o && i && *i > 0 && *o % *i == 0) scale.whole = *o / *i;
  return scale;
}

struct Fraction {
  ExprId n, d;
};

ExprId mul(RegionBuilder& r, ExprId a, ExprId b) { return r.binary(ExprOp::kMul, a, b); }
ExprId add(RegionBuilder& r, ExprId a, ExprId b) { return r.binary(ExprOp::kAdd, a, b); }
ExprId sub(RegionBuilder& r, ExprId a, ExprId b) { return r.binary(ExprOp::kSub, a, b); }
ExprId floor_div(RegionBuilder& r, ExprId a, ExprId b) { return r.binary(ExprOp::kFloorDiv, a, b); }
ExprId ceil_div(RegionBuilder& r, ExprId a, ExprId b) { return r.unary(ExprOp::kNeg, floor_div(r, r.unary(ExprOp::kNeg, a), b)); }

/// The input coordinate of output position `at` as a fraction.
Fraction coordinate(RegionBuilder& r, const std::string& mode, ExprId at, const Scale& scale, const Dim& in, const Dim& out) {
  const ExprId p = r.dim(scale.p), q = r.dim(scale.q);
  if (mode == "asymmetric") return {mul(r, at, q), p};
  if (mode == "align_corners") {
    // at * (in - 1) / (in * p / q - 1), and 0 for a single output.
    if (scale.asked) return {mul(r, mul(r, at, sub(r, r.dim(in), r.integer(1))), q), r.binary(ExprOp::kMax, sub(r, mul(r, r.dim(in), p), q), r.integer(1))};
    return {mul(r, at, sub(r, r.dim(in), r.integer(1))), r.binary(ExprOp::kMax, sub(r, r.dim(out), r.integer(1)), r.integer(1))};
  }
  if (mode == "tf_half_pixel_for_nn") return {mul(r, add(r, mul(r, at, r.integer(2)), r.integer(1)), q), mul(r, r.integer(2), p)};
  // (at + 1/2) q / p - 1/2
  const Fraction half{sub(r, mul(r, add(r, mul(r, at, r.integer(2)), r.integer(1)), q), p), mul(r, r.integer(2), p)};
  if (mode == "pytorch_half_pixel") {
    const ExprId single = r.binary(ExprOp::kLessEqual, r.dim(out), r.integer(1));
    return {r.select(single, r.integer(0), half.n), half.d};
  }
  return half;
}

ExprId clamp(RegionBuilder& r, ExprId index, const Dim& in) {
  return r.binary(ExprOp::kMin, r.binary(ExprOp::kMax, index, r.integer(0)), sub(r, r.dim(in), r.integer(1)));
}

ExprId nearest_index(RegionBuilder& r, const ResizeMode& mode, ExprId at, const Scale& scale, const Dim& in, const Dim& out) {
  if (in == out && scale.one()) return at;
  // Whole factors repeat each element: the case that matters, in the form that an emitter sees through.
  const bool rounds = mode.nearest == "round_prefer_floor" || mode.nearest == "round_prefer_ceil";
  if (scale.whole && ((mode.coordinates == "asymmetric" && mode.nearest == "floor") ||
                      ((mode.coordinates == "half_pixel" || mode.coordinates == "pytorch_half_pixel") && rounds)))
    return floor_div(r, at, r.integer(*scale.whole));
  const Fraction x = coordinate(r, mode.coordinates, at, scale, in, out);
  ExprId index = -1;
  if (mode.nearest == "floor") index = floor_div(r, x.n, x.d);
  else if (mode.nearest == "ceil") index = ceil_div(r, x.n, x.d);
  else if (mode.nearest == "round_prefer_ceil") index = floor_div(r, add(r, mul(r, x.n, r.integer(2)), x.d), mul(r, x.d, r.integer(2)));
  else index = ceil_div(r, sub(r, mul(r, x.n, r.integer(2)), x.d), mul(r, x.d, r.integer(2)));
  return clamp(r, index, in);
}

/// Weights of the four neighbours of a point `share` above the second, a cubic convolution with the parameter `a` (Keys 1981).
std::array<ExprId, 4> cubic_weights(RegionBuilder& r, ExprId share, double a, DType type) {
  const auto number = [&](double v) { return r.constant(v, type); };
  const auto near = [&](ExprId x) { return add(r, mul(r, mul(r, sub(r, mul(r, number(a + 2), x), number(a + 3)), x), x), number(1)); };
  const auto far = [&](ExprId x) { return sub(r, mul(r, add(r, mul(r, sub(r, mul(r, number(a), x), number(5 * a)), x), number(8 * a)), x), number(4 * a)); };
  const ExprId rest = sub(r, number(1), share);
  return {far(add(r, share, number(1))), near(share), near(rest), far(add(r, rest, number(1)))};
}

/// Cubic interpolation, one axis after the other: each a stage of four taps.
void lower_cubic(const Node& node, const ResizeMode& mode, const std::vector<Scale>& scales, const std::vector<std::size_t>& moving, RegionBuilder& b) {
  const Value *from = node.input(0), *last = node.output();
  const DType out_type = from->dtype(), type = compute_dtype(out_type);
  if (moving.empty()) b.define(last, [from](RegionBuilder& r, const RegionBuilder::Indices& at) { return r.read(from, at); });
  Shape now = from->shape();
  for (std::size_t i = 0; i < moving.size(); ++i) {
    const std::size_t axis = moving[i];
    const Dim in = now[axis], out = last->shape()[axis];
    now[axis] = out;
    const Value* to = i + 1 == moving.size() ? last : b.temporary("resized", type, now);
    // Places and weights are those of a position along the axis: tables.
    const auto point = [=](RegionBuilder& r, ExprId at) {
      const Fraction c = coordinate(r, mode.coordinates, at, scales[axis], in, out);
      const ExprId low = floor_div(r, c.n, c.d);
      return std::pair(low, r.binary(ExprOp::kDiv, r.cast(sub(r, c.n, mul(r, low, c.d)), type), r.cast(c.d, type)));
    };
    std::array<const Value*, 4> places{}, weights{};
    for (std::size_t tap = 0; tap < 4; ++tap) {
      const auto index = [=](RegionBuilder& r, ExprId low, std::size_t t) { return add(r, low, r.integer(static_cast<std::int64_t>(t) - 1)); };
      places[tap] = b.temporary("place", DType::kInt64, {out});
      weights[tap] = b.temporary("weight", type, {out});
      b.define(places[tap], [=](RegionBuilder& r, const RegionBuilder::Indices& at) { return clamp(r, index(r, point(r, at[0]).first, tap), in); });
      b.define(weights[tap], [=](RegionBuilder& r, const RegionBuilder::Indices& at) {
        const auto [low, share] = point(r, at[0]);
        std::array<ExprId, 4> all = cubic_weights(r, share, mode.cubic_a, type);
        if (!mode.exclude_outside) return all[tap];
        ExprId total = -1;
        for (std::size_t t = 0; t < 4; ++t) {
          const ExprId where = index(r, low, t);
          all[t] = r.select(r.binary(ExprOp::kEqual, where, clamp(r, where, in)), all[t], r.constant(0, type));
          total = t == 0 ? all[t] : add(r, total, all[t]);
        }
        return r.binary(ExprOp::kDiv, all[tap], total);
      });
    }
    b.define(to, [=](RegionBuilder& r, const RegionBuilder::Indices& at) {
      ExprId sum = -1;
      for (std::size_t tap = 0; tap < 4; ++tap) {
        RegionBuilder::Indices where = at;
        where[axis] = r.read(places[tap], {at[axis]});
        const ExprId part = mul(r, r.cast(r.read(from, where), type), r.read(weights[tap], {at[axis]}));
        sum = tap == 0 ? part : add(r, sum, part);
      }
      return r.cast(sum, to == last ? out_type : type);
    });
    from = to;
  }
}

}  // namespace

bool resize_lower(const Node& node, RegionBuilder& b) {
  const Value* x = node.input(0);
  if (!can_lower_real(x, b)) return false;
  const ResizeMode mode = read_resize_mode(node.attrs);
  const auto decline = [&](const char* why) {
    b.decline(why);
    return false;
  };
  const bool cubic = mode.kind == ResizeMode::Kind::kCubic;
  if (mode.antialias) return decline("antialiasing is left to the reference");
  if (mode.coordinates == "tf_crop_and_resize" || mode.coordinates == "half_pixel_symmetric") return decline("this coordinate mode is left to the reference");
  if (mode.exclude_outside && !cubic) return decline("exclude_outside is left to the reference");
  if (!node.output()->has_shape()) return decline("the output's shape is not known");
  // The extents round a scale's fraction away, which moves the coordinates.
  const Value* scales_input = node.input(2);
  if (scales_input && !scales_input->is_constant() && !(scales_input->has_shape() && scales_input->shape().size() == 1 && scales_input->shape()[0] == Dim(0)))
    return decline("only a run tells the scales");
  const Shape in = x->shape(), out = node.output()->shape();
  std::vector<Scale> scales;
  std::vector<std::size_t> moving;
  for (std::size_t axis = 0; axis < in.size(); ++axis) {
    const auto scale = scale_of(node, mode, axis);
    if (!scale) return decline("a scale is no small fraction");
    scales.push_back(*scale);
    if (!(in[axis] == out[axis]) || !scale->one()) moving.push_back(axis);
  }
  const DType out_type = x->dtype(), type = compute_dtype(out_type);
  if (cubic) {
    if (!is_float(out_type)) return decline("cubic interpolation of integers");
    lower_cubic(node, mode, scales, moving, b);
    return true;
  }
  if (mode.kind == ResizeMode::Kind::kNearest) {
    b.define(node.output(), [=](RegionBuilder& r, const RegionBuilder::Indices& at) {
      RegionBuilder::Indices index;
      for (std::size_t axis = 0; axis < in.size(); ++axis) index.push_back(nearest_index(r, mode, at[axis], scales[axis], in[axis], out[axis]));
      return r.read(x, index);
    });
    return true;
  }
  if (moving.size() > 3) return decline("linear interpolation over more than three axes");
  if (!is_float(out_type)) return decline("linear interpolation of integers");
  b.define(node.output(), [=](RegionBuilder& r, const RegionBuilder::Indices& at) {
    // Both neighbours and the share of the upper one, per moving axis.
    std::vector<std::array<ExprId, 2>> neighbours;
    std::vector<ExprId> shares;
    for (const std::size_t axis : moving) {
      const Fraction c = coordinate(r, mode.coordinates, at[axis], scales[axis], in[axis], out[axis]);
      // Clamped to [0, (in - 1)] before the neighbours are taken.
      const ExprId last = sub(r, r.dim(in[axis]), r.integer(1));
      const ExprId n = r.binary(ExprOp::kMin, r.binary(ExprOp::kMax, c.n, r.integer(0)), mul(r, last, c.d));
      const ExprId low = floor_div(r, n, c.d);
      neighbours.push_back({low, r.binary(ExprOp::kMin, add(r, low, r.integer(1)), last)});
      shares.push_back(r.binary(ExprOp::kDiv, r.cast(sub(r, n, mul(r, low, c.d)), type), r.cast(c.d, type)));
    }
    const auto read = [&](std::size_t corner) {
      RegionBuilder::Indices index = at;
      for (std::size_t i = 0; i < moving.size(); ++i) index[moving[i]] = neighbours[i][corner >> i & 1];
      return r.cast(r.read(x, index), type);
    };
    std::vector<ExprId> values;
    for (std::size_t corner = 0; corner < (std::size_t{1} << moving.size()); ++corner) values.push_back(read(corner));
    for (std::size_t i = 0; i < moving.size(); ++i) {
      std::vector<ExprId> next;
      for (std::size_t k = 0; k + 1 < values.size(); k += 2) next.push_back(add(r, values[k], mul(r, sub(r, values[k + 1], values[k]), shares[i])));
      values = std::move(next);
    }
    return r.cast(values.front(), out_type);
  });
  return true;
}

}  // namespace lathe::ops
