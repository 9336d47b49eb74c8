// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Transpose, DepthToSpace, SpaceToDepth: pure permutations of the elements.
#include <algorithm>
#include <numeric>

#include "loops/builder.h"
#include "ops/ref_util.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

using loops::ExprOp;

/// The permutation: attribute or reversed axes; empty when it is none.
std::vector<std::int64_t> permutation(const Attrs& attrs, std::size_t rank) {
  std::vector<std::int64_t> perm = attrs.get_ints("perm");
  if (!attrs.has("perm")) {
    perm.resize(rank);
    std::iota(perm.rbegin(), perm.rend(), 0);
  }
  auto sorted = perm;
  std::sort(sorted.begin(), sorted.end());
  for (std::size_t i = 0; i < sorted.size(); ++i) {
    if (sorted[i] != static_cast<std::int64_t>(i)) return {-1};
  }
  return perm.size() == rank ? perm : std::vector<std::int64_t>{-1};
}

bool is_permutation(const std::vector<std::int64_t>& perm) { return perm.empty() || perm.front() >= 0; }

void transpose_infer(InferContext& ctx) {
  const auto& in = ctx.shape(0);
  const std::size_t rank = in ? in->size() : ctx.attrs().get_ints("perm").size();
  if (!in && !ctx.attrs().has("perm")) return ctx.set_unknown(0, ctx.dtype(0));
  const auto perm = permutation(ctx.attrs(), rank);
  if (!is_permutation(perm)) ctx.fail("attribute 'perm' is no permutation of " + std::to_string(rank) + " axes");
  if (!in) return ctx.set(0, ctx.dtype(0), fresh_shape(ctx, rank));
  Shape out;
  for (const auto axis : perm) out.push_back((*in)[static_cast<std::size_t>(axis)]);
  ctx.set(0, ctx.dtype(0), out);
  if (rank <= 1) {
    if (auto content = ctx.content(0)) ctx.set_content(0, std::move(*content));
  }
}

void transpose_reference(RefContext& ctx) {
  const Tensor& in = ctx.input(0);
  const auto perm = permutation(ctx.attrs(), in.dims().size());
  if (!is_permutation(perm)) ctx.fail("attribute 'perm' is no permutation of " + std::to_string(in.rank()) + " axes");
  const Dims strides = strides_of(in.dims());
  Dims dims, step;
  for (const auto axis : perm) {
    dims.push_back(in.dims()[static_cast<std::size_t>(axis)]);
    step.push_back(strides[static_cast<std::size_t>(axis)]);
  }
  ctx.set_output(0, strided(in, std::move(dims), std::move(step)));
}

bool transpose_lower(const Node& node, loops::RegionBuilder& builder) {
  const Value* in = node.input(0);
  if (!in->has_shape() || in->dtype() == DType::kString) {
    builder.decline("unknown rank, or strings");
    return false;
  }
  const auto perm = permutation(node.attrs, in->shape().size());
  builder.define(node.output(), [in, perm](loops::RegionBuilder& b, const auto& i) {
    loops::RegionBuilder::Indices source(perm.size());
    for (std::size_t k = 0; k < perm.size(); ++k) source[static_cast<std::size_t>(perm[k])] = i[k];
    return b.read(in, source);
  });
  return true;
}

// DepthToSpace, SpaceToDepth -----------------------------------------------------------------------------------------
//   DCR: depth = (block row, block column, channel)      CRD: depth = (channel, block row, block column)

struct Blocks {
  std::int64_t size;
  bool channel_first;  // CRD
};

Blocks blocks_of(const Node& node) { return {node.attrs.get_int("blocksize", 0), node.attrs.get_string("mode", "DCR") == "CRD"}; }

void check_blocks(InferContext& ctx) {
  const auto mode = ctx.attrs().get_string("mode", "DCR");
  if (mode != "DCR" && mode != "CRD") ctx.fail("attribute 'mode' is '" + mode + "'; expected DCR or CRD");
  if (ctx.attrs().get_int("blocksize", 0) < 1) ctx.fail("attribute 'blocksize' must be positive");
  const auto& in = ctx.shape(0);
  if (in && in->size() != 4) ctx.fail("takes a tensor of rank 4, got " + ir::to_string(*in));
}

void depth_to_space_infer(InferContext& ctx) {
  check_blocks(ctx);
  const auto& in = ctx.shape(0);
  if (!in) return ctx.set(0, ctx.dtype(0), fresh_shape(ctx, 4));
  const Dim block(ctx.attrs().get_int("blocksize", 0));
  if (const auto c = (*in)[1].constant(); c && *c % *(block * block).constant() != 0) {
    ctx.fail("the depth " + std::to_string(*c) + " is no multiple of blocksize squared");
  }
  ctx.set(0, ctx.dtype(0), {(*in)[0], Dim::floordiv((*in)[1], block * block), (*in)[2] * block, (*in)[3] * block});
}

void space_to_depth_infer(InferContext& ctx) {
  check_blocks(ctx);
  const auto& in = ctx.shape(0);
  if (!in) return ctx.set(0, ctx.dtype(0), fresh_shape(ctx, 4));
  const Dim block(ctx.attrs().get_int("blocksize", 0));
  for (int axis = 2; axis < 4; ++axis) {
    const auto extent = (*in)[static_cast<std::size_t>(axis)].constant();
    if (extent && *extent % *block.constant() != 0) ctx.fail("the extent " + std::to_string(*extent) + " is no multiple of blocksize");
  }
  ctx.set(0, ctx.dtype(0), {(*in)[0], (*in)[1] * block * block, Dim::floordiv((*in)[2], block), Dim::floordiv((*in)[3], block)});
}

void depth_to_space_reference(RefContext& ctx) {
  const Tensor& in = ctx.input(0);
  const auto [block, channel_first] = blocks_of(ctx.node());
  if (in.rank() != 4 || block < 1 || in.dims()[1] % (block * block) != 0) ctx.fail("cannot split the depth of " + lathe::to_string(in.dims()));
  const Dims s = strides_of(in.dims());
  const std::int64_t channels = in.dims()[1] / (block * block);
  const Dims dims{in.dims()[0], channels, in.dims()[2] * block, in.dims()[3] * block};
  ctx.set_output(0, remap_nd(in, dims, [&, block = block, crd = channel_first](const Dims& i) {
                   const std::int64_t row = i[2] % block, column = i[3] % block;
                   const std::int64_t depth = crd ? (i[1] * block + row) * block + column : (row * block + column) * channels + i[1];
                   return i[0] * s[0] + depth * s[1] + i[2] / block * s[2] + i[3] / block * s[3];
                 }));
}

void space_to_depth_reference(RefContext& ctx) {
  const Tensor& in = ctx.input(0);
  const auto [block, channel_first] = blocks_of(ctx.node());
  if (in.rank() != 4 || block < 1 || in.dims()[2] % block || in.dims()[3] % block) ctx.fail("cannot cut " + lathe::to_string(in.dims()) + " into blocks");
  const Dims s = strides_of(in.dims());
  const std::int64_t channels = in.dims()[1];
  const Dims dims{in.dims()[0], channels * block * block, in.dims()[2] / block, in.dims()[3] / block};
  ctx.set_output(0, remap_nd(in, dims, [&, block = block, crd = channel_first](const Dims& i) {
                   const std::int64_t cell = crd ? i[1] % (block * block) : i[1] / channels;
                   const std::int64_t channel = crd ? i[1] / (block * block) : i[1] % channels;
                   return i[0] * s[0] + channel * s[1] + (i[2] * block + cell / block) * s[2] + (i[3] * block + cell % block) * s[3];
                 }));
}

bool depth_to_space_lower(const Node& node, loops::RegionBuilder& builder) {
  const Value* in = node.input(0);
  if (!in->has_shape()) {
    builder.decline("unknown rank");
    return false;
  }
  const auto [block, channel_first] = blocks_of(node);
  const Dim channels = Dim::floordiv(in->shape()[1], Dim(block * block));
  builder.define(node.output(), [=, size = block, crd = channel_first](loops::RegionBuilder& b, const auto& i) {
    const auto k = b.integer(size);
    const auto row = b.binary(ExprOp::kMod, i[2], k), column = b.binary(ExprOp::kMod, i[3], k);
    const auto mad = [&](auto x, auto y, auto z) { return b.binary(ExprOp::kAdd, b.binary(ExprOp::kMul, x, y), z); };
    const auto depth = crd ? mad(mad(i[1], k, row), k, column) : mad(mad(row, k, column), b.dim(channels), i[1]);
    return b.read(in, {i[0], depth, b.binary(ExprOp::kFloorDiv, i[2], k), b.binary(ExprOp::kFloorDiv, i[3], k)});
  });
  return true;
}

bool space_to_depth_lower(const Node& node, loops::RegionBuilder& builder) {
  const Value* in = node.input(0);
  if (!in->has_shape()) {
    builder.decline("unknown rank");
    return false;
  }
  const auto [block, channel_first] = blocks_of(node);
  const Dim channels = in->shape()[1];
  builder.define(node.output(), [=, size = block, crd = channel_first](loops::RegionBuilder& b, const auto& i) {
    const auto k = b.integer(size), kk = b.integer(size * size);
    const auto cell = crd ? b.binary(ExprOp::kMod, i[1], kk) : b.binary(ExprOp::kFloorDiv, i[1], b.dim(channels));
    const auto channel = crd ? b.binary(ExprOp::kFloorDiv, i[1], kk) : b.binary(ExprOp::kMod, i[1], b.dim(channels));
    const auto mad = [&](auto x, auto y, auto z) { return b.binary(ExprOp::kAdd, b.binary(ExprOp::kMul, x, y), z); };
    return b.read(in, {i[0], channel, mad(i[2], k, b.binary(ExprOp::kFloorDiv, cell, k)), mad(i[3], k, b.binary(ExprOp::kMod, cell, k))});
  });
  return true;
}

}  // namespace

std::span<const OpDef> ops_transpose() {
  constexpr std::string_view kIo = "data:T -> transposed:T", kPerm = "perm:ints?", kBlockIo = "input:T -> output:T";
  constexpr std::string_view kBlock = "blocksize:int", kBlockMode = "blocksize:int mode:string=DCR";
  static const std::vector<OpDef> ops{
      {.name = "Transpose",
       .versions = {{1, kIo, kPerm, "T: @all"},
                    {13, kIo, kPerm, "T: @all13"},
                    {21, kIo, kPerm, "T: @all21"},
                    {23, kIo, kPerm, "T: @all23"},
                    {24, kIo, kPerm, "T: @all24"},
                    {25, kIo, kPerm, "T: @all25"}},
       .infer = transpose_infer,
       .reference = transpose_reference,
       .lower = transpose_lower,
       .doc = "axes permuted"},
      {.name = "DepthToSpace",
       .versions = {{1, kBlockIo, kBlock, "T: @all"},
                    {11, kBlockIo, kBlockMode, "T: @all"},
                    {13, kBlockIo, kBlockMode, "T: @all13"},
                    {28, kBlockIo, kBlockMode, "T: @all13"}},
       .infer = depth_to_space_infer,
       .reference = depth_to_space_reference,
       .lower = depth_to_space_lower,
       .doc = "channels moved into blocks of pixels"},
      {.name = "SpaceToDepth",
       .versions = {{1, kBlockIo, kBlock, "T: @all"}, {13, kBlockIo, kBlock, "T: @all13"}, {28, kBlockIo, kBlockMode, "T: @all13"}},
       .infer = space_to_depth_infer,
       .reference = space_to_depth_reference,
       .lower = space_to_depth_lower,
       .doc = "blocks of pixels moved into channels"},
  };
  return ops;
}

}  // namespace lathe::ops
