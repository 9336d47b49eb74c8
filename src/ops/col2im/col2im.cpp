// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Col2Im: the columns of windows summed into the image that they were taken from, the transpose of unfolding an image.
//
//   image[n, c, y...] = sum over taps k of columns[n, c * taps + k, window of y under k]      where that window exists
#include <algorithm>

#include "loops/builder.h"
#include "ops/infer.h"
#include "ops/lower_util.h"
#include "ops/ref_util.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

using loops::ExprId;
using loops::ExprOp;

struct Windows {
  std::vector<std::int64_t> image, block, strides, dilations, begin, end;
  std::int64_t positions(std::size_t a) const {
    const std::int64_t reach = image[a] + begin[a] + end[a] - dilations[a] * (block[a] - 1) - 1;
    return reach < 0 ? 0 : reach / strides[a] + 1;
  }
};

Windows windows_of(const Attrs& attrs, std::vector<std::int64_t> image, std::vector<std::int64_t> block, std::string& defect) {
  const std::size_t rank = block.size();
  Windows w{std::move(image), std::move(block), attrs.get_ints("strides"), attrs.get_ints("dilations"), {}, {}};
  std::vector<std::int64_t> pads = attrs.get_ints("pads");
  if (w.strides.empty()) w.strides.assign(rank, 1);
  if (w.dilations.empty()) w.dilations.assign(rank, 1);
  if (pads.empty()) pads.assign(2 * rank, 0);
  if (w.image.size() != rank || w.strides.size() != rank || w.dilations.size() != rank || pads.size() != 2 * rank) {
    defect = "image_shape, block_shape, strides, dilations and pads differ in length";
    return w;
  }
  w.begin.assign(pads.begin(), pads.begin() + static_cast<std::ptrdiff_t>(rank));
  w.end.assign(pads.begin() + static_cast<std::ptrdiff_t>(rank), pads.end());
  for (std::size_t a = 0; a < rank; ++a)
    if (w.image[a] < 0 || w.block[a] < 1 || w.strides[a] < 1 || w.dilations[a] < 1) defect = "extents, strides and dilations must be positive";
  return w;
}

void col2im_infer(InferContext& ctx) {
  const auto& x = ctx.shape(0);
  if (x && x->size() != 3) ctx.fail("takes columns [batch, channels * taps, windows], got " + ir::to_string(*x));
  const auto image = ctx.content(1);
  const auto block = constant_content(ctx, 2);
  const auto rank = image   ? std::optional(static_cast<std::int64_t>(image->size()))
                    : block ? std::optional(static_cast<std::int64_t>(block->size()))
                            : known_length(ctx, 1);
  if (!rank) return ctx.set_unknown(0, ctx.dtype(0));
  Shape out{x ? (*x)[0] : ctx.fresh_symbol(), ctx.fresh_symbol()};
  if (x && block) {
    std::int64_t taps = 1;
    for (const std::int64_t extent : *block) {
      if (extent < 1) ctx.fail("block_shape has the extent " + std::to_string(extent));
      taps *= extent;
    }
    if (const auto rows = (*x)[1].constant(); rows && *rows % taps != 0)
      ctx.fail(std::to_string(*rows) + " rows cannot be split into blocks of " + std::to_string(taps) + " taps");
    out[1] = Dim::floordiv((*x)[1], Dim(taps));
  }
  for (std::int64_t a = 0; a < *rank; ++a) out.push_back(extent_of(ctx, image, static_cast<std::size_t>(a)));
  ctx.set(0, ctx.dtype(0), std::move(out));
}

void col2im_reference(RefContext& ctx) {
  const Tensor& x = ctx.input(0);
  std::string defect;
  const Windows w = windows_of(ctx.attrs(), ctx.input(1).to_int64_vector(), ctx.input(2).to_int64_vector(), defect);
  if (!defect.empty()) ctx.fail(defect);
  Dims positions;
  for (std::size_t a = 0; a < w.block.size(); ++a) positions.push_back(w.positions(a));
  const std::int64_t taps = element_count(w.block), count = element_count(positions), area = element_count(w.image);
  if (x.rank() != 3 || x.dims()[1] % taps != 0 || x.dims()[2] != count)
    ctx.fail("columns " + lathe::to_string(x.dims()) + " do not fit " + std::to_string(taps) + " taps and " + std::to_string(count) + " windows");
  const std::int64_t planes = x.dims()[0] * (x.dims()[1] / taps);
  Dims out{x.dims()[0], x.dims()[1] / taps};
  out.insert(out.end(), w.image.begin(), w.image.end());
  const Dims strides = strides_of(w.image);
  // Offsets in the image of (tap, window), -1 outside.
  std::vector<std::int64_t> to;
  for_each_index(w.block, [&](const Dims& tap) {
    for_each_index(positions, [&](const Dims& at) {
      std::int64_t offset = 0;
      for (std::size_t a = 0; a < at.size() && offset >= 0; ++a) {
        const std::int64_t i = at[a] * w.strides[a] - w.begin[a] + tap[a] * w.dilations[a];
        offset = i < 0 || i >= w.image[a] ? -1 : offset + i * strides[a];
      }
      to.push_back(offset);
    });
  });
  const auto run = [&](const auto& values) {
    std::decay_t<decltype(values)> result(static_cast<std::size_t>(planes * area), 0);
    for (std::int64_t p = 0; p < planes; ++p)
      for (std::int64_t i = 0; i < taps * count; ++i)
        if (to[static_cast<std::size_t>(i)] >= 0)
          result[static_cast<std::size_t>(p * area + to[static_cast<std::size_t>(i)])] += values[static_cast<std::size_t>(p * taps * count + i)];
    return result;
  };
  if (is_float(x.dtype())) return ctx.set_output(0, from_doubles(x.dtype(), out, run(to_doubles(x))));
  const auto wide = to_int64s(x);
  const auto sums = run(std::vector<std::uint64_t>(wide.begin(), wide.end()));
  ctx.set_output(0, from_int64s(x.dtype(), out, std::vector<std::int64_t>(sums.begin(), sums.end())));
}

bool col2im_lower(const Node& node, loops::RegionBuilder& builder) {
  const Value *x = node.input(0), *out = node.output();
  const auto numbers = [](const Value* value) {
    const auto content = known_content(*value);
    return content ? ir::constant_dims(*content) : std::nullopt;
  };
  const auto image = numbers(node.input(1)), block = numbers(node.input(2));
  if (!can_lower_real(x, builder) || !out->has_shape() || !image || !block) {
    builder.decline("extents known at run time only");
    return false;
  }
  std::string defect;
  const Windows w = windows_of(node.attrs, *image, *block, defect);
  std::int64_t taps = 1, count = 1;
  for (std::size_t a = 0; defect.empty() && a < w.block.size(); ++a) {
    taps *= w.block[a];
    count *= w.positions(a);
  }
  if (!defect.empty() || x->shape()[2] != Dim(count) || out->shape()[1] * Dim(taps) != x->shape()[1]) {
    builder.decline("columns whose number only a run tells");
    return false;
  }
  const DType wide = compute_dtype(x->dtype());
  Shape space;
  for (const std::int64_t extent : w.block) space.push_back(Dim(extent));
  const Value* sum = builder.temporary("sum", wide, out->shape());
  builder.define_reduction(
      sum, loops::Reduce::kSum, space,
      [=](loops::RegionBuilder& b, const auto& i, const auto& tap) {
        ExprId row = b.integer(0), column = b.integer(0), inside = -1;
        for (std::size_t a = 0; a < w.block.size(); ++a) {
          row = b.binary(ExprOp::kAdd, b.binary(ExprOp::kMul, row, b.integer(w.block[a])), tap[a]);
          const ExprId reach =
              b.binary(ExprOp::kSub, b.binary(ExprOp::kAdd, i[a + 2], b.integer(w.begin[a])), b.binary(ExprOp::kMul, tap[a], b.integer(w.dilations[a])));
          const ExprId position = b.binary(ExprOp::kFloorDiv, reach, b.integer(w.strides[a]));
          ExprId here = b.binary(ExprOp::kEqual, b.binary(ExprOp::kMul, position, b.integer(w.strides[a])), reach);
          here = b.binary(ExprOp::kAnd, here, b.binary(ExprOp::kGreaterEqual, position, b.integer(0)));
          here = b.binary(ExprOp::kAnd, here, b.binary(ExprOp::kLess, position, b.integer(w.positions(a))));
          inside = inside < 0 ? here : b.binary(ExprOp::kAnd, inside, here);
          column = b.binary(ExprOp::kAdd, b.binary(ExprOp::kMul, column, b.integer(w.positions(a))), position);
        }
        row = b.binary(ExprOp::kAdd, b.binary(ExprOp::kMul, i[1], b.integer(taps)), row);
        // Outside, a column that is not there: the fallback.
        return b.cast(b.read_or(x, {i[0], row, b.select(inside, column, b.integer(-1))}, b.constant(0, x->dtype())), wide);
      },
      wide);
  builder.define(out, [sum, out](loops::RegionBuilder& b, const auto& i) { return b.cast(b.read(sum, i), out->dtype()); });
  return true;
}

}  // namespace

std::span<const OpDef> ops_col2im() {
  static const std::vector<OpDef> ops{
      {.name = "Col2Im",
       .versions = {{18, "input:T image_shape:int64 block_shape:int64 -> output:T", "dilations:ints? pads:ints? strides:ints?", "T: @all13"}},
       .infer = col2im_infer,
       .reference = col2im_reference,
       .tolerance = {.relative = 1e-5, .absolute = 1e-6},
       .lower = col2im_lower,
       .doc = "columns of windows summed into an image"},
  };
  return ops;
}

}  // namespace lathe::ops
