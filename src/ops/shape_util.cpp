// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#include "ops/shape_util.h"

#include <algorithm>
#include <set>

namespace lathe::ops {

std::int64_t infer_axis(InferContext& ctx, std::int64_t axis, std::int64_t rank) {
  if (axis < -rank || axis >= rank) {
    ctx.fail("axis " + std::to_string(axis) + " is out of range for rank " + std::to_string(rank));
  }
  return axis < 0 ? axis + rank : axis;
}

std::vector<std::int64_t> infer_axes(InferContext& ctx, const std::vector<std::int64_t>& axes, std::int64_t rank) {
  std::vector<std::int64_t> normal;
  for (const auto axis : axes) {
    normal.push_back(infer_axis(ctx, axis, rank));
    if (std::count(normal.begin(), normal.end(), normal.back()) > 1) ctx.fail("axis " + std::to_string(axis) + " is given twice");
  }
  return normal;
}

std::optional<std::vector<std::int64_t>> constant_content(InferContext& ctx, std::size_t i) {
  const auto content = ctx.content(i);
  if (!content) {
    const Tensor t = ctx.constant(i);  // larger than what is propagated, yet known
    if (t.defined() && (is_integer(t.dtype()) || t.dtype() == DType::kBool)) return t.to_int64_vector();
    return std::nullopt;
  }
  return ir::constant_dims(*content);
}

std::optional<std::int64_t> known_length(InferContext& ctx, std::size_t i) {
  if (const auto content = ctx.content(i)) return static_cast<std::int64_t>(content->size());
  const auto& shape = ctx.shape(i);
  if (shape && shape->size() == 1) return (*shape)[0].constant();
  return std::nullopt;
}

Dim extent_of(InferContext& ctx, const std::optional<std::vector<Dim>>& content, std::size_t i) {
  return content && i < content->size() && ctx.is_extent((*content)[i]) ? (*content)[i] : ctx.fresh_symbol();
}

std::optional<Dim> single_extent(InferContext& ctx, std::size_t i) {
  const auto content = ctx.has_input(i) ? ctx.content(i) : std::nullopt;
  if (!content || content->size() != 1 || !ctx.is_extent(content->front())) return std::nullopt;
  return content->front();
}

Shape fresh_shape(InferContext& ctx, std::size_t rank) {
  // A few bytes of a file can name any number here; each axis is a symbol.
  if (rank > kMostAxes) ctx.fail("its result would have rank " + std::to_string(rank) + "; at most " + std::to_string(kMostAxes) + " are supported");
  Shape shape;
  for (std::size_t i = 0; i < rank; ++i) shape.push_back(ctx.fresh_symbol());
  return shape;
}

bool is_one(const Dim& dim) { return dim.constant() == std::int64_t{1}; }

namespace {

/// Is `a` the extent `b`, but for a cap (position tables sliced to the length of a sequence)? Where both meet in a broadcast, the cap does not bite:
/// else the extents would differ with neither being 1.
bool is_capped(const Dim& a, const Dim& b) {
  const auto cap = a.upper_bound();
  return cap && *cap >= 1 && Dim::min(b, Dim(*cap)) == a;
}

/// Is the common extent of the plain symbol `a` and `b` always `a`? So it is where `b` depends on that symbol alone and is 1 where the symbol is:
/// above 1 only that symbol's own extent broadcasts with it, beside 1 or the same.
bool decides(const Dim& a, const Dim& b) {
  if (!a.is_symbol()) return false;
  std::set<std::string> symbols;
  b.collect_symbols(symbols);
  return symbols.size() == 1 && symbols.contains(a.symbol_name()) && b.evaluate({{a.symbol_name(), 1}}) == 1;
}

/// Expressions beyond this many letters do not grow further: a chain of broadcasts would double them each time.
constexpr std::size_t kMostText = 400;
std::size_t text_length(const Dim& dim) { return dim.to_string().size(); }

}  // namespace

std::optional<Dim> broadcast_extent(const Dim& a, const Dim& b, const std::function<Dim()>& unknown) {
  if (a == b || is_one(b)) return a;
  if (is_one(a)) return b;
  if (a.is_constant() && b.is_constant()) return std::nullopt;
  if (a.is_constant()) return a;  // a number other than 1: the other side is 1 or the same
  if (b.is_constant()) return b;
  const auto at_least = [](const Dim& e, std::int64_t limit) { return e.lower_bound().value_or(limit - 1) >= limit; };
  if (at_least(a, 2) || decides(a, b) || is_capped(b, a)) return a;
  if (at_least(b, 2) || decides(b, a) || is_capped(a, b)) return b;
  // Equal, or one of them is 1: the larger, unless one is 0, beside which 1 is no larger. Whoever computes the broadcast holds the extents of a run
  // against this.
  const bool some_a = at_least(a, 1), some_b = at_least(b, 1);
  if ((some_a && some_b) || !unknown) return Dim::max(a, b);
  if (text_length(a) + text_length(b) > kMostText) return unknown();
  return Dim::max(a, b) * Dim::min(some_a ? b : some_b ? a : Dim::min(a, b), Dim(1));
}

Dim broadcast_dim(InferContext& ctx, const Dim& a, const Dim& b) {
  const auto dim = broadcast_extent(a, b, [&] { return ctx.fresh_symbol(); });
  if (!dim) ctx.fail("extents " + a.to_string() + " and " + b.to_string() + " do not broadcast");
  return *dim;
}

Shape broadcast_shape(InferContext& ctx, const Shape& a, const Shape& b) {
  const std::size_t rank = std::max(a.size(), b.size());
  Shape out(rank);
  for (std::size_t i = 0; i < rank; ++i) {
    const Dim da = i + a.size() >= rank ? a[i + a.size() - rank] : Dim(1);
    const Dim db = i + b.size() >= rank ? b[i + b.size() - rank] : Dim(1);
    out[i] = broadcast_dim(ctx, da, db);
  }
  return out;
}

void infer_same_as_input(InferContext& ctx) {
  ctx.set_type(0, ctx.node().input(0)->type);
  if (auto content = ctx.content(0)) ctx.set_content(0, std::move(*content));
}

void set_like_input(InferContext& ctx, DType dtype) {
  if (ctx.shape(0)) ctx.set(0, dtype, *ctx.shape(0));
  else ctx.set_unknown(0, dtype);
}

DType dtype_of_number(std::int64_t number) { return number > 0 && number < kDTypeCount ? static_cast<DType>(number) : DType::kUndefined; }

Shape row_major_strides(const Shape& shape) {
  Shape strides(shape.size(), Dim(1));
  for (std::size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
  return strides;
}

bool attribute_to_input(UpgradeContext& ctx, std::string_view name, std::size_t index) {
  if (!ctx.node.attrs.has(name)) return false;
  const auto values = ctx.node.attrs.get_ints(name);
  ctx.node.attrs.erase(name);
  std::string hint = ctx.node.name.empty() ? ctx.node.op : ctx.node.name;
  hint += '_';
  hint += name;
  ctx.graph.set_input(&ctx.node, index, ctx.constant(hint, Tensor::vector(values)));
  return true;
}

}  // namespace lathe::ops
