// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Concat and Split: tensors joined along an axis, and cut again.
#include <algorithm>

#include "loops/builder.h"
#include "ops/control/join.h"
#include "ops/infer.h"
#include "ops/ref_util.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

using loops::ExprOp;

// Concat -------------------------------------------------------------------------------------------------------------

/// Joined contents; an input whose elements are unknown contributes fresh symbols, so that the known ones are not lost.
void concat_content(InferContext& ctx) {
  std::vector<Dim> joined;
  bool any = false;
  for (std::size_t i = 0; i < ctx.input_count(); ++i) {
    if (auto part = ctx.content(i)) {
      any = true;
      joined.insert(joined.end(), part->begin(), part->end());
    } else if (const auto length = known_length(ctx, i); length && *length <= 64 && is_integer(ctx.dtype(i))) {
      for (std::int64_t k = 0; k < *length; ++k) joined.push_back(ctx.fresh_symbol());
    } else {
      return;
    }
  }
  if (any) ctx.set_content(0, std::move(joined));
}

void concat_infer(InferContext& ctx) {
  std::optional<std::size_t> rank;
  for (std::size_t i = 0; i < ctx.input_count(); ++i) {
    if (!ctx.has_input(i)) ctx.fail("input " + std::to_string(i) + " is left out");
    const auto& shape = ctx.shape(i);
    if (!shape) continue;
    if (rank && *rank != shape->size()) {
      ctx.fail("joins tensors of ranks " + std::to_string(*rank) + " and " + std::to_string(shape->size()) + " ('" + ctx.node().input(i)->name + "')");
    }
    rank = shape->size();
  }
  if (!rank) return ctx.set_unknown(0, ctx.dtype(0));
  const auto axis = static_cast<std::size_t>(infer_axis(ctx, ctx.attrs().get_int("axis", 0), static_cast<std::int64_t>(*rank)));
  Shape out(*rank);
  std::vector<bool> set(*rank);
  Dim sum(0);
  bool open = false;
  for (std::size_t i = 0; i < ctx.input_count(); ++i) {
    const auto& shape = ctx.shape(i);
    if (!shape) {
      open = true;
      continue;
    }
    sum = sum + (*shape)[axis];
    for (std::size_t a = 0; a < *rank; ++a) {
      if (a == axis) continue;
      const Dim& d = (*shape)[a];
      if (set[a] && out[a].is_constant() && d.is_constant() && out[a] != d) {
        ctx.fail("joins " + ir::to_string(*ctx.shape(0)) + " and " + ir::to_string(*shape) + " ('" + ctx.node().input(i)->name + "') along axis " +
                 std::to_string(axis) + ", but axis " + std::to_string(a) + " differs");
      }
      if (!set[a] || d.is_constant()) out[a] = d;
      set[a] = true;
    }
  }
  out[axis] = open ? ctx.fresh_symbol() : sum;
  ctx.set(0, ctx.dtype(0), out);
  if (*rank == 1) concat_content(ctx);
}

void concat_reference(RefContext& ctx) {
  const std::int64_t axis = ref_axis(ctx, ctx.attrs().get_int("axis", 0), ctx.input(0).rank());
  std::vector<Tensor> parts;
  for (std::size_t i = 0; i < ctx.input_count(); ++i) parts.push_back(ctx.input(i));
  ctx.set_output(0, join_along(ctx, parts, axis));
}

bool concat_lower(const Node& node, loops::RegionBuilder& builder) {
  for (const auto* in : node.inputs) {
    if (!in->has_shape() || in->dtype() == DType::kString) {
      builder.decline("unknown rank, or strings");
      return false;
    }
  }
  const auto rank = static_cast<std::int64_t>(node.input(0)->shape().size());
  std::int64_t axis = node.attrs.get_int("axis", 0);
  if (axis < 0) axis += rank;
  std::vector<std::pair<Dim, loops::RegionBuilder::Body>> parts;
  for (const auto* in : node.inputs) {
    parts.emplace_back(in->shape()[static_cast<std::size_t>(axis)], [in, axis, out = node.output()](loops::RegionBuilder& b, const auto& i) {
      for (std::size_t a = 0; a < in->shape().size(); ++a)
        if (static_cast<std::int64_t>(a) != axis) b.require_equal(in, in->shape()[a], out->shape()[a]);
      return b.read(in, i);
    });
  }
  builder.define_parts(node.output(), static_cast<int>(axis), std::move(parts));
  return true;
}

// Version 1 had a default axis, which later ones dropped.
void concat_upgrade(UpgradeContext& ctx) {
  if (ctx.from_version < 4 && !ctx.node.attrs.has("axis")) ctx.node.attrs.set("axis", 1);
}

// Split --------------------------------------------------------------------------------------------------------------

/// Part sizes for an axis of `extent`: given, or equal ones with a smaller last; empty with a reason when impossible.
std::vector<Dim> part_sizes(const Dim& extent, const std::optional<std::vector<Dim>>& given, std::size_t outputs, std::string& reason) {
  if (given) {
    if (given->size() != outputs) {
      reason = "has " + std::to_string(outputs) + " outputs for " + std::to_string(given->size()) + " parts";
      return {};
    }
    Dim sum(0);
    for (const auto& g : *given) sum = sum + g;
    if (sum.is_constant() && extent.is_constant() && sum != extent) {
      reason = "parts that add up to " + sum.to_string() + " do not fill the extent " + extent.to_string();
      return {};
    }
    return *given;
  }
  const Dim chunk = Dim::ceildiv(extent, Dim(static_cast<std::int64_t>(outputs)));
  std::vector<Dim> sizes(outputs, chunk);
  const auto exact = Dim::exact_div(extent, Dim(static_cast<std::int64_t>(outputs)));
  if (exact) return std::vector<Dim>(outputs, *exact);
  sizes.back() = extent - chunk * Dim(static_cast<std::int64_t>(outputs - 1));
  if (const auto last = sizes.back().constant(); last && *last < 0) {
    reason = "cannot cut the extent " + extent.to_string() + " into " + std::to_string(outputs) + " parts";
    return {};
  }
  return sizes;
}

void split_infer(InferContext& ctx) {
  Node& node = ctx.node();
  const auto& in = ctx.shape(0);
  const std::size_t count = node.outputs.size();
  if (ctx.has_input(1) && ctx.attrs().has("num_outputs")) ctx.fail("has both the input 'split' and the attribute 'num_outputs'");
  if (!ctx.has_input(1)) {
    const auto wanted = ctx.attrs().get_int("num_outputs", static_cast<std::int64_t>(count));
    if (wanted != static_cast<std::int64_t>(count)) {
      ctx.fail("has " + std::to_string(count) + " outputs, but num_outputs is " + std::to_string(wanted));
    }
  }
  if (!in) {
    for (std::size_t i = 0; i < count; ++i) ctx.set_unknown(i, ctx.dtype(0));
    return;
  }
  const auto axis = static_cast<std::size_t>(infer_axis(ctx, ctx.attrs().get_int("axis", 0), static_cast<std::int64_t>(in->size())));
  std::vector<Dim> sizes;
  std::string reason;
  if (ctx.has_input(1)) {
    if (const auto given = ctx.content(1)) {
      sizes = part_sizes((*in)[axis], given, count, reason);
    } else {
      for (std::size_t i = 0; i < count; ++i) sizes.push_back(ctx.fresh_symbol());
    }
  } else {
    sizes = part_sizes((*in)[axis], std::nullopt, count, reason);
  }
  if (sizes.empty()) ctx.fail(reason);
  const auto content = in->size() == 1 ? ctx.content(0) : std::nullopt;
  std::int64_t at = 0;
  bool known = content.has_value();
  for (std::size_t i = 0; i < count; ++i) {
    Shape out = *in;
    out[axis] = sizes[i];
    ctx.set(i, ctx.dtype(0), out);
    const auto size = sizes[i].constant();
    known = known && size && at + *size <= static_cast<std::int64_t>(content->size());
    if (known) {
      ctx.set_content(i, {content->begin() + at, content->begin() + at + *size});
      at += *size;
    }
  }
}

void split_reference(RefContext& ctx) {
  const Tensor& in = ctx.input(0);
  const std::int64_t axis = ref_axis(ctx, ctx.attrs().get_int("axis", 0), in.rank());
  const AxisView view = around_axis(in.dims(), axis);
  std::optional<std::vector<Dim>> given;
  if (ctx.has_input(1)) {
    const auto sizes = ctx.input(1).to_int64_vector();
    given.emplace(sizes.begin(), sizes.end());
  }
  std::string reason;
  const auto sizes = part_sizes(Dim(view.extent), given, ctx.output_count(), reason);
  if (sizes.empty()) ctx.fail(reason);
  std::int64_t start = 0;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    const std::int64_t size = *sizes[i].constant();
    Dims dims = in.dims();
    dims[static_cast<std::size_t>(axis)] = size;
    const std::int64_t run = size * view.inner;
    if (is_worth_keeping_remote(in)) ctx.set_output(i, take_along(in, axis, start, size));
    else ctx.set_output(i, remap(in, dims, [&](std::int64_t k) { return k / run * view.extent * view.inner + start * view.inner + k % run; }));
    start += size;
  }
}

bool split_lower(const Node& node, loops::RegionBuilder& builder) {
  const Value* in = node.input(0);
  if (!in->has_shape() || in->dtype() == DType::kString) {
    builder.decline("unknown rank, or strings");
    return false;
  }
  std::int64_t axis = node.attrs.get_int("axis", 0);
  if (axis < 0) axis += static_cast<std::int64_t>(in->shape().size());
  const auto at = static_cast<std::size_t>(axis);
  const auto given = node.input(1) ? known_content(*node.input(1)) : std::nullopt;
  std::string reason;
  const auto sizes = node.input(1) && !given ? std::vector<Dim>{} : part_sizes(in->shape()[at], given, node.outputs.size(), reason);
  if (sizes.empty()) {
    builder.decline("Split sizes known at run time only");
    return false;
  }
  Dim start(0);
  for (std::size_t i = 0; i < node.outputs.size(); ++i) {
    if (node.outputs[i]) {
      builder.define(node.outputs[i], [in, at, start](loops::RegionBuilder& b, const auto& indices) {
        auto source = indices;
        source[at] = b.binary(ExprOp::kAdd, source[at], b.dim(start));
        return b.read(in, source);
      });
    }
    start = start + sizes[i];
  }
  return true;
}

void split_upgrade(UpgradeContext& ctx) {
  if (ctx.from_version < 13) attribute_to_input(ctx, "split", 1);
  if (!ctx.node.attrs.has("axis")) ctx.node.attrs.set("axis", 0);
  if (!ctx.node.input(1)) ctx.node.attrs.set("num_outputs", static_cast<std::int64_t>(ctx.node.outputs.size()));
}

}  // namespace

std::span<const OpDef> ops_concat() {
  constexpr std::string_view kConcat = "inputs+:T -> concat_result:T";
  constexpr std::string_view kSplit2 = "input:T -> outputs+:T", kSplit = "input:T split?:int64 -> outputs+:T";
  static const std::vector<OpDef> ops{
      {.name = "Concat",
       .versions = {{1, kConcat, "axis:int?", "T: @float"},
                    {4, kConcat, "axis:int", "T: @all"},
                    {11, kConcat, "axis:int", "T: @all"},
                    {13, kConcat, "axis:int", "T: @all13"}},
       .upgrade = concat_upgrade,
       .infer = concat_infer,
       .reference = concat_reference,
       .lower = concat_lower,
       .doc = "tensors joined along an axis"},
      {.name = "Split",
       .versions = {{1, "input:T split?:T -> outputs...+:T", "axis:int? split:ints?", "T: @float"},
                    {2, kSplit2, "axis:int=0 split:ints?", "T: @all"},
                    {11, kSplit2, "axis:int=0 split:ints?", "T: @all"},
                    {13, kSplit, "axis:int=0", "T: @all13"},
                    {18, kSplit, "axis:int=0 num_outputs:int?", "T: @all13"}},
       .upgrade = split_upgrade,
       .infer = split_infer,
       .reference = split_reference,
       .lower = split_lower,
       .doc = "a tensor cut along an axis"},
  };
  return ops;
}

}  // namespace lathe::ops
