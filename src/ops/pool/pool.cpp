// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// MaxPool, AveragePool and their global forms: a reduction over a sliding window of each channel.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "loops/scalar.h"
#include "ops/pool/pool_lower.h"
#include "ops/ref_util.h"
#include "ops/registry_internal.h"

namespace lathe::ops {
namespace {

void max_pool_reference(RefContext& ctx) {
  const Tensor& x = ctx.input(0);
  const Window window = checked_window(ctx, x.dims());
  const PoolExtents e = extents_of(x.dims(), window);
  const auto values = to_doubles(x);
  std::vector<double> y(static_cast<std::size_t>(e.planes * e.out_area));
  std::vector<std::int64_t> indices(ctx.wants_output(1) ? y.size() : 0);
  const bool column_major = ctx.attrs().get_int("storage_order", 0) != 0;
  for (std::int64_t plane = 0; plane < e.planes; ++plane) {
    std::int64_t position = 0;
    for_each_index(e.spatial_out, [&](const Dims& at) {
      double best = -std::numeric_limits<double>::infinity();
      std::int64_t where = -1;
      visit_window(window, e, at, [&](std::int64_t offset) {
        const double value = values[static_cast<std::size_t>(plane * e.in_area + offset)];
        if (where < 0 || value > best) {
          best = value;
          where = offset;
        }
      });
      const auto to = static_cast<std::size_t>(plane * e.out_area + position++);
      y[to] = where < 0 && !is_float(x.dtype()) ? (x.dtype() == DType::kUint8 ? 0 : -128) : best;
      if (!indices.empty()) {
        if (column_major && where >= 0) {
          std::int64_t rest = where, transposed = 0, stride = 1;
          Dims index(e.spatial_in.size());
          for (std::size_t axis = index.size(); axis-- > 0;) {
            index[axis] = rest % e.spatial_in[axis];
            rest /= e.spatial_in[axis];
          }
          for (std::size_t axis = 0; axis < index.size(); ++axis) {
            transposed += index[axis] * stride;
            stride *= e.spatial_in[axis];
          }
          where = transposed;
        }
        indices[to] = plane * e.in_area + where;
      }
    });
  }
  ctx.set_output(0, from_doubles(x.dtype(), e.all_out, y));
  if (!indices.empty() || (ctx.wants_output(1) && y.empty())) ctx.set_output(1, from_int64s(DType::kInt64, e.all_out, indices));
}

void average_pool_reference(RefContext& ctx) {
  const Tensor& x = ctx.input(0);
  const Window window = checked_window(ctx, x.dims());
  const PoolExtents e = extents_of(x.dims(), window);
  const bool include_pad = ctx.attrs().get_int("count_include_pad", 0) != 0;
  const auto values = to_doubles(x);
  std::vector<double> y(static_cast<std::size_t>(e.planes * e.out_area));
  for (std::int64_t plane = 0; plane < e.planes; ++plane) {
    std::int64_t position = 0;
    for_each_index(e.spatial_out, [&](const Dims& at) {
      double sum = 0;
      std::int64_t taps = 0;
      const std::int64_t padded = visit_window(window, e, at, [&](std::int64_t offset) {
        sum += values[static_cast<std::size_t>(plane * e.in_area + offset)];
        ++taps;
      });
      y[static_cast<std::size_t>(plane * e.out_area + position++)] = sum / static_cast<double>(include_pad ? padded : taps);
    });
  }
  ctx.set_output(0, from_doubles(x.dtype(), e.all_out, y));
}

template <bool kMax>
void global_reference(RefContext& ctx) {
  const Tensor& x = ctx.input(0);
  if (const std::string defect = pool_rank_defect(x.dims().size()); !defect.empty()) ctx.fail(defect);
  const auto values = to_doubles(x);
  Dims out(x.dims().size(), 1);
  out[0] = x.dims()[0];
  out[1] = x.dims()[1];
  const std::int64_t planes = out[0] * out[1], area = element_count(Dims(x.dims().begin() + 2, x.dims().end()));
  std::vector<double> y(static_cast<std::size_t>(planes));
  for (std::int64_t plane = 0; plane < planes; ++plane) {
    double result = kMax ? -std::numeric_limits<double>::infinity() : 0.0;
    for (std::int64_t i = 0; i < area; ++i) {
      const double value = values[static_cast<std::size_t>(plane * area + i)];
      if (kMax) result = value > result || std::isnan(value) ? value : result;
      else result += value;
    }
    y[static_cast<std::size_t>(plane)] = kMax ? result : result / static_cast<double>(area);
  }
  ctx.set_output(0, from_doubles(x.dtype(), out, y));
}

using loops::ExprId;
using loops::ExprOp;
using loops::Reduce;
using loops::RegionBuilder;

bool is_asked(const Value* value) { return value && (!value->uses.empty() || value->is_graph_output()); }

constexpr std::int64_t kUnrolledTaps = 16;

/// The largest element of a window and its position in it, tap after tap.
std::pair<ExprId, ExprId> largest_of(RegionBuilder& r, const Value* x, const Window& window, const RegionBuilder::Indices& at, DType type, ExprId outside) {
  ExprId best = -1, where = r.integer(0);
  std::int64_t position = 0;
  for_each_index(window.kernel, [&](const Dims& tap) {
    RegionBuilder::Indices index{at[0], at[1]};
    for (std::size_t axis = 0; axis < window.rank(); ++axis) {
      const ExprId first = r.binary(ExprOp::kMul, at[axis + 2], r.integer(window.strides[axis]));
      index.push_back(r.binary(ExprOp::kAdd, first, r.integer(tap[axis] * window.dilations[axis] - window.pads_begin[axis])));
    }
    const ExprId value = r.cast(r.read_or(x, index, outside), type);
    const ExprId better = best < 0 ? -1 : r.binary(ExprOp::kGreater, value, best);
    where = best < 0 ? where : r.select(better, r.integer(position), where);
    best = best < 0 ? value : r.select(better, value, best);
    ++position;
  });
  return {best, where};
}

/// Where the first largest element of each window stands in the whole input, row by row or (storage_order) column by column of a plane.
void lower_indices(const Node& node, RegionBuilder& b, const Window& window, DType type, const RegionBuilder::Body& outside) {
  const Value* x = node.input(0);
  const Shape in = x->shape();
  const bool column_major = node.attrs.get_int("storage_order", 0) != 0;
  const bool unrolled = element_count(window.kernel) <= kUnrolledTaps;
  const Value* tap =
      unrolled ? nullptr : reduce_window(node, b, "window_position", window, Reduce::kArgMax, type, outside, [](RegionBuilder&, ExprId e) { return e; });
  b.define(node.output(1), [=](RegionBuilder& r, const RegionBuilder::Indices& at) {
    const auto add = [&](ExprId l, ExprId e) { return r.binary(ExprOp::kAdd, l, e); };
    const auto mul = [&](ExprId l, ExprId e) { return r.binary(ExprOp::kMul, l, e); };
    ExprId rest = unrolled ? largest_of(r, x, window, at, type, outside(r, at)).second : r.read(tap, at);
    std::vector<ExprId> index(window.rank());
    for (std::size_t axis = window.rank(); axis-- > 0;) {
      const ExprId k = r.binary(ExprOp::kMod, rest, r.integer(window.kernel[axis]));
      rest = r.binary(ExprOp::kFloorDiv, rest, r.integer(window.kernel[axis]));
      const ExprId place =
          add(add(mul(at[axis + 2], r.integer(window.strides[axis])), mul(k, r.integer(window.dilations[axis]))), r.integer(-window.pads_begin[axis]));
      // A window of nothing but -inf may have found one of the pads.
      index[axis] = r.binary(ExprOp::kMin, r.binary(ExprOp::kMax, place, r.integer(0)), r.dim(in[axis + 2] - Dim(1)));
    }
    if (column_major) std::reverse(index.begin(), index.end());
    ExprId where = r.integer(0);
    Dim area(1);
    for (std::size_t i = 0; i < index.size(); ++i) {
      const Dim& extent = in[(column_major ? index.size() - 1 - i : i) + 2];
      where = add(mul(where, r.dim(extent)), index[i]);
      area = area * extent;
    }
    return add(mul(add(mul(at[0], r.dim(in[1])), at[1]), r.dim(area)), where);
  });
}

/// A window reduction; taps outside the input read a fallback that changes nothing. The average divides by the taps inside, or by all
/// within the pads: both are sums of ones.
bool window_lower(const Node& node, RegionBuilder& b, bool maximum) {
  const Value* x = node.input(0);
  if (!can_lower_real(x, b)) return false;
  const auto known = known_window(node, b);
  if (!known) return false;
  const Window window = *known;
  const DType type = compute_dtype(x->dtype()), out_type = x->dtype();
  const Shape x_shape = x->shape();
  const bool include_pad = node.attrs.get_int("count_include_pad", 0) != 0;
  const auto outside = [=](RegionBuilder& r, const RegionBuilder::Indices&) {
    const loops::Scalar nothing = maximum ? loops::reduce_identity(Reduce::kMax, out_type) : loops::Scalar{};
    return is_float(out_type) ? r.constant(nothing.real, out_type) : r.cast(r.integer(nothing.whole), out_type);
  };
  const auto reduce = [&](const char* name, Reduce how) {
    return reduce_window(node, b, name, window, how, type, outside, [](RegionBuilder&, ExprId e) { return e; });
  };
  if (maximum) {
    const bool asked = is_asked(node.output(1));
    if (node.output() && asked && element_count(window.kernel) <= kUnrolledTaps) {
      b.define(node.output(),
               [=](RegionBuilder& r, const RegionBuilder::Indices& at) { return r.cast(largest_of(r, x, window, at, type, outside(r, at)).first, out_type); });
    } else if (node.output()) {
      const Value* largest = reduce("window_max", Reduce::kMax);
      b.define(node.output(), [=](RegionBuilder& r, const RegionBuilder::Indices& at) { return r.cast(r.read(largest, at), out_type); });
    }
    if (asked) lower_indices(node, b, window, type, outside);
    return true;
  }
  const Value* reduced = reduce("window_sum", Reduce::kSum);
  b.define(node.output(), [=](RegionBuilder& r, const RegionBuilder::Indices& at) {
    // Taps inside [low, high) on each axis, counted in closed form.
    ExprId count = r.constant(1.0, type);
    for (std::size_t axis = 0; axis < window.rank(); ++axis) {
      const std::int64_t low = include_pad ? -window.pads_begin[axis] : 0;
      const ExprId high = r.binary(ExprOp::kAdd, r.dim(x_shape[axis + 2]), r.integer(include_pad ? window.pads_end[axis] : 0));
      const ExprId start = r.binary(ExprOp::kSub, r.binary(ExprOp::kMul, at[axis + 2], r.integer(window.strides[axis])), r.integer(window.pads_begin[axis]));
      const std::int64_t step = window.dilations[axis];
      // First tap k with start + k * step >= low; first with start + k * step >= high.
      const auto first_at = [&](ExprId bound) {
        const ExprId room = r.binary(ExprOp::kSub, bound, start);
        const ExprId k = r.binary(ExprOp::kFloorDiv, r.binary(ExprOp::kAdd, room, r.integer(step - 1)), r.integer(step));
        return r.binary(ExprOp::kMin, r.binary(ExprOp::kMax, k, r.integer(0)), r.integer(window.kernel[axis]));
      };
      count = r.binary(ExprOp::kMul, count, r.cast(r.binary(ExprOp::kSub, first_at(high), first_at(r.integer(low))), type));
    }
    return r.cast(r.binary(ExprOp::kDiv, r.read(reduced, at), count), out_type);
  });
  return true;
}

bool global_lower(const Node& node, RegionBuilder& b, bool maximum) {
  const Value* x = node.input(0);
  if (!can_lower_real(x, b)) return false;
  const DType type = compute_dtype(x->dtype()), out_type = x->dtype();
  const Value* total =
      reduce_planes(node, b, maximum ? "plane_max" : "plane_sum", maximum ? Reduce::kMax : Reduce::kSum, type, [](RegionBuilder&, ExprId e) { return e; });
  const Dim count = ir::product(Shape(x->shape().begin() + 2, x->shape().end()));
  b.define(node.output(), [=](RegionBuilder& r, const RegionBuilder::Indices& at) {
    ExprId value = r.read(total, at);
    if (!maximum) value = r.binary(ExprOp::kDiv, value, r.cast(r.dim(count), type));
    return r.cast(value, out_type);
  });
  return true;
}

constexpr std::string_view kMax8 = "auto_pad:string=NOTSET kernel_shape:ints pads:ints? storage_order:int=0 strides:ints?";
constexpr std::string_view kMax10 = "auto_pad:string=NOTSET ceil_mode:int=0 dilations:ints? kernel_shape:ints pads:ints? storage_order:int=0 strides:ints?";
constexpr std::string_view kAverage10 = "auto_pad:string=NOTSET ceil_mode:int=0 count_include_pad:int=0 kernel_shape:ints pads:ints? strides:ints?";
constexpr std::string_view kAverage19 =
    "auto_pad:string=NOTSET ceil_mode:int=0 count_include_pad:int=0 dilations:ints? kernel_shape:ints pads:ints? strides:ints?";

}  // namespace

std::span<const OpDef> ops_pool() {
  static const std::vector<OpDef> ops = [] {
    std::vector<OpDef> list{
        {.name = "MaxPool",
         .versions = {{1, "X:T -> Y:T", "auto_pad:string=NOTSET kernel_shape:ints pads:ints? strides:ints?", "T: @float"},
                      {8, "X:T -> Y:T Indices?:I", kMax8, "T: @float; I: int64"},
                      {10, "X:T -> Y:T Indices?:I", kMax10, "T: @float; I: int64"},
                      {11, "X:T -> Y:T Indices?:I", kMax10, "T: @float; I: int64"},
                      {12, "X:T -> Y:T Indices?:I", kMax10, "T: @float int8 uint8; I: int64"},
                      {22, "X:T -> Y:T Indices?:I", kMax10, "T: @float13 int8 uint8; I: int64"}},
         .infer = pool_infer,
         .reference = max_pool_reference,
         .lower = [](const Node& node, RegionBuilder& b) { return window_lower(node, b, true); },
         .doc = "Maximum over a sliding window, with the maxima's positions on request."},
        {.name = "AveragePool",
         .versions = {{1, "X:T -> Y:T", "auto_pad:string=NOTSET kernel_shape:ints pads:ints? strides:ints?", "T: @float"},
                      {7, "X:T -> Y:T", "auto_pad:string=NOTSET count_include_pad:int=0 kernel_shape:ints pads:ints? strides:ints?", "T: @float"},
                      {10, "X:T -> Y:T", kAverage10, "T: @float"},
                      {11, "X:T -> Y:T", kAverage10, "T: @float"},
                      {19, "X:T -> Y:T", kAverage19, "T: @float"},
                      {22, "X:T -> Y:T", kAverage19, "T: @float13"}},
         .infer = pool_infer,
         .reference = average_pool_reference,
         .tolerance = {.relative = 1e-6, .absolute = 1e-6},
         .lower = [](const Node& node, RegionBuilder& b) { return window_lower(node, b, false); },
         .doc = "Mean over a sliding window, with or without the pads."},
        {.name = "GlobalAveragePool",
         .versions = {{1, "X:T -> Y:T", "", "T: @float"}, {22, "X:T -> Y:T", "", "T: @float13"}},
         .infer = global_pool_infer,
         .reference = global_reference<false>,
         .tolerance = {.relative = 1e-6, .absolute = 1e-6},
         .lower = [](const Node& node, RegionBuilder& b) { return global_lower(node, b, false); },
         .doc = "Mean over all spatial axes."},
        {.name = "GlobalMaxPool",
         .versions = {{1, "X:T -> Y:T", "", "T: @float"}, {22, "X:T -> Y:T", "", "T: @float13"}},
         .infer = global_pool_infer,
         .reference = global_reference<true>,
         .lower = [](const Node& node, RegionBuilder& b) { return global_lower(node, b, true); },
         .doc = "Maximum over all spatial axes."},
    };
    for (auto& more : {lp_pool_ops(), max_unpool_ops()}) list.insert(list.end(), more.begin(), more.end());
    return list;
  }();
  return ops;
}

}  // namespace lathe::ops
