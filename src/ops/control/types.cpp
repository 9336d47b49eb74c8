// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Joins of types; see types.h.
#include "ops/control/types.h"

#include <algorithm>

#include "ops/infer.h"

namespace lathe::ops {
namespace {

constexpr int kMaxDepth = 64;  // of sequences in sequences

/// Every extent of a type, sequences' elements too, through `map`.
template <class Map>
ir::Type with_dims(ir::Type type, const Map& map) {
  if (type.shape)
    for (Dim& dim : *type.shape) dim = map(dim);
  if (type.element) type.element = std::make_shared<const ir::Type>(with_dims(*type.element, map));
  return type;
}

const std::shared_ptr<const ir::TypeExtra>& no_elements() {
  static const auto mark = std::make_shared<const ir::TypeExtra>();
  return mark;
}

}  // namespace

LaterSymbols::LaterSymbols(InferContext& ctx) : ctx_(ctx), first_(fresh_number(ctx.fresh_symbol().to_string())) {}

bool LaterSymbols::has(const Dim& dim) const {
  if (dim.is_constant()) return false;
  std::set<std::string> symbols;
  dim.collect_symbols(symbols);
  return std::any_of(symbols.begin(), symbols.end(), [&](const std::string& s) { return fresh_number(s) >= first_; });
}

ir::Type LaterSymbols::outside(const ir::Type& type) const {
  return with_dims(type, [&](const Dim& dim) { return has(dim) ? ctx_.fresh_symbol() : dim; });
}

Shape LaterSymbols::outside(const Shape& shape) const {
  Shape result = shape;
  for (Dim& dim : result)
    if (has(dim)) dim = ctx_.fresh_symbol();
  return result;
}

Dim TypeJoin::dim(const Dim& a, const Dim& b, bool in_sequence) {
  if (a == b) return a;
  if (a.is_symbol() && (open_.count(a.to_string()) || (in_sequence && has_fresh(a)))) return a;
  Dim open = ctx_.fresh_symbol();
  open_.insert(open.to_string());
  return open;
}

std::optional<ir::Type> TypeJoin::join(const ir::Type& a, const ir::Type& b, bool in_sequence) {
  if (a.kind == ir::TypeKind::kUnknown) return without_shape(b);
  if (b.kind == ir::TypeKind::kUnknown) return without_shape(a);
  if (a.kind == ir::TypeKind::kOptional || b.kind == ir::TypeKind::kOptional) {
    const ir::Type none;
    const auto content = [&](const ir::Type& t) -> const ir::Type& { return t.kind != ir::TypeKind::kOptional ? t : t.element ? *t.element : none; };
    const auto joined = join(content(a), content(b), in_sequence);
    if (!joined) return std::nullopt;
    return optional_type(*joined);
  }
  if (a.kind != b.kind) return std::nullopt;
  if (is_empty_sequence(a)) return a.element && b.element && a.element->dtype != b.element->dtype ? std::nullopt : std::optional(b);
  if (is_empty_sequence(b)) return join(b, a, in_sequence);
  ir::Type result = a;
  if (result.dtype == DType::kUndefined) result.dtype = b.dtype;
  if (b.dtype != DType::kUndefined && result.dtype != b.dtype) return std::nullopt;
  if (a.shape && b.shape && a.shape->size() == b.shape->size()) {
    for (std::size_t i = 0; i < a.shape->size(); ++i) (*result.shape)[i] = dim((*a.shape)[i], (*b.shape)[i], in_sequence);
  } else {
    result.shape.reset();
  }
  if (a.element && b.element) {
    const auto element = join(*a.element, *b.element, in_sequence || a.kind == ir::TypeKind::kSequence);
    if (!element) return std::nullopt;
    result.element = std::make_shared<const ir::Type>(*element);
  } else if (b.element) {
    result.element = std::make_shared<const ir::Type>(without_shape(*b.element));
  } else if (a.element) {
    result.element = std::make_shared<const ir::Type>(without_shape(*a.element));
  }
  return result;
}

std::optional<ir::Type> TypeJoin::operator()(const ir::Type& a, const ir::Type& b) {
  int depth = 0;
  for (const ir::Type* t = &a; t; t = t->element.get()) ++depth;
  if (depth > kMaxDepth) ctx_.fail("has a type of more than " + std::to_string(kMaxDepth) + " levels");
  return join(a, b, false);
}

ir::Type without_shape(const ir::Type& type) {
  ir::Type result = type;
  result.shape.reset();
  if (type.element && !is_empty_sequence(type)) result.element = std::make_shared<const ir::Type>(without_shape(*type.element));
  return result;
}

ir::Type sequence_type(ir::Type element) {
  ir::Type type;
  type.kind = ir::TypeKind::kSequence;
  if (element.kind != ir::TypeKind::kUnknown) type.element = std::make_shared<const ir::Type>(std::move(element));
  return type;
}

ir::Type optional_type(ir::Type element) {
  ir::Type type = sequence_type(std::move(element));
  type.kind = ir::TypeKind::kOptional;
  return type;
}

ir::Type empty_sequence_type(DType dtype) {
  ir::Type type = sequence_type(ir::Type::tensor(dtype));
  type.extra = no_elements();
  return type;
}

bool is_empty_sequence(const ir::Type& type) { return type.kind == ir::TypeKind::kSequence && type.extra == no_elements(); }

ir::Type element_type(InferContext& ctx, const ir::Type& sequence) {
  if (!sequence.element) return {};
  return with_dims(*sequence.element, [&](const Dim& dim) { return has_fresh(dim) ? ctx.fresh_symbol() : dim; });
}

std::optional<std::int64_t> known_number(const Value* value) {
  const auto content = value ? known_content(*value) : std::nullopt;
  if (!content || content->size() != 1) return std::nullopt;
  return content->front().constant();
}

std::optional<bool> known_flag(const Value* value) {
  const auto number = known_number(value);
  return number ? std::optional(*number != 0) : std::nullopt;
}

}  // namespace lathe::ops
