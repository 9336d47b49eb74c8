// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Conv: N-dimensional convolution (cross-correlation) with groups, strides, dilations and pads.
//   Y[n, o, y] = B[o] + sum over c, k of X[n, g(o) * C/G + c, y * stride - pad + k * dilation] * W[o, c, k]

#include "ops/conv/conv.h"

#include "ops/conv/conv_3d.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/thread_pool.h"
#include "ops/oracle_gemm.h"
#include "ops/ref_util.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {

ConvGeometry conv_geometry(const Attrs& attrs, const Dims& input, const Dims& weight) {
  const auto fail = [](std::string text) { throw Error(Code::kInvalidModel, std::move(text)); };
  if (input.size() < 3 || weight.size() != input.size())
    fail(fmt::format("the input has rank {} and the weight rank {}; both must have the same rank, at least 3", input.size(), weight.size()));
  ConvGeometry g;
  g.batch = input[0];
  g.channels_in = input[1];
  g.channels_out = weight[0];
  g.groups = attrs.get_int("group", 1);
  if (g.groups < 1 || g.channels_out % g.groups != 0) fail(fmt::format("{} output channels cannot be split into {} groups", g.channels_out, g.groups));
  if (g.channels_in % g.groups != 0 || weight[1] != g.channels_in / g.groups)  // either number may be any
    fail(fmt::format("the input has {} channels, the weight {} of shape {} takes {} x {} groups", g.channels_in, "tensor", to_string(weight), weight[1],
                     g.groups));
  element_count(weight);  // refuses extents whose product is no number
  g.input.assign(input.begin() + 2, input.end());
  const Window window = read_window(attrs, Dims(weight.begin() + 2, weight.end()), input.size() - 2);
  g.window = window.concrete(g.input);
  for (std::size_t axis = 0; axis < g.input.size(); ++axis) g.output.push_back(std::max<std::int64_t>(0, window.output(axis, g.input[axis])));
  return g;
}

namespace {

void conv_infer(InferContext& ctx) {
  const auto& x = ctx.shape(0);
  const auto& w = ctx.shape(1);
  if (!x || !w) {
    if (!x && !w) return ctx.set_unknown(0, ctx.dtype(0));
    return ctx.set(0, ctx.dtype(0), fresh_shape(ctx, x ? x->size() : w->size()));
  }
  if (x->size() < 3 || w->size() != x->size())
    ctx.fail(fmt::format("the input has rank {} and the weight rank {}; both must have the same rank, at least 3", x->size(), w->size()));
  const std::int64_t groups = ctx.attrs().get_int("group", 1);
  if (const auto c = (*x)[1].constant(), cw = (*w)[1].constant(); c && cw && (groups < 1 || *c % groups != 0 || *cw != *c / groups))
    ctx.fail(fmt::format("the input has {} channels, the weight {} takes {} x {} groups", *c, ir::to_string(*w), *cw, groups));
  if (const auto out = (*w)[0].constant(); out && (groups < 1 || *out % groups != 0))
    ctx.fail(fmt::format("{} output channels cannot be split into {} groups", *out, groups));
  Shape shape{(*x)[0], (*w)[0]};
  std::vector<std::int64_t> kernel;
  for (std::size_t axis = 2; axis < w->size(); ++axis) {
    const auto extent = (*w)[axis].constant();
    if (!extent) break;
    kernel.push_back(*extent);
  }
  try {
    if (kernel.size() + 2 < w->size()) {  // only kernel_shape tells, if anything does
      if (!ctx.attrs().has("kernel_shape")) return ctx.set(0, ctx.dtype(0), fresh_shape(ctx, x->size()));
      kernel = ctx.attrs().get_ints("kernel_shape");
    }
    const Window window = read_window(ctx.attrs(), kernel, x->size() - 2);
    for (std::size_t axis = 0; axis < kernel.size(); ++axis) {
      Dim extent = window.output(axis, (*x)[axis + 2]);
      if (const auto known = extent.constant(); known && *known < 0)
        ctx.fail(fmt::format("the window of {} does not fit into the input {}", window.reach(axis), ir::to_string(*x)));
      shape.push_back(std::move(extent));
    }
  } catch (const Error& error) {
    if (!error.node().empty()) throw;
    ctx.fail(error.message());
  }
  ctx.set(0, ctx.dtype(0), std::move(shape));
}

/// Input offset of an output position and kernel position, or -1 outside the input.
struct Walker {
  const ConvGeometry& g;
  const Dims &kernel_index, &output_index;
  std::int64_t offset() const {
    std::int64_t at = 0;
    for (std::size_t axis = 0; axis < g.input.size(); ++axis) {
      const std::int64_t i = output_index[axis] * g.window.strides[axis] - g.window.pads_begin[axis] + kernel_index[axis] * g.window.dilations[axis];
      if (i < 0 || i >= g.input[axis]) return -1;
      at = at * g.input[axis] + i;
    }
    return at;
  }
};

ConvGeometry checked_geometry(RefContext& ctx) {
  ConvGeometry geometry;
  try {
    geometry = conv_geometry(ctx.attrs(), ctx.input(0).dims(), ctx.input(1).dims());
  } catch (const Error& error) {
    ctx.fail(error.message());
  }
  return geometry;
}

Dims output_dims(const ConvGeometry& g) {
  Dims dims{g.batch, g.channels_out};
  dims.insert(dims.end(), g.output.begin(), g.output.end());
  return dims;
}

void conv_reference(RefContext& ctx) {
  const ConvGeometry g = checked_geometry(ctx);
  const auto x = to_doubles(ctx.input(0)), w = to_doubles(ctx.input(1));
  const auto b = ctx.has_input(2) ? to_doubles(ctx.input(2)) : std::vector<double>();
  const std::int64_t in_area = element_count(g.input), out_area = element_count(g.output), taps = element_count(g.window.kernel);
  const std::int64_t per_group = g.channels_in / g.groups, out_per_group = g.channels_out / g.groups;
  std::vector<double> y(static_cast<std::size_t>(g.batch * g.channels_out * out_area));
  for (std::int64_t n = 0; n < g.batch; ++n)
    for (std::int64_t o = 0; o < g.channels_out; ++o) {
      std::int64_t position = 0;
      for_each_index(g.output, [&](const Dims& at) {
        double sum = b.empty() ? 0.0 : b[static_cast<std::size_t>(o)];
        std::int64_t tap = 0;
        for_each_index(g.window.kernel, [&](const Dims& k) {
          const std::int64_t from = Walker{g, k, at}.offset();
          if (from >= 0)
            for (std::int64_t c = 0; c < per_group; ++c)
              sum += x[static_cast<std::size_t>((n * g.channels_in + o / out_per_group * per_group + c) * in_area + from)] *
                     w[static_cast<std::size_t>((o * per_group + c) * taps + tap)];
          ++tap;
        });
        y[static_cast<std::size_t>((n * g.channels_out + o) * out_area + position++)] = sum;
      });
    }
  ctx.set_output(0, from_doubles(ctx.input(0).dtype(), output_dims(g), y));
}

/// Where the taps of an output position read: per axis a table of (output index, tap) -> coordinate, -1 in the padding.
class TapPlaces {
 public:
  explicit TapPlaces(const ConvGeometry& g) : g_(g), coordinate_(g.input.size()) {
    for (std::size_t axis = 0; axis < g.input.size(); ++axis)
      for (std::int64_t o = 0; o < g.output[axis]; ++o)
        for (std::int64_t tap = 0; tap < g.window.kernel[axis]; ++tap) {
          const std::int64_t i = o * g.window.strides[axis] - g.window.pads_begin[axis] + tap * g.window.dilations[axis];
          coordinate_[axis].push_back(i >= 0 && i < g.input[axis] ? i : -1);
        }
  }
  /// Fills in one input position, or -1, for each tap.
  void of(std::int64_t position, std::vector<std::int64_t>& from) const {
    // From the innermost axis outwards: what is there repeats for each tap of the next axis.
    std::size_t filled = 1;
    std::int64_t area = 1;
    from[0] = 0;
    for (std::size_t axis = g_.input.size(); axis-- > 0;) {
      const auto extent = static_cast<std::size_t>(g_.window.kernel[axis]);
      const std::int64_t* at = coordinate_[axis].data() + position % g_.output[axis] * g_.window.kernel[axis];
      position /= g_.output[axis];
      for (std::size_t tap = extent; tap-- > 0;)
        for (std::size_t i = 0; i < filled; ++i) from[tap * filled + i] = at[tap] < 0 || from[i] < 0 ? -1 : at[tap] * area + from[i];
      filled *= extent;
      area *= g_.input[axis];
    }
  }

 private:
  const ConvGeometry& g_;
  std::vector<std::vector<std::int64_t>> coordinate_;
};

/// The same sums as one product per image and group: rows are output positions, k runs over (tap, channel), columns are channels out.
void conv_oracle(RefContext& ctx) {
  const ConvGeometry g = checked_geometry(ctx);
  const auto x = to_doubles(ctx.input(0)), w = to_doubles(ctx.input(1));
  const auto b = ctx.has_input(2) ? to_doubles(ctx.input(2)) : std::vector<double>();
  const std::int64_t in_area = element_count(g.input), out_area = element_count(g.output), taps = element_count(g.window.kernel);
  const std::int64_t per_group = g.channels_in / g.groups, out_per_group = g.channels_out / g.groups, k = taps * per_group;
  std::vector<double> y(static_cast<std::size_t>(g.batch * g.channels_out * out_area));
  const TapPlaces places(g);
  const auto one_group = [&](std::int64_t n, std::int64_t group) {
    const double* image = x.data() + (n * g.channels_in + group * per_group) * in_area;
    // Channels last, so that a row of the product copies whole pixels.
    std::vector<double> pixels(static_cast<std::size_t>(in_area * per_group));
    for (std::int64_t c = 0; c < per_group; ++c)
      for (std::int64_t i = 0; i < in_area; ++i) pixels[static_cast<std::size_t>(i * per_group + c)] = image[c * in_area + i];
    oracle_product(
        out_area, out_per_group, k,
        [&](std::int64_t row, std::int64_t rows, double* a) {
          std::vector<std::int64_t> from(static_cast<std::size_t>(taps));
          for (std::int64_t r = 0; r < rows; ++r) {
            places.of(row + r, from);
            for (std::int64_t tap = 0; tap < taps; ++tap) {
              double* to = a + r * k + tap * per_group;
              if (from[static_cast<std::size_t>(tap)] < 0) std::fill_n(to, per_group, 0.0);
              else std::copy_n(pixels.data() + from[static_cast<std::size_t>(tap)] * per_group, per_group, to);
            }
          }
        },
        [&](std::int64_t column, std::int64_t columns, double* to) {
          for (std::int64_t j = 0; j < columns; ++j) {
            const double* from = w.data() + (group * out_per_group + column + j) * k;
            for (std::int64_t c = 0; c < per_group; ++c)
              for (std::int64_t tap = 0; tap < taps; ++tap) to[(tap * per_group + c) * columns + j] = from[c * taps + tap];
          }
        },
        [&](std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns, const double* c) {
          for (std::int64_t j = 0; j < columns; ++j) {
            const std::int64_t o = group * out_per_group + column + j;
            double* to = y.data() + (n * g.channels_out + o) * out_area + row;
            const double bias = b.empty() ? 0.0 : b[static_cast<std::size_t>(o)];
            for (std::int64_t r = 0; r < rows; ++r) to[r] = c[r * columns + j] + bias;
          }
        });
  };
  // Many groups are small products: one thread each. A product alone shares itself out.
  const std::int64_t tasks = g.batch * g.groups;
  if (g.groups > 1) default_pool().parallel_for(tasks, [&](std::int64_t task, int) { one_group(task / g.groups, task % g.groups); });
  else
    for (std::int64_t n = 0; n < tasks; ++n) one_group(n, 0);
  ctx.set_output(0, from_doubles(ctx.input(0).dtype(), output_dims(g), y));
}

constexpr std::string_view kAttributes = "auto_pad:string=NOTSET dilations:ints? group:int=1 kernel_shape:ints? pads:ints? strides:ints?";

}  // namespace

std::span<const OpDef> ops_conv() {
  static const OpDef ops[] = {{
      .name = "Conv",
      .versions = {{1, "X:T W:T B?:T -> Y:T", kAttributes, "T: @float"},
                   {11, "X:T W:T B?:T -> Y:T", kAttributes, "T: @float"},
                   {22, "X:T W:T B?:T -> Y:T", kAttributes, "T: @float13"}},
      .infer = conv_infer,
      .reference = conv_reference,
      .oracle = conv_oracle,
      .tolerance = {.contraction = true},
      .expand = expand_conv_3d,
      .doc = "Convolution over any number of spatial axes, with groups, strides, dilations and pads.",
  }};
  return ops;
}

}  // namespace lathe::ops
