// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// NonZero and Compress: what a mask picks, whose extent only the data tells. Where they run they are two ops around one number:
//
//   NonZero(X)  ->  places, count = NonZeroPadded(X)    as many places as X has elements, of which the first `count` are meant
//                   First(places, count, axis = 1)      those alone
//
// The content of `count` is a symbol, which tells the extent to all that comes behind (builder/islands.h). So the work itself is planned like any
// other, and all that leaves a device is the count. The kernels are in nonzero_cpu.cpp and nonzero.cu.
#include <algorithm>
#include <cstring>

#include "loops/builder.h"
#include "ops/expand_util.h"
#include "ops/lower_util.h"
#include "ops/ref_util.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

// NonZero ------------------------------------------------------------------------------------------------------------

void non_zero_infer(InferContext& ctx) {
  const auto& in = ctx.shape(0);
  ctx.set(0, DType::kInt64, {in ? Dim(static_cast<std::int64_t>(in->size())) : ctx.fresh_symbol(), ctx.fresh_symbol()});
}

bool is_non_zero(const Tensor& t, std::int64_t i) {
  if (t.dtype() == DType::kString) return !t.string_data()[static_cast<std::size_t>(i)].empty();
  if (is_integer(t.dtype()) || t.dtype() == DType::kBool) return t.as_int64(i) != 0;
  return t.as_double(i) != 0;
}

/// Calls `visit` with the place of each element of a mask that is set.
template <class Visit>
void for_each_set(std::span<const std::byte> mask, const Visit& visit) {
  for (std::size_t i = 0; i < mask.size();) {
    std::uint64_t eight = 0;
    if (i + 8 <= mask.size() && (std::memcpy(&eight, mask.data() + i, 8), eight == 0)) {
      i += 8;  // most masks are empty for long
      continue;
    }
    for (const std::size_t end = std::min(i + 8, mask.size()); i < end; ++i)
      if (mask[i] != std::byte{0}) visit(static_cast<std::int64_t>(i));
  }
}

/// How many there are, and their places: [rank, columns], by default as many columns as there are. Those behind are zero.
std::pair<std::int64_t, Tensor> find_non_zero(const Tensor& in, std::optional<std::int64_t> columns = {}) {
  const bool is_mask = in.dtype() == DType::kBool;
  const auto mask = is_mask ? std::span(in.raw(), static_cast<std::size_t>(in.size())) : std::span<const std::byte>();
  std::vector<std::int64_t> found;
  for (std::int64_t i = 0; !is_mask && i < in.size(); ++i)
    if (is_non_zero(in, i)) found.push_back(i);
  const auto rank = static_cast<std::int64_t>(in.dims().size());
  const auto count =
      is_mask ? static_cast<std::int64_t>(mask.size()) - std::count(mask.begin(), mask.end(), std::byte{0}) : static_cast<std::int64_t>(found.size());
  const std::int64_t width = columns.value_or(count);
  Tensor out = columns ? Tensor(DType::kInt64, {rank, width}) : Tensor::to_be_filled(DType::kInt64, {rank, width});
  if (out.size() > 0) {
    const auto rows = out.mutable_data<std::int64_t>();
    // The first row has the places in the flat tensor until the other axes are split off, the last of which changes fastest.
    std::int64_t* place = rows.data();
    if (is_mask) for_each_set(mask, [&](std::int64_t i) { *place++ = i; });
    else std::copy(found.begin(), found.end(), place);
    for (std::int64_t axis = rank; axis-- > 1;) {
      const std::int64_t extent = in.dims()[static_cast<std::size_t>(axis)];
      for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
        rows[static_cast<std::size_t>(axis * width) + i] = rows[i] % extent;
        rows[i] /= extent;
      }
    }
  }
  return {count, std::move(out)};
}

void non_zero_reference(RefContext& ctx) { ctx.set_output(0, find_non_zero(ctx.input(0)).second); }

/// Numbers of known rank that only a run tells.
bool can_be_counted(const Value* x) {
  return x && x->has_shape() && !x->is_constant() && x->dtype() != DType::kUndefined && x->dtype() != DType::kString && x->dtype() != DType::kComplex64 &&
         x->dtype() != DType::kComplex128;
}

/// The places in `x` that are not zero, [rank, ?].
Value* places_in(ExpandContext& ctx, Value* x) {
  const Node* padded = ctx.add_node("NonZeroPadded", {x}, 2, {}, kOwnDomain);
  return ctx.add("First", {padded->output(0), padded->output(1)}, attrs_of({{"axis", ir::Attribute(std::int64_t{1})}}), {}, kOwnDomain);
}

bool non_zero_expand(ExpandContext& ctx) {
  Value* x = ctx.node.input(0);
  if (!can_be_counted(x)) return false;
  ctx.replace(0, places_in(ctx, x));
  return true;
}

// NonZeroPadded, First -----------------------------------------------------------------------------------------------

void padded_infer(InferContext& ctx) {
  const auto& in = ctx.shape(0);
  Dim elements(1);
  if (in)
    for (const Dim& extent : *in) elements = elements * extent;
  else elements = ctx.fresh_symbol();
  ctx.set(0, DType::kInt64, {in ? Dim(static_cast<std::int64_t>(in->size())) : ctx.fresh_symbol(), elements});
  ctx.set(1, DType::kInt64, {Dim(1)});
  ctx.set_content(1, {ctx.fresh_symbol()});
}

void padded_reference(RefContext& ctx) {
  auto [count, places] = find_non_zero(ctx.input(0), ctx.input(0).size());
  ctx.set_output(0, std::move(places));
  const std::int64_t counts[] = {count};
  ctx.set_output(1, Tensor::vector(counts));
}

void first_infer(InferContext& ctx) {
  const auto& in = ctx.shape(0);
  if (!in) return ctx.set_unknown(0, ctx.dtype(0));
  Shape out = *in;
  const auto count = ctx.content(1);
  out[static_cast<std::size_t>(infer_axis(ctx, ctx.attrs().get_int("axis", 0), static_cast<std::int64_t>(in->size())))] =
      count && count->size() == 1 ? count->front() : ctx.fresh_symbol();
  ctx.set(0, ctx.dtype(0), std::move(out));
}

void first_reference(RefContext& ctx) {
  const Tensor& in = ctx.input(0);
  const std::int64_t axis = ref_axis(ctx, ctx.attrs().get_int("axis", 0), in.rank()), count = ctx.input(1).as_int64(0);
  const AxisView view = around_axis(in.dims(), axis);
  if (count < 0 || count > view.extent) ctx.fail("the first " + std::to_string(count) + " of " + std::to_string(view.extent) + " slices");
  Dims dims = in.dims();
  dims[static_cast<std::size_t>(axis)] = count;
  ctx.set_output(0, remap(in, std::move(dims), [&](std::int64_t i) {
                   const std::int64_t inner = i % view.inner, k = i / view.inner % count, outer = i / view.inner / count;
                   return (outer * view.extent + k) * view.inner + inner;
                 }));
}

bool first_lower(const Node& node, loops::RegionBuilder& builder) {
  const Value* in = node.input(0);
  if (!in->has_shape()) {
    builder.decline("unknown rank");
    return false;
  }
  builder.define(node.output(), [in](loops::RegionBuilder& b, const auto& i) { return b.read(in, i); });
  return true;
}

// Compress -----------------------------------------------------------------------------------------------------------

void compress_infer(InferContext& ctx) {
  const auto& in = ctx.shape(0);
  if (!ctx.attrs().has("axis")) return ctx.set(0, ctx.dtype(0), {ctx.fresh_symbol()});
  if (!in) return ctx.set_unknown(0, ctx.dtype(0));
  const auto axis = infer_axis(ctx, ctx.attrs().get_int("axis", 0), static_cast<std::int64_t>(in->size()));
  Shape out = *in;
  out[static_cast<std::size_t>(axis)] = ctx.fresh_symbol();
  ctx.set(0, ctx.dtype(0), out);
}

void compress_reference(RefContext& ctx) {
  Tensor in = ctx.input(0);
  std::int64_t axis = 0;
  if (ctx.attrs().has("axis")) {
    axis = ref_axis(ctx, ctx.attrs().get_int("axis", 0), in.rank());
  } else {
    in = in.reshaped({in.size()});
  }
  const AxisView view = around_axis(in.dims(), axis);
  const Tensor& condition = ctx.input(1);
  if (condition.size() > view.extent) ctx.fail("the condition is longer than the axis");
  std::vector<std::int64_t> kept;
  for (std::int64_t i = 0; i < condition.size(); ++i) {
    if (condition.as_int64(i)) kept.push_back(i);
  }
  Dims dims = in.dims();
  const auto count = static_cast<std::int64_t>(kept.size());
  dims[static_cast<std::size_t>(axis)] = count;
  ctx.set_output(0, remap(in, dims, [&](std::int64_t i) {
                   const std::int64_t inner = i % view.inner, k = i / view.inner % count, outer = i / view.inner / count;
                   return (outer * view.extent + kept[static_cast<std::size_t>(k)]) * view.inner + inner;
                 }));
}

/// Gather by the places in the condition. Not where the condition could be longer than the axis: the definition has an error for that.
bool compress_expand(ExpandContext& ctx) {
  Value *x = ctx.node.input(0), *condition = ctx.node.input(1);
  if (!can_be_counted(condition) || condition->shape().size() != 1 || !x->has_shape()) return false;
  const bool flat = !ctx.attrs().has("axis");
  const std::int64_t axis = flat ? 0 : expand_axis(ctx, ctx.attrs().get_int("axis", 0), static_cast<std::int64_t>(x->shape().size()));
  Dim extent(1);
  if (flat)
    for (const Dim& dim : x->shape()) extent = extent * dim;
  else extent = x->shape()[static_cast<std::size_t>(axis)];
  if ((extent - condition->shape()[0]).lower_bound().value_or(-1) < 0) return false;
  Parts parts(ctx);
  if (flat) x = parts.reshape(x, {-1});
  ctx.replace(0, parts.gather(x, parts.reshape(places_in(ctx, condition), {-1}), axis));
  return true;
}

}  // namespace

std::span<const OpDef> ops_nonzero() {
  constexpr std::string_view kCompress = "input:T condition:T1 -> output:T";
  static const std::vector<OpDef> ops{
      {.name = "NonZero",
       .versions = {{9, "X:T -> Y:int64", "", "T: @all"}, {13, "X:T -> Y:int64", "", "T: @all13"}},
       .infer = non_zero_infer,
       .reference = non_zero_reference,
       .expand = non_zero_expand,
       .doc = "indices of the elements that are not zero"},
      {.name = "Compress",
       .versions = {{9, kCompress, "axis:int?", "T: @all; T1: bool"},
                    {11, kCompress, "axis:int?", "T: @all; T1: bool"},
                    {28, kCompress, "axis:int?", "T: @all13; T1: bool"}},
       .infer = compress_infer,
       .reference = compress_reference,
       .expand = compress_expand,
       .doc = "slices picked by a mask"},
      {.domain = kOwnDomain,
       .name = "NonZeroPadded",
       .versions = {{1, "X:T -> places:int64 count:int64", "", "T: @all13"}},
       .infer = padded_infer,
       .reference = padded_reference,
       .doc = "NonZero with a column for every element of X, and how many of them are meant; the others hold anything"},
      {.domain = kOwnDomain,
       .name = "First",
       .versions = {{1, "data:T count:int64 -> first:T", "axis:int=0", "T: @all13"}},
       .infer = first_infer,
       .reference = first_reference,
       .lower = first_lower,
       .doc = "the first slices along an axis, as many as a count of the run tells"},
  };
  return ops;
}

}  // namespace lathe::ops
