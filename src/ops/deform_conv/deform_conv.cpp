// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// DeformConv: a convolution whose taps read at fractional places of their own (Dai et al. 2017), each times a mask (Zhu et al. 2018).
//   Y[n, o, y] = B[o] + sum over c, k of W[o, c, k] * mask[n, g(c), k, y] * X[n, c, at y * stride - pad + k * dilation + offset[n, g(c), k, :, y]]
// X is read by linear interpolation in each axis, and is zero outside.
#include <algorithm>
#include <cmath>

#include "ops/conv/conv.h"
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
       .doc = "convolution whose taps read where offsets tell, each times a mask"},
  };
  return ops;
}

}  // namespace lathe::ops
