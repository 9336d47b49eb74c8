// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Sequences of tensors: made, read, changed, counted.
#include "ops/control/types.h"
#include "ops/registry_internal.h"
#include "ops/sequence/sequence_types.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

constexpr std::size_t kMostKnown = 256;  // elements that are followed one by one
constexpr int kMaxSteps = 64;            // nodes that are followed

std::optional<std::vector<ir::Type>> items_of(const Value* sequence, int steps) {
  const Node* node = sequence ? sequence->producer : nullptr;
  if (!node || !node->domain.empty() || steps > kMaxSteps) return std::nullopt;
  std::vector<ir::Type> items;
  if (node->op == "SequenceEmpty") return items;
  if (node->op == "Identity") return items_of(node->input(0), steps + 1);
  if (node->op == "SequenceConstruct") {
    if (node->inputs.size() > kMostKnown) return std::nullopt;
    for (const Value* input : node->inputs) items.push_back(input ? input->type : ir::Type());
    return items;
  }
  if (node->op == "SplitToSequence") {
    const auto parts = known_parts(*node);
    const auto axis = split_axis(*node);
    if (!parts || !axis || parts->size() > kMostKnown) return std::nullopt;
    for (const Dim& part : *parts) {
      ir::Type type = node->input(0)->type;
      (*type.shape)[*axis] = part;
      if (drops_axis(*node)) type.shape->erase(type.shape->begin() + static_cast<std::ptrdiff_t>(*axis));
      items.push_back(std::move(type));
    }
    return items;
  }
  const bool insert = node->op == "SequenceInsert", erase = node->op == "SequenceErase";
  if (!insert && !erase) return std::nullopt;
  auto known = items_of(node->input(0), steps + 1);
  const Value* position = node->input(insert ? 2 : 1);
  const auto number = position ? known_number(position) : std::optional<std::int64_t>(insert && known ? static_cast<std::int64_t>(known->size()) : -1);
  if (!known || !number || known->size() >= kMostKnown) return std::nullopt;
  const auto at = position_in(*number, known->size(), known->size() + (insert ? 1 : 0));
  if (!at || (insert && !node->input(1))) return std::nullopt;
  if (insert) known->insert(known->begin() + static_cast<std::ptrdiff_t>(*at), node->input(1)->type);
  else known->erase(known->begin() + static_cast<std::ptrdiff_t>(*at));
  return known;
}

// What the ops share ---------------------------------------------------------------------------------------------------------------

/// Input `index` as a position among `count` elements; `limit`: how many positions there are.
std::size_t position_input(const RefContext& ctx, std::size_t index, std::size_t count, std::size_t limit) {
  const Tensor& position = ctx.input(index);
  if (!is_integer(position.dtype()) || position.size() != 1) ctx.fail("the position must be one integer");
  const auto at = position_in(position.as_int64(0), count, limit);
  if (!at) ctx.fail("position " + std::to_string(position.as_int64(0)) + " is outside the sequence of " + std::to_string(count) + " elements");
  return *at;
}

/// Of the tensors of one sequence; fails where their element types differ.
ir::Type common_element(InferContext& ctx, TypeJoin& join, const ir::Type& a, const ir::Type& b) {
  const auto sequence = join(sequence_type(a), sequence_type(b));
  if (!sequence) ctx.fail("puts " + b.to_string() + " into a sequence of " + a.to_string());
  return sequence->element ? *sequence->element : ir::Type();
}

// SequenceConstruct, SequenceEmpty ---------------------------------------------------------------------------------------------------

void construct_infer(InferContext& ctx) {
  TypeJoin join(ctx);
  ir::Type element;
  for (std::size_t i = 0; i < ctx.input_count(); ++i) {
    if (!ctx.has_input(i)) ctx.fail("input " + std::to_string(i) + " is left out");
    const ir::Type& type = ctx.node().input(i)->type;
    element = i == 0 ? type : common_element(ctx, join, element, type);
  }
  ctx.set_type(0, sequence_type(std::move(element)));
}

void construct_reference(RefContext& ctx) {
  std::vector<Tensor> items;
  for (std::size_t i = 0; i < ctx.input_count(); ++i) {
    items.push_back(ctx.input(i));
    if (items.back().form() != items.front().form() || items.back().dtype() != items.front().dtype())
      ctx.fail("its inputs 0 and " + std::to_string(i) + " have different types");
  }
  ctx.set_output(0, Tensor::sequence(std::move(items)));
}

void empty_infer(InferContext& ctx) {
  const DType dtype = dtype_of_number(ctx.attrs().get_int("dtype", static_cast<std::int64_t>(DType::kFloat32)));
  if (dtype == DType::kUndefined) ctx.fail("attribute 'dtype' is " + std::to_string(ctx.attrs().get_int("dtype", 0)) + ", which is no element type");
  ctx.set_type(0, empty_sequence_type(dtype));
}

void empty_reference(RefContext& ctx) { ctx.set_output(0, Tensor::sequence({})); }

// SequenceAt, SequenceLength ---------------------------------------------------------------------------------------------------------

void at_infer(InferContext& ctx) {
  need_sequence(ctx);
  const auto items = known_items(ctx.node().input(0));
  const auto number = known_number(ctx.node().input(1));
  if (items && number) {
    const auto at = position_in(*number, items->size(), items->size());
    if (!at) ctx.fail("position " + std::to_string(*number) + " is outside the sequence of " + std::to_string(items->size()) + " elements");
    return ctx.set_type(0, (*items)[*at]);
  }
  ctx.set_type(0, element_type(ctx, ctx.node().input(0)->type));
}

void at_reference(RefContext& ctx) {
  const auto& items = sequence_input(ctx);
  ctx.set_output(0, items[position_input(ctx, 1, items.size(), items.size())]);
}

void length_infer(InferContext& ctx) {
  need_sequence(ctx);
  ctx.set(0, DType::kInt64, {});
  if (const auto items = known_items(ctx.node().input(0))) ctx.set_content(0, {Dim(static_cast<std::int64_t>(items->size()))});
}

void length_reference(RefContext& ctx) { ctx.set_output(0, Tensor::scalar(static_cast<std::int64_t>(sequence_input(ctx).size()))); }

// SequenceInsert, SequenceErase ------------------------------------------------------------------------------------------------------

void insert_infer(InferContext& ctx) {
  need_sequence(ctx);
  if (!ctx.has_input(1)) ctx.fail("has no tensor to insert");
  const ir::Type& sequence = ctx.node().input(0)->type;
  const ir::Type& element = ctx.node().input(1)->type;
  TypeJoin join(ctx);
  const auto type = join(sequence, sequence_type(element));
  if (!type) ctx.fail("puts " + element.to_string() + " into " + sequence.to_string());
  ctx.set_type(0, *type);
}

void insert_reference(RefContext& ctx) {
  std::vector<Tensor> items = sequence_input(ctx);
  const Tensor& item = ctx.input(1);
  if (!items.empty() && (items.front().form() != item.form() || items.front().dtype() != item.dtype()))
    ctx.fail("puts an element of another type into a sequence");
  const std::size_t at = ctx.has_input(2) ? position_input(ctx, 2, items.size(), items.size() + 1) : items.size();
  items.insert(items.begin() + static_cast<std::ptrdiff_t>(at), item);
  ctx.set_output(0, Tensor::sequence(std::move(items)));
}

void erase_infer(InferContext& ctx) {
  need_sequence(ctx);
  ctx.set_type(0, ctx.node().input(0)->type);
}

void erase_reference(RefContext& ctx) {
  std::vector<Tensor> items = sequence_input(ctx);
  if (items.empty()) ctx.fail("takes an element out of an empty sequence");
  const std::size_t at = ctx.has_input(1) ? position_input(ctx, 1, items.size(), items.size()) : items.size() - 1;
  items.erase(items.begin() + static_cast<std::ptrdiff_t>(at));
  ctx.set_output(0, Tensor::sequence(std::move(items)));
}

}  // namespace

void need_sequence(InferContext& ctx) {
  if (!ctx.has_input(0)) ctx.fail("has no sequence");
  const ir::Type& type = ctx.node().input(0)->type;
  if (type.kind != ir::TypeKind::kSequence && type.kind != ir::TypeKind::kUnknown) ctx.fail("takes a sequence, not " + type.to_string());
}

const std::vector<Tensor>& sequence_input(const RefContext& ctx) {
  if (!ctx.input(0).is_sequence()) ctx.fail("takes a sequence, and got none");
  return ctx.input(0).items();
}

std::optional<std::vector<ir::Type>> known_items(const Value* sequence) { return items_of(sequence, 0); }

std::optional<std::size_t> position_in(std::int64_t position, std::size_t count, std::size_t limit) {
  const std::int64_t at = position < 0 ? position + static_cast<std::int64_t>(count) : position;
  if (at < 0 || at >= static_cast<std::int64_t>(limit)) return std::nullopt;
  return static_cast<std::size_t>(at);
}

std::span<const OpDef> ops_sequence() {
  constexpr std::string_view kS = "S: seq(@all)", kSI = "S: seq(@all); I: int32 int64", kTS = "T: @all; S: seq(@all)",
                             kTSI = "T: @all; S: seq(@all); I: int32 int64";
  static const std::vector<OpDef> ops{
      {.name = "SequenceConstruct",
       .versions = {{11, "inputs+:T -> output_sequence:S", "", kTS}},
       .infer = construct_infer,
       .reference = construct_reference,
       .doc = "a sequence of its inputs"},
      {.name = "SequenceEmpty",
       .versions = {{11, "-> output:S", "dtype:int?", kS}},
       .infer = empty_infer,
       .reference = empty_reference,
       .doc = "a sequence without elements"},
      {.name = "SequenceAt",
       .versions = {{11, "input_sequence:S position:I -> tensor:T", "", kTSI}},
       .infer = at_infer,
       .reference = at_reference,
       .doc = "one element of a sequence"},
      {.name = "SequenceLength",
       .versions = {{11, "input_sequence:S -> length:I", "", "S: seq(@all); I: int64"}},
       .infer = length_infer,
       .reference = length_reference,
       .doc = "how many elements a sequence has"},
      {.name = "SequenceInsert",
       .versions = {{11, "input_sequence:S tensor:T position?:I -> output_sequence:S", "", kTSI}},
       .infer = insert_infer,
       .reference = insert_reference,
       .doc = "a sequence with one element more"},
      {.name = "SequenceErase",
       .versions = {{11, "input_sequence:S position?:I -> output_sequence:S", "", kSI}},
       .infer = erase_infer,
       .reference = erase_reference,
       .doc = "a sequence with one element less"},
      split_to_sequence(),
      concat_from_sequence(),
      optional_op(),
      optional_get_element(),
      optional_has_element(),
  };
  return ops;
}

}  // namespace lathe::ops
