// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// AffineGrid: the positions of an image's pixels, in [-1, 1], moved by one affine transform for each image: theta x (x, y, [z,] 1).
#include "loops/builder.h"
#include "ops/infer.h"
#include "ops/op_def.h"
#include "ops/ref_util.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

using loops::ExprId;
using loops::ExprOp;

void affine_infer(InferContext& ctx) {
  const auto& theta = ctx.shape(0);
  if (theta && theta->size() != 3) ctx.fail("theta has rank " + std::to_string(theta->size()) + "; it is [N, 2, 3] or [N, 3, 4]");
  const auto size = ctx.content(1);
  std::optional<std::int64_t> length = known_length(ctx, 1);
  if (!length && theta)
    if (const auto rows = (*theta)[1].constant()) length = *rows + 2;
  if (!length) return ctx.set_unknown(0, ctx.dtype(0));
  if (*length != 4 && *length != 5) ctx.fail("size has " + std::to_string(*length) + " elements; it is [N, C, H, W] or [N, C, D, H, W]");
  const std::int64_t spatial = *length - 2;
  if (theta)
    if (const auto rows = (*theta)[1].constant(); rows && *rows != spatial)
      ctx.fail("theta " + ir::to_string(*theta) + " does not fit a size of " + std::to_string(*length) + " elements");
  const auto extent = [&](std::int64_t i) { return extent_of(ctx, size, static_cast<std::size_t>(i)); };
  Shape out{theta ? (*theta)[0] : extent(0)};
  for (std::int64_t a = 0; a < spatial; ++a) out.push_back(extent(a + 2));
  out.push_back(Dim(spatial));
  ctx.set(0, ctx.dtype(0), std::move(out));
}

double position(std::int64_t i, std::int64_t extent, bool align_corners) {
  const auto n = static_cast<double>(extent), at = static_cast<double>(i);
  if (!align_corners) return (2 * at + 1) / n - 1;
  return extent == 1 ? -1.0 : 2 * at / (n - 1) - 1;
}

void affine_reference(RefContext& ctx) {
  const Tensor& theta = ctx.input(0);
  const auto size = ctx.input(1).to_int64_vector();
  const std::size_t spatial = size.size() < 2 ? 0 : size.size() - 2;
  const auto columns = static_cast<std::int64_t>(spatial) + 1;
  const bool fits = (spatial == 2 || spatial == 3) && theta.dims() == Dims{size[0], columns - 1, columns};
  if (!fits) ctx.fail("theta " + lathe::to_string(theta.dims()) + " does not fit the size " + lathe::to_string(size));
  for (const std::int64_t n : size)
    if (n < 0) ctx.fail("the size " + lathe::to_string(size) + " has a negative extent");
  const bool align = ctx.attrs().get_int("align_corners", 0) != 0;
  Dims places{size[0]};
  places.insert(places.end(), size.begin() + 2, size.end());
  const auto m = to_doubles(theta);
  std::vector<double> result;
  for_each_index(places, [&](const Dims& at) {
    for (std::size_t row = 0; row < spatial; ++row) {
      const double* weights = m.data() + (static_cast<std::size_t>(at[0]) * spatial + row) * (spatial + 1);
      double sum = weights[spatial];
      for (std::size_t k = 0; k < spatial; ++k) sum += weights[k] * position(at[spatial - k], places[spatial - k], align);
      result.push_back(sum);
    }
  });
  places.push_back(static_cast<std::int64_t>(spatial));
  ctx.set_output(0, from_doubles(theta.dtype(), std::move(places), result));
}

bool affine_lower(const Node& node, loops::RegionBuilder& builder) {
  const Value *theta = node.input(0), *out = node.output();
  if (!theta->has_shape() || !out->has_shape() || theta->shape()[0] != out->shape()[0]) {
    builder.decline("extents known at run time only");
    return false;
  }
  const std::size_t spatial = out->shape().size() - 2;
  const bool align = node.attrs.get_int("align_corners", 0) != 0;
  const DType type = theta->dtype() == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  builder.define(out, [=](loops::RegionBuilder& b, const auto& i) {
    const ExprId row = i.back(), one = b.constant(1, type), two = b.constant(2, type);
    const auto weight = [&](std::size_t k) { return b.cast(b.read(theta, {i[0], row, b.integer(static_cast<std::int64_t>(k))}), type); };
    ExprId sum = weight(spatial);
    for (std::size_t k = 0; k < spatial; ++k) {
      const Dim& extent = out->shape()[spatial - k];
      const ExprId at = b.cast(i[spatial - k], type);
      // One pixel between aligned corners stands at the first.
      const ExprId n = b.cast(b.dim(align ? Dim::max(extent - Dim(1), Dim(1)) : extent), type);
      const ExprId twice = b.binary(ExprOp::kMul, two, at);
      const ExprId place = b.binary(ExprOp::kSub, b.binary(ExprOp::kDiv, align ? twice : b.binary(ExprOp::kAdd, twice, one), n), one);
      sum = b.binary(ExprOp::kAdd, sum, b.binary(ExprOp::kMul, weight(k), place));
    }
    return b.cast(sum, out->dtype());
  });
  return true;
}

}  // namespace

std::vector<OpDef> affine_grid_ops() {
  return {
      {.name = "AffineGrid",
       .versions = {{20, "theta:T1 size:T2 -> grid:T1", "align_corners:int=0", "T1: @float13; T2: int64"}},
       .infer = affine_infer,
       .reference = affine_reference,
       .tolerance = {.relative = 1e-5, .absolute = 1e-5},
       .lower = affine_lower,
       .doc = "positions of an image's pixels under affine transforms"},
  };
}

}  // namespace lathe::ops
