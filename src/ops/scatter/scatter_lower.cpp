// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The scatters in the region language, turned round: each element of the result asks which updates reach it.
//
// Indices that are constant and regular (an assignment to a slice) and the rows of TensorScatter answer in closed form. For others every
// update that may reach the element is asked, so only few are accepted. An index out of bounds, an error in the reference, reaches nothing.
#include <algorithm>
#include <limits>

#include "loops/builder.h"
#include "ops/lower_util.h"
#include "ops/ref_util.h"
#include "ops/scatter/scatter.h"

namespace lathe::ops {
namespace {

using loops::ExprId;
using loops::ExprOp;
using loops::Reduce;
using loops::RegionBuilder;
using Indices = RegionBuilder::Indices;

/// So many updates are asked one after the other in one expression; more by a reduction, up to kMostAsked (fewer where nobody knows of how
/// many elements) and kMostWork in all.
constexpr std::int64_t kUnrolled = 8, kMostAsked = 64, kMostAskedUnknown = 32, kMostWork = 1 << 23;
/// Larger index tensors are not looked through.
constexpr std::int64_t kMostIndices = 1 << 22;

/// A function of an element of the result and of an update that may reach it.
using Asked = std::function<ExprId(RegionBuilder&, const Indices& out, const Indices& update)>;

ExprId both(RegionBuilder& b, ExprId l, ExprId r) { return b.binary(ExprOp::kAnd, l, r); }
ExprId truth(RegionBuilder& b, bool value) { return b.constant(value, DType::kBool); }

/// The type in which elements are combined: the reference rounds after each update, which float32 does no less for narrower types.
DType combine_dtype(DType dtype) { return is_float(dtype) ? compute_dtype(dtype) : dtype; }

/// How a reduction combines numbers. Precondition: not kNone.
ExprOp op_of(Reduction reduction) {
  return reduction == Reduction::kAdd ? ExprOp::kAdd : reduction == Reduction::kMul ? ExprOp::kMul : reduction == Reduction::kMax ? ExprOp::kMax : ExprOp::kMin;
}

ExprId combined(RegionBuilder& b, Reduction reduction, ExprId old, ExprId update, DType dtype) {
  if (reduction == Reduction::kNone) return update;
  if (dtype == DType::kBool) return b.binary(reduction == Reduction::kAdd || reduction == Reduction::kMax ? ExprOp::kOr : ExprOp::kAnd, old, update);
  const DType type = combine_dtype(dtype);
  return b.cast(b.binary(op_of(reduction), b.cast(old, type), b.cast(update, type)), dtype);
}

/// The update with this row-major position, which may be any number.
Indices unravelled(RegionBuilder& b, ExprId position, const Dims& space) {
  Indices update(space.size(), -1);
  for (std::size_t a = space.size(); a-- > 0;) {
    update[a] = a == 0 ? position : b.binary(ExprOp::kMod, position, b.integer(space[a]));
    position = b.binary(ExprOp::kFloorDiv, position, b.integer(space[a]));
  }
  return update;
}

/// Defines the result of asking every update of `space`: `hits` says whether it reaches an element, `value` what it brings.
bool define_asked(const Node& node, RegionBuilder& builder, Reduction reduction, const Dims& space, Asked hits, Asked value) {
  const Value *data = node.input(0), *out = node.output();
  const DType dtype = data->dtype();
  const std::int64_t count = element_count(space);
  if (count <= kUnrolled) {
    builder.define(out, [=](RegionBuilder& b, const Indices& at) {
      ExprId result = b.read(data, at);
      for_each_index(space, [&](const Dims& which) {
        Indices update;
        for (const std::int64_t k : which) update.push_back(b.integer(k));
        result = b.select(hits(b, at, update), combined(b, reduction, result, value(b, at, update), dtype), result);
      });
      return result;
    });
    return true;
  }
  const auto elements = ir::product(out->shape()).constant();
  if (count > (elements ? kMostAsked : kMostAskedUnknown) || elements.value_or(0) > kMostWork / count) {
    builder.decline("many updates");
    return false;
  }
  const Shape asked(space.begin(), space.end());
  if (reduction == Reduction::kNone) {
    // Where several updates reach an element the last one stays.
    const Value* last = builder.temporary("last_update", DType::kInt64, out->shape());
    const auto position = [=](RegionBuilder& b, const Indices& at, const Indices& update) {
      ExprId flat = b.integer(0);
      for (std::size_t a = 0; a < space.size(); ++a) flat = b.binary(ExprOp::kAdd, b.binary(ExprOp::kMul, flat, b.integer(space[a])), update[a]);
      return b.select(hits(b, at, update), flat, b.integer(-1));
    };
    builder.define_reduction(last, Reduce::kMax, asked, position, DType::kInt64);
    builder.define(out, [=](RegionBuilder& b, const Indices& at) {
      const ExprId which = b.read(last, at);
      return b.select(b.binary(ExprOp::kLess, which, b.integer(0)), b.read(data, at), value(b, at, unravelled(b, which, space)));
    });
    return true;
  }
  const bool sums = reduction == Reduction::kAdd || reduction == Reduction::kMul;
  if (dtype == DType::kUint64 && !sums) {
    builder.decline("extremes of uint64");
    return false;
  }
  const DType type = compute_dtype(dtype);
  const bool adds = reduction == Reduction::kAdd, any = adds || reduction == Reduction::kMax;
  const Reduce reduce = dtype == DType::kBool ? (any ? Reduce::kMax : Reduce::kMin)
                        : sums                ? (adds ? Reduce::kSum : Reduce::kProd)
                                              : (any ? Reduce::kMax : Reduce::kMin);
  const auto nothing = [=](RegionBuilder& b) {
    if (sums && dtype != DType::kBool) return b.constant(adds ? 0 : 1, type);
    if (dtype == DType::kBool) return b.integer(any ? 0 : 1);
    if (is_float(type)) return b.constant(any ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity(), type);
    return b.integer(any ? std::numeric_limits<std::int64_t>::min() : std::numeric_limits<std::int64_t>::max());
  };
  const Value *total = builder.temporary("updates", type, out->shape()), *reached = builder.temporary("reached", DType::kInt64, out->shape());
  builder.define_reduction(
      total, reduce, asked,
      [=](RegionBuilder& b, const Indices& at, const Indices& update) { return b.select(hits(b, at, update), b.cast(value(b, at, update), type), nothing(b)); },
      type);
  builder.define_reduction(
      reached, Reduce::kMax, asked,
      [=](RegionBuilder& b, const Indices& at, const Indices& update) { return b.select(hits(b, at, update), b.integer(1), b.integer(0)); }, DType::kInt64);
  builder.define(out, [=](RegionBuilder& b, const Indices& at) {
    const ExprId old = b.read(data, at), all = b.read(total, at);
    ExprId result;
    if (is_float(dtype)) {
      result = b.cast(b.binary(op_of(reduction), b.cast(old, type), all), dtype);
    } else {
      result = combined(b, reduction, old, b.cast(all, dtype), dtype);
    }
    return b.select(b.binary(ExprOp::kGreater, b.read(reached, at), b.integer(0)), result, old);
  });
  return true;
}

/// Positions start + step * k along one axis of the result, k an index of axis `from` of the updates; without such an axis, start alone.
struct Line {
  std::int64_t start = 0, step = 0, count = 1;
  std::optional<std::size_t> from;

  /// Whether `at` is a position of the line, and of which k.
  std::pair<ExprId, ExprId> find(RegionBuilder& b, ExprId at) const {
    if (!from) return {b.binary(ExprOp::kEqual, at, b.integer(start)), b.integer(0)};
    const ExprId distance = b.binary(ExprOp::kSub, at, b.integer(start));
    const ExprId k = b.binary(ExprOp::kFloorDiv, distance, b.integer(step));
    ExprId is = both(b, b.binary(ExprOp::kGreaterEqual, k, b.integer(0)), b.binary(ExprOp::kLess, k, b.integer(count)));
    if (step != 1 && step != -1) is = both(b, is, b.binary(ExprOp::kEqual, b.binary(ExprOp::kMod, distance, b.integer(step)), b.integer(0)));
    return {is, k};
  }
};

/// The line of each component of constant index tuples [space..., depth], when no two tuples are equal and each component follows one axis
/// of `space`; nullopt for others.
std::optional<std::vector<Line>> lines_of(const Tensor& indices, const Dims& space, const Shape& extents) {
  const std::size_t depth = extents.size();
  const std::int64_t count = element_count(space);
  if (count < 1 || indices.size() != count * static_cast<std::int64_t>(depth) || indices.size() > kMostIndices) return std::nullopt;
  bool sound = true;
  const auto component = [&](std::int64_t tuple, std::size_t d) {
    const std::int64_t index = indices.as_int64(tuple * static_cast<std::int64_t>(depth) + static_cast<std::int64_t>(d));
    const auto extent = extents[d].constant();
    sound &= index >= 0 || (extent && index >= -*extent);
    return index < 0 ? index + extent.value_or(0) : index;
  };
  const Dims strides = strides_of(space);
  std::vector<Line> lines(depth);
  std::vector<int> users(space.size(), 0);
  for (std::size_t d = 0; d < depth; ++d) {
    lines[d].start = component(0, d);
    for (std::size_t a = 0; a < space.size(); ++a) {
      if (space[a] < 2) continue;
      const std::int64_t step = component(strides[a], d) - lines[d].start;
      if (step == 0) continue;
      if (lines[d].from) return std::nullopt;
      lines[d].from = a;
      lines[d].step = step;
      lines[d].count = space[a];
      ++users[a];
    }
  }
  for (std::size_t a = 0; a < space.size(); ++a)
    if (space[a] > 1 && users[a] != 1) return std::nullopt;
  std::int64_t tuple = 0;
  for_each_index(space, [&](const Dims& at) {
    for (std::size_t d = 0; d < depth && sound; ++d) {
      const Line& line = lines[d];
      sound &= component(tuple, d) == line.start + (line.from ? line.step * at[*line.from] : 0);
    }
    ++tuple;
  });
  if (!sound) return std::nullopt;
  return lines;
}

/// Fits shapes of three tensors; false with a reason where that cannot be told.
bool can_scatter(const Node& node, RegionBuilder& builder, std::optional<Reduction>& reduction) {
  for (std::size_t i = 0; i < 3; ++i)
    if (!can_lower_real(node.input(i), builder)) return false;
  reduction = reduction_of(node.attrs);
  if (!reduction) builder.decline("an unknown reduction");
  return reduction.has_value();
}

}  // namespace

bool scatter_elements_lower(const Node& node, RegionBuilder& builder) {
  std::optional<Reduction> reduction;
  if (!can_scatter(node, builder, reduction)) return false;
  const Value *data = node.input(0), *indices = node.input(1), *updates = node.input(2);
  const Shape shape = data->shape(), asked = indices->shape();
  const auto rank = static_cast<std::int64_t>(shape.size());
  std::int64_t signed_axis = node.attrs.get_int("axis", 0);
  if (signed_axis < 0) signed_axis += rank;
  if (signed_axis < 0 || signed_axis >= rank || asked.size() != shape.size() || updates->shape().size() != shape.size()) {
    builder.decline("an axis or ranks that do not fit");
    return false;
  }
  const auto axis = static_cast<std::size_t>(signed_axis);
  // Elements beyond the indices on another axis are reached by nothing.
  const auto beside = [=](RegionBuilder& b, const Indices& at) {
    ExprId inside = truth(b, true);
    for (std::size_t a = 0; a < shape.size(); ++a)
      if (a != axis && asked[a] != shape[a]) inside = both(b, inside, b.binary(ExprOp::kLess, at[a], b.dim(asked[a])));
    return inside;
  };
  const auto value = [=](RegionBuilder& b, const Indices& at, const Indices& update) {
    for (std::size_t a = 0; a < shape.size(); ++a) b.require_equal(updates, updates->shape()[a], asked[a]);
    Indices from = at;
    from[axis] = update[0];
    return b.read_or(updates, from, b.constant(0, updates->dtype()));
  };
  const auto count = asked[axis].constant();
  const auto all = ir::constant_dims(asked);
  if (indices->is_constant() && all && element_count(*all) > 0) {
    // One line when the indices depend on the position along the axis alone: each of them is that of the first element beside it.
    const Dims strides = strides_of(*all);
    std::vector<std::int64_t> first(static_cast<std::size_t>((*all)[axis]));
    bool same = indices->constant.size() == element_count(*all) && indices->constant.size() <= kMostIndices;
    for (std::size_t k = 0; same && k < first.size(); ++k) first[k] = indices->constant.as_int64(static_cast<std::int64_t>(k) * strides[axis]);
    for (std::int64_t i = 0; same && i < indices->constant.size(); ++i)
      same = indices->constant.as_int64(i) == first[static_cast<std::size_t>(i / strides[axis] % (*all)[axis])];
    const auto lines = same ? lines_of(Tensor::vector(first), {(*all)[axis]}, {shape[axis]}) : std::nullopt;
    if (lines) {
      builder.define(node.output(), [=, line = lines->front()](RegionBuilder& b, const Indices& at) {
        const auto [on, k] = line.find(b, at[axis]);
        const ExprId old = b.read(data, at);
        return b.select(both(b, on, beside(b, at)), combined(b, *reduction, old, value(b, at, {k}), data->dtype()), old);
      });
      return true;
    }
  }
  if (!count) {
    builder.decline("how many updates reach an element is known at run time only");
    return false;
  }
  const auto hits = [=](RegionBuilder& b, const Indices& at, const Indices& update) {
    Indices from = at;
    from[axis] = update[0];
    const ExprId index = from_end(b, b.read_or(indices, from, b.constant(0, indices->dtype())), shape[axis]);
    return both(b, b.binary(ExprOp::kEqual, index, at[axis]), beside(b, at));
  };
  return define_asked(node, builder, *reduction, {*count}, hits, value);
}

bool scatter_nd_lower(const Node& node, RegionBuilder& builder) {
  std::optional<Reduction> reduction;
  if (!can_scatter(node, builder, reduction)) return false;
  const Value *data = node.input(0), *indices = node.input(1), *updates = node.input(2);
  const Shape shape = data->shape(), tuples = indices->shape();
  const auto space = tuples.empty() ? std::nullopt : ir::constant_dims(Shape(tuples.begin(), tuples.end() - 1));
  const auto depth = tuples.empty() ? std::nullopt : tuples.back().constant();
  if (!space || !depth) {
    builder.decline("how many updates there are is known at run time only");
    return false;
  }
  const auto deep = static_cast<std::size_t>(*depth);
  if (*depth < 0 || deep > shape.size() || updates->shape().size() != space->size() + shape.size() - deep) {
    builder.decline("ranks that do not fit");
    return false;
  }
  const auto value = [=](RegionBuilder& b, const Indices& at, const Indices& update) {
    for (std::size_t a = 0; a < updates->shape().size(); ++a)
      b.require_equal(updates, updates->shape()[a], a < space->size() ? Dim((*space)[a]) : shape[a - space->size() + deep]);
    Indices from = update;
    from.insert(from.end(), at.begin() + static_cast<std::ptrdiff_t>(deep), at.end());
    return b.read_or(updates, from, b.constant(0, updates->dtype()));
  };
  const auto lines = indices->is_constant() ? lines_of(indices->constant, *space, Shape(shape.begin(), shape.begin() + *depth)) : std::nullopt;
  if (lines) {
    builder.define(node.output(), [=, rank = space->size()](RegionBuilder& b, const Indices& at) {
      ExprId on = truth(b, true);
      Indices update(rank, b.integer(0));
      for (std::size_t d = 0; d < lines->size(); ++d) {
        const auto [here, k] = (*lines)[d].find(b, at[d]);
        on = both(b, on, here);
        if ((*lines)[d].from) update[*(*lines)[d].from] = k;
      }
      const ExprId old = b.read(data, at);
      return b.select(on, combined(b, *reduction, old, value(b, at, update), data->dtype()), old);
    });
    return true;
  }
  const auto hits = [=](RegionBuilder& b, const Indices& at, const Indices& update) {
    ExprId all = truth(b, true);
    Indices from = update;
    from.push_back(-1);
    for (std::size_t d = 0; d < deep; ++d) {
      from.back() = b.integer(static_cast<std::int64_t>(d));
      all = both(b, all, b.binary(ExprOp::kEqual, from_end(b, b.read(indices, from), shape[d]), at[d]));
    }
    return all;
  };
  return define_asked(node, builder, *reduction, *space, hits, value);
}

bool tensor_scatter_lower(const Node& node, RegionBuilder& builder) {
  const Value *cache = node.input(0), *update = node.input(1), *starts = node.input(2);
  if (!can_lower_real(cache, builder) || !can_lower_real(update, builder) || (starts && !can_lower_real(starts, builder))) return false;
  const Shape shape = cache->shape(), rows = update->shape();
  const auto rank = static_cast<std::int64_t>(shape.size());
  std::int64_t signed_axis = node.attrs.get_int("axis", -2);
  if (signed_axis < 0) signed_axis += rank;
  if (signed_axis < 1 || signed_axis >= rank || rows.size() != shape.size() || (starts && starts->shape().size() != 1)) {
    builder.decline("an axis or ranks that do not fit");
    return false;
  }
  const auto axis = static_cast<std::size_t>(signed_axis);
  const bool circular = node.attrs.get_string("mode", "linear") == "circular";
  builder.define(node.output(), [=](RegionBuilder& b, const Indices& at) {
    for (std::size_t a = 0; a < shape.size(); ++a)
      if (a != axis) b.require_equal(update, rows[a], shape[a]);
    if (starts) b.require_equal(starts, starts->shape()[0], shape[0]);
    ExprId row = at[axis];
    if (starts) row = b.binary(ExprOp::kSub, row, b.read(starts, {at[0]}));
    if (circular) row = b.binary(ExprOp::kMod, row, b.dim(shape[axis]));
    Indices from = at;
    from[axis] = row;
    return b.read_or(update, from, b.read(cache, at));
  });
  return true;
}

}  // namespace lathe::ops
