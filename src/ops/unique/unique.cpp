// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Unique: the different elements of a tensor, or its different slices along an axis; in order, or by first appearance.
//
// Where it runs, elements are sorted by TopK, marked where one begins to differ, and counted by NonZero. Slices are so on a GPU alone (expand_node_for_gpu),
// by SortedSlices, whose kernel is unique.cu: on a CPU the definition does it in one pass.
#include <algorithm>
#include <numeric>

#include "ops/expand_util.h"
#include "ops/ref_util.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

void unique_infer(InferContext& ctx) {
  const auto& x = ctx.shape(0);
  const Dim count = ctx.fresh_symbol();
  if (!ctx.attrs().has("axis")) {
    ctx.set(0, ctx.dtype(0), {count});
  } else if (x) {
    const auto axis = infer_axis(ctx, ctx.attrs().get_int("axis", 0), static_cast<std::int64_t>(x->size()));
    Shape out = *x;
    out[static_cast<std::size_t>(axis)] = count;
    ctx.set(0, ctx.dtype(0), std::move(out));
  } else {
    ctx.set_unknown(0, ctx.dtype(0));
  }
  const auto& outputs = ctx.node().outputs;
  for (std::size_t i = 1; i < outputs.size(); ++i)
    if (outputs[i]) ctx.set(i, DType::kInt64, {i == 2 ? ctx.fresh_symbol() : count});
}

/// -1, 0, 1. NaN comes after every number, and equals itself.
int compare(const Tensor& t, std::int64_t a, std::int64_t b) {
  if (t.dtype() == DType::kString) return t.string_data()[static_cast<std::size_t>(a)].compare(t.string_data()[static_cast<std::size_t>(b)]);
  if (is_float(t.dtype())) {
    const double x = t.as_double(a), y = t.as_double(b);
    if (x != x || y != y) return (x != x) - (y != y);
    return (x > y) - (x < y);
  }
  const std::int64_t x = t.as_int64(a), y = t.as_int64(b);
  if (t.dtype() == DType::kUint64)
    return (static_cast<std::uint64_t>(x) > static_cast<std::uint64_t>(y)) - (static_cast<std::uint64_t>(x) < static_cast<std::uint64_t>(y));
  return (x > y) - (x < y);
}

/// Slices of a tensor along an axis, ordered by the first element in which they differ.
struct Slices {
  const Tensor& x;
  AxisView view;

  int order_of(std::int64_t a, std::int64_t b) const {
    const auto offset = [&](std::int64_t slice, std::int64_t e) { return (e / view.inner * view.extent + slice) * view.inner + e % view.inner; };
    for (std::int64_t e = 0; e < view.outer * view.inner; ++e)
      if (const int c = compare(x, offset(a, e), offset(b, e)); c != 0) return c;
    return 0;
  }
  /// Equal ones as they stand.
  std::vector<std::int64_t> sorted() const {
    std::vector<std::int64_t> order(static_cast<std::size_t>(view.extent));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) { return order_of(a, b) < 0; });
    return order;
  }
};

void need_order(RefContext& ctx) {
  const DType dtype = ctx.input(0).dtype();
  if (dtype == DType::kComplex64 || dtype == DType::kComplex128) ctx.fail("complex numbers have no order");
}

void unique_reference(RefContext& ctx) {
  need_order(ctx);
  const bool flat = !ctx.attrs().has("axis"), sorted = ctx.attrs().get_int("sorted", 1) != 0;
  const Tensor x = flat ? ctx.input(0).reshaped({ctx.input(0).size()}) : ctx.input(0);
  const std::int64_t axis = flat ? 0 : ref_axis(ctx, ctx.attrs().get_int("axis", 0), x.rank());
  const AxisView view = around_axis(x.dims(), axis);
  const Slices slices{x, view};
  const std::vector<std::int64_t> order = slices.sorted();
  std::vector<std::int64_t> first, counts, inverse(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (i == 0 || slices.order_of(order[i - 1], order[i]) != 0) {
      first.push_back(order[i]);
      counts.push_back(0);
    }
    ++counts.back();
    inverse[static_cast<std::size_t>(order[i])] = static_cast<std::int64_t>(first.size()) - 1;
  }
  if (!sorted) {
    std::vector<std::size_t> by_appearance(first.size());
    std::iota(by_appearance.begin(), by_appearance.end(), std::size_t{0});
    std::sort(by_appearance.begin(), by_appearance.end(), [&](std::size_t a, std::size_t b) { return first[a] < first[b]; });
    std::vector<std::int64_t> place(first.size()), new_first, new_counts;
    for (std::size_t i = 0; i < by_appearance.size(); ++i) {
      place[by_appearance[i]] = static_cast<std::int64_t>(i);
      new_first.push_back(first[by_appearance[i]]);
      new_counts.push_back(counts[by_appearance[i]]);
    }
    for (auto& i : inverse) i = place[static_cast<std::size_t>(i)];
    first = std::move(new_first);
    counts = std::move(new_counts);
  }
  const auto found = static_cast<std::int64_t>(first.size());
  Dims dims = x.dims();
  dims[static_cast<std::size_t>(axis)] = found;
  ctx.set_output(0, remap(x, dims, [&](std::int64_t i) {
                   const std::int64_t inner = i % view.inner, k = i / view.inner % found, outer = i / view.inner / found;
                   return (outer * view.extent + first[static_cast<std::size_t>(k)]) * view.inner + inner;
                 }));
  if (ctx.wants_output(1)) ctx.set_output(1, Tensor::vector(first));
  if (ctx.wants_output(2)) ctx.set_output(2, Tensor::vector(inverse));
  if (ctx.wants_output(3)) ctx.set_output(3, Tensor::vector(counts));
}

bool has_order(DType dtype) { return dtype == DType::kBool || (dtype_bits(dtype) >= 8 && is_integer(dtype)) || (dtype_bits(dtype) >= 16 && is_float(dtype)); }

Node* rising(ExpandContext& ctx, Value* values, Value* extent) {
  return ctx.add_node("TopK", {values, extent}, 2, attrs_of({{"largest", ir::Attribute(std::int64_t{0})}}));
}
Value* numbered(ExpandContext& ctx, Parts& p, Value* extent) { return ctx.add("Range", {p.whole(0), p.squeeze(extent, {0}), p.whole(1)}); }

/// The results from `count` slices of `x`, their places in order, equal ones as they stand, and where there one differs from the one before.
void count_marks(ExpandContext& ctx, Parts& p, Value* x, std::int64_t axis, Value* count, Value* order, Value* begins) {
  Value* starts = p.reshape(ctx.add("NonZero", {begins}), {-1});
  Value* first = p.gather(order, starts, 0);
  Value* found = p.extent(starts, 0);
  // In the order of appearance: the positions of the first of each, sorted.
  Value* appearance = ctx.attrs().get_int("sorted", 1) == 0 ? rising(ctx, first, found)->output(1) : nullptr;
  const auto arranged = [&](Value* values) { return appearance ? p.gather(values, appearance, 0) : values; };
  if (ctx.node.output(2)) {
    Value* group = p.binary("Sub", p.binary("CumSum", p.cast(begins, DType::kInt64), p.whole(0)), p.whole(1));
    Value* inverse = p.gather(group, rising(ctx, order, count)->output(1), 0);
    ctx.replace(2, appearance ? p.gather(rising(ctx, appearance, found)->output(1), inverse, 0) : inverse);
  }
  if (ctx.node.output(3)) {
    Value* next = p.binary("Add", numbered(ctx, p, found), p.whole(1));
    Value* last = p.binary("Equal", next, found);
    Value* end = p.gather(starts, ctx.add("Where", {last, p.whole(0), next}), 0);
    ctx.replace(3, arranged(p.binary("Sub", ctx.add("Where", {last, count, end}), starts)));
  }
  first = arranged(first);
  ctx.replace(0, p.gather(x, first, axis));
  if (ctx.node.output(1)) ctx.replace(1, first);
}

/// Of a flat tensor: sorted (TopK keeps equal elements in their order), marked where one differs from the one before, and counted by these marks.
bool unique_expand(ExpandContext& ctx) {
  Value* x = ctx.node.input(0);
  const DType dtype = x->dtype();
  if (ctx.attrs().has("axis") || !x->has_shape() || x->is_constant() || !has_order(dtype)) return false;
  Parts p(ctx);
  Value* flat = p.reshape(x, {-1});
  Value* count = p.extent(flat, 0);
  const Node* sort = rising(ctx, dtype == DType::kBool ? p.cast(flat, DType::kUint8) : flat, count);
  Value *sorted = sort->output(0), *order = sort->output(1), *place = numbered(ctx, p, count);
  Value* before = p.gather(sorted, p.binary("Max", p.binary("Sub", place, p.whole(1)), p.whole(0)), 0);
  Value* same = p.binary("Equal", sorted, before);
  if (is_float(dtype)) same = p.binary("Or", same, p.binary("And", p.unary("IsNaN", sorted), p.unary("IsNaN", before)));
  Value* begins = p.binary("Or", p.binary("Equal", place, p.whole(0)), p.unary("Not", same));
  count_marks(ctx, p, flat, 0, count, order, begins);
  return true;
}

/// For a GPU: slices along an axis.
bool slices_expand(ExpandContext& ctx) {
  Value* x = ctx.node.input(0);
  if (!ctx.attrs().has("axis") || !x->has_shape() || x->is_constant() || !has_order(x->dtype())) return false;
  const std::int64_t axis = expand_axis(ctx, ctx.attrs().get_int("axis", 0), static_cast<std::int64_t>(x->shape().size()));
  Parts p(ctx);
  const Node* sort = ctx.add_node("SortedSlices", {x}, 2, attrs_of({{"axis", ir::Attribute(axis)}}), kOwnDomain);
  count_marks(ctx, p, x, axis, p.extent(x, axis), sort->output(0), sort->output(1));
  return true;
}

// SortedSlices -------------------------------------------------------------------------------------------------------

void sorted_infer(InferContext& ctx) {
  const auto& x = ctx.shape(0);
  Dim count = ctx.fresh_symbol();
  if (x) count = (*x)[static_cast<std::size_t>(infer_axis(ctx, ctx.attrs().get_int("axis", 0), static_cast<std::int64_t>(x->size())))];
  ctx.set(0, DType::kInt64, {count});
  ctx.set(1, DType::kBool, {count});
}

void sorted_reference(RefContext& ctx) {
  need_order(ctx);
  const Tensor& x = ctx.input(0);
  const Slices slices{x, around_axis(x.dims(), ref_axis(ctx, ctx.attrs().get_int("axis", 0), x.rank()))};
  const std::vector<std::int64_t> order = slices.sorted();
  Tensor begins(DType::kBool, {slices.view.extent});
  for (std::size_t i = 0; i < order.size(); ++i) begins.set_from_int64(static_cast<std::int64_t>(i), i == 0 || slices.order_of(order[i - 1], order[i]) != 0);
  ctx.set_output(0, Tensor::vector(order));
  ctx.set_output(1, std::move(begins));
}

}  // namespace

std::span<const OpDef> ops_unique() {
  constexpr std::string_view kIo = "X:T -> Y:T indices?:int64 inverse_indices?:int64 counts?:int64", kAttrs = "axis:int? sorted:int=1";
  static const std::vector<OpDef> ops{
      {.name = "Unique",
       .versions = {{11, kIo, kAttrs, "T: @all"}, {28, kIo, kAttrs, "T: @all13"}},
       .infer = unique_infer,
       .reference = unique_reference,
       .expand = unique_expand,
       .doc = "the different elements or slices, where they first stand and how often"},
      {.domain = kOwnDomain,
       .name = "Unique",
       .versions = {{1, kIo, kAttrs, "T: @all13"}},
       .infer = unique_infer,
       .reference = unique_reference,
       .expand = slices_expand,
       .doc = "Unique along an axis as it runs on a GPU: by SortedSlices"},
      {.domain = kOwnDomain,
       .name = "SortedSlices",
       .versions = {{1, "X:T -> order:int64 begins:bool", "axis:int=0", "T: @all13"}},
       .infer = sorted_infer,
       .reference = sorted_reference,
       .doc = "the places of slices along an axis, in order, and which of them differ from the one before"},
  };
  return ops;
}

}  // namespace lathe::ops
