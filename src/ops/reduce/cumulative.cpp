// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// CumSum, CumProd: running sums and products along an axis.
#include "loops/builder.h"
#include "ops/infer.h"
#include "ops/lower_util.h"
#include "ops/ref_util.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

void cumulative_infer(InferContext& ctx) {
  const auto& in = ctx.shape(0);
  if (const auto axis = constant_content(ctx, 1); in && axis && axis->size() == 1) {
    infer_axis(ctx, axis->front(), static_cast<std::int64_t>(in->size()));
  }
  ctx.set_type(0, ctx.node().input(0)->type);
}

template <bool kSum, class T>
std::vector<T> run(const std::vector<T>& x, const AxisView& view, bool exclusive, bool reverse) {
  std::vector<T> y(x.size());
  for (std::int64_t o = 0; o < view.outer; ++o) {
    for (std::int64_t i = 0; i < view.inner; ++i) {
      T running = kSum ? 0 : 1;
      for (std::int64_t k = 0; k < view.extent; ++k) {
        const std::int64_t position = reverse ? view.extent - 1 - k : k;
        const auto at = static_cast<std::size_t>((o * view.extent + position) * view.inner + i);
        const T before = running;
        running = kSum ? running + x[at] : running * x[at];
        y[at] = exclusive ? before : running;
      }
    }
  }
  return y;
}

template <bool kSum>
void cumulative_reference(RefContext& ctx) {
  const Tensor& in = ctx.input(0);
  if (ctx.input(1).size() != 1) ctx.fail("axis must be one number");
  const AxisView view = around_axis(in.dims(), ref_axis(ctx, ctx.input(1).as_int64(0), in.rank()));
  const bool exclusive = ctx.attrs().get_int("exclusive", 0) != 0, reverse = ctx.attrs().get_int("reverse", 0) != 0;
  if (is_float(in.dtype())) {
    ctx.set_output(0, from_doubles(in.dtype(), in.dims(), run<kSum>(to_doubles(in), view, exclusive, reverse)));
    return;
  }
  const auto signed_values = to_int64s(in);
  const std::vector<std::uint64_t> values(signed_values.begin(), signed_values.end());  // unsigned: wraps without undefined behaviour
  const auto sums = run<kSum>(values, view, exclusive, reverse);
  ctx.set_output(0, from_int64s(in.dtype(), in.dims(), {sums.begin(), sums.end()}));
}

using loops::ExprId;
using loops::ExprOp;
using loops::RegionBuilder;

/// Steps that one masked reduction runs over; longer axes go in blocks of so many.
constexpr std::int64_t kBlock = 32, kLongest = 1 << 16;

/// Regions have no running values, so each element is a reduction over all steps, those that do not count masked out. A long axis is cut
/// into blocks: the totals of the blocks before, and the steps before within the own block.
template <bool kSum>
bool cumulative_lower(const Node& node, RegionBuilder& builder) {
  const Value *x = node.input(0), *out = node.output();
  if (!can_lower_real(x, builder)) return false;
  const auto known = known_content(*node.input(1));
  const auto numbers = known ? ir::constant_dims(*known) : std::nullopt;
  if (!numbers || numbers->size() != 1) {
    builder.decline("an axis known at run time only");
    return false;
  }
  const auto rank = static_cast<std::int64_t>(x->shape().size());
  const std::int64_t given = numbers->front();
  if (given < -rank || given >= rank) {
    builder.decline("an axis out of range");
    return false;
  }
  const auto axis = static_cast<std::size_t>(given < 0 ? given + rank : given);
  const Shape shape = x->shape();
  const Dim extent = shape[axis];
  if (extent.constant().value_or(0) > kLongest) {
    builder.decline("a long axis");
    return false;
  }
  const bool exclusive = node.attrs.get_int("exclusive", 0) != 0, reverse = node.attrs.get_int("reverse", 0) != 0;
  const DType type = compute_dtype(x->dtype()), dtype = x->dtype();
  constexpr loops::Reduce kReduce = kSum ? loops::Reduce::kSum : loops::Reduce::kProd;
  const ExprOp before = reverse ? (exclusive ? ExprOp::kGreater : ExprOp::kGreaterEqual) : (exclusive ? ExprOp::kLess : ExprOp::kLessEqual);
  const auto nothing = [type](RegionBuilder& b) { return b.constant(kSum ? 0 : 1, type); };
  if (extent.constant().value_or(kBlock * 2 + 1) <= kBlock * 2) {
    const Value* running = builder.temporary("running", type, shape);
    const auto element = [=](RegionBuilder& b, const RegionBuilder::Indices& at, const RegionBuilder::Indices& step) {
      auto from = at;
      from[axis] = step[0];
      return b.select(b.binary(before, step[0], at[axis]), b.cast(b.read(x, from), type), nothing(b));
    };
    builder.define_reduction(running, kReduce, {extent}, element, type);
    builder.define(out, [=](RegionBuilder& b, const auto& i) { return b.cast(b.read(running, i), dtype); });
    return true;
  }
  Shape blocks = shape;
  blocks[axis] = Dim::ceildiv(extent, Dim(kBlock));
  // The element at a step of a block, and nothing behind the axis's end.
  const auto step_of = [=](RegionBuilder& b, RegionBuilder::Indices at, ExprId block, ExprId step) {
    at[axis] = b.binary(ExprOp::kAdd, b.binary(ExprOp::kMul, block, b.integer(kBlock)), step);
    return b.cast(b.read_or(x, at, b.constant(kSum ? 0 : 1, dtype)), type);
  };
  const Value *total = builder.temporary("block_total", type, blocks), *earlier = builder.temporary("blocks_before", type, blocks),
              *within = builder.temporary("within_block", type, shape);
  builder.define_reduction(
      total, kReduce, {Dim(kBlock)}, [=](RegionBuilder& b, const auto& at, const auto& step) { return step_of(b, at, at[axis], step[0]); }, type);
  const auto other_block = [=](RegionBuilder& b, const RegionBuilder::Indices& at, const RegionBuilder::Indices& step) {
    auto from = at;
    from[axis] = step[0];
    return b.select(b.binary(reverse ? ExprOp::kGreater : ExprOp::kLess, step[0], at[axis]), b.read(total, from), nothing(b));
  };
  builder.define_reduction(earlier, kReduce, {blocks[axis]}, other_block, type);
  const auto own_block = [=](RegionBuilder& b, const RegionBuilder::Indices& at, const RegionBuilder::Indices& step) {
    const auto block = b.binary(ExprOp::kFloorDiv, at[axis], b.integer(kBlock)), place = b.binary(ExprOp::kMod, at[axis], b.integer(kBlock));
    return b.select(b.binary(before, step[0], place), step_of(b, at, block, step[0]), nothing(b));
  };
  builder.define_reduction(within, kReduce, {Dim(kBlock)}, own_block, type);
  builder.define(out, [=](RegionBuilder& b, const auto& i) {
    auto block = i;
    block[axis] = b.binary(ExprOp::kFloorDiv, i[axis], b.integer(kBlock));
    return b.cast(b.binary(kSum ? ExprOp::kAdd : ExprOp::kMul, b.read(earlier, block), b.read(within, i)), dtype);
  });
  return true;
}

}  // namespace

std::vector<OpDef> cumulative_ops() {
  constexpr std::string_view kIo = "x:T axis:T2 -> y:T", kAttrs = "exclusive:int=0 reverse:int=0";
  return {
      {.name = "CumSum",
       .versions = {{11, kIo, kAttrs, "T: uint32 uint64 int32 int64 float double; T2: int32 int64"}, {14, kIo, kAttrs, "T: @high13; T2: int32 int64"}},
       .infer = cumulative_infer,
       .reference = cumulative_reference<true>,
       .tolerance = {.relative = 2e-5, .absolute = 1e-6},
       .lower = cumulative_lower<true>,
       .doc = "running sum along an axis"},
      {.name = "CumProd",
       .versions = {{26, kIo, kAttrs, "T: @high13; T2: int32 int64"}},
       .infer = cumulative_infer,
       .reference = cumulative_reference<false>,
       .tolerance = {.relative = 2e-5, .absolute = 1e-6},
       .lower = cumulative_lower<false>,
       .doc = "running product along an axis"},
  };
}

}  // namespace lathe::ops
