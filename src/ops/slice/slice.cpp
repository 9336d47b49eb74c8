// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Slice, Trilu, ReverseSequence: parts of a tensor by position.
#include <algorithm>
#include <numeric>

#include "loops/builder.h"
#include "ops/control/join.h"
#include "ops/infer.h"
#include "ops/ref_util.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

using loops::ExprOp;

// Slice --------------------------------------------------------------------------------------------------------------

/// First index and count along one axis.
struct Window {
  Dim start, count;
  std::int64_t step = 1;
};

/// An end at or beyond this means "to the end", whatever the extent (exporters write INT32_MAX or INT64_MAX).
constexpr std::int64_t kToTheEnd = 0x7fffffff;

/// A position clamped to [0, extent] for forward steps.
Dim clamp_position(const Dim& position, const Dim& extent) {
  if (const auto p = position.constant()) {
    if (*p == 0) return 0;
    if (*p >= kToTheEnd) return extent;
    if (const auto e = extent.constant()) return Dim(std::clamp<std::int64_t>(*p < 0 ? *p + *e : *p, 0, *e));
    if (*p < 0) return Dim::max(extent + position, Dim(0));
    return Dim::min(position, extent);
  }
  if (position == extent) return extent;
  if (position.lower_bound().value_or(-1) >= 0) return Dim::min(position, extent);
  // Only the run tells on which side of zero it lies: 1 where it counts from the end.
  const Dim from_end = Dim::min(Dim(1), Dim::max(Dim(0) - position, Dim(0)));
  return Dim::min(Dim::max(position + extent * from_end, Dim(0)), extent);
}

std::optional<Window> window(const Dim& start, const Dim& end, std::int64_t step, const Dim& extent) {
  if (step > 0) {
    const Dim first = clamp_position(start, extent), last = clamp_position(end, extent), length = last - first;
    // Neither position is below zero or beyond the extent, whatever the bounds of expressions tell.
    const bool never_negative = first == Dim(0) || last == extent || length.lower_bound().value_or(-1) >= 0;
    const Dim some = never_negative ? length : Dim::max(length, Dim(0));
    return Window{first, step == 1 ? some : Dim::ceildiv(some, Dim(step)), step};
  }
  const auto s = start.constant(), e = end.constant(), n = extent.constant();
  if (s && e && n) {
    const std::int64_t first = std::clamp<std::int64_t>(*s < 0 ? *s + *n : *s, -1, *n - 1);
    const std::int64_t last = std::clamp<std::int64_t>(*e < 0 ? std::max<std::int64_t>(*e, -*n - 1) + *n : *e, -1, *n - 1);
    return Window{Dim(first), Dim(std::max<std::int64_t>(0, (first - last - step - 1) / -step)), step};
  }
  const bool whole = s && (*s == -1 || *s >= kToTheEnd) && e && *e <= -kToTheEnd;
  if (whole) return Window{extent - Dim(1), Dim::ceildiv(extent, Dim(-step)), step};
  return std::nullopt;
}

struct Parameters {
  std::vector<std::int64_t> axes, steps;
  std::vector<Dim> starts, ends;
};

/// The axes and steps must be numbers; starts and ends may be expressions. nullopt: not known.
template <class Content, class Axis>
std::optional<Parameters> slice_parameters(const Node& node, std::size_t rank, Content&& content, Axis&& normal) {
  Parameters p;
  const auto starts = content(1), ends = content(2);
  if (!starts || !ends || starts->size() != ends->size()) return std::nullopt;
  p.starts = *starts;
  p.ends = *ends;
  if (node.input(3)) {
    const auto axes = content(3);
    const auto numbers = axes ? ir::constant_dims(*axes) : std::nullopt;
    if (!numbers || numbers->size() != p.starts.size()) return std::nullopt;
    for (const auto axis : *numbers) p.axes.push_back(normal(axis));
  } else {
    if (p.starts.size() > rank) return std::nullopt;
    p.axes.resize(p.starts.size());
    std::iota(p.axes.begin(), p.axes.end(), 0);
  }
  p.steps.assign(p.starts.size(), 1);
  if (node.input(4)) {
    const auto steps = content(4);
    const auto numbers = steps ? ir::constant_dims(*steps) : std::nullopt;
    if (!numbers || numbers->size() != p.starts.size()) return std::nullopt;
    p.steps = *numbers;
  }
  return p;
}

void slice_infer(InferContext& ctx) {
  const auto& in = ctx.shape(0);
  if (!in) return ctx.set_unknown(0, ctx.dtype(0));
  const auto rank = static_cast<std::int64_t>(in->size());
  const auto p = slice_parameters(
      ctx.node(), in->size(), [&](std::size_t i) { return ctx.content(i); }, [&](std::int64_t axis) { return infer_axis(ctx, axis, rank); });
  if (!p) {
    // Which axes are cut may still be known.
    Shape out = fresh_shape(ctx, in->size());
    if (const auto axes = ctx.has_input(3) ? constant_content(ctx, 3) : std::nullopt) {
      const auto cut = infer_axes(ctx, *axes, rank);
      for (std::int64_t a = 0; a < rank; ++a) {
        if (std::find(cut.begin(), cut.end(), a) == cut.end()) out[static_cast<std::size_t>(a)] = (*in)[static_cast<std::size_t>(a)];
      }
    }
    return ctx.set(0, ctx.dtype(0), out);
  }
  Shape out = *in;
  std::optional<Window> last;
  for (std::size_t i = 0; i < p->axes.size(); ++i) {
    const auto axis = static_cast<std::size_t>(p->axes[i]);
    if (p->steps[i] == 0) ctx.fail("step 0 on axis " + std::to_string(axis));
    const bool sure = ctx.is_extent(p->starts[i]) && ctx.is_extent(p->ends[i]);
    last = sure ? window(p->starts[i], p->ends[i], p->steps[i], (*in)[axis]) : std::nullopt;
    out[axis] = last ? last->count : ctx.fresh_symbol();
  }
  ctx.set(0, ctx.dtype(0), out);
  if (rank != 1) return;
  const auto content = ctx.content(0);
  if (!content) return;
  if (p->axes.empty()) return ctx.set_content(0, *content);
  if (p->axes.size() != 1 || !last || !last->start.is_constant() || !last->count.is_constant()) return;
  const std::int64_t start = *last->start.constant(), count = *last->count.constant();
  std::vector<Dim> part;
  for (std::int64_t k = 0; k < count; ++k) part.push_back((*content)[static_cast<std::size_t>(start + k * last->step)]);
  ctx.set_content(0, std::move(part));
}

void slice_reference(RefContext& ctx) {
  const Tensor& in = ctx.input(0);
  const auto contents = [&](std::size_t i) -> std::optional<std::vector<Dim>> {
    const auto values = ctx.input(i).to_int64_vector();
    return std::vector<Dim>(values.begin(), values.end());
  };
  const auto p = slice_parameters(ctx.node(), in.dims().size(), contents, [&](std::int64_t axis) { return ref_axis(ctx, axis, in.rank()); });
  if (!p) ctx.fail("starts, ends, axes and steps differ in length");
  const Dims strides = strides_of(in.dims());
  Dims dims = in.dims(), step = strides;
  std::int64_t offset = 0;
  // What lies on a device is cut there, an axis at a time.
  Tensor part = is_worth_keeping_remote(in) && std::all_of(p->steps.begin(), p->steps.end(), [](std::int64_t s) { return s == 1; }) ? in : Tensor();
  for (std::size_t i = 0; i < p->axes.size(); ++i) {
    const auto axis = static_cast<std::size_t>(p->axes[i]);
    if (p->steps[i] == 0) ctx.fail("step 0 on axis " + std::to_string(axis));
    const auto w = window(p->starts[i], p->ends[i], p->steps[i], Dim(in.dims()[axis]));
    if (part.defined()) part = take_along(part, p->axes[i], *w->start.constant(), *w->count.constant());
    dims[axis] = *w->count.constant();
    offset += *w->start.constant() * strides[axis];
    step[axis] = strides[axis] * p->steps[i];
  }
  ctx.set_output(0, part.defined() ? std::move(part) : strided(in, std::move(dims), std::move(step), offset));
}

bool slice_lower(const Node& node, loops::RegionBuilder& builder) {
  const Value* in = node.input(0);
  if (!in->has_shape() || in->dtype() == DType::kString) {
    builder.decline("unknown rank, or strings");
    return false;
  }
  const auto rank = static_cast<std::int64_t>(in->shape().size());
  const auto p = slice_parameters(
      node, in->shape().size(), [&](std::size_t i) { return known_content(*node.input(i)); }, [&](std::int64_t axis) { return axis < 0 ? axis + rank : axis; });
  std::vector<std::pair<std::size_t, Window>> cuts;
  for (std::size_t i = 0; p && i < p->axes.size(); ++i) {
    const auto axis = static_cast<std::size_t>(p->axes[i]);
    const auto w = window(p->starts[i], p->ends[i], p->steps[i], in->shape()[axis]);
    if (!w) break;
    cuts.emplace_back(axis, *w);
  }
  if (!p || cuts.size() != p->axes.size()) {
    builder.decline("Slice bounds known at run time only");
    return false;
  }
  builder.define(node.output(), [in, cuts](loops::RegionBuilder& b, const auto& i) {
    auto source = i;
    for (const auto& [axis, w] : cuts) {
      source[axis] = b.binary(ExprOp::kAdd, b.dim(w.start), b.binary(ExprOp::kMul, source[axis], b.integer(w.step)));
    }
    return b.read(in, source);
  });
  return true;
}

// Versions below 10 carry starts, ends and axes as attributes.
void slice_upgrade(UpgradeContext& ctx) {
  if (ctx.from_version >= 10) return;
  attribute_to_input(ctx, "starts", 1);
  attribute_to_input(ctx, "ends", 2);
  attribute_to_input(ctx, "axes", 3);
}

// Trilu --------------------------------------------------------------------------------------------------------------

void trilu_reference(RefContext& ctx) {
  const Tensor& in = ctx.input(0);
  if (in.rank() < 2) ctx.fail("takes rank 2 or more, got " + lathe::to_string(in.dims()));
  const std::int64_t k = ctx.has_input(1) ? ctx.input(1).as_int64(0) : 0;
  const bool upper = ctx.attrs().get_int("upper", 1) != 0;
  const std::int64_t columns = in.dims()[in.dims().size() - 1], rows = in.dims()[in.dims().size() - 2];
  ctx.set_output(0, remap(in, in.dims(), [&](std::int64_t i) {
                   const std::int64_t column = i % columns, row = i / columns % rows;
                   return (upper ? column - row >= k : column - row <= k) ? i : -1;
                 }));
}

bool trilu_lower(const Node& node, loops::RegionBuilder& builder) {
  const Value* in = node.input(0);
  const auto k = node.input(1) ? known_content(*node.input(1)) : std::optional(std::vector<Dim>{Dim(0)});
  if (!in->has_shape() || in->dtype() == DType::kString || !k || k->size() != 1) {
    builder.decline("unknown rank or diagonal, or strings");
    return false;
  }
  const bool upper = node.attrs.get_int("upper", 1) != 0;
  builder.define(node.output(), [in, upper, diagonal = k->front()](loops::RegionBuilder& b, const auto& i) {
    const auto distance = b.binary(ExprOp::kSub, i[i.size() - 1], i[i.size() - 2]);
    const auto kept = b.binary(upper ? ExprOp::kGreaterEqual : ExprOp::kLessEqual, distance, b.dim(diagonal));
    return b.select(kept, b.read(in, i), b.constant(0, in->dtype()));
  });
  return true;
}

// ReverseSequence ----------------------------------------------------------------------------------------------------

void reverse_sequence_reference(RefContext& ctx) {
  const Tensor& in = ctx.input(0);
  const std::int64_t batch_axis = ref_axis(ctx, ctx.attrs().get_int("batch_axis", 1), in.rank());
  const std::int64_t time_axis = ref_axis(ctx, ctx.attrs().get_int("time_axis", 0), in.rank());
  const auto lengths = ctx.input(1).to_int64_vector();
  const auto batch = static_cast<std::size_t>(batch_axis), time = static_cast<std::size_t>(time_axis);
  if (batch == time) ctx.fail("batch_axis and time_axis are the same");
  if (static_cast<std::int64_t>(lengths.size()) != in.dims()[batch])
    ctx.fail("has " + std::to_string(lengths.size()) + " lengths for " + lathe::to_string(in.dims()));
  for (const auto length : lengths)
    if (length > in.dims()[time]) ctx.fail("the length " + std::to_string(length) + " is more than the " + std::to_string(in.dims()[time]) + " steps");
  const Dims strides = strides_of(in.dims());
  ctx.set_output(0, remap_nd(in, in.dims(), [&](const Dims& i) {
                   const std::int64_t length = lengths[static_cast<std::size_t>(i[batch])];
                   std::int64_t at = std::inner_product(i.begin(), i.end(), strides.begin(), std::int64_t{0});
                   if (i[time] < length) at += (length - 1 - 2 * i[time]) * strides[time];
                   return at;
                 }));
}

bool reverse_sequence_lower(const Node& node, loops::RegionBuilder& builder) {
  const Value *in = node.input(0), *lengths = node.input(1);
  if (!in->has_shape() || !lengths->has_shape() || lengths->shape().size() != 1 || in->dtype() == DType::kString) {
    builder.decline("unknown rank, or strings");
    return false;
  }
  const auto rank = static_cast<std::int64_t>(in->shape().size());
  const auto axis = [&](const char* name, std::int64_t standard) {
    const std::int64_t given = node.attrs.get_int(name, standard);
    return given < 0 ? given + rank : given;
  };
  const std::int64_t batch = axis("batch_axis", 1), time = axis("time_axis", 0);
  if (batch < 0 || batch >= rank || time < 0 || time >= rank || batch == time) {
    builder.decline("axes out of range");
    return false;
  }
  builder.define(node.output(), [=](loops::RegionBuilder& b, const auto& i) {
    b.require_equal(lengths, lengths->shape()[0], in->shape()[static_cast<std::size_t>(batch)]);
    const auto length = b.read(lengths, {i[static_cast<std::size_t>(batch)]}), step = i[static_cast<std::size_t>(time)];
    const auto mirrored = b.binary(ExprOp::kSub, b.binary(ExprOp::kSub, length, b.integer(1)), step);
    auto at = i;
    at[static_cast<std::size_t>(time)] = b.select(b.binary(ExprOp::kLess, step, length), mirrored, step);
    return b.read_or(in, at, b.constant(0, in->dtype()));
  });
  return true;
}

void same_shape_infer(InferContext& ctx) { ctx.set_type(0, ctx.node().input(0)->type); }

}  // namespace

std::span<const OpDef> ops_slice() {
  constexpr std::string_view kIo = "data:T starts:Tind ends:Tind axes?:Tind steps?:Tind -> output:T";
  constexpr std::string_view kReverse = "input:T sequence_lens:int64 -> Y:T", kAxes = "time_axis:int=0 batch_axis:int=1";
  static const std::vector<OpDef> ops{
      {.name = "Slice",
       .versions = {{1, "data:T -> output:T", "starts:ints ends:ints axes:ints?", "T: @all"},
                    {10, kIo, "", "T: @all; Tind: int32 int64"},
                    {11, kIo, "", "T: @all; Tind: int32 int64"},
                    {13, kIo, "", "T: @all13; Tind: int32 int64"}},
       .upgrade = slice_upgrade,
       .infer = slice_infer,
       .reference = slice_reference,
       .lower = slice_lower,
       .doc = "a window with steps along some axes"},
      {.name = "Trilu",
       .versions = {{14, "input:T k?:int64 -> output:T", "upper:int=1", "T: @all13"}},
       .infer = same_shape_infer,
       .reference = trilu_reference,
       .lower = trilu_lower,
       .doc = "the upper or lower triangle"},
      {.name = "ReverseSequence",
       .versions = {{10, kReverse, kAxes, "T: @all"}, {28, kReverse, kAxes, "T: @all13"}},
       .infer = same_shape_infer,
       .reference = reverse_sequence_reference,
       .lower = reverse_sequence_lower,
       .doc = "sequences of given lengths reversed"},
  };
  return ops;
}

}  // namespace lathe::ops
