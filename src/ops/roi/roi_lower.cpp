// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// RoiAlign and MaxRoiPool in the region language. Places are computed in double precision, like the reference's, into small temporaries per
// region and bin; a region of an image that is not there, an error in the reference, reads zeros.
#include "ops/roi/roi.h"

#include <array>
#include <limits>

#include "loops/builder.h"
#include "ops/lower_util.h"

namespace lathe::ops {
namespace {

using loops::ExprId;
using loops::ExprOp;
using loops::Reduce;
using loops::RegionBuilder;
using Indices = RegionBuilder::Indices;

/// Samples of a bin along one axis, and a map that MaxRoiPool would look through for every bin.
constexpr std::int64_t kMostSamples = 16, kMostPixels = 1024;

ExprId real(RegionBuilder& b, double value) { return b.constant(value, DType::kFloat64); }
ExprId add(RegionBuilder& b, ExprId l, ExprId r) { return b.binary(ExprOp::kAdd, l, r); }
ExprId sub(RegionBuilder& b, ExprId l, ExprId r) { return b.binary(ExprOp::kSub, l, r); }
ExprId mul(RegionBuilder& b, ExprId l, ExprId r) { return b.binary(ExprOp::kMul, l, r); }
ExprId clamp(RegionBuilder& b, ExprId v, ExprId low, ExprId high) { return b.binary(ExprOp::kMin, b.binary(ExprOp::kMax, v, low), high); }

/// The element of the region's row in `rois`, times the scale.
ExprId box(RegionBuilder& b, const Value* rois, ExprId region, std::int64_t column, double scale) {
  return mul(b, b.cast(b.read(rois, {region, b.integer(column)}), DType::kFloat64), real(b, scale));
}

bool can_pool(const Node& node, RegionBuilder& builder, std::int64_t columns) {
  const Value *x = node.input(0), *rois = node.input(1);
  if (!can_lower_real(x, builder) || !can_lower_real(rois, builder)) return false;
  if (is_float(x->dtype()) && is_float(rois->dtype()) && x->shape().size() == 4 && rois->shape().size() == 2 && rois->shape()[1] == Dim(columns)) return true;
  builder.decline("shapes that do not fit, or no floating numbers");
  return false;
}

/// The two pixels of each sample along one axis and their weights: temporaries [regions, bins, samples]. Weights of 0 outside the map.
struct Samples {
  std::array<const Value*, 2> pixel, weight;
};

struct Alignment {
  double scale = 1;
  bool half_pixel = true;
  std::int64_t ratio = 1;
  DType type = DType::kFloat32;
};

Samples lower_samples(RegionBuilder& builder, const Value* rois, const Alignment& how, std::int64_t bins, const Dim& extent, bool vertical) {
  const Shape shape{rois->shape()[0], Dim(bins), Dim(how.ratio)};
  const auto place = [=](RegionBuilder& b, const Indices& at) {
    const double shift = how.half_pixel ? 0.5 : 0;
    const ExprId first = sub(b, box(b, rois, at[0], vertical ? 1 : 0, how.scale), real(b, shift));
    ExprId length = sub(b, sub(b, box(b, rois, at[0], vertical ? 3 : 2, how.scale), real(b, shift)), first);
    if (!how.half_pixel) length = b.binary(ExprOp::kMax, length, real(b, 1));
    const ExprId bin = b.binary(ExprOp::kDiv, length, real(b, static_cast<double>(bins)));
    const ExprId within = b.binary(ExprOp::kDiv, add(b, b.cast(at[2], DType::kFloat64), real(b, 0.5)), real(b, static_cast<double>(how.ratio)));
    return add(b, first, mul(b, add(b, b.cast(at[1], DType::kFloat64), within), bin));
  };
  // False for NaN as well.
  const auto inside = [=](RegionBuilder& b, ExprId at) {
    return b.binary(ExprOp::kAnd, b.binary(ExprOp::kGreaterEqual, at, real(b, -1)), b.binary(ExprOp::kLessEqual, at, b.cast(b.dim(extent), DType::kFloat64)));
  };
  const auto last = [=](RegionBuilder& b) { return b.binary(ExprOp::kMax, sub(b, b.dim(extent), b.integer(1)), b.integer(0)); };
  const auto clamped = [=](RegionBuilder& b, ExprId at) { return b.binary(ExprOp::kMax, b.select(inside(b, at), at, real(b, 0)), real(b, 0)); };
  const auto low = [=](RegionBuilder& b, ExprId at) { return b.binary(ExprOp::kMin, b.cast(clamped(b, at), DType::kInt64), last(b)); };
  const char* axis = vertical ? "y" : "x";
  Samples s;
  for (std::size_t k = 0; k < 2; ++k) {
    s.pixel[k] = builder.temporary(std::string(axis) + (k ? "_high" : "_low"), DType::kInt64, shape);
    builder.define(s.pixel[k], [=](RegionBuilder& b, const Indices& at) {
      const ExprId first = low(b, place(b, at));
      return k ? b.binary(ExprOp::kMin, add(b, first, b.integer(1)), last(b)) : first;
    });
    s.weight[k] = builder.temporary(std::string(axis) + (k ? "_high_weight" : "_low_weight"), how.type, shape);
    builder.define(s.weight[k], [=](RegionBuilder& b, const Indices& at) {
      const ExprId where = place(b, at), first = low(b, where);
      const ExprId beyond = b.binary(ExprOp::kGreaterEqual, first, last(b));
      const ExprId share = b.select(beyond, real(b, 0), sub(b, clamped(b, where), b.cast(first, DType::kFloat64)));
      return b.cast(b.select(inside(b, where), k ? share : sub(b, real(b, 1), share), real(b, 0)), how.type);
    });
  }
  return s;
}

}  // namespace

bool roi_align_lower(const Node& node, RegionBuilder& builder) {
  const Value *x = node.input(0), *rois = node.input(1), *batch = node.input(2);
  if (!can_pool(node, builder, 4) || !can_lower_real(batch, builder)) return false;
  if (batch->shape().size() != 1) {
    builder.decline("batch indices of another rank");
    return false;
  }
  Alignment how;
  how.scale = static_cast<double>(node.attrs.get_float("spatial_scale", 1));
  how.half_pixel = node.attrs.get_string("coordinate_transformation_mode", "half_pixel") == "half_pixel";
  how.ratio = node.attrs.get_int("sampling_ratio", 0);
  how.type = compute_dtype(x->dtype());
  if (how.ratio < 1 || how.ratio > kMostSamples) {
    builder.decline("a number of samples that hangs on the boxes, or many");
    return false;
  }
  const bool average = node.attrs.get_string("mode", "avg") == "avg";
  const Samples rows = lower_samples(builder, rois, how, node.attrs.get_int("output_height", 1), x->shape()[2], true),
                columns = lower_samples(builder, rois, how, node.attrs.get_int("output_width", 1), x->shape()[3], false);
  const Value* pooled = builder.temporary(average ? "samples_sum" : "samples_max", how.type, node.output()->shape());
  const auto sample = [=](RegionBuilder& b, const Indices& at, const Indices& which) {
    b.require_equal(batch, batch->shape()[0], rois->shape()[0]);
    const ExprId image = b.cast(b.read(batch, {at[0]}), DType::kInt64);
    ExprId result = -1;
    for (std::size_t k = 0; k < 4; ++k) {
      const Indices down{at[0], at[2], which[0]}, across{at[0], at[3], which[1]};
      const ExprId weight = mul(b, b.read(rows.weight[k / 2], down), b.read(columns.weight[k % 2], across));
      const ExprId pixel = b.read_or(x, {image, at[1], b.read(rows.pixel[k / 2], down), b.read(columns.pixel[k % 2], across)}, b.constant(0, x->dtype()));
      const ExprId part = mul(b, weight, b.cast(pixel, how.type));
      result = k == 0 ? part : b.binary(average ? ExprOp::kAdd : ExprOp::kMax, result, part);
    }
    return result;
  };
  builder.define_reduction(pooled, average ? Reduce::kSum : Reduce::kMax, {Dim(how.ratio), Dim(how.ratio)}, sample, how.type);
  builder.define(node.output(), [=](RegionBuilder& b, const Indices& at) {
    const ExprId all = b.read(pooled, at);
    const double count = static_cast<double>(how.ratio * how.ratio);
    return b.cast(average ? b.binary(ExprOp::kDiv, all, b.constant(count, how.type)) : all, x->dtype());
  });
  return true;
}

bool max_roi_lower(const Node& node, RegionBuilder& builder) {
  const Value *x = node.input(0), *rois = node.input(1);
  if (!can_pool(node, builder, 5)) return false;
  const auto pooled = node.attrs.get_ints("pooled_shape");
  const auto height = x->shape()[2].constant(), width = x->shape()[3].constant();
  if (pooled.size() != 2 || !height || !width || *height > kMostPixels || *width > kMostPixels || *height * *width > kMostPixels) {
    builder.decline("a feature map that may be large");
    return false;
  }
  const double scale = static_cast<double>(node.attrs.get_float("spatial_scale", 1));
  // Bounds of the bins along one axis, [regions, bins]: the first pixel, and the first behind.
  const auto bounds = [&](bool vertical) {
    const std::int64_t bins = pooled[vertical ? 0 : 1], extent = vertical ? *height : *width;
    std::array<const Value*, 2> result;
    for (const bool behind : {false, true}) {
      const Value* bound = builder.temporary(std::string(vertical ? "y" : "x") + (behind ? "_behind" : "_first"), DType::kInt64, {rois->shape()[0], Dim(bins)});
      builder.define(bound, [=](RegionBuilder& b, const Indices& at) {
        const auto pixel = [&](std::int64_t column) {  // rounded half away from zero
          const ExprId v = box(b, rois, at[0], column, scale), zero = real(b, 0);
          const ExprId size = b.unary(ExprOp::kFloor, add(b, b.unary(ExprOp::kAbs, v), real(b, 0.5)));
          const ExprId rounded = b.select(b.binary(ExprOp::kLess, v, zero), b.unary(ExprOp::kNeg, size), size);
          return b.cast(clamp(b, b.select(b.unary(ExprOp::kIsNan, rounded), real(b, -1e9), rounded), real(b, -1e9), real(b, 1e9)), DType::kInt64);
        };
        const ExprId first = pixel(vertical ? 2 : 1), last = pixel(vertical ? 4 : 3);
        const ExprId length = b.binary(ExprOp::kMax, add(b, sub(b, last, first), b.integer(1)), b.integer(1));
        const ExprId bin = b.binary(ExprOp::kDiv, b.cast(length, DType::kFloat64), real(b, static_cast<double>(bins)));
        const ExprId which = behind ? add(b, at[1], b.integer(1)) : at[1];
        const ExprId edge = b.unary(behind ? ExprOp::kCeil : ExprOp::kFloor, mul(b, b.cast(which, DType::kFloat64), bin));
        return clamp(b, add(b, b.cast(edge, DType::kInt64), first), b.integer(0), b.integer(extent));
      });
      result[behind] = bound;
    }
    return result;
  };
  const auto y = bounds(true), across = bounds(false);
  const DType type = compute_dtype(x->dtype());
  const Dim regions = rois->shape()[0], channels = x->shape()[1];
  const auto nothing = [type](RegionBuilder& b) { return b.constant(-std::numeric_limits<double>::infinity(), type); };
  const auto within = [](RegionBuilder& b, ExprId at, ExprId first, ExprId behind) {
    return b.binary(ExprOp::kAnd, b.binary(ExprOp::kGreaterEqual, at, first), b.binary(ExprOp::kLess, at, behind));
  };
  // The largest pixels of each column of a bin's rows, then of its columns.
  const Value *down = builder.temporary("rows_max", type, {regions, channels, Dim(pooled[0]), Dim(*width)}),
              *best = builder.temporary("bin_max", type, node.output()->shape());
  const auto pixel = [=](RegionBuilder& b, const Indices& at, const Indices& row) {
    const ExprId image = b.cast(b.read(rois, {at[0], b.integer(0)}), DType::kInt64);
    const ExprId value = b.cast(b.read_or(x, {image, at[1], row[0], at[3]}, b.constant(0, x->dtype())), type);
    return b.select(within(b, row[0], b.read(y[0], {at[0], at[2]}), b.read(y[1], {at[0], at[2]})), value, nothing(b));
  };
  builder.define_reduction(down, Reduce::kMax, {Dim(*height)}, pixel, type);
  const auto column = [=](RegionBuilder& b, const Indices& at, const Indices& which) {
    const ExprId value = b.read(down, {at[0], at[1], at[2], which[0]});
    return b.select(within(b, which[0], b.read(across[0], {at[0], at[3]}), b.read(across[1], {at[0], at[3]})), value, nothing(b));
  };
  builder.define_reduction(best, Reduce::kMax, {Dim(*width)}, column, type);
  builder.define(node.output(), [=](RegionBuilder& b, const Indices& at) {
    const auto some = [&](const std::array<const Value*, 2>& bound, ExprId bin) {
      return b.binary(ExprOp::kLess, b.read(bound[0], {at[0], bin}), b.read(bound[1], {at[0], bin}));
    };
    const ExprId any = b.binary(ExprOp::kAnd, some(y, at[2]), some(across, at[3]));
    return b.cast(b.select(any, b.read(best, at), b.constant(0, type)), x->dtype());
  });
  return true;
}

}  // namespace lathe::ops
