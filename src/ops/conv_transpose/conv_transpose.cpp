// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// ConvTranspose: the gradient of Conv with respect to its input. Each input element adds its weights to a window of the output:
//   Y[n, o, x * stride - pad + k * dilation] += X[n, c, x] * W[c, o, k]

#include <fmt/format.h>

#include <algorithm>

#include "ops/oracle_gemm.h"
#include "ops/ref_util.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

struct Geometry {
  std::vector<std::int64_t> kernel, strides, dilations, output_padding, pads_begin;
  std::int64_t groups = 1;
  Dims input, output;  ///< spatial
};

std::vector<std::int64_t> list_of(const Attrs& attrs, const char* name, std::size_t length, std::int64_t fallback) {
  std::vector<std::int64_t> values = attrs.get_ints(name);
  if (values.empty()) values.assign(length, fallback);
  if (values.size() != length) throw Error(Code::kInvalidModel, fmt::format("attribute '{}' has {} values, expected {}", name, values.size(), length));
  return values;
}

/// Output extent of one axis; what output_shape and SAME_* rule is handled by the caller.
template <class D>
D natural_extent(const D& in, std::int64_t stride, std::int64_t output_padding, std::int64_t reach) {
  return (in - D(1)) * D(stride) + D(output_padding + reach);
}

void conv_transpose_infer(InferContext& ctx) {
  const auto &x = ctx.shape(0), &w = ctx.shape(1);
  if (!x || !w) return x ? ctx.set(0, ctx.dtype(0), fresh_shape(ctx, x->size())) : ctx.set_unknown(0, ctx.dtype(0));
  if (x->size() < 3 || w->size() != x->size())
    ctx.fail(fmt::format("the input has rank {} and the weight rank {}; both must have the same rank, at least 3", x->size(), w->size()));
  if (const auto c = (*x)[1].constant(), cw = (*w)[0].constant(); c && cw && *c != *cw)
    ctx.fail(fmt::format("the input has {} channels, the weight {} takes {}", *c, ir::to_string(*w), *cw));
  const std::size_t rank = x->size() - 2;
  Shape shape{(*x)[0], (*w)[1] * Dim(ctx.attrs().get_int("group", 1))};
  try {
    const auto strides = list_of(ctx.attrs(), "strides", rank, 1), dilations = list_of(ctx.attrs(), "dilations", rank, 1);
    const auto padding = list_of(ctx.attrs(), "output_padding", rank, 0), pads = list_of(ctx.attrs(), "pads", 2 * rank, 0);
    auto given = ctx.attrs().get_ints("output_shape");
    if (given.size() == rank + 2) given.erase(given.begin(), given.begin() + 2);
    const std::string automatic = ctx.attrs().get_string("auto_pad", "NOTSET");
    for (std::size_t axis = 0; axis < rank; ++axis) {
      const Dim& in = (*x)[axis + 2];
      const auto kernel = (*w)[axis + 2].constant();
      if (!given.empty()) {
        shape.push_back(Dim(given.at(axis)));
      } else if (automatic.starts_with("SAME")) {
        shape.push_back(in * Dim(strides[axis]));
      } else if (!kernel) {
        shape.push_back(ctx.fresh_symbol());
      } else {
        const std::int64_t removed = automatic == "VALID" ? 0 : pads[axis] + pads[axis + rank];
        shape.push_back(natural_extent(in, strides[axis], padding[axis], (*kernel - 1) * dilations[axis] + 1) - Dim(removed));
      }
    }
  } catch (const Error& error) {
    if (!error.node().empty()) throw;
    ctx.fail(error.message());
  }
  ctx.set(0, ctx.dtype(0), std::move(shape));
}

Geometry geometry_of(RefContext& ctx) {
  const Dims &x = ctx.input(0).dims(), &w = ctx.input(1).dims();
  if (x.size() < 3 || w.size() != x.size()) ctx.fail(fmt::format("the input has rank {} and the weight rank {}", x.size(), w.size()));
  Geometry g;
  const std::size_t rank = x.size() - 2;
  g.groups = ctx.attrs().get_int("group", 1);
  if (w[0] != x[1] || g.groups < 1 || w[0] % g.groups != 0)
    ctx.fail(fmt::format("the input has {} channels, the weight {} takes {} in {} groups", x[1], to_string(w), w[0], g.groups));
  g.kernel.assign(w.begin() + 2, w.end());
  g.input.assign(x.begin() + 2, x.end());
  try {
    g.strides = list_of(ctx.attrs(), "strides", rank, 1);
    g.dilations = list_of(ctx.attrs(), "dilations", rank, 1);
    g.output_padding = list_of(ctx.attrs(), "output_padding", rank, 0);
    const auto pads = list_of(ctx.attrs(), "pads", 2 * rank, 0);
    auto given = ctx.attrs().get_ints("output_shape");
    if (given.size() == rank + 2) given.erase(given.begin(), given.begin() + 2);
    const std::string automatic = ctx.attrs().get_string("auto_pad", "NOTSET");
    for (std::size_t axis = 0; axis < rank; ++axis) {
      const std::int64_t natural = natural_extent(g.input[axis], g.strides[axis], g.output_padding[axis], (g.kernel[axis] - 1) * g.dilations[axis] + 1);
      if (given.empty() && !automatic.starts_with("SAME")) {
        const bool valid = automatic == "VALID";
        g.pads_begin.push_back(valid ? 0 : pads[axis]);
        g.output.push_back(natural - (valid ? 0 : pads[axis] + pads[axis + rank]));
        continue;
      }
      g.output.push_back(given.empty() ? g.input[axis] * g.strides[axis] : given.at(axis));
      const std::int64_t total = std::max<std::int64_t>(0, natural - g.output[axis]);
      g.pads_begin.push_back(automatic == "SAME_UPPER" ? total / 2 : total - total / 2);
    }
  } catch (const Error& error) {
    ctx.fail(error.message());
  }
  for (const std::int64_t extent : g.output)
    if (extent < 0) ctx.fail("the output would have a negative extent");
  return g;
}

/// Adds `columns[x][o][k]` (the products of one image and group) into the output planes.
template <class Columns>
void scatter(const Geometry& g, std::int64_t channels, Columns&& columns, double* y) {
  const std::int64_t out_area = element_count(g.output);
  std::int64_t position = 0;
  for_each_index(g.input, [&](const Dims& at) {
    std::int64_t tap = 0;
    for_each_index(g.kernel, [&](const Dims& k) {
      std::int64_t to = 0;
      bool inside = true;
      for (std::size_t axis = 0; axis < at.size(); ++axis) {
        const std::int64_t i = at[axis] * g.strides[axis] - g.pads_begin[axis] + k[axis] * g.dilations[axis];
        inside &= i >= 0 && i < g.output[axis];
        to = to * g.output[axis] + i;
      }
      if (inside)
        for (std::int64_t o = 0; o < channels; ++o) y[o * out_area + to] += columns(position, o, tap);
      ++tap;
    });
    ++position;
  });
}

template <bool kOracle>
void conv_transpose_run(RefContext& ctx) {
  const Geometry g = geometry_of(ctx);
  const auto x = to_doubles(ctx.input(0)), w = to_doubles(ctx.input(1));
  const auto b = ctx.has_input(2) ? to_doubles(ctx.input(2)) : std::vector<double>();
  const std::int64_t batch = ctx.input(0).dims()[0], cin = ctx.input(0).dims()[1], per_group = cin / g.groups, out_per_group = ctx.input(1).dims()[1];
  const std::int64_t in_area = element_count(g.input), out_area = element_count(g.output), taps = element_count(g.kernel), cout = out_per_group * g.groups;
  std::vector<double> y(static_cast<std::size_t>(batch * cout * out_area), 0.0);
  std::vector<double> columns(kOracle ? static_cast<std::size_t>(in_area * out_per_group * taps) : 0);
  for (std::int64_t n = 0; n < batch; ++n)
    for (std::int64_t group = 0; group < g.groups; ++group) {
      const double* image = x.data() + (n * cin + group * per_group) * in_area;
      const double* weights = w.data() + group * per_group * out_per_group * taps;
      double* planes = y.data() + (n * cout + group * out_per_group) * out_area;
      if (!b.empty())
        for (std::int64_t o = 0; o < out_per_group; ++o) std::fill_n(planes + o * out_area, out_area, b[static_cast<std::size_t>(group * out_per_group + o)]);
      const std::int64_t width = out_per_group * taps;
      if (kOracle) {
        oracle_product(
            in_area, width, per_group,
            [&](std::int64_t row, std::int64_t rows, double* a) {
              for (std::int64_t r = 0; r < rows; ++r)
                for (std::int64_t c = 0; c < per_group; ++c) a[r * per_group + c] = image[c * in_area + row + r];
            },
            [&](std::int64_t column, std::int64_t count, double* to) {
              for (std::int64_t c = 0; c < per_group; ++c) std::copy_n(weights + c * width + column, count, to + c * count);
            },
            [&](std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t count, const double* c) {
              for (std::int64_t r = 0; r < rows; ++r) std::copy_n(c + r * count, count, columns.data() + (row + r) * width + column);
            });
        scatter(
            g, out_per_group,
            [&](std::int64_t position, std::int64_t o, std::int64_t tap) { return columns[static_cast<std::size_t>(position * width + o * taps + tap)]; },
            planes);
      } else {
        scatter(
            g, out_per_group,
            [&](std::int64_t position, std::int64_t o, std::int64_t tap) {
              double sum = 0;
              for (std::int64_t c = 0; c < per_group; ++c) sum += image[c * in_area + position] * weights[(c * out_per_group + o) * taps + tap];
              return sum;
            },
            planes);
      }
    }
  Dims out{batch, cout};
  out.insert(out.end(), g.output.begin(), g.output.end());
  ctx.set_output(0, from_doubles(ctx.input(0).dtype(), out, y));
}

constexpr std::string_view kAttributes =
    "auto_pad:string=NOTSET dilations:ints? group:int=1 kernel_shape:ints? output_padding:ints? output_shape:ints? pads:ints? strides:ints?";

}  // namespace

std::span<const OpDef> ops_conv_transpose() {
  static const OpDef ops[] = {{
      .name = "ConvTranspose",
      .versions = {{1, "X:T W:T B?:T -> Y:T", kAttributes, "T: @float"},
                   {11, "X:T W:T B?:T -> Y:T", kAttributes, "T: @float"},
                   {22, "X:T W:T B?:T -> Y:T", kAttributes, "T: @float13"}},
      .infer = conv_transpose_infer,
      .reference = conv_transpose_run<false>,
      .oracle = conv_transpose_run<true>,
      .tolerance = {.contraction = true},
      .doc = "Transposed convolution over any number of spatial axes.",
  }};
  return ops;
}

}  // namespace lathe::ops
