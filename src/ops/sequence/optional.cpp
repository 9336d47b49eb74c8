// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Optionals: values that may be missing. One that holds something is represented by what it holds.
#include <array>

#include "ops/control/types.h"
#include "ops/sequence/sequence_types.h"

namespace lathe::ops {
namespace {

void optional_infer(InferContext& ctx) {
  const ir::Attribute* attribute = ctx.attrs().find("type");
  const ir::Type* declared = attribute ? std::get_if<ir::Type>(&attribute->value) : nullptr;
  if (!ctx.has_input(0) && !declared) ctx.fail("holds nothing, so it needs the attribute 'type'");
  ctx.set_type(0, optional_type(ctx.has_input(0) ? ctx.node().input(0)->type : *declared));
}

void optional_reference(RefContext& ctx) { ctx.set_output(0, ctx.has_input(0) ? ctx.input(0) : Tensor::nothing()); }

void get_infer(InferContext& ctx) {
  if (!ctx.has_input(0)) ctx.fail("has no input");
  const ir::Type& type = ctx.node().input(0)->type;
  if (type.kind != ir::TypeKind::kOptional) return ctx.set_type(0, type);
  ctx.set_type(0, type.element ? *type.element : ir::Type());
}

void get_reference(RefContext& ctx) {
  if (ctx.input(0).is_nothing()) ctx.fail("takes the element of an optional that holds none");
  ctx.set_output(0, ctx.input(0));
}

void has_infer(InferContext& ctx) {
  ctx.set(0, DType::kBool, {});
  if (!ctx.has_input(0)) return ctx.set_content(0, {Dim(0)});
  const Value* value = ctx.node().input(0);
  const Node* maker = value->producer;
  if (maker && maker->is("Optional")) return ctx.set_content(0, {Dim(maker->input(0) ? 1 : 0)});
  if (value->type.is_tensor() || value->type.kind == ir::TypeKind::kSequence) ctx.set_content(0, {Dim(1)});
}

void has_reference(RefContext& ctx) {
  Tensor flag(DType::kBool, {});
  flag.set_from_int64(0, ctx.has_input(0) && !ctx.input(0).is_nothing() ? 1 : 0);
  ctx.set_output(0, std::move(flag));
}

constexpr std::string_view kO15 = "O: optional(@all) optional(seq(@all)); ", kO18 = "O: @all seq(@all) optional(@all) optional(seq(@all)); ",
                           kO28 = "O: @all28 seq(@all28) optional(@all28) optional(seq(@all28)); ";

/// The constraint of an op's other variable behind that of O.
template <std::size_t kCount>
std::array<std::string, kCount> texts(const std::array<std::pair<std::string_view, std::string_view>, kCount>& parts) {
  std::array<std::string, kCount> joined;
  for (std::size_t i = 0; i < kCount; ++i) joined[i] = std::string(parts[i].first) + std::string(parts[i].second);
  return joined;
}

}  // namespace

OpDef optional_op() {
  constexpr std::string_view kIo = "input?:V -> output:O", kAttrs = "type:type_proto?";
  return {.name = "Optional",
          .versions = {{15, kIo, kAttrs, "V: @all seq(@all); O: optional(@all) optional(seq(@all))"},
                       {28, kIo, kAttrs, "V: @all28 seq(@all28); O: optional(@all28) optional(seq(@all28))"}},
          .infer = optional_infer,
          .reference = optional_reference,
          .doc = "an optional that holds its input, or nothing"};
}

OpDef optional_get_element() {
  static const auto types = texts<3>({{{kO15, "V: @all seq(@all)"}, {kO18, "V: @all seq(@all)"}, {kO28, "V: @all28 seq(@all28)"}}});
  return {.name = "OptionalGetElement",
          .versions = {{15, "input:O -> output:V", "", types[0]}, {18, "input:O -> output:V", "", types[1]}, {28, "input:O -> output:V", "", types[2]}},
          .infer = get_infer,
          .reference = get_reference,
          .doc = "what an optional holds"};
}

OpDef optional_has_element() {
  static const auto types = texts<3>({{{kO15, "B: bool"}, {kO18, "B: bool"}, {kO28, "B: bool"}}});
  return {.name = "OptionalHasElement",
          .versions = {{15, "input:O -> output:B", "", types[0]}, {18, "input?:O -> output:B", "", types[1]}, {28, "input?:O -> output:B", "", types[2]}},
          .infer = has_infer,
          .reference = has_reference,
          .doc = "whether an optional holds something"};
}

}  // namespace lathe::ops
