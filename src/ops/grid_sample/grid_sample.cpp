// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// GridSample: an image sampled at positions that a grid gives, each in [-1, 1] from border to border.
#include <algorithm>
#include <array>
#include <optional>

#include "loops/builder.h"
#include "ops/grid_sample/sample_coordinates.h"
#include "ops/ref_util.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {

std::vector<OpDef> affine_grid_ops();  // affine_grid.cpp

Sampling sampling_of(const ir::Attrs& attrs, std::string& defect) {
  Sampling s;
  const std::string mode = attrs.get_string("mode", "linear"), padding = attrs.get_string("padding_mode", "zeros");
  if (mode == "nearest") s.mode = SampleMode::kNearest;
  else if (mode == "linear" || mode == "bilinear") s.mode = SampleMode::kLinear;
  else if (mode == "cubic" || mode == "bicubic") s.mode = SampleMode::kCubic;
  else defect = "the mode '" + mode + "' is none of nearest, linear, cubic";
  if (padding == "zeros") s.padding = SamplePadding::kZeros;
  else if (padding == "border") s.padding = SamplePadding::kBorder;
  else if (padding == "reflection") s.padding = SamplePadding::kReflection;
  else defect = "the padding_mode '" + padding + "' is none of zeros, border, reflection";
  s.align_corners = attrs.get_int("align_corners", 0) != 0;
  return s;
}

namespace {

using loops::ExprId;
using loops::ExprOp;

void sample_infer(InferContext& ctx) {
  std::string defect;
  sampling_of(ctx.attrs(), defect);
  if (!defect.empty()) ctx.fail(defect);
  const auto &x = ctx.shape(0), &grid = ctx.shape(1);
  if (x && x->size() < 3) ctx.fail("takes an image of rank 3 or more, got " + ir::to_string(*x));
  if (x && grid) {
    if (x->size() != grid->size()) ctx.fail("the image " + ir::to_string(*x) + " and the grid " + ir::to_string(*grid) + " differ in rank");
    if (const auto n = grid->back().constant(); n && *n != static_cast<std::int64_t>(x->size()) - 2)
      ctx.fail("the grid's last extent is " + std::to_string(*n) + ", the image has " + std::to_string(x->size() - 2) + " spatial axes");
  }
  if (!grid) return x ? ctx.set(0, ctx.dtype(0), fresh_shape(ctx, x->size())) : ctx.set_unknown(0, ctx.dtype(0));
  if (grid->size() < 3) ctx.fail("takes a grid of rank 3 or more, got " + ir::to_string(*grid));
  Shape out{x ? (*x)[0] : (*grid)[0], x ? (*x)[1] : ctx.fresh_symbol()};
  out.insert(out.end(), grid->begin() + 1, grid->end() - 1);
  ctx.set(0, ctx.dtype(0), std::move(out));
}

/// [-1, 1] to pixels.
template <class T>
T to_pixels(T n, std::int64_t extent, bool align_corners) {
  const T length = static_cast<T>(extent);
  return align_corners ? (n + 1) / 2 * (length - 1) : ((n + 1) * length - 1) / 2;
}

/// Mirrored at the borders until inside.
template <class T>
T reflected(T x, std::int64_t extent, bool align_corners) {
  const T low = align_corners ? T(0) : T(-0.5), range = static_cast<T>(extent - (align_corners ? 1 : 0));
  if (range <= 0) return low;
  const T distance = std::fmod(std::fabs(x - low), 2 * range);
  return low + (distance > range ? 2 * range - distance : distance);
}

/// The pixel that stands for index `i`; -1: none, zeros.
std::int64_t pixel_index(std::int64_t i, std::int64_t extent, const Sampling& s) {
  if (i >= 0 && i < extent) return i;
  if (s.padding == SamplePadding::kZeros) return -1;
  if (s.padding == SamplePadding::kBorder) return std::clamp<std::int64_t>(i, 0, extent - 1);
  const std::int64_t period = std::max<std::int64_t>(s.align_corners ? 2 * (extent - 1) : 2 * extent, 1), folded = ((i % period) + period) % period;
  return folded < extent ? folded : (s.align_corners ? period : period - 1) - folded;
}

/// Pixels along one axis and their weights.
struct Taps {
  int count = 0;
  std::array<std::int64_t, 4> index{};
  std::array<double, 4> weight{};
};

template <class T>
Taps taps_at(T normal, std::int64_t extent, const Sampling& s) {
  T x = to_pixels(normal, extent, s.align_corners);
  if (!(x > -kFarAway)) x = static_cast<T>(-kFarAway);  // NaN too
  if (x > kFarAway) x = static_cast<T>(kFarAway);
  if (s.mode == SampleMode::kNearest) x = std::nearbyint(x);
  if (s.padding == SamplePadding::kBorder) x = std::clamp<T>(x, 0, static_cast<T>(extent - 1));
  if (s.padding == SamplePadding::kReflection) {
    const T low = s.align_corners ? T(0) : T(-0.5), high = static_cast<T>(extent) - (s.align_corners ? T(1) : T(0.5));
    if (x < low || x > high) x = reflected(x, extent, s.align_corners);
  }
  Taps taps;
  const auto add = [&](std::int64_t i, double weight) {
    taps.index[static_cast<std::size_t>(taps.count)] = pixel_index(i, extent, s);
    taps.weight[static_cast<std::size_t>(taps.count++)] = weight;
  };
  if (s.mode == SampleMode::kNearest) {
    add(static_cast<std::int64_t>(x), 1);
    return taps;
  }
  const T base = std::floor(x), t = x - base;
  const auto first = static_cast<std::int64_t>(base);
  if (s.mode == SampleMode::kLinear) {
    add(first, 1 - t);
    add(first + 1, t);
    return taps;
  }
  T w[4];
  cubic_weights(t, w);
  for (std::int64_t k = 0; k < 4; ++k) add(first - 1 + k, w[k]);
  return taps;
}

/// Calls `visit(offset in the plane or -1, weight)` for every pixel of a sample.
template <class Visit>
void visit_samples(const std::vector<Taps>& taps, const Dims& spatial, Visit&& visit) {
  Dims counts;
  for (const Taps& t : taps) counts.push_back(t.count);
  for_each_index(counts, [&](const Dims& at) {
    std::int64_t offset = 0;
    double weight = 1;
    for (std::size_t a = 0; a < at.size(); ++a) {
      const auto k = static_cast<std::size_t>(at[a]);
      weight *= taps[a].weight[k];
      offset = offset < 0 || taps[a].index[k] < 0 ? -1 : offset * spatial[a] + taps[a].index[k];
    }
    visit(offset, weight);
  });
}

void sample_reference(RefContext& ctx) {
  const Tensor &x = ctx.input(0), &grid = ctx.input(1);
  std::string defect;
  const Sampling s = sampling_of(ctx.attrs(), defect);
  if (!defect.empty()) ctx.fail(defect);
  const std::size_t spatial_rank = x.dims().size() < 3 ? 0 : x.dims().size() - 2;
  const bool fits = spatial_rank > 0 && grid.dims().size() == x.dims().size() && grid.dims()[0] == x.dims()[0] &&
                    grid.dims().back() == static_cast<std::int64_t>(spatial_rank);
  if (!fits) ctx.fail("the grid " + lathe::to_string(grid.dims()) + " does not fit the image " + lathe::to_string(x.dims()));
  const Dims spatial(x.dims().begin() + 2, x.dims().end());
  Dims out{x.dims()[0], x.dims()[1]};
  out.insert(out.end(), grid.dims().begin() + 1, grid.dims().end() - 1);
  const std::int64_t area = element_count(spatial), places = element_count(Dims(out.begin() + 2, out.end()));
  const std::int64_t batch = out[0], channels = out[1];
  if (area == 0 && batch * channels * places != 0) ctx.fail("the image " + lathe::to_string(x.dims()) + " has no pixels to sample");
  const auto positions = to_doubles(grid);
  const bool exact = grid.dtype() == DType::kFloat64;
  const auto taps_of = [&](std::int64_t place) {
    std::vector<Taps> taps;
    for (std::size_t a = 0; a < spatial_rank; ++a) {  // the grid's last axis goes from the innermost spatial axis outwards
      const double n = positions[static_cast<std::size_t>(place) * spatial_rank + spatial_rank - 1 - a];
      taps.push_back(exact ? taps_at<double>(n, spatial[a], s) : taps_at<float>(static_cast<float>(n), spatial[a], s));
    }
    return taps;
  };
  const bool number = is_float(x.dtype()) || is_integer(x.dtype()) || x.dtype() == DType::kBool;
  if (s.mode != SampleMode::kNearest && !number) ctx.fail("only real numbers can be interpolated");
  if (s.mode == SampleMode::kNearest) {
    std::vector<std::int64_t> from;
    for (std::int64_t n = 0; n < batch * places; ++n) visit_samples(taps_of(n), spatial, [&](std::int64_t offset, double) { from.push_back(offset); });
    ctx.set_output(0, remap(x, out, [&](std::int64_t i) {
                     const std::int64_t place = i % places, plane = i / places, offset = from[static_cast<std::size_t>(plane / channels * places + place)];
                     return offset < 0 ? -1 : plane * area + offset;
                   }));
    return;
  }
  const auto pixels = to_doubles(x);
  std::vector<double> result(static_cast<std::size_t>(batch * channels * places));
  for (std::int64_t n = 0; n < batch; ++n)
    for (std::int64_t place = 0; place < places; ++place) {
      const auto taps = taps_of(n * places + place);
      for (std::int64_t c = 0; c < channels; ++c) {
        double sum = 0;
        visit_samples(taps, spatial, [&](std::int64_t offset, double weight) {
          if (offset >= 0) sum += weight * pixels[static_cast<std::size_t>((n * channels + c) * area + offset)];
        });
        result[static_cast<std::size_t>((n * channels + c) * places + place)] = is_float(x.dtype()) ? sum : std::trunc(sum);
      }
    }
  ctx.set_output(0, from_doubles(x.dtype(), std::move(out), result));
}

// Lowering -----------------------------------------------------------------------------------------------------------

/// Expressions for the pixels and weights along one axis. Under padding zeros an index may be out of bounds: read_or() gives 0.
struct ExprTaps {
  std::vector<ExprId> index, weight;
};

ExprTaps lower_taps(loops::RegionBuilder& b, ExprId normal, const Dim& extent, const Sampling& s, DType type) {
  const auto number = [&](double v) { return b.constant(v, type); };
  const ExprId length = b.cast(b.dim(extent), type), zero = number(0), one = number(1), two = number(2);
  const auto add = [&](ExprId l, ExprId r) { return b.binary(ExprOp::kAdd, l, r); };
  const auto sub = [&](ExprId l, ExprId r) { return b.binary(ExprOp::kSub, l, r); };
  const auto mul = [&](ExprId l, ExprId r) { return b.binary(ExprOp::kMul, l, r); };
  const auto div = [&](ExprId l, ExprId r) { return b.binary(ExprOp::kDiv, l, r); };
  const auto clamp = [&](ExprId v, ExprId low, ExprId high) { return b.binary(ExprOp::kMin, b.binary(ExprOp::kMax, v, low), high); };
  ExprId x = s.align_corners ? mul(div(add(normal, one), two), sub(length, one)) : div(sub(mul(add(normal, one), length), one), two);
  x = b.select(b.unary(ExprOp::kIsNan, x), number(-kFarAway), x);
  x = clamp(x, number(-kFarAway), number(kFarAway));
  if (s.mode == SampleMode::kNearest) x = b.unary(ExprOp::kRound, x);
  if (s.padding == SamplePadding::kBorder) x = clamp(x, zero, sub(length, one));
  if (s.padding == SamplePadding::kReflection) {
    const ExprId low = number(s.align_corners ? 0 : -0.5), range = s.align_corners ? sub(length, one) : length;
    const ExprId twice = add(range, range);
    // A range of 0 (one pixel between aligned corners) leaves the pixel itself.
    const ExprId period = b.select(b.binary(ExprOp::kGreater, twice, zero), twice, one);
    const ExprId distance = b.binary(ExprOp::kFmod, b.unary(ExprOp::kAbs, sub(x, low)), period);
    const ExprId folded = add(low, b.binary(ExprOp::kMin, distance, b.binary(ExprOp::kMax, sub(twice, distance), zero)));
    const ExprId inside = b.binary(ExprOp::kAnd, b.binary(ExprOp::kGreaterEqual, x, low), b.binary(ExprOp::kLessEqual, x, add(low, range)));
    x = b.select(inside, x, folded);
  }
  const auto pixel = [&](ExprId i) {
    const ExprId last = b.dim(extent - Dim(1));
    if (s.padding == SamplePadding::kZeros) return i;
    if (s.padding == SamplePadding::kBorder) return clamp(i, b.integer(0), last);
    const Dim period = Dim::max(s.align_corners ? extent + extent - Dim(2) : extent + extent, Dim(1));
    const ExprId folded = b.binary(ExprOp::kMod, i, b.dim(period));
    const ExprId mirrored = b.binary(ExprOp::kSub, b.dim(s.align_corners ? period : period - Dim(1)), folded);
    return clamp(b.binary(ExprOp::kMin, folded, mirrored), b.integer(0), last);
  };
  ExprTaps taps;
  if (s.mode == SampleMode::kNearest) {
    taps.index = {pixel(b.cast(x, DType::kInt64))};
    taps.weight = {one};
    return taps;
  }
  const ExprId base = b.unary(ExprOp::kFloor, x), t = sub(x, base), first = b.cast(base, DType::kInt64);
  if (s.mode == SampleMode::kLinear) {
    taps.index = {pixel(first), pixel(add(first, b.integer(1)))};
    taps.weight = {sub(one, t), t};
    return taps;
  }
  const ExprId a = number(kCubicAlpha);
  const auto outer = [&](ExprId d) {  // 1 <= d < 2
    return sub(mul(add(mul(sub(mul(a, d), mul(number(5), a)), d), mul(number(8), a)), d), mul(number(4), a));
  };
  const auto inner = [&](ExprId d) { return add(mul(mul(sub(mul(add(a, two), d), add(a, number(3))), d), d), one); };
  taps.weight = {outer(add(t, one)), inner(t), inner(sub(one, t)), outer(sub(two, t))};
  for (std::int64_t k = -1; k < 3; ++k) taps.index.push_back(pixel(add(first, b.integer(k))));
  return taps;
}

bool sample_lower(const Node& node, loops::RegionBuilder& builder) {
  const Value *x = node.input(0), *grid = node.input(1), *out = node.output();
  std::string defect;
  const Sampling s = sampling_of(node.attrs, defect);
  if (!defect.empty() || !x->has_shape() || !grid->has_shape() || !out->has_shape() || !is_float(x->dtype())) {
    builder.decline("unknown rank, or no floating image");
    return false;
  }
  const std::size_t rank = x->shape().size() - 2;
  if (rank > (s.mode == SampleMode::kCubic ? 2U : 3U) || grid->shape().back() != Dim(static_cast<std::int64_t>(rank))) {
    builder.decline("more spatial axes than a sample of this mode can name");
    return false;
  }
  if (s.padding != SamplePadding::kZeros)
    for (std::size_t a = 0; a < rank; ++a)
      if (x->shape()[a + 2].lower_bound().value_or(0) < 1) {
        builder.decline("an image that may have no pixels");
        return false;
      }
  const DType type = x->dtype() == DType::kFloat64 || grid->dtype() == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  builder.define(out, [=](loops::RegionBuilder& b, const auto& i) {
    std::vector<ExprTaps> taps;
    for (std::size_t a = 0; a < rank; ++a) {
      loops::RegionBuilder::Indices at{i[0]};
      at.insert(at.end(), i.begin() + 2, i.end());
      at.push_back(b.integer(static_cast<std::int64_t>(rank - 1 - a)));
      taps.push_back(lower_taps(b, b.cast(b.read(grid, at), type), x->shape()[a + 2], s, type));
    }
    Dims counts;
    for (const ExprTaps& t : taps) counts.push_back(static_cast<std::int64_t>(t.index.size()));
    ExprId sum = -1;
    for_each_index(counts, [&](const Dims& at) {
      loops::RegionBuilder::Indices source{i[0], i[1]};
      ExprId weight = -1;
      for (std::size_t a = 0; a < rank; ++a) {
        const auto k = static_cast<std::size_t>(at[a]);
        source.push_back(taps[a].index[k]);
        weight = weight < 0 ? taps[a].weight[k] : b.binary(ExprOp::kMul, weight, taps[a].weight[k]);
      }
      const ExprId pixel = s.padding == SamplePadding::kZeros ? b.read_or(x, source, b.constant(0, x->dtype())) : b.read(x, source);
      const ExprId wide = b.cast(pixel, type);
      const ExprId part = s.mode == SampleMode::kNearest ? wide : b.binary(ExprOp::kMul, weight, wide);
      sum = sum < 0 ? part : b.binary(ExprOp::kAdd, sum, part);
    });
    return b.cast(sum, out->dtype());
  });
  return true;
}

void sample_upgrade(UpgradeContext& ctx) {
  const std::string mode = ctx.node.attrs.get_string("mode", "linear");
  if (mode == "bilinear") ctx.node.attrs.set("mode", "linear");
  if (mode == "bicubic") ctx.node.attrs.set("mode", "cubic");
}

}  // namespace

std::span<const OpDef> ops_grid_sample() {
  constexpr std::string_view kIo = "X:T1 grid:T2 -> Y:T1", kAttrs = "align_corners:int=0 padding_mode:string=zeros mode:string=linear";
  static const std::vector<OpDef> ops = [=] {
    std::vector<OpDef> list{
        {.name = "GridSample",
         .versions = {{16, kIo, "align_corners:int=0 padding_mode:string=zeros mode:string=bilinear", "T1: @all; T2: @float"},
                      {20, kIo, kAttrs, "T1: @all; T2: @float"},
                      {22, kIo, kAttrs, "T1: @all13; T2: @float13"}},
         .upgrade = sample_upgrade,
         .infer = sample_infer,
         .reference = sample_reference,
         .tolerance = {.relative = 1e-5, .absolute = 1e-5},
         .lower = sample_lower,
         .doc = "an image sampled at the positions of a grid"},
    };
    for (OpDef& op : affine_grid_ops()) list.push_back(std::move(op));
    return list;
  }();
  return ops;
}

}  // namespace lathe::ops
