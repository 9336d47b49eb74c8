// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Expand and Tile: elements repeated.
#include <algorithm>

#include "loops/builder.h"
#include "ops/control/join.h"
#include "ops/infer.h"
#include "ops/ref_util.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

using loops::ExprOp;

void expand_infer(InferContext& ctx) {
  const auto& in = ctx.shape(0);
  if (const auto target = ctx.content(1)) {
    Shape wanted;
    for (const auto& dim : *target) {
      if (const auto n = dim.constant(); n && *n < 0) ctx.fail("the target shape has the extent " + std::to_string(*n));
      wanted.push_back(ctx.is_extent(dim) ? dim : ctx.fresh_symbol());
    }
    if (!in) return ctx.set(0, ctx.dtype(0), fresh_shape(ctx, wanted.size()));
    const Shape out = broadcast_shape(ctx, *in, wanted);
    ctx.set(0, ctx.dtype(0), out);
    const auto count = ir::product(out).constant();
    if (const auto content = ctx.content(0); content && content->size() == 1 && count && *count <= 64) {
      ctx.set_content(0, std::vector<Dim>(static_cast<std::size_t>(*count), content->front()));
    } else if (content && out == *in) {
      ctx.set_content(0, *content);
    }
    return;
  }
  const auto length = known_length(ctx, 1);
  if (!in || !length) return ctx.set_unknown(0, ctx.dtype(0));
  Shape out = fresh_shape(ctx, std::max<std::size_t>(in->size(), static_cast<std::size_t>(*length)));
  for (std::size_t k = 0; k < in->size(); ++k) {  // an extent that is a number above 1 stays
    const Dim& dim = (*in)[in->size() - 1 - k];
    if (dim.is_constant() && !is_one(dim)) out[out.size() - 1 - k] = dim;
  }
  ctx.set(0, ctx.dtype(0), out);
}

void expand_reference(RefContext& ctx) {
  const Tensor& in = ctx.input(0);
  const Dims target = ctx.input(1).to_int64_vector();
  const std::size_t rank = std::max(target.size(), in.dims().size());
  Dims dims(rank), step(rank, 0);
  const Dims strides = strides_of(in.dims());
  for (std::size_t k = 0; k < rank; ++k) {
    const std::size_t at = rank - 1 - k;
    const std::int64_t a = k < in.dims().size() ? in.dims()[in.dims().size() - 1 - k] : 1;
    const std::int64_t b = k < target.size() ? target[target.size() - 1 - k] : 1;
    if (b < 0 || (a != b && a != 1 && b != 1)) ctx.fail("cannot expand " + lathe::to_string(in.dims()) + " to " + lathe::to_string(target));
    dims[at] = a == 1 ? b : a;
    if (a != 1) step[at] = strides[in.dims().size() - 1 - k];
  }
  if (is_worth_keeping_remote(in)) {
    Dims widened(rank - in.dims().size(), 1);
    widened.insert(widened.end(), in.dims().begin(), in.dims().end());
    Tensor out = in.reshaped(std::move(widened));
    // From the last axis on: what is repeated then is whole runs.
    for (std::size_t axis = rank; axis-- > 0;)
      if (out.dims()[axis] != dims[axis]) out = repeated_along(out, static_cast<std::int64_t>(axis), dims[axis]);
    ctx.set_output(0, std::move(out));
    return;
  }
  ctx.set_output(0, strided(in, std::move(dims), std::move(step)));
}

bool expand_lower(const Node& node, loops::RegionBuilder& builder) {
  const Value *in = node.input(0), *out = node.output();
  if (!in->has_shape() || !out->has_shape() || in->dtype() == DType::kString) {
    builder.decline("unknown rank, or strings");
    return false;
  }
  builder.define(out, [in, out](loops::RegionBuilder& b, const auto& i) { return b.read_broadcast(in, out->shape(), i); });
  return true;
}

void tile_infer(InferContext& ctx) {
  const auto& in = ctx.shape(0);
  if (!in) return ctx.set_unknown(0, ctx.dtype(0));
  const auto repeats = ctx.content(1);
  if (!repeats) return ctx.set(0, ctx.dtype(0), fresh_shape(ctx, in->size()));
  if (repeats->size() != in->size()) {
    ctx.fail("has " + std::to_string(repeats->size()) + " repeats for " + ir::to_string(*in));
  }
  Shape out;
  for (std::size_t i = 0; i < in->size(); ++i) out.push_back(ctx.is_extent((*repeats)[i]) ? (*in)[i] * (*repeats)[i] : ctx.fresh_symbol());
  ctx.set(0, ctx.dtype(0), out);
  const auto content = ctx.content(0);
  if (!content || in->size() != 1) return;
  const auto times = repeats->front().constant();
  if (!times || *times < 0 || *times * static_cast<std::int64_t>(content->size()) > 64) return;
  std::vector<Dim> all;
  for (std::int64_t k = 0; k < *times; ++k) all.insert(all.end(), content->begin(), content->end());
  ctx.set_content(0, std::move(all));
}

void tile_reference(RefContext& ctx) {
  const Tensor& in = ctx.input(0);
  const auto repeats = ctx.input(1).to_int64_vector();
  if (repeats.size() != in.dims().size()) ctx.fail("has " + std::to_string(repeats.size()) + " repeats for " + lathe::to_string(in.dims()));
  Dims dims = in.dims();
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if (repeats[i] < 0) ctx.fail("repeat " + std::to_string(repeats[i]) + " is negative");
    dims[i] *= repeats[i];
  }
  const Dims strides = strides_of(in.dims());
  ctx.set_output(0, remap_nd(in, dims, [&](const Dims& i) {
                   std::int64_t at = 0;
                   for (std::size_t a = 0; a < i.size(); ++a) at += i[a] % in.dims()[a] * strides[a];
                   return at;
                 }));
}

bool tile_lower(const Node& node, loops::RegionBuilder& builder) {
  const Value *in = node.input(0), *out = node.output();
  if (!in->has_shape() || !out->has_shape() || in->dtype() == DType::kString) {
    builder.decline("unknown rank, or strings");
    return false;
  }
  builder.define(out, [in, out](loops::RegionBuilder& b, const auto& i) {
    auto source = i;
    for (std::size_t a = 0; a < source.size(); ++a) {
      if (is_one(in->shape()[a])) {
        source[a] = b.integer(0);
      } else if (in->shape()[a] != out->shape()[a]) {
        source[a] = b.binary(ExprOp::kMod, source[a], b.dim(in->shape()[a]));
      }
    }
    return b.read(in, source);
  });
  return true;
}

// Tile-1 repeats one axis: both numbers must be known, as the newest form wants one repeat per axis.
void tile_upgrade(UpgradeContext& ctx) {
  if (ctx.from_version >= 6) return;
  const auto times = known_content(*ctx.node.input(1)), axis = known_content(*ctx.node.input(2));
  const auto& shape = ctx.node.input(0)->type.shape;
  if (!times || !axis || times->size() != 1 || axis->size() != 1 || !shape || !axis->front().is_constant()) {
    throw Error(Code::kUnsupported, "Tile of opset 1 with computed tiles or axis")
        .at_node(ctx.node.name, "Tile")
        .with_remedy("Export the model with opset 6 or newer.");
  }
  std::vector<std::int64_t> repeats(shape->size(), 1);
  const auto at = *axis->front().constant();
  if (at < 0 || at >= static_cast<std::int64_t>(repeats.size()) || !times->front().is_constant()) {
    throw Error(Code::kInvalidModel, "axis " + std::to_string(at) + " is out of range").at_node(ctx.node.name, "Tile");
  }
  repeats[static_cast<std::size_t>(at)] = *times->front().constant();
  ctx.graph.set_inputs(&ctx.node, {ctx.node.input(0), ctx.constant("repeats", Tensor::vector(repeats))});
}

}  // namespace

std::span<const OpDef> ops_expand() {
  constexpr std::string_view kExpand = "input:T shape:int64 -> output:T", kTile = "input:T repeats:T1 -> output:T";
  static const std::vector<OpDef> ops{
      {.name = "Expand",
       .versions = {{8, kExpand, "", "T: @all"}, {13, kExpand, "", "T: @all13"}},
       .infer = expand_infer,
       .reference = expand_reference,
       .lower = expand_lower,
       .doc = "broadcast to a computed shape"},
      {.name = "Tile",
       .versions = {{1, "input:T tiles:T axis:T -> output:T", "", "T: @float; T1: int64"},
                    {6, kTile, "", "T: @all; T1: int64"},
                    {13, kTile, "", "T: @all13; T1: int64"}},
       .upgrade = tile_upgrade,
       .infer = tile_infer,
       .reference = tile_reference,
       .lower = tile_lower,
       .doc = "repeated along its axes"},
  };
  return ops;
}

}  // namespace lathe::ops
