// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// MatMulInteger and ConvInteger in the region language: for those that no product of floats holds (src/passes/quantised_products.cpp), since
// only a run tells how much is summed or what the weights are.
#include "ops/lower_util.h"
#include "ops/quantize/quantize.h"
#include "ops/window.h"

namespace lathe::ops {
namespace {

using loops::ExprId;
using loops::ExprOp;
using loops::Reduce;
using loops::RegionBuilder;
using Indices = RegionBuilder::Indices;

constexpr DType kWide = DType::kInt64;

bool are_known(const Node& node, RegionBuilder& builder) {
  for (const Value* value : node.inputs)
    if (value && !can_lower_real(value, builder)) return false;
  if (node.output()->has_shape()) return true;
  builder.decline("the output's shape is not known");
  return false;
}

bool is_single(const Value* value) { return ir::product(value->shape()) == Dim(1); }

/// Sums of `term`, which wrap to 32 bits.
void define_sums(const Node& node, RegionBuilder& builder, const Shape& space, RegionBuilder::ReduceBody term) {
  const Value* sums = builder.temporary("sums", kWide, node.output()->shape());
  builder.define_reduction(sums, Reduce::kSum, space, std::move(term), kWide);
  builder.define(node.output(), [=](RegionBuilder& b, const Indices& at) { return b.cast(b.read(sums, at), DType::kInt32); });
}

}  // namespace

bool matmul_integer_lower(const Node& node, RegionBuilder& builder) {
  if (!are_known(node, builder)) return false;
  const Value *a = node.input(0), *b = node.input(1), *za = node.input(2), *zb = node.input(3);
  const Shape out = node.output()->shape(), rows = a->shape(), columns = b->shape();
  const auto fits = [](const Value* zero, const Value* x) {
    return !zero || is_single(zero) || (x->shape().size() >= 2 && (zero->shape().size() == 1 || zero->shape().size() == x->shape().size()));
  };
  if (rows.empty() || columns.empty() || !fits(za, a) || !fits(zb, b)) {
    builder.decline("zero points that do not fit");
    return false;
  }
  const bool has_row = rows.size() > 1, has_column = columns.size() > 1;
  const std::size_t batch = out.size() - (has_row ? 1 : 0) - (has_column ? 1 : 0);
  const Dim depth = rows.back();
  Shape left(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(batch)), right = left;
  left.insert(left.end(), {has_row ? rows[rows.size() - 2] : Dim(1), depth});
  right.insert(right.end(), {depth, columns.back()});
  define_sums(node, builder, {depth}, [=](RegionBuilder& r, const Indices& at, const Indices& k) {
    r.require_equal(b, columns[columns.size() - (has_column ? 2 : 1)], depth);
    const ExprId row = has_row ? at[batch] : r.integer(0), column = has_column ? at.back() : r.integer(0);
    /// An operand less its zero point; `own` is the index that zero points of rank 1 run along.
    const auto centred = [&](const Value* x, const Value* zero, const Shape& shape, ExprId i, ExprId j, ExprId own) {
      Indices index(at.begin(), at.begin() + static_cast<std::ptrdiff_t>(batch));
      index.insert(index.end(), {i, j});
      const ExprId value = r.cast(x->shape().size() == 1 ? r.read(x, {k[0]}) : r.read_broadcast(x, shape, index), kWide);
      if (!zero) return value;
      const bool line = zero->shape().size() == 1 && !is_single(zero);
      const ExprId z = line              ? r.read(zero, {own})
                       : is_single(zero) ? r.read(zero, Indices(zero->shape().size(), r.integer(0)))
                                         : r.read_broadcast(zero, shape, index);
      return r.binary(ExprOp::kSub, value, r.cast(z, kWide));
    };
    return r.binary(ExprOp::kMul, centred(a, za, left, row, k[0], row), centred(b, zb, right, k[0], column, column));
  });
  return true;
}

bool conv_integer_lower(const Node& node, RegionBuilder& builder) {
  if (!are_known(node, builder)) return false;
  const Value *x = node.input(0), *w = node.input(1), *zx = node.input(2), *zw = node.input(3);
  const auto dims = ir::constant_dims(w->shape());
  const auto decline = [&](const char* why) {
    builder.decline(why);
    return false;
  };
  if (!dims || dims->size() < 3 || dims->size() != x->shape().size()) return decline("weights whose shape a run tells");
  for (const Value* zero : {zx, zw})
    if (zero && zero->shape().size() > 1) return decline("zero points that do not fit");
  const std::size_t spatial = dims->size() - 2;
  const auto known = known_window(node, builder, Dims(dims->begin() + 2, dims->end()));
  if (!known) return false;
  const Window& window = *known;
  const std::int64_t groups = node.attrs.get_int("group", 1), inner = (*dims)[1];
  if (groups < 1 || (*dims)[0] % groups != 0) return decline("groups that do not fit");
  const std::int64_t per_group = (*dims)[0] / groups;
  Shape space{Dim(inner)};
  for (const std::int64_t k : window.kernel) space.push_back(Dim(k));
  define_sums(node, builder, space, [=](RegionBuilder& r, const Indices& at, const Indices& tap) {
    r.require_equal(x, x->shape()[1], Dim(inner * groups));
    const auto zero_of = [&](const Value* zero, ExprId index) { return r.read(zero, Indices(zero->shape().size(), is_single(zero) ? r.integer(0) : index)); };
    ExprId channel = tap[0];
    if (groups > 1)
      channel = r.binary(ExprOp::kAdd, channel, r.binary(ExprOp::kMul, r.binary(ExprOp::kFloorDiv, at[1], r.integer(per_group)), r.integer(inner)));
    Indices from{at[0], channel}, weight{at[1], tap[0]};
    for (std::size_t s = 0; s < spatial; ++s) {
      const ExprId first = r.binary(ExprOp::kSub, r.binary(ExprOp::kMul, at[s + 2], r.integer(window.strides[s])), r.integer(window.pads_begin[s]));
      from.push_back(r.binary(ExprOp::kAdd, first, r.binary(ExprOp::kMul, tap[s + 1], r.integer(window.dilations[s]))));
      weight.push_back(tap[s + 1]);
    }
    // Pads are zero less no zero point.
    const ExprId outside = zx ? zero_of(zx, channel) : r.constant(0, x->dtype());
    ExprId value = r.cast(r.read_or(x, from, outside), kWide), factor = r.cast(r.read(w, weight), kWide);
    if (zx) value = r.binary(ExprOp::kSub, value, r.cast(outside, kWide));
    if (zw) factor = r.binary(ExprOp::kSub, factor, r.cast(zero_of(zw, at[1]), kWide));
    return r.binary(ExprOp::kMul, value, factor);
  });
  return true;
}

}  // namespace lathe::ops
