// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// CropAndResize: boxes of feature maps, brought to one size by sampling at regular points from corner to corner.
//
//   y(i) = y1 (H - 1) + i (y2 - y1) (H - 1) / (height - 1), or the middle for a height of 1; points outside the map give a fixed value
#include <cmath>

#include "ops/contrib_misc/contrib_misc.h"
#include "ops/lower_util.h"
#include "ops/ref_util.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

void crop_infer(InferContext& ctx) {
  const auto &x = ctx.shape(0), &rois = ctx.shape(1);
  if (x && x->size() != 4) ctx.fail("takes feature maps of rank 4, got " + ir::to_string(*x));
  if (rois && (rois->size() != 2 || (*rois)[1].constant().value_or(4) != 4)) ctx.fail("rois " + ir::to_string(*rois) + " are not [regions, 4]");
  const std::string mode = ctx.attrs().get_string("mode", "bilinear");
  if (mode != "bilinear" && mode != "nearest") ctx.fail("the mode '" + mode + "' is neither bilinear nor nearest");
  const auto size = ctx.content(3);
  if (size && size->size() != 2) ctx.fail("crop_size has " + std::to_string(size->size()) + " elements, not 2");
  const Dim height = extent_of(ctx, size, 0), width = extent_of(ctx, size, 1);
  ctx.set(0, ctx.dtype(0), {rois ? (*rois)[0] : ctx.fresh_symbol(), x ? (*x)[1] : ctx.fresh_symbol(), height, width});
}

/// Sample positions along one axis of a map, with the rounding of the boxes' type: where points fall between two pixels, it decides.
template <class T>
std::vector<double> positions(double from, double to, std::int64_t extent, std::int64_t count) {
  const T first = static_cast<T>(from), end = static_cast<T>(to), last = static_cast<T>(extent - 1);
  const T step = count > 1 ? (end - first) * last / static_cast<T>(count - 1) : T(0);
  std::vector<double> at;
  for (std::int64_t i = 0; i < count; ++i)
    at.push_back(static_cast<double>(count > 1 ? first * last + static_cast<T>(i) * step : static_cast<T>(0.5) * (first + end) * last));
  return at;
}

void crop_reference(RefContext& ctx) {
  const Tensor &x = ctx.input(0), &rois = ctx.input(1), &images = ctx.input(2), &size = ctx.input(3);
  if (x.rank() != 4 || rois.rank() != 2 || rois.dims()[1] != 4 || images.size() != rois.dims()[0] || size.size() != 2)
    ctx.fail("inputs " + lathe::to_string(x.dims()) + ", " + lathe::to_string(rois.dims()) + ", " + lathe::to_string(images.dims()) + " and " +
             lathe::to_string(size.dims()) + " do not fit");
  const std::int64_t count = rois.dims()[0], channels = x.dims()[1], rows = x.dims()[2], columns = x.dims()[3];
  const std::int64_t height = size.as_int64(0), width = size.as_int64(1);
  if (height < 1 || width < 1) ctx.fail("crop_size is " + std::to_string(height) + " times " + std::to_string(width));
  const bool nearest = ctx.attrs().get_string("mode", "bilinear") == "nearest";
  const auto outside = static_cast<double>(ctx.attrs().get_float("extrapolation_value", 0));
  const auto map = to_doubles(x);
  std::vector<double> result(static_cast<std::size_t>(element_count({count, channels, height, width})), outside);
  for (std::int64_t r = 0; r < count; ++r) {
    const std::int64_t image = images.as_int64(r);
    if (image < 0 || image >= x.dims()[0]) ctx.fail("batch index " + std::to_string(image) + " of " + std::to_string(x.dims()[0]));
    const auto points = rois.dtype() == DType::kFloat64 ? positions<double> : positions<float>;
    const auto ys = points(rois.as_double(r * 4), rois.as_double(r * 4 + 2), rows, height);
    const auto xs = points(rois.as_double(r * 4 + 1), rois.as_double(r * 4 + 3), columns, width);
    for (std::int64_t i = 0; i < height; ++i)
      for (std::int64_t j = 0; j < width; ++j) {
        const double py = ys[static_cast<std::size_t>(i)], px = xs[static_cast<std::size_t>(j)];
        if (!(py >= 0 && py <= static_cast<double>(rows - 1) && px >= 0 && px <= static_cast<double>(columns - 1))) continue;
        const double top = nearest ? std::round(py) : std::floor(py), left = nearest ? std::round(px) : std::floor(px);
        const double down = nearest ? top : std::ceil(py), right = nearest ? left : std::ceil(px), dy = nearest ? 0 : py - top, dx = nearest ? 0 : px - left;
        for (std::int64_t c = 0; c < channels; ++c) {
          const auto pixel = [&](double a, double b) {
            return map[static_cast<std::size_t>(((image * channels + c) * rows + static_cast<std::int64_t>(a)) * columns + static_cast<std::int64_t>(b))];
          };
          const double above = pixel(top, left) * (1 - dx) + pixel(top, right) * dx, below = pixel(down, left) * (1 - dx) + pixel(down, right) * dx;
          result[static_cast<std::size_t>(((r * channels + c) * height + i) * width + j)] = above * (1 - dy) + below * dy;
        }
      }
  }
  ctx.set_output(0, from_doubles(x.dtype(), {count, channels, height, width}, result));
}

using loops::ExprId;
using loops::ExprOp;
using loops::RegionBuilder;
using Indices = RegionBuilder::Indices;

/// The reference's positions() as a temporary [regions, count] of doubles, each step rounded as the boxes' type rounds it.
const Value* lower_positions(RegionBuilder& builder, const Value* rois, const Dim& extent, std::int64_t count, bool vertical) {
  const bool wide = rois->dtype() == DType::kFloat64;
  const Value* place = builder.temporary(vertical ? "rows" : "columns", DType::kFloat64, {rois->shape()[0], Dim(count)});
  builder.define(place, [=](RegionBuilder& b, const Indices& at) {
    const auto rounded = [&](ExprId e) { return wide ? e : b.cast(b.cast(e, DType::kFloat32), DType::kFloat64); };
    const auto op = [&](ExprOp o, ExprId l, ExprId r) { return rounded(b.binary(o, l, r)); };
    const auto number = [&](double v) { return b.constant(v, DType::kFloat64); };
    const auto corner = [&](std::int64_t column) { return b.cast(b.read(rois, {at[0], b.integer(column)}), DType::kFloat64); };
    const ExprId first = corner(vertical ? 0 : 1), end = corner(vertical ? 2 : 3);
    const ExprId last = rounded(b.cast(b.dim(extent - Dim(1)), DType::kFloat64));
    if (count == 1) return op(ExprOp::kMul, op(ExprOp::kMul, number(0.5), op(ExprOp::kAdd, first, end)), last);
    const ExprId step = op(ExprOp::kDiv, op(ExprOp::kMul, op(ExprOp::kSub, end, first), last), number(static_cast<double>(count - 1)));
    return op(ExprOp::kAdd, op(ExprOp::kMul, first, last), op(ExprOp::kMul, b.cast(at[1], DType::kFloat64), step));
  });
  return place;
}

/// A box of an image that is not there, an error in the reference, reads zeros.
bool crop_lower(const Node& node, RegionBuilder& builder) {
  const Value *x = node.input(0), *rois = node.input(1), *images = node.input(2), *out = node.output();
  for (const Value* input : {x, rois, images})
    if (!can_lower_real(input, builder)) return false;
  const auto height = out->has_shape() && out->shape().size() == 4 ? out->shape()[2].constant() : std::nullopt;
  const auto width = height ? out->shape()[3].constant() : std::nullopt;
  if (!width || *height < 1 || *width < 1 || x->shape().size() != 4 || rois->shape().size() != 2 || rois->shape()[1] != Dim(4) || images->shape().size() != 1) {
    builder.decline("shapes that do not fit or are known at run time only");
    return false;
  }
  const Dim rows = x->shape()[2], columns = x->shape()[3];
  const Value *ys = lower_positions(builder, rois, rows, *height, true), *xs = lower_positions(builder, rois, columns, *width, false);
  const bool nearest = node.attrs.get_string("mode", "bilinear") == "nearest";
  const double outside = static_cast<double>(node.attrs.get_float("extrapolation_value", 0));
  const DType type = compute_dtype(x->dtype());
  builder.define(out, [=](RegionBuilder& b, const Indices& at) {
    b.require_equal(images, images->shape()[0], rois->shape()[0]);
    const auto number = [&](double v) { return b.constant(v, DType::kFloat64); };
    const auto both = [&](ExprId l, ExprId r) { return b.binary(ExprOp::kAnd, l, r); };
    const auto within = [&](ExprId p, const Dim& extent) {
      return both(b.binary(ExprOp::kGreaterEqual, p, number(0)), b.binary(ExprOp::kLessEqual, p, b.cast(b.dim(extent - Dim(1)), DType::kFloat64)));
    };
    const ExprId py = b.read(ys, {at[0], at[2]}), px = b.read(xs, {at[0], at[3]}), inside = both(within(py, rows), within(px, columns));
    const ExprId image = b.cast(b.read(images, {at[0]}), DType::kInt64);
    struct Neighbours {
      ExprId low, high, share;
    };
    const auto neighbours = [&](ExprId p) {
      p = b.select(inside, p, number(0));
      const ExprId low = b.unary(ExprOp::kFloor, nearest ? b.binary(ExprOp::kAdd, p, number(0.5)) : p);
      return Neighbours{b.cast(low, DType::kInt64), b.cast(b.unary(ExprOp::kCeil, p), DType::kInt64), b.cast(b.binary(ExprOp::kSub, p, low), type)};
    };
    const Neighbours y = neighbours(py), z = neighbours(px);
    const auto pixel = [&](ExprId row, ExprId column) { return b.cast(b.read_or(x, {image, at[1], row, column}, b.constant(0, x->dtype())), type); };
    const auto between = [&](ExprId low, ExprId high, ExprId share) {
      const ExprId rest = b.binary(ExprOp::kSub, b.constant(1, type), share);
      return b.binary(ExprOp::kAdd, b.binary(ExprOp::kMul, low, rest), b.binary(ExprOp::kMul, high, share));
    };
    const ExprId value =
        nearest ? pixel(y.low, z.low)
                : between(between(pixel(y.low, z.low), pixel(y.low, z.high), z.share), between(pixel(y.high, z.low), pixel(y.high, z.high), z.share), y.share);
    return b.cast(b.select(inside, value, b.constant(outside, type)), x->dtype());
  });
  return true;
}

}  // namespace

std::vector<OpDef> crop_ops() {
  return {
      {.domain = "com.microsoft",
       .name = "CropAndResize",
       .versions = {{1, "X:T1 rois:T1 batch_indices:T2 crop_size:T2 -> Y:T1", "extrapolation_value:float=0 mode:string=bilinear", "T1: @float; T2: int32"}},
       .infer = crop_infer,
       .reference = crop_reference,
       .tolerance = {.relative = 1e-5, .absolute = 1e-5},
       .lower = crop_lower,
       .doc = "boxes of feature maps, resized to one size"},
  };
}

}  // namespace lathe::ops
