// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// DeformConv: a convolution whose taps read at fractional places of their own (Dai et al. 2017), each times a mask (Zhu et al. 2018).
//   Y[n, o, y] = B[o] + sum over c, k of W[o, c, k] * mask[n, g(c), k, y] * X[n, c, at y * stride - pad + k * dilation + offset[n, g(c), k, :, y]]
// X is read by linear interpolation in each axis, and is zero outside.
#include <algorithm>
#include <cmath>

#include "loops/builder.h"
#include "ops/conv/conv.h"
#include "ops/lower_util.h"
#include "ops/ref_util.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

enum Input : std::size_t { kX, kW, kOffset, kB, kMask };

// A place has two neighbours in each axis.
constexpr std::size_t kMostSpatialAxes = 8;

void deform_infer(InferContext& ctx) {
  const auto &x = ctx.shape(kX), &w = ctx.shape(kW), &offset = ctx.shape(kOffset);
  if (!x || !w) {
    if (!x && !w && !offset) return ctx.set_unknown(0, ctx.dtype(kX));
    return ctx.set(0, ctx.dtype(kX), fresh_shape(ctx, x ? x->size() : w ? w->size() : offset->size()));
  }
  if (x->size() < 3 || w->size() != x->size() || (offset && offset->size() != x->size()))
    ctx.fail("X " + ir::to_string(*x) + ", W " + ir::to_string(*w) + " and the offsets must have the same rank, at least 3");
  if (x->size() - 2 > kMostSpatialAxes)
    ctx.fail("has " + std::to_string(x->size() - 2) + " spatial axes; at most " + std::to_string(kMostSpatialAxes) + " are supported");
  Shape out{(*x)[0], (*w)[0]};
  std::vector<std::int64_t> kernel;
  for (std::size_t axis = 2; axis < w->size(); ++axis)
    if (const auto extent = (*w)[axis].constant()) kernel.push_back(*extent);
  if (kernel.size() + 2 == w->size()) {
    try {
      const Window window = read_window(ctx.attrs(), kernel, kernel.size());
      for (std::size_t axis = 0; axis < kernel.size(); ++axis) {
        Dim extent = window.output(axis, (*x)[axis + 2]);
        if (const auto known = extent.constant(); known && *known < 0) ctx.fail("the window does not fit into the input " + ir::to_string(*x));
        out.push_back(std::move(extent));
      }
    } catch (const Error& error) {
      if (!error.node().empty()) throw;
      ctx.fail(error.message());
    }
  } else {
    for (std::size_t axis = 2; axis < x->size(); ++axis) out.push_back(offset ? (*offset)[axis] : ctx.fresh_symbol());
  }
  ctx.set(0, ctx.dtype(kX), std::move(out));
}

struct Problem {
  ConvGeometry conv;
  std::int64_t offset_groups = 1, in_area = 1, out_area = 1, taps = 1;
};

void check(const RefContext& ctx, std::size_t input, const Dims& expected, const char* name) {
  if (ctx.has_input(input) && ctx.input(input).dims() != expected)
    ctx.fail(std::string("the ") + name + " has shape " + lathe::to_string(ctx.input(input).dims()) + ", expected " + lathe::to_string(expected));
}

Problem problem_of(RefContext& ctx) {
  Problem p;
  const Dims& x = ctx.input(kX).dims();
  if (x.size() > kMostSpatialAxes + 2)
    ctx.fail("has " + std::to_string(x.size() - 2) + " spatial axes; at most " + std::to_string(kMostSpatialAxes) + " are supported");
  try {
    p.conv = conv_geometry(ctx.attrs(), x, ctx.input(kW).dims());
  } catch (const Error& error) {
    ctx.fail(error.message());
  }
  p.offset_groups = ctx.attrs().get_int("offset_group", 1);
  if (p.offset_groups < 1 || p.conv.channels_in % p.offset_groups != 0)
    ctx.fail(std::to_string(p.conv.channels_in) + " channels cannot be split into " + std::to_string(p.offset_groups) + " groups of offsets");
  p.taps = element_count(p.conv.window.kernel);
  p.in_area = element_count(p.conv.input);
  p.out_area = element_count(p.conv.output);
  const auto with_output = [&p](std::int64_t rows) {
    Dims dims{p.conv.batch, rows};
    dims.insert(dims.end(), p.conv.output.begin(), p.conv.output.end());
    return dims;
  };
  std::int64_t rows = 0;
  if (__builtin_mul_overflow(p.offset_groups, p.taps, &rows) || __builtin_mul_overflow(rows, static_cast<std::int64_t>(p.conv.input.size()), &rows))
    ctx.fail("has more offsets than any machine can hold");
  check(ctx, kOffset, with_output(rows), "offset");
  check(ctx, kMask, with_output(p.offset_groups * p.taps), "mask");
  check(ctx, kB, {p.conv.channels_out}, "bias");
  return p;
}

/// The elements that a fractional place reads, with their weights.
struct Reads {
  std::vector<std::pair<std::int64_t, double>> parts;

  void of(const std::vector<double>& place, const Dims& extents) {
    parts.assign(1, {0, 1.0});
    for (std::size_t axis = 0; axis < extents.size() && !parts.empty(); ++axis) {
      const std::int64_t extent = extents[axis];
      // Also false for NaN, and before the conversion to an integer could overflow.
      if (!(place[axis] > -1 && place[axis] < static_cast<double>(extent))) return parts.clear();
      const double below = std::floor(place[axis]), share = place[axis] - below;
      const auto first = static_cast<std::int64_t>(below);
      std::vector<std::pair<std::int64_t, double>> finer;
      for (const auto& [at, weight] : parts) {
        if (first >= 0) finer.emplace_back(at * extent + first, weight * (1 - share));
        if (share > 0 && first + 1 < extent) finer.emplace_back(at * extent + first + 1, weight * share);
      }
      parts = std::move(finer);
    }
  }
};

void deform_reference(RefContext& ctx) {
  const Problem p = problem_of(ctx);
  const ConvGeometry& g = p.conv;
  const auto x = to_doubles(ctx.input(kX)), w = to_doubles(ctx.input(kW)), offset = to_doubles(ctx.input(kOffset));
  const auto bias = ctx.has_input(kB) ? to_doubles(ctx.input(kB)) : std::vector<double>();
  const auto mask = ctx.has_input(kMask) ? to_doubles(ctx.input(kMask)) : std::vector<double>();
  const std::size_t axes = g.input.size();
  const std::int64_t per_group = g.channels_in / g.groups, out_per_group = g.channels_out / g.groups, per_offset = g.channels_in / p.offset_groups;
  std::vector<double> y(static_cast<std::size_t>(g.batch * g.channels_out * p.out_area));
  std::vector<double> column(static_cast<std::size_t>(g.channels_in * p.taps)), place(axes);
  Reads reads;
  for (std::int64_t n = 0; n < g.batch; ++n) {
    std::int64_t position = 0;
    for_each_index(g.output, [&](const Dims& at) {
      // What each tap sees of each channel, then one product with the weights.
      std::int64_t tap = 0;
      for_each_index(g.window.kernel, [&](const Dims& k) {
        for (std::int64_t group = 0; group < p.offset_groups; ++group) {
          const std::int64_t row = (n * p.offset_groups + group) * p.taps + tap;
          for (std::size_t axis = 0; axis < axes; ++axis) {
            const std::int64_t start = at[axis] * g.window.strides[axis] - g.window.pads_begin[axis] + k[axis] * g.window.dilations[axis];
            place[axis] = static_cast<double>(start) +
                          offset[static_cast<std::size_t>((row * static_cast<std::int64_t>(axes) + static_cast<std::int64_t>(axis)) * p.out_area + position)];
          }
          reads.of(place, g.input);
          const double factor = mask.empty() ? 1.0 : mask[static_cast<std::size_t>(row * p.out_area + position)];
          for (std::int64_t c = group * per_offset; c < (group + 1) * per_offset; ++c) {
            double value = 0;
            for (const auto& [from, weight] : reads.parts) value += weight * x[static_cast<std::size_t>((n * g.channels_in + c) * p.in_area + from)];
            column[static_cast<std::size_t>(c * p.taps + tap)] = factor * value;
          }
        }
        ++tap;
      });
      for (std::int64_t o = 0; o < g.channels_out; ++o) {
        const double* seen = column.data() + o / out_per_group * per_group * p.taps;
        const double* weights = w.data() + o * per_group * p.taps;
        double sum = bias.empty() ? 0.0 : bias[static_cast<std::size_t>(o)];
        for (std::int64_t i = 0; i < per_group * p.taps; ++i) sum += seen[i] * weights[i];
        y[static_cast<std::size_t>((n * g.channels_out + o) * p.out_area + position)] = sum;
      }
      ++position;
    });
  }
  Dims dims{g.batch, g.channels_out};
  dims.insert(dims.end(), g.output.begin(), g.output.end());
  ctx.set_output(0, from_doubles(ctx.input(kX).dtype(), std::move(dims), y));
}

using loops::ExprId;
using loops::ExprOp;
using loops::RegionBuilder;
using Indices = RegionBuilder::Indices;

/// Elements that the sampled columns may have, and axes of whose neighbours all are read.
constexpr std::int64_t kMostColumns = 1 << 26;
constexpr std::size_t kMostLoweredAxes = 3;

/// The first neighbour of each tap's place along one axis and the share of the second, [batch, offset groups, taps, output...]. Places
/// outside get a neighbour that no image has.
struct PlaceAxis {
  const Value *first, *share;
};

/// Places, then what each tap sees of each channel (as one value per channel, tap and output), then the product with the weights.
bool deform_lower(const Node& node, RegionBuilder& builder) {
  const Value *x = node.input(kX), *w = node.input(kW), *offset = node.input(kOffset), *bias = node.input(kB), *mask = node.input(kMask), *out = node.output();
  for (const Value* value : {x, w, offset, bias, mask})
    if (value && !can_lower_real(value, builder)) return false;
  const auto decline = [&](const char* why) {
    builder.decline(why);
    return false;
  };
  const Shape& shape = out->shape();
  const std::size_t axes = shape.size() < 3 ? 0 : shape.size() - 2;
  const auto weights = ir::constant_dims(w->shape());
  const auto channels = x->shape().size() > 1 ? x->shape()[1].constant() : std::nullopt;
  if (axes < 1 || axes > kMostLoweredAxes || !weights || !channels || weights->size() != axes + 2 || x->shape().size() != axes + 2 ||
      offset->shape().size() != axes + 2)
    return decline("ranks or channels known at run time only");
  const Dims kernel(weights->begin() + 2, weights->end());
  const std::int64_t groups = node.attrs.get_int("group", 1), offset_groups = node.attrs.get_int("offset_group", 1), taps = element_count(kernel);
  const std::int64_t per_group = (*weights)[1], out_channels = (*weights)[0];
  if (groups < 1 || offset_groups < 1 || *channels != groups * per_group || *channels < 1 || *channels % offset_groups != 0 || out_channels % groups != 0 ||
      taps < 1)
    return decline("channels and groups that do not fit");
  Shape columns_shape{shape[0], Dim(*channels), Dim(taps)}, places_shape{shape[0], Dim(offset_groups), Dim(taps)};
  columns_shape.insert(columns_shape.end(), shape.begin() + 2, shape.end());
  places_shape.insert(places_shape.end(), shape.begin() + 2, shape.end());
  if (ir::product(columns_shape).constant().value_or(0) > kMostColumns) return decline("more samples than should be held");
  const Window window = read_window(node.attrs, kernel, axes);
  if (window.automatic != Window::Auto::kNotSet) return decline("automatic pads");
  const DType type = compute_dtype(x->dtype());
  const auto row_of = [=](RegionBuilder& b, const Indices& at) { return b.binary(ExprOp::kAdd, b.binary(ExprOp::kMul, at[1], b.integer(taps)), at[2]); };
  const auto read_row = [=](RegionBuilder& b, const Value* value, const Indices& at, ExprId row) {
    Indices from{at[0], row};
    from.insert(from.end(), at.begin() + 3, at.end());
    for (std::size_t a = 0; a < axes; ++a) b.require_equal(value, value->shape()[a + 2], shape[a + 2]);
    b.require_equal(value, value->shape()[0], shape[0]);
    return b.read(value, from);
  };
  std::vector<PlaceAxis> places;
  std::int64_t inner = taps;
  for (std::size_t a = 0; a < axes; ++a) {
    inner /= kernel[a];
    // In double precision: the share is a small difference.
    const auto place = [=](RegionBuilder& b, const Indices& at) {
      const auto axes_count = static_cast<std::int64_t>(axes);
      b.require_equal(offset, offset->shape()[1], Dim(offset_groups * taps * axes_count));
      const ExprId row = b.binary(ExprOp::kAdd, b.binary(ExprOp::kMul, row_of(b, at), b.integer(axes_count)), b.integer(static_cast<std::int64_t>(a)));
      const ExprId k = b.binary(ExprOp::kMod, b.binary(ExprOp::kFloorDiv, at[2], b.integer(inner)), b.integer(kernel[a]));
      const ExprId start = b.binary(ExprOp::kAdd, b.binary(ExprOp::kMul, at[a + 3], b.integer(window.strides[a])),
                                    b.binary(ExprOp::kSub, b.binary(ExprOp::kMul, k, b.integer(window.dilations[a])), b.integer(window.pads_begin[a])));
      const ExprId where = b.binary(ExprOp::kAdd, b.cast(start, DType::kFloat64), b.cast(read_row(b, offset, at, row), DType::kFloat64));
      const ExprId extent = b.cast(b.dim(x->shape()[a + 2]), DType::kFloat64);
      const ExprId inside = b.binary(ExprOp::kAnd, b.binary(ExprOp::kGreater, where, b.constant(-1, DType::kFloat64)), b.binary(ExprOp::kLess, where, extent));
      return b.select(inside, where, b.constant(-2, DType::kFloat64));
    };
    const std::string name = "axis" + std::to_string(a);
    const PlaceAxis p{builder.temporary(name + "_first", DType::kInt64, places_shape), builder.temporary(name + "_share", type, places_shape)};
    builder.define(p.first, [=](RegionBuilder& b, const Indices& at) { return b.cast(b.unary(ExprOp::kFloor, place(b, at)), DType::kInt64); });
    builder.define(p.share, [=](RegionBuilder& b, const Indices& at) {
      const ExprId where = place(b, at);
      return b.cast(b.binary(ExprOp::kSub, where, b.unary(ExprOp::kFloor, where)), type);
    });
    places.push_back(p);
  }
  const Value* columns = builder.temporary("columns", type, columns_shape);
  builder.define(columns, [=](RegionBuilder& b, const Indices& at) {
    Indices of = at;
    of[1] = b.binary(ExprOp::kFloorDiv, at[1], b.integer(*channels / offset_groups));
    ExprId sum = -1;
    for (std::size_t corner = 0; corner < (std::size_t{1} << axes); ++corner) {
      Indices from{at[0], at[1]};
      ExprId weight = -1;
      for (std::size_t a = 0; a < axes; ++a) {
        const bool second = corner >> a & 1;
        const ExprId first = b.read(places[a].first, of), share = b.read(places[a].share, of);
        from.push_back(second ? b.binary(ExprOp::kAdd, first, b.integer(1)) : first);
        const ExprId part = second ? share : b.binary(ExprOp::kSub, b.constant(1, type), share);
        weight = a == 0 ? part : b.binary(ExprOp::kMul, weight, part);
      }
      const ExprId part = b.binary(ExprOp::kMul, weight, b.cast(b.read_or(x, from, b.constant(0, x->dtype())), type));
      sum = corner == 0 ? part : b.binary(ExprOp::kAdd, sum, part);
    }
    if (!mask) return sum;
    b.require_equal(mask, mask->shape()[1], Dim(offset_groups * taps));
    return b.binary(ExprOp::kMul, sum, b.cast(read_row(b, mask, of, row_of(b, of)), type));
  });
  const Value* product = builder.temporary("product", type, shape);
  Shape space{Dim(per_group)};
  space.insert(space.end(), kernel.begin(), kernel.end());
  const auto term = [=](RegionBuilder& b, const Indices& at, const Indices& which) {
    Indices of{at[1]};
    of.insert(of.end(), which.begin(), which.end());
    ExprId tap = b.integer(0), channel = which[0];
    for (std::size_t a = 0; a < axes; ++a) tap = b.binary(ExprOp::kAdd, b.binary(ExprOp::kMul, tap, b.integer(kernel[a])), which[a + 1]);
    if (groups > 1) {
      const ExprId group = b.binary(ExprOp::kFloorDiv, at[1], b.integer(out_channels / groups));
      channel = b.binary(ExprOp::kAdd, b.binary(ExprOp::kMul, group, b.integer(per_group)), channel);
    }
    Indices from{at[0], channel, tap};
    from.insert(from.end(), at.begin() + 2, at.end());
    return b.binary(ExprOp::kMul, b.read(columns, from), b.cast(b.read(w, of), type));
  };
  builder.define_reduction(product, loops::Reduce::kSum, space, term, type);
  builder.define(out, [=](RegionBuilder& b, const Indices& at) {
    const ExprId sum = b.read(product, at);
    if (!bias) return b.cast(sum, x->dtype());
    b.require_equal(bias, bias->shape()[0], shape[1]);
    return b.cast(b.binary(ExprOp::kAdd, sum, b.cast(b.read(bias, {at[1]}), type)), x->dtype());
  });
  return true;
}

}  // namespace

std::span<const OpDef> ops_deform_conv() {
  constexpr std::string_view kIo = "X:T W:T offset:T B?:T mask?:T -> Y:T";
  constexpr std::string_view kAttrs = "dilations:ints? group:int=1 kernel_shape:ints? offset_group:int=1 pads:ints? strides:ints?";
  static const std::vector<OpDef> ops{
      {.name = "DeformConv",
       .versions = {{19, kIo, kAttrs, "T: @float"}, {22, kIo, kAttrs, "T: @float13"}},
       .infer = deform_infer,
       .reference = deform_reference,
       .tolerance = {.relative = 1e-5, .absolute = 1e-5},
       .lower = deform_lower,
       .doc = "convolution whose taps read where offsets tell, each times a mask"},
  };
  return ops;
}

}  // namespace lathe::ops
