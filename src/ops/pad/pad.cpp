// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Pad and CenterCropPad: elements added around a tensor, or cut from it.
//
// Negative amounts cut. The elements of modes reflect, edge and wrap come from what the cuts leave; reflect and wrap go on beyond one
// period, as NumPy's do.
#include <algorithm>
#include <numeric>

#include "loops/builder.h"
#include "ops/infer.h"
#include "ops/ref_util.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

using loops::ExprId;
using loops::ExprOp;

enum class Mode : std::uint8_t { kConstant, kReflect, kEdge, kWrap };

std::optional<Mode> mode_of(const Attrs& attrs) {
  const std::string mode = attrs.get_string("mode", "constant");
  if (mode == "constant") return Mode::kConstant;
  if (mode == "reflect") return Mode::kReflect;
  if (mode == "edge") return Mode::kEdge;
  if (mode == "wrap") return Mode::kWrap;
  return std::nullopt;
}

/// Axes that input `i` names, or all of them.
template <class Content, class Axis>
std::optional<std::vector<std::size_t>> padded_axes(bool given, std::size_t rank, Content&& content, Axis&& normal) {
  std::vector<std::size_t> axes;
  if (!given) {
    axes.resize(rank);
    std::iota(axes.begin(), axes.end(), std::size_t{0});
    return axes;
  }
  const std::optional<std::vector<std::int64_t>> numbers = content();
  if (!numbers) return std::nullopt;
  for (const std::int64_t axis : *numbers) axes.push_back(static_cast<std::size_t>(normal(axis)));
  return axes;
}

// Pad ----------------------------------------------------------------------------------------------------------------

void pad_infer(InferContext& ctx) {
  if (!mode_of(ctx.attrs())) ctx.fail("the mode '" + ctx.attrs().get_string("mode", "") + "' is none of constant, reflect, edge, wrap");
  const auto& in = ctx.shape(0);
  if (!in) return ctx.set_unknown(0, ctx.dtype(0));
  const auto axes = padded_axes(
      ctx.has_input(3), in->size(), [&] { return constant_content(ctx, 3); },
      [&](std::int64_t axis) { return infer_axis(ctx, axis, static_cast<std::int64_t>(in->size())); });
  if (!axes) return ctx.set(0, ctx.dtype(0), fresh_shape(ctx, in->size()));
  if (const auto length = known_length(ctx, 1); length && *length != 2 * static_cast<std::int64_t>(axes->size()))
    ctx.fail("has " + std::to_string(*length) + " pads for " + std::to_string(axes->size()) + " axes; each needs a begin and an end");
  const auto pads = ctx.content(1);
  Shape out = *in;
  for (std::size_t i = 0; i < axes->size(); ++i) {
    Dim& extent = out[(*axes)[i]];
    if (!pads) {
      extent = ctx.fresh_symbol();
      continue;
    }
    // An amount need not be an extent (it may be negative), but it must be a number or made of extents to be added.
    const Dim &begin = (*pads)[i], &end = (*pads)[i + axes->size()];
    const bool known = (begin.is_constant() || ctx.is_extent(begin)) && (end.is_constant() || ctx.is_extent(end));
    extent = known ? extent + begin + end : ctx.fresh_symbol();
    if (const auto n = extent.constant(); n && *n < 0)
      ctx.fail("the pads cut more than axis " + std::to_string((*axes)[i]) + " of " + ir::to_string(*in) + " has");
  }
  ctx.set(0, ctx.dtype(0), std::move(out));
}

/// Where element `at` of a padded axis comes from; -1: the fill. `extent` is the input's.
std::int64_t source_index(Mode mode, std::int64_t at, std::int64_t begin, std::int64_t end, std::int64_t extent) {
  const std::int64_t first = std::max<std::int64_t>(-begin, 0), last = extent - std::max<std::int64_t>(-end, 0), n = last - first;
  const std::int64_t i = at - std::max<std::int64_t>(begin, 0);
  if (i >= 0 && i < n) return first + i;
  if (mode == Mode::kConstant) return -1;
  if (mode == Mode::kEdge) return first + std::clamp<std::int64_t>(i, 0, n - 1);
  if (mode == Mode::kWrap) return first + ((i % n) + n) % n;
  const std::int64_t period = std::max<std::int64_t>(2 * (n - 1), 1), folded = ((i % period) + period) % period;
  return first + (folded < n ? folded : period - folded);
}

void pad_reference(RefContext& ctx) {
  const Tensor& in = ctx.input(0);
  const auto mode = mode_of(ctx.attrs());
  if (!mode) ctx.fail("the mode '" + ctx.attrs().get_string("mode", "") + "' is none of constant, reflect, edge, wrap");
  const auto axes = *padded_axes(
      ctx.has_input(3), in.dims().size(), [&] { return std::optional(ctx.input(3).to_int64_vector()); },
      [&](std::int64_t axis) { return ref_axis(ctx, axis, in.rank()); });
  const auto pads = ctx.input(1).to_int64_vector();
  if (pads.size() != 2 * axes.size())
    ctx.fail("has " + std::to_string(pads.size()) + " pads for " + std::to_string(axes.size()) + " axes; each needs a begin and an end");
  Dims dims = in.dims();
  std::vector<std::vector<std::int64_t>> sources(dims.size());
  std::vector<std::int64_t> begins(dims.size(), 0), ends(dims.size(), 0);
  for (std::size_t i = 0; i < axes.size(); ++i) {
    begins[axes[i]] += pads[i];
    ends[axes[i]] += pads[i + axes.size()];
  }
  for (std::size_t a = 0; a < dims.size(); ++a) {
    const std::int64_t extent = in.dims()[a];
    dims[a] = extent + begins[a] + ends[a];
    const std::int64_t left = extent - std::max<std::int64_t>(-begins[a], 0) - std::max<std::int64_t>(-ends[a], 0);
    if (dims[a] < 0 || left < 0) ctx.fail("the pads cut more than axis " + std::to_string(a) + " of " + lathe::to_string(in.dims()) + " has");
    if (left == 0 && dims[a] > 0 && *mode != Mode::kConstant) ctx.fail("axis " + std::to_string(a) + " is empty: there is nothing to pad it with");
    for (std::int64_t k = 0; k < dims[a]; ++k) sources[a].push_back(source_index(*mode, k, begins[a], ends[a], extent));
  }
  const Dims strides = strides_of(in.dims());
  const Tensor* fill = ctx.has_input(2) && ctx.input(2).size() > 0 ? &ctx.input(2) : nullptr;
  ctx.set_output(0, remap_nd(
                        in, dims,
                        [&](const Dims& index) {
                          std::int64_t offset = 0;
                          for (std::size_t a = 0; a < index.size(); ++a) {
                            const std::int64_t from = sources[a][static_cast<std::size_t>(index[a])];
                            if (from < 0) return std::int64_t{-1};
                            offset += from * strides[a];
                          }
                          return offset;
                        },
                        fill));
}

/// source_index() as an expression; for mode constant an index out of bounds where the fill stands.
ExprId source_expression(loops::RegionBuilder& b, Mode mode, ExprId at, const Dim& begin, const Dim& end, const Dim& extent) {
  const Dim zero(0), cut_first = Dim::max(zero - begin, zero), cut_last = Dim::max(zero - end, zero), n = extent - cut_first - cut_last;
  const ExprId i = b.binary(ExprOp::kSub, at, b.dim(Dim::max(begin, zero)));
  ExprId inside = i;
  switch (mode) {
    case Mode::kConstant: break;
    case Mode::kEdge: inside = b.binary(ExprOp::kMax, b.binary(ExprOp::kMin, i, b.dim(n - Dim(1))), b.integer(0)); break;
    case Mode::kWrap: inside = b.binary(ExprOp::kMod, i, b.dim(n)); break;
    case Mode::kReflect: {
      const ExprId period = b.dim(Dim::max(n + n - Dim(2), Dim(1))), folded = b.binary(ExprOp::kMod, i, period);
      inside = b.binary(ExprOp::kMin, folded, b.binary(ExprOp::kSub, period, folded));
      break;
    }
  }
  return b.binary(ExprOp::kAdd, inside, b.dim(cut_first));
}

bool pad_lower(const Node& node, loops::RegionBuilder& builder) {
  const Value* in = node.input(0);
  const auto mode = mode_of(node.attrs);
  if (!mode || !in->has_shape() || in->dtype() == DType::kString || in->shape().empty()) {
    builder.decline("unknown rank, or strings");
    return false;
  }
  const auto rank = static_cast<std::int64_t>(in->shape().size());
  const auto pads = known_content(*node.input(1));
  const auto axes = padded_axes(
      node.input(3) != nullptr, in->shape().size(),
      [&] {
        const auto content = known_content(*node.input(3));
        return content ? ir::constant_dims(*content) : std::nullopt;
      },
      [&](std::int64_t axis) { return axis < 0 ? axis + rank : axis; });
  if (!pads || !axes || pads->size() != 2 * axes->size()) {
    builder.decline("amounts known at run time only");
    return false;
  }
  struct Side {
    std::size_t axis;
    Dim begin, end;
  };
  std::vector<Side> sides;
  bool cut_away = false;
  for (std::size_t i = 0; i < axes->size(); ++i) {
    const Dim &begin = (*pads)[i], &end = (*pads)[i + axes->size()];
    if (begin == Dim(0) && end == Dim(0)) continue;
    sides.push_back({(*axes)[i], begin, end});
    // A region reads in bounds under every extent, so the other modes need something to read.
    const auto left = (in->shape()[(*axes)[i]] - Dim::max(Dim(0) - begin, Dim(0)) - Dim::max(Dim(0) - end, Dim(0))).lower_bound();
    cut_away |= left.value_or(0) < 1;
  }
  if (*mode != Mode::kConstant && cut_away) {
    builder.decline("an axis may be empty");
    return false;
  }
  const Value* fill = node.input(2);
  if (fill && fill->has_shape() && !fill->shape().empty() && !fill->is_constant()) {
    builder.decline("a fill that is no scalar");
    return false;
  }
  builder.define(node.output(), [in, fill, sides, mode = *mode](loops::RegionBuilder& b, const auto& i) {
    auto source = i;
    for (const Side& side : sides) source[side.axis] = source_expression(b, mode, i[side.axis], side.begin, side.end, in->shape()[side.axis]);
    if (mode != Mode::kConstant) return b.read(in, source);
    const ExprId other = !fill ? b.constant(0, in->dtype()) : b.read(fill, loops::RegionBuilder::Indices(fill->shape().size(), b.integer(0)));
    // Where an end cuts, the output's own extent keeps the index below it.
    return b.read_or(in, source, other);
  });
  return true;
}

void pad_upgrade(UpgradeContext& ctx) {
  if (ctx.from_version >= 11) return;
  if (ctx.from_version < 2 && ctx.node.attrs.has("paddings")) {
    const auto pads = ctx.node.attrs.get_ints("paddings");
    ctx.node.attrs.erase("paddings");
    ctx.node.attrs.set("pads", pads);
  }
  attribute_to_input(ctx, "pads", 1);
  const float value = ctx.node.attrs.get_float("value", 0);
  ctx.node.attrs.erase("value");
  if (value == 0) return;
  const Value* in = ctx.node.input(0);
  Tensor fill(in && in->dtype() != DType::kUndefined ? in->dtype() : DType::kFloat32, {});
  fill.set_from_double(0, value);
  ctx.graph.set_input(&ctx.node, 2, ctx.constant(ctx.node.name + "_value", std::move(fill)));
}

// CenterCropPad ------------------------------------------------------------------------------------------------------

/// First index of the input that the output shows (negative: zeros stand before it).
std::int64_t centre_offset(std::int64_t extent, std::int64_t wanted) { return extent >= wanted ? (extent - wanted) / 2 : -((wanted - extent) / 2); }

std::vector<std::size_t> centred_axes(const Attrs& attrs, std::size_t rank, const std::function<std::int64_t(std::int64_t)>& normal) {
  return *padded_axes(
      attrs.has("axes"), rank, [&] { return std::optional(attrs.get_ints("axes")); }, normal);
}

void centre_infer(InferContext& ctx) {
  const auto& in = ctx.shape(0);
  if (!in) return ctx.set_unknown(0, ctx.dtype(0));
  const auto axes = centred_axes(ctx.attrs(), in->size(), [&](std::int64_t axis) { return infer_axis(ctx, axis, static_cast<std::int64_t>(in->size())); });
  if (const auto length = known_length(ctx, 1); length && *length != static_cast<std::int64_t>(axes.size()))
    ctx.fail("has " + std::to_string(*length) + " extents for " + std::to_string(axes.size()) + " axes");
  const auto wanted = ctx.content(1);
  Shape out = *in;
  for (std::size_t i = 0; i < axes.size(); ++i) out[axes[i]] = extent_of(ctx, wanted, i);
  ctx.set(0, ctx.dtype(0), std::move(out));
}

void centre_reference(RefContext& ctx) {
  const Tensor& in = ctx.input(0);
  const auto axes = centred_axes(ctx.attrs(), in.dims().size(), [&](std::int64_t axis) { return ref_axis(ctx, axis, in.rank()); });
  const auto wanted = ctx.input(1).to_int64_vector();
  if (wanted.size() != axes.size()) ctx.fail("has " + std::to_string(wanted.size()) + " extents for " + std::to_string(axes.size()) + " axes");
  Dims dims = in.dims(), offsets(in.dims().size(), 0);
  for (std::size_t i = 0; i < axes.size(); ++i) {
    if (wanted[i] < 0) ctx.fail("the target shape has the extent " + std::to_string(wanted[i]));
    dims[axes[i]] = wanted[i];
    offsets[axes[i]] = centre_offset(in.dims()[axes[i]], wanted[i]);
  }
  const Dims strides = strides_of(in.dims());
  ctx.set_output(0, remap_nd(in, dims, [&](const Dims& index) {
                   std::int64_t offset = 0;
                   for (std::size_t a = 0; a < index.size(); ++a) {
                     const std::int64_t from = index[a] + offsets[a];
                     if (from < 0 || from >= in.dims()[a]) return std::int64_t{-1};
                     offset += from * strides[a];
                   }
                   return offset;
                 }));
}

bool centre_lower(const Node& node, loops::RegionBuilder& builder) {
  const Value* in = node.input(0);
  const auto wanted = known_content(*node.input(1));
  if (!in->has_shape() || in->dtype() == DType::kString || !wanted) {
    builder.decline("unknown rank or extents, or strings");
    return false;
  }
  const auto rank = static_cast<std::int64_t>(in->shape().size());
  const auto axes = centred_axes(node.attrs, in->shape().size(), [&](std::int64_t axis) { return axis < 0 ? axis + rank : axis; });
  if (axes.size() != wanted->size()) return false;
  std::vector<std::pair<std::size_t, Dim>> offsets;
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const Dim &extent = in->shape()[axes[i]], zero(0), &to = (*wanted)[i];
    const Dim offset = Dim::floordiv(Dim::max(extent - to, zero), Dim(2)) - Dim::floordiv(Dim::max(to - extent, zero), Dim(2));
    offsets.emplace_back(axes[i], offset);
  }
  builder.define(node.output(), [in, offsets](loops::RegionBuilder& b, const auto& i) {
    auto source = i;
    for (const auto& [axis, offset] : offsets) source[axis] = b.binary(ExprOp::kAdd, i[axis], b.dim(offset));
    return b.read_or(in, source, b.constant(0, in->dtype()));
  });
  return true;
}

}  // namespace

std::span<const OpDef> ops_pad() {
  constexpr std::string_view kIo = "data:T pads:int64 constant_value?:T axes?:Tind -> output:T", kMode = "mode:string=constant";
  static const std::vector<OpDef> ops{
      {.name = "Pad",
       .versions = {{1, "data:T -> output:T", "value:float=0 mode:string=constant paddings:ints", "T: @float"},
                    {2, "data:T -> output:T", "value:float=0 mode:string=constant pads:ints", "T: @float"},
                    {11, "data:T pads:int64 constant_value?:T -> output:T", kMode, "T: @num"},
                    {13, "data:T pads:int64 constant_value?:T -> output:T", kMode, "T: @all13"},
                    {18, kIo, kMode, "T: @all13; Tind: int32 int64"},
                    {19, kIo, kMode, "T: @all13; Tind: int32 int64"},
                    {21, kIo, kMode, "T: @all21; Tind: int32 int64"},
                    {23, kIo, kMode, "T: @all23; Tind: int32 int64"},
                    {24, kIo, kMode, "T: @all24; Tind: int32 int64"},
                    {25, kIo, kMode, "T: @all25; Tind: int32 int64"}},
       .upgrade = pad_upgrade,
       .infer = pad_infer,
       .reference = pad_reference,
       .lower = pad_lower,
       .doc = "elements added around a tensor, or cut from it"},
      {.name = "CenterCropPad",
       .versions = {{18, "input_data:T shape:Tind -> output_data:T", "axes:ints?", "T: @all13; Tind: int32 int64"}},
       .infer = centre_infer,
       .reference = centre_reference,
       .lower = centre_lower,
       .doc = "cut or padded with zeros around the centre to given extents"},
  };
  return ops;
}

}  // namespace lathe::ops
