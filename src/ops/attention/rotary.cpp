// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// RotaryEmbedding: pairs of a head's elements turned by an angle that grows with the position (Su et al., RoFormer, 2021).
//
//   a' = cos * a - sin * b      b' = sin * a + cos * b
//
// (a, b) are elements (i, i + half) of the rotated part, or (2 i, 2 i + 1) when interleaved. Caches are [positions, half] with position_ids,
// else [batch, sequence, half].
#include "loops/builder.h"
#include "ops/attention/attention.h"
#include "ops/lower_util.h"
#include "ops/ref_util.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

using loops::ExprId;
using loops::ExprOp;

void rotary_infer(InferContext& ctx) {
  const auto& x = ctx.shape(0);
  if (x && x->size() != 3 && x->size() != 4) ctx.fail("takes rank 3 or 4, got " + ir::to_string(*x));
  if (x && x->size() == 3 && ctx.attrs().get_int("num_heads", 0) < 1) ctx.fail("an input of rank 3 needs num_heads");
  if (ctx.attrs().get_int("rotary_embedding_dim", 0) % 2 != 0) ctx.fail("rotary_embedding_dim must be even");
  ctx.set_type(0, ctx.node().input(0)->type);
}

void rotary_reference(RefContext& ctx) {
  const Tensor &x = ctx.input(0), &cosines = ctx.input(1), &sines = ctx.input(2);
  const bool flat = x.rank() == 3, interleaved = ctx.attrs().get_int("interleaved", 0) != 0;
  if (!flat && x.rank() != 4) ctx.fail("takes rank 3 or 4, got " + lathe::to_string(x.dims()));
  const std::int64_t heads = flat ? ctx.attrs().get_int("num_heads", 0) : x.dims()[1];
  if (heads < 1 || (flat && x.dims()[2] % heads != 0)) ctx.fail(lathe::to_string(x.dims()) + " cannot be split into " + std::to_string(heads) + " heads");
  const std::int64_t batch = x.dims()[0], sequence = flat ? x.dims()[1] : x.dims()[2], size = flat ? x.dims()[2] / heads : x.dims()[3];
  std::int64_t rotated = ctx.attrs().get_int("rotary_embedding_dim", 0);
  if (rotated == 0) rotated = size;
  const std::int64_t half = rotated / 2;
  const bool by_id = ctx.has_input(3);
  const Dims expected = by_id ? Dims{cosines.dims().at(0), half} : Dims{batch, sequence, half};
  if (rotated % 2 != 0 || rotated > size || cosines.dims() != expected || sines.dims() != expected)
    ctx.fail("caches " + lathe::to_string(cosines.dims()) + " and " + lathe::to_string(sines.dims()) + " do not fit " + std::to_string(rotated) +
             " rotated elements");
  if (by_id && ctx.input(3).dims() != Dims{batch, sequence}) ctx.fail("position_ids " + lathe::to_string(ctx.input(3).dims()) + " are not [batch, sequence]");
  auto values = to_doubles(x);
  const auto c = to_doubles(cosines), s = to_doubles(sines);
  for (std::int64_t b = 0; b < batch; ++b)
    for (std::int64_t t = 0; t < sequence; ++t) {
      std::int64_t row = b * sequence + t;
      if (by_id) {
        row = ctx.input(3).as_int64(row);
        if (row < 0 || row >= cosines.dims()[0]) ctx.fail("position " + std::to_string(row) + " is outside the caches' " + std::to_string(cosines.dims()[0]));
      }
      for (std::int64_t h = 0; h < heads; ++h) {
        double* head = values.data() + (flat ? (b * sequence + t) * heads + h : (b * heads + h) * sequence + t) * size;
        for (std::int64_t i = 0; i < half; ++i) {
          double &first = head[interleaved ? 2 * i : i], &second = head[interleaved ? 2 * i + 1 : i + half];
          const double turn_c = c[static_cast<std::size_t>(row * half + i)], turn_s = s[static_cast<std::size_t>(row * half + i)];
          const double a = turn_c * first - turn_s * second;
          second = turn_s * first + turn_c * second;
          first = a;
        }
      }
    }
  ctx.set_output(0, from_doubles(x.dtype(), x.dims(), values));
}

bool rotary_lower(const Node& node, loops::RegionBuilder& builder) {
  const Value *x = node.input(0), *cosines = node.input(1), *sines = node.input(2), *ids = node.input(3), *out = node.output();
  if (!can_lower_real(x, builder) || !can_lower_real(cosines, builder) || !can_lower_real(sines, builder)) return false;
  const bool flat = x->shape().size() == 3, interleaved = node.attrs.get_int("interleaved", 0) != 0;
  const std::int64_t heads = node.attrs.get_int("num_heads", 0);
  const auto extent = x->shape().back().constant();
  if (!extent || (flat && (heads < 1 || *extent % heads != 0)) || (x->shape().size() != 4 && !flat)) {
    builder.decline("a head size that only a run tells");
    return false;
  }
  const std::int64_t size = flat ? *extent / heads : *extent;
  std::int64_t rotated = node.attrs.get_int("rotary_embedding_dim", 0);
  if (rotated == 0) rotated = size;
  const std::int64_t half = rotated / 2;
  const Dim batch = x->shape()[0], sequence = x->shape()[flat ? 1 : 2];
  const Shape wanted = ids ? Shape{cosines->shape()[0], Dim(half)} : Shape{batch, sequence, Dim(half)};
  const bool fits = rotated <= size && rotated % 2 == 0 && cosines->shape() == wanted && sines->shape() == wanted &&
                    (!ids || (ids->has_shape() && ids->shape() == Shape{batch, sequence}));
  if (!fits) {
    builder.decline("caches whose extents only a run tells");
    return false;
  }
  const DType wide = compute_dtype(x->dtype());
  builder.define(out, [=](loops::RegionBuilder& b, const auto& i) {
    const ExprId t = i[flat ? 1 : 2], last = i.back();
    const ExprId e = flat ? b.binary(ExprOp::kMod, last, b.integer(size)) : last, base = b.binary(ExprOp::kSub, last, e);
    const auto number = [&](std::int64_t v) { return b.integer(v); };
    // Which pair, and which of the two; elements beyond the rotated part read the first pair and drop what it gives.
    ExprId pair, second, other;
    if (interleaved) {
      pair = b.binary(ExprOp::kFloorDiv, e, number(2));
      second = b.binary(ExprOp::kEqual, b.binary(ExprOp::kMod, e, number(2)), number(1));
      other = b.select(second, b.binary(ExprOp::kSub, e, number(1)), b.binary(ExprOp::kAdd, e, number(1)));
    } else {
      second = b.binary(ExprOp::kGreaterEqual, e, number(half));
      pair = b.select(second, b.binary(ExprOp::kSub, e, number(half)), e);
      other = b.select(second, b.binary(ExprOp::kSub, e, number(half)), b.binary(ExprOp::kAdd, e, number(half)));
    }
    const bool whole = rotated == size;
    const ExprId inside = whole ? -1 : b.binary(ExprOp::kLess, e, number(rotated));
    if (!whole) {
      pair = b.select(inside, pair, number(0));
      other = b.select(inside, other, number(0));
    }
    loops::RegionBuilder::Indices at = i;
    at.back() = b.binary(ExprOp::kAdd, base, other);
    const ExprId own = b.cast(b.read(x, i), wide), twin = b.cast(b.read(x, at), wide);
    const auto turn = [&](const Value* cache) {
      if (!ids) return b.cast(b.read(cache, {i[0], t, pair}), wide);
      return b.cast(b.read_or(cache, {b.read(ids, {i[0], t}), pair}, b.constant(0, cache->dtype())), wide);
    };
    const ExprId c = b.binary(ExprOp::kMul, turn(cosines), own), s = b.binary(ExprOp::kMul, turn(sines), twin);
    const ExprId turned = b.select(second, b.binary(ExprOp::kAdd, c, s), b.binary(ExprOp::kSub, c, s));
    return b.cast(whole ? turned : b.select(inside, turned, own), out->dtype());
  });
  return true;
}

}  // namespace

std::vector<OpDef> rotary_ops() {
  return {
      {.name = "RotaryEmbedding",
       .versions = {{23, "X:T cos_cache:T sin_cache:T position_ids?:M -> Y:T", "interleaved:int=0 num_heads:int? rotary_embedding_dim:int=0",
                     "T: float float16 bfloat16; M: int64"}},
       .infer = rotary_infer,
       .reference = rotary_reference,
       .tolerance = {.relative = 1e-5, .absolute = 1e-5},
       .lower = rotary_lower,
       .doc = "pairs of a head's elements turned by the angle of their position"},
  };
}

}  // namespace lathe::ops
