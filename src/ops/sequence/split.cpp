// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// SplitToSequence and ConcatFromSequence: a tensor cut into a sequence, and a sequence joined to a tensor.
#include <algorithm>

#include "ops/control/join.h"
#include "ops/control/types.h"
#include "ops/infer.h"
#include "ops/ref_util.h"
#include "ops/sequence/sequence_types.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

constexpr std::int64_t kMostParts = 256;  // that inference lists
// Empty tensors may have axes of any length: a few bytes must not ask for all memory.
constexpr std::int64_t kMostItems = std::int64_t{1} << 24;

// SplitToSequence ------------------------------------------------------------------------------------------------------------------

void split_infer(InferContext& ctx) {
  if (!ctx.has_input(0)) ctx.fail("has no tensor");
  ir::Type type = ctx.node().input(0)->type;
  if (!type.shape) return ctx.set_type(0, sequence_type(ir::Type::tensor(type.dtype)));
  const auto axis = static_cast<std::size_t>(infer_axis(ctx, ctx.attrs().get_int("axis", 0), static_cast<std::int64_t>(type.shape->size())));
  const auto parts = known_parts(ctx.node());
  if (drops_axis(ctx.node())) {
    type.shape->erase(type.shape->begin() + static_cast<std::ptrdiff_t>(axis));
  } else {
    const bool equal = parts && !parts->empty() && std::all_of(parts->begin(), parts->end(), [&](const Dim& d) { return d == parts->front(); });
    (*type.shape)[axis] = equal ? parts->front() : ctx.has_input(1) ? ctx.fresh_symbol() : Dim(1);
  }
  ctx.set_type(0, sequence_type(std::move(type)));
}

void split_reference(RefContext& ctx) {
  const Tensor& tensor = ctx.input(0);
  const std::int64_t axis = ref_axis(ctx, ctx.attrs().get_int("axis", 0), tensor.rank());
  const std::int64_t extent = tensor.dims()[static_cast<std::size_t>(axis)];
  std::vector<std::int64_t> lengths;
  std::int64_t step = 1;
  bool listed = false;
  if (ctx.has_input(1)) {
    const Tensor& split = ctx.input(1);
    if (!is_integer(split.dtype()) || split.rank() > 1) ctx.fail("the lengths must be one integer, or a list of them");
    listed = split.rank() == 1;
    if (listed) lengths = split.to_int64_vector();
    else step = split.as_int64(0);
  }
  if (!listed) {
    if (step < 1) ctx.fail("cuts into parts of length " + std::to_string(step) + "; they need 1 at least");
    if (extent / step > kMostItems)
      ctx.fail("cuts axis " + std::to_string(axis) + " of " + std::to_string(extent) + " elements into more than a sequence may hold");
    for (std::int64_t at = 0; at < extent; at += std::min(step, extent - at)) lengths.push_back(std::min(step, extent - at));
  }
  std::int64_t sum = 0;
  for (const std::int64_t length : lengths) {
    if (length < 0 || length > extent - sum)
      ctx.fail("the lengths do not add up to " + std::to_string(extent) + ", the extent of axis " + std::to_string(axis));
    sum += length;
  }
  if (sum != extent) ctx.fail("the lengths do not add up to " + std::to_string(extent) + ", the extent of axis " + std::to_string(axis));
  std::vector<Tensor> items;
  std::int64_t at = 0;
  for (const std::int64_t length : lengths) {
    items.push_back(drops_axis(ctx.node()) ? take_one(tensor, axis, at) : take_along(tensor, axis, at, length));
    at += length;
  }
  ctx.set_output(0, Tensor::sequence(std::move(items)));
}

// ConcatFromSequence ---------------------------------------------------------------------------------------------------------------

bool makes_axis(InferContext& ctx) {
  const std::int64_t flag = ctx.attrs().get_int("new_axis", 0);
  if (flag != 0 && flag != 1) ctx.fail("attribute 'new_axis' is " + std::to_string(flag) + "; it must be 0 or 1");
  return flag == 1;
}

void concat_infer(InferContext& ctx) {
  need_sequence(ctx);
  const bool stacks = makes_axis(ctx);
  const ir::Type element = element_type(ctx, ctx.node().input(0)->type);
  const auto items = known_items(ctx.node().input(0));
  if (!element.shape) return ctx.set_unknown(0, element.dtype);
  Shape shape = *element.shape;
  const auto axis = infer_axis(ctx, ctx.attrs().get_int("axis", 0), static_cast<std::int64_t>(shape.size()) + (stacks ? 1 : 0));
  if (stacks) {
    shape.insert(shape.begin() + axis, items ? Dim(static_cast<std::int64_t>(items->size())) : ctx.fresh_symbol());
  } else {
    Dim sum(0);
    bool known = items && !items->empty();
    for (std::size_t i = 0; known && i < items->size(); ++i) {
      const auto& part = (*items)[i].shape;
      known = part && part->size() == shape.size();
      if (known) sum = sum + (*part)[static_cast<std::size_t>(axis)];
    }
    shape[static_cast<std::size_t>(axis)] = known ? sum : ctx.fresh_symbol();
  }
  ctx.set(0, element.dtype, std::move(shape));
}

void concat_reference(RefContext& ctx) {
  const auto& items = sequence_input(ctx);
  if (items.empty()) ctx.fail("joins the elements of an empty sequence");
  for (const Tensor& item : items)
    if (!item.is_tensor()) ctx.fail("joins elements that are no tensors");
  const bool stacks = ctx.attrs().get_int("new_axis", 0) != 0;
  const std::int64_t axis = ref_axis(ctx, ctx.attrs().get_int("axis", 0), items.front().rank() + (stacks ? 1 : 0));
  ctx.set_output(0, stacks ? stack_along(ctx, items, axis) : join_along(ctx, items, axis));
}

}  // namespace

std::optional<std::size_t> split_axis(const Node& split) {
  const Value* tensor = split.input(0);
  if (!tensor || !tensor->has_shape()) return std::nullopt;
  const auto rank = static_cast<std::int64_t>(tensor->shape().size());
  std::int64_t axis = split.attrs.get_int("axis", 0);
  axis += axis < 0 ? rank : 0;
  if (axis < 0 || axis >= rank) return std::nullopt;
  return static_cast<std::size_t>(axis);
}

bool drops_axis(const Node& split) { return !split.input(1) && split.attrs.get_int("keepdims", 1) == 0; }

std::optional<std::vector<Dim>> known_parts(const Node& split) {
  const auto axis = split_axis(split);
  if (!axis) return std::nullopt;
  const Dim& extent = split.input(0)->shape()[*axis];
  std::int64_t step = 1;
  if (const Value* lengths = split.input(1)) {
    const auto content = known_content(*lengths);
    if (!content || !lengths->has_shape()) return std::nullopt;
    if (lengths->shape().size() == 1) return content;
    if (content->size() != 1 || !content->front().is_constant()) return std::nullopt;
    step = *content->front().constant();
  }
  const auto whole = extent.constant();
  if (!whole || step < 1 || *whole / step > kMostParts) return std::nullopt;
  std::vector<Dim> parts;
  for (std::int64_t at = 0; at < *whole; at += step) parts.emplace_back(std::min(step, *whole - at));
  return parts;
}

OpDef split_to_sequence() {
  constexpr std::string_view kIo = "input:T split?:I -> output_sequence:S", kAttrs = "axis:int=0 keepdims:int=1";
  return {.name = "SplitToSequence",
          .versions = {{11, kIo, kAttrs, "T: @all; I: int32 int64; S: seq(@all)"}, {24, kIo, kAttrs, "T: @all13; I: int32 int64; S: seq(@all13)"}},
          .infer = split_infer,
          .reference = split_reference,
          .doc = "a tensor cut along an axis into a sequence"};
}

OpDef concat_from_sequence() {
  return {.name = "ConcatFromSequence",
          .versions = {{11, "input_sequence:S -> concat_result:T", "axis:int new_axis:int=0", "S: seq(@all); T: @all"}},
          .infer = concat_infer,
          .reference = concat_reference,
          .doc = "the elements of a sequence joined along an axis, or stacked along a new one"};
}

}  // namespace lathe::ops
