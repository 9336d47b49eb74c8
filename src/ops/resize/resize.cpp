// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Resize (and Upsample, its older form): interpolation is separable, so the reference applies one axis after the other, each output
// position as a weighted sum of input positions.

#include "ops/resize/resize.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "ops/ref_util.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {

ResizeMode read_resize_mode(const Attrs& attrs) {
  const auto fail = [](std::string text) { throw Error(Code::kInvalidModel, std::move(text)); };
  ResizeMode m;
  const std::string mode = attrs.get_string("mode", "nearest");
  if (mode == "nearest") m.kind = ResizeMode::Kind::kNearest;
  else if (mode == "linear" || mode == "bilinear") m.kind = ResizeMode::Kind::kLinear;
  else if (mode == "cubic") m.kind = ResizeMode::Kind::kCubic;
  else fail(fmt::format("attribute 'mode' is '{}'; expected nearest, linear or cubic", mode));
  m.coordinates = attrs.get_string("coordinate_transformation_mode", "half_pixel");
  constexpr std::string_view kCoordinates[] = {"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners",
                                               "asymmetric", "tf_half_pixel_for_nn", "tf_crop_and_resize"};
  if (std::find(std::begin(kCoordinates), std::end(kCoordinates), m.coordinates) == std::end(kCoordinates))
    fail(fmt::format("attribute 'coordinate_transformation_mode' is '{}', which the format does not know", m.coordinates));
  m.nearest = attrs.get_string("nearest_mode", "round_prefer_floor");
  if (m.nearest != "round_prefer_floor" && m.nearest != "round_prefer_ceil" && m.nearest != "floor" && m.nearest != "ceil")
    fail(fmt::format("attribute 'nearest_mode' is '{}', which the format does not know", m.nearest));
  m.cubic_a = attrs.get_float("cubic_coeff_a", -0.75F);
  m.extrapolation = attrs.get_float("extrapolation_value", 0);
  m.exclude_outside = attrs.get_int("exclude_outside", 0) != 0;
  m.antialias = attrs.get_int("antialias", 0) != 0;
  m.axes = attrs.get_ints("axes");
  m.aspect = attrs.get_string("keep_aspect_ratio_policy", "stretch");
  if (m.aspect != "stretch" && m.aspect != "not_larger" && m.aspect != "not_smaller")
    fail(fmt::format("attribute 'keep_aspect_ratio_policy' is '{}', which the format does not know", m.aspect));
  return m;
}

std::optional<std::pair<std::int64_t, std::int64_t>> as_fraction(double scale) {
  for (std::int64_t q = 1; q <= 64; ++q) {
    const double p = scale * static_cast<double>(q), whole = std::nearbyint(p);
    if (whole >= 1 && std::fabs(p - whole) < 1e-6 * p) return std::pair{static_cast<std::int64_t>(whole), q};
  }
  return std::nullopt;
}

std::vector<std::int64_t> resized_axes(const ResizeMode& mode, std::size_t rank) {
  std::vector<std::int64_t> axes = mode.axes;
  if (axes.empty())
    for (std::size_t i = 0; i < rank; ++i) axes.push_back(static_cast<std::int64_t>(i));
  for (std::int64_t& axis : axes) {
    if (axis < 0) axis += static_cast<std::int64_t>(rank);
    if (axis < 0 || axis >= static_cast<std::int64_t>(rank))
      throw Error(Code::kInvalidModel, fmt::format("axis {} is outside the input's rank {}", axis, rank));
  }
  return axes;
}

namespace {

void resize_infer(InferContext& ctx) {
  const auto& x = ctx.shape(0);
  if (!x) return ctx.set_unknown(0, ctx.dtype(0));
  Shape shape = *x;
  try {
    const ResizeMode mode = read_resize_mode(ctx.attrs());
    const auto axes = resized_axes(mode, x->size());
    const bool by_sizes = ctx.has_input(3) && !(ctx.constant(3).defined() && ctx.constant(3).size() == 0);
    if (by_sizes) {
      const auto sizes = ctx.content(3);
      if (sizes && sizes->size() != axes.size()) ctx.fail(fmt::format("'sizes' has {} elements for {} axes", sizes->size(), axes.size()));
      for (std::size_t i = 0; i < axes.size(); ++i) {
        Dim& extent = shape[static_cast<std::size_t>(axes[i])];
        // A size that only the run tells is an extent from here on: the run is refused where it is none.
        if (mode.aspect == "stretch" && sizes && (ctx.is_extent((*sizes)[i]) || (*sizes)[i].is_symbol())) {
          extent = (*sizes)[i];
        } else {
          extent = ctx.fresh_symbol();
        }
      }
      if (mode.aspect != "stretch" && sizes) {
        double factor = -1;
        bool known = true;
        for (std::size_t i = 0; i < axes.size(); ++i) {
          const auto size = (*sizes)[i].constant(), in = (*x)[static_cast<std::size_t>(axes[i])].constant();
          if (!size || !in || *in == 0) {
            known = false;
            break;
          }
          const double f = static_cast<double>(*size) / static_cast<double>(*in);
          factor = factor < 0 ? f : mode.aspect == "not_larger" ? std::min(factor, f) : std::max(factor, f);
        }
        for (std::size_t i = 0; known && i < axes.size(); ++i)
          shape[static_cast<std::size_t>(axes[i])] =
              Dim(static_cast<std::int64_t>(std::floor(factor * static_cast<double>(*(*x)[static_cast<std::size_t>(axes[i])].constant()) + 0.5)));
      }
    } else if (ctx.has_input(2)) {
      const Tensor scales = ctx.constant(2);
      if (scales.defined() && scales.size() != static_cast<std::int64_t>(axes.size()))
        ctx.fail(fmt::format("'scales' has {} elements for {} axes", scales.size(), axes.size()));
      for (std::size_t i = 0; i < axes.size(); ++i) {
        Dim& extent = shape[static_cast<std::size_t>(axes[i])];
        if (!scales.defined()) {
          extent = ctx.fresh_symbol();
          continue;
        }
        const double scale = scales.as_double(static_cast<std::int64_t>(i));
        if (!(scale > 0)) ctx.fail(fmt::format("the scale of axis {} is {}", axes[i], scale));
        // float32 arithmetic, as other runtimes floor it.
        if (const auto in = extent.constant()) extent = Dim(static_cast<std::int64_t>(std::floor(static_cast<float>(*in) * static_cast<float>(scale))));
        else if (const auto fraction = as_fraction(scale)) extent = Dim::floordiv(extent * Dim(fraction->first), Dim(fraction->second));
        else extent = ctx.fresh_symbol();
      }
    } else {
      ctx.fail("neither 'scales' nor 'sizes' is given");
    }
  } catch (const Error& error) {
    if (!error.node().empty()) throw;
    ctx.fail(error.message());
  }
  ctx.set(0, ctx.dtype(0), std::move(shape));
}

double original_coordinate(const ResizeMode& mode, double at, double scale, double in, double out, double roi_start, double roi_end) {
  if (mode.coordinates == "asymmetric") return at / scale;
  if (mode.coordinates == "align_corners") {
    // The length as asked for may be fractional: the corners of that one are aligned. A scale is a float, though.
    const double length = in * scale, whole = std::nearbyint(length);
    return at == 0 ? 0 : at * (in - 1) / ((std::fabs(length - whole) < 1e-6 * whole ? whole : length) - 1);
  }
  if (mode.coordinates == "pytorch_half_pixel") return out > 1 ? (at + 0.5) / scale - 0.5 : 0;
  if (mode.coordinates == "tf_half_pixel_for_nn") return (at + 0.5) / scale;
  if (mode.coordinates == "tf_crop_and_resize")
    return out > 1 ? roi_start * (in - 1) + at * (roi_end - roi_start) * (in - 1) / (out - 1) : 0.5 * (roi_start + roi_end) * (in - 1);
  if (mode.coordinates == "half_pixel_symmetric") {
    // The output length as asked for may be fractional: the window is centred again.
    const double adjustment = out / (in * scale), centre = in / 2, offset = centre * (1 - adjustment);
    return offset + (at + 0.5) / scale - 0.5;
  }
  return (at + 0.5) / scale - 0.5;
}

double cubic_weight(double distance, double a) {
  const double x = std::fabs(distance);
  if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
  return 0;
}

}  // namespace

Position position_of(const ResizeMode& mode, std::int64_t at, double scale, std::int64_t in, std::int64_t out, double roi_start, double roi_end) {
  Position p;
  const double x = original_coordinate(mode, static_cast<double>(at), scale, static_cast<double>(in), static_cast<double>(out), roi_start, roi_end);
  p.outside = mode.coordinates == "tf_crop_and_resize" && (x < 0 || x > static_cast<double>(in - 1));
  if (mode.kind == ResizeMode::Kind::kNearest) {
    double index = 0;
    if (mode.nearest == "round_prefer_floor") index = std::ceil(x - 0.5);
    else if (mode.nearest == "round_prefer_ceil") index = std::floor(x + 0.5);
    else if (mode.nearest == "floor") index = std::floor(x);
    else index = std::ceil(x);
    p.taps = {{std::clamp<std::int64_t>(static_cast<std::int64_t>(index), 0, in - 1), 1.0}};
    return p;
  }
  const bool linear = mode.kind == ResizeMode::Kind::kLinear;
  const double floor = std::floor(x), ratio = x - floor;
  // Antialiasing stretches the kernel over what a smaller output leaves out.
  const double stretch = mode.antialias ? std::min(scale, 1.0) : 1.0;
  const auto first = static_cast<std::int64_t>(std::floor((linear ? -1.0 : -2.0) / stretch)) + 1;
  const std::int64_t count = 2 - 2 * first;
  double total = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const double distance = (static_cast<double>(first + i) - ratio) * stretch;
    double weight = linear ? std::max(0.0, 1 - std::fabs(distance)) : cubic_weight(distance, mode.cubic_a);
    const std::int64_t index = static_cast<std::int64_t>(floor) + first + i;
    if (mode.exclude_outside && (index < 0 || index >= in)) weight = 0;
    p.taps.push_back({std::clamp<std::int64_t>(index, 0, in - 1), weight});
    total += weight;
  }
  if (mode.exclude_outside || mode.antialias)
    for (Tap& tap : p.taps) tap.weight /= total;
  return p;
}

ResizeTargets resize_targets(const ResizeMode& mode, const Dims& in, const Tensor& asked_scales, const Tensor& sizes) {
  const auto fail = [](std::string text) { throw Error(Code::kInvalidModel, std::move(text)); };
  const auto axes = resized_axes(mode, in.size());
  ResizeTargets t{in, std::vector<double>(in.size(), 1.0)};
  if (sizes.defined() && sizes.size() > 0) {
    const auto wanted = sizes.to_int64_vector();
    if (wanted.size() != axes.size()) fail(fmt::format("'sizes' has {} elements for {} axes", wanted.size(), axes.size()));
    double factor = -1;
    for (std::size_t i = 0; i < axes.size(); ++i) {
      const auto axis = static_cast<std::size_t>(axes[i]);
      if (wanted[i] < 0) fail(fmt::format("'sizes' holds {}", wanted[i]));
      t.out[axis] = wanted[i];
      t.scales[axis] = static_cast<double>(wanted[i]) / static_cast<double>(in[axis]);
      factor = factor < 0 ? t.scales[axis] : mode.aspect == "not_larger" ? std::min(factor, t.scales[axis]) : std::max(factor, t.scales[axis]);
    }
    if (mode.aspect != "stretch")
      for (const std::int64_t a : axes) {
        const auto axis = static_cast<std::size_t>(a);
        t.scales[axis] = factor;
        t.out[axis] = static_cast<std::int64_t>(std::floor(factor * static_cast<double>(in[axis]) + 0.5));
      }
  } else if (asked_scales.defined() && asked_scales.size() > 0) {
    if (asked_scales.size() != static_cast<std::int64_t>(axes.size()))
      fail(fmt::format("'scales' has {} elements for {} axes", asked_scales.size(), axes.size()));
    for (std::size_t i = 0; i < axes.size(); ++i) {
      const auto axis = static_cast<std::size_t>(axes[i]);
      t.scales[axis] = asked_scales.as_double(static_cast<std::int64_t>(i));
      if (!(t.scales[axis] > 0)) fail(fmt::format("the scale of axis {} is {}", axis, t.scales[axis]));
      t.out[axis] = static_cast<std::int64_t>(std::floor(static_cast<float>(in[axis]) * static_cast<float>(t.scales[axis])));
    }
  } else {
    fail("neither 'scales' nor 'sizes' is given");
  }
  return t;
}

namespace {

void resize_reference(RefContext& ctx) {
  const Tensor& x = ctx.input(0);
  const std::size_t rank = x.dims().size();
  ResizeMode mode;
  std::vector<std::int64_t> axes;
  ResizeTargets targets;
  try {
    mode = read_resize_mode(ctx.attrs());
    axes = resized_axes(mode, rank);
    targets = resize_targets(mode, x.dims(), ctx.has_input(2) ? ctx.input(2) : Tensor(), ctx.has_input(3) ? ctx.input(3) : Tensor());
  } catch (const Error& error) {
    ctx.fail(error.message());
  }
  const Dims& out = targets.out;
  const std::vector<double>& scales = targets.scales;
  std::vector<double> roi_start(rank, 0.0), roi_end(rank, 1.0);
  if (mode.coordinates == "tf_crop_and_resize" && ctx.has_input(1) && ctx.input(1).size() == 2 * static_cast<std::int64_t>(axes.size()))
    for (std::size_t i = 0; i < axes.size(); ++i) {
      roi_start[static_cast<std::size_t>(axes[i])] = ctx.input(1).as_double(static_cast<std::int64_t>(i));
      roi_end[static_cast<std::size_t>(axes[i])] = ctx.input(1).as_double(static_cast<std::int64_t>(i + axes.size()));
    }

  std::vector<double> values = to_doubles(x);
  std::vector<char> outside;
  Dims now = x.dims();
  if (element_count(now) == 0 && element_count(out) > 0) ctx.fail("an empty input cannot be resized");
  for (std::size_t axis = 0; axis < rank; ++axis) {
    if (out[axis] == now[axis] && scales[axis] == 1.0 && mode.coordinates != "tf_crop_and_resize") continue;
    Dims next = now;
    next[axis] = out[axis];
    const AxisView in = around_axis(now, static_cast<std::int64_t>(axis));
    std::vector<double> made(static_cast<std::size_t>(element_count(next)), 0.0);
    std::vector<char> made_outside(outside.empty() && mode.coordinates != "tf_crop_and_resize" ? 0 : made.size(), 0);
    for (std::int64_t o = 0; o < out[axis]; ++o) {
      const Position p = position_of(mode, o, scales[axis], now[axis], out[axis], roi_start[axis], roi_end[axis]);
      for (std::int64_t i = 0; i < in.outer; ++i)
        for (std::int64_t j = 0; j < in.inner; ++j) {
          const auto to = static_cast<std::size_t>((i * out[axis] + o) * in.inner + j);
          for (const Tap& tap : p.taps) made[to] += tap.weight * values[static_cast<std::size_t>((i * in.extent + tap.index) * in.inner + j)];
          if (!made_outside.empty())
            made_outside[to] = p.outside || (!outside.empty() && outside[static_cast<std::size_t>((i * in.extent + p.taps[0].index) * in.inner + j)]);
        }
    }
    values = std::move(made);
    outside = std::move(made_outside);
    now = next;
  }
  for (std::size_t i = 0; i < outside.size(); ++i)
    if (outside[i]) values[i] = mode.extrapolation;
  if (is_float(x.dtype())) return ctx.set_output(0, from_doubles(x.dtype(), out, values));
  std::vector<std::int64_t> whole(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) whole[i] = static_cast<std::int64_t>(values[i]);
  ctx.set_output(0, from_int64s(x.dtype(), out, whole));
}

/// Version 10 had neither roi nor coordinate modes: asymmetric, floor.
void resize_upgrade(UpgradeContext& ctx) {
  if (ctx.from_version >= 11) return;
  Value* scales = ctx.node.input(1);
  ctx.graph.set_inputs(&ctx.node, {ctx.node.input(0), nullptr, scales});
  ctx.node.attrs.set("coordinate_transformation_mode", "asymmetric");
  ctx.node.attrs.set("nearest_mode", "floor");
}

void upsample_upgrade(UpgradeContext& ctx) {
  Value* scales = ctx.node.input(1);
  if (!scales) {
    std::vector<float> factors = ctx.node.attrs.get_floats("scales");
    if (factors.empty()) factors = {1, 1, ctx.node.attrs.get_float("height_scale", 1), ctx.node.attrs.get_float("width_scale", 1)};
    Tensor tensor(DType::kFloat32, {static_cast<std::int64_t>(factors.size())});
    std::copy(factors.begin(), factors.end(), tensor.mutable_data<float>().begin());
    scales = ctx.constant("scales", std::move(tensor));
  }
  for (const char* name : {"scales", "height_scale", "width_scale"}) ctx.node.attrs.erase(name);
  ctx.node.op = "Resize";
  ctx.graph.set_inputs(&ctx.node, {ctx.node.input(0), nullptr, scales});
  ctx.node.attrs.set("coordinate_transformation_mode", "asymmetric");
  ctx.node.attrs.set("nearest_mode", "floor");
}

constexpr std::string_view kIo13 = "X:T1 roi?:T2 scales?:tensor(float) sizes?:tensor(int64) -> Y:T1";
constexpr std::string_view kMode11 =
    "coordinate_transformation_mode:string=half_pixel cubic_coeff_a:float=-0.75 exclude_outside:int=0 extrapolation_value:float=0 "
    "mode:string=nearest nearest_mode:string=round_prefer_floor";
constexpr std::string_view kMode18 =
    "antialias:int=0 axes:ints? coordinate_transformation_mode:string=half_pixel cubic_coeff_a:float=-0.75 exclude_outside:int=0 "
    "extrapolation_value:float=0 keep_aspect_ratio_policy:string=stretch mode:string=nearest nearest_mode:string=round_prefer_floor";

}  // namespace

std::span<const OpDef> ops_resize() {
  static const OpDef ops[] = {
      {.name = "Resize",
       .versions = {{10, "X:T scales:tensor(float) -> Y:T", "mode:string=nearest", "T: @all"},
                    {11, "X:T1 roi:T2 scales:tensor(float) sizes?:tensor(int64) -> Y:T1", kMode11, "T1: @all; T2: @float"},
                    {13, kIo13, kMode11, "T1: @all13; T2: @float"},
                    {18, kIo13, kMode18, "T1: @all13; T2: @float"},
                    {19, kIo13, kMode18, "T1: @all13; T2: @float"}},
       .upgrade = resize_upgrade,
       .infer = resize_infer,
       .reference = resize_reference,
       .tolerance = {.relative = 1e-5, .absolute = 1e-5},
       .lower = resize_lower,
       .expand = resize_expand,
       .doc = "Interpolation to other extents: nearest, linear or cubic, with the format's coordinate modes."},
      {.name = "Upsample",
       .versions = {{1, "X:T -> Y:T", "height_scale:float mode:string=nearest width_scale:float", "T: bool int32 int64 @float"},
                    {7, "X:T -> Y:T", "mode:string=nearest scales:floats", "T: @all"},
                    {9, "X:T scales:tensor(float) -> Y:T", "mode:string=nearest", "T: @all"},
                    {10, "X:T scales:tensor(float) -> Y:T", "mode:string=nearest", "T: @all", true}},
       .upgrade = upsample_upgrade,
       .doc = "The older form of Resize."},
  };
  return ops;
}

}  // namespace lathe::ops
