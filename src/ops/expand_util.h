// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Building blocks of expansions: the ops of ai.onnx that most of them are made of, as functions of values.

#include <optional>
#include <string>
#include <vector>

#include "ops/op_def.h"

namespace lathe::ops {

class Parts {
 public:
  explicit Parts(ExpandContext& context) : ctx(context) {}

  ExpandContext& ctx;

  // Constants.
  Value* number(DType dtype, double value);              ///< rank 0
  Value* ints(const std::vector<std::int64_t>& values);  ///< int64, rank 1
  Value* whole(std::int64_t value);                      ///< int64, rank 0

  // Arithmetic. nullptr stands for "left out": the other operand is the result.
  Value* binary(std::string_view op, Value* a, Value* b) { return ctx.add(op, {a, b}); }
  Value* unary(std::string_view op, Value* a, Attrs attrs = {}) { return ctx.add(op, {a}, std::move(attrs)); }
  Value* plus(Value* a, Value* b) { return !a ? b : !b ? a : binary("Add", a, b); }
  Value* times(Value* a, Value* b) { return !a ? b : !b ? a : binary("Mul", a, b); }
  /// a * factor; a itself for the factor 1.
  Value* scaled(Value* a, DType dtype, double factor) { return factor == 1 ? a : binary("Mul", a, number(dtype, factor)); }
  Value* cast(Value* a, DType to);
  /// `a` as `to`; itself when it is known to have that type.
  Value* as(Value* a, DType from, DType to) { return from == to ? a : cast(a, to); }

  // Movement. In a target, 0 keeps the extent of the input and -1 takes the rest.
  Value* reshape(Value* a, const std::vector<std::int64_t>& target);
  Value* transpose(Value* a, std::vector<std::int64_t> perm);
  Value* unsqueeze(Value* a, const std::vector<std::int64_t>& axes) { return binary("Unsqueeze", a, ints(axes)); }
  Value* squeeze(Value* a, const std::vector<std::int64_t>& axes) { return binary("Squeeze", a, ints(axes)); }
  Value* concat(std::vector<Value*> values, std::int64_t axis);
  Value* slice(Value* a, std::int64_t axis, std::int64_t start, std::int64_t end);
  Value* slice(Value* a, std::int64_t axis, Value* start, Value* end);  ///< bounds of rank 1
  std::vector<Value*> split(Value* a, std::int64_t axis, const std::vector<std::int64_t>& sizes);
  Value* gather(Value* a, Value* indices, std::int64_t axis);
  /// Extent `axis` of `a` as int64 of rank 1.
  Value* extent(Value* a, std::int64_t axis);
  Value* channels_first(Value* a, std::size_t rank);  ///< [N, ..., C] -> [N, C, ...]
  Value* channels_last(Value* a, std::size_t rank);   ///< the way back

  // Quantised integers.
  Value* dequantized(Value* x, Value* scale, Value* zero_point, std::int64_t axis = 1);
  Value* quantized(Value* x, Value* scale, Value* zero_point, DType dtype);

  /// Softmax over the axes from `axis` on together; `like` has the shape of `x`.
  Value* flat_softmax(Value* x, std::int64_t axis, Value* like);
  /// The activation that a fused op names; nullptr when there is no such. "" is none.
  Value* activation(Value* x, DType dtype, const std::string& name, std::optional<float> alpha, std::optional<float> beta);
};

std::optional<std::size_t> rank_of(const Value* value);
/// `axis` in [0, rank), else fails at the node.
std::int64_t expand_axis(const ExpandContext& ctx, std::int64_t axis, std::int64_t rank);
/// The extent when it is a number.
std::optional<std::int64_t> extent_of(const Value* value, std::size_t axis);
Attrs attrs_of(std::initializer_list<std::pair<const char*, ir::Attribute>> list);
/// The attribute when the node has it.
std::optional<float> given_float(const Attrs& attrs, std::string_view name);
/// Copies those of `names` that the node has.
Attrs some_attrs(const Attrs& attrs, std::initializer_list<std::string_view> names);
/// Those of Conv.
Attrs conv_attrs(const Attrs& attrs);
bool is_activation(const std::string& name);

}  // namespace lathe::ops
