// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Building blocks of expansions.
#include "ops/expand_util.h"

#include <algorithm>

namespace lathe::ops {

Value* Parts::number(DType dtype, double value) {
  Tensor tensor(dtype, {});
  tensor.set_from_double(0, value);
  return ctx.constant("number", std::move(tensor));
}

Value* Parts::ints(const std::vector<std::int64_t>& values) { return ctx.constant("ints", Tensor::vector(values)); }

Value* Parts::whole(std::int64_t value) { return ctx.constant("int", Tensor::scalar(value)); }

Value* Parts::cast(Value* a, DType to) { return unary("Cast", a, attrs_of({{"to", static_cast<std::int64_t>(to)}})); }

Value* Parts::reshape(Value* a, const std::vector<std::int64_t>& target) { return binary("Reshape", a, ints(target)); }

Value* Parts::transpose(Value* a, std::vector<std::int64_t> perm) {
  if (std::is_sorted(perm.begin(), perm.end())) return a;
  return unary("Transpose", a, attrs_of({{"perm", std::move(perm)}}));
}

Value* Parts::concat(std::vector<Value*> values, std::int64_t axis) { return ctx.add("Concat", std::move(values), attrs_of({{"axis", axis}})); }

Value* Parts::slice(Value* a, std::int64_t axis, std::int64_t start, std::int64_t end) { return slice(a, axis, ints({start}), ints({end})); }

Value* Parts::slice(Value* a, std::int64_t axis, Value* start, Value* end) { return ctx.add("Slice", {a, start, end, ints({axis})}); }

std::vector<Value*> Parts::split(Value* a, std::int64_t axis, const std::vector<std::int64_t>& sizes) {
  return ctx.add_node("Split", {a, ints(sizes)}, sizes.size(), attrs_of({{"axis", axis}}))->outputs;
}

Value* Parts::gather(Value* a, Value* indices, std::int64_t axis) { return ctx.add("Gather", {a, indices}, attrs_of({{"axis", axis}})); }

Value* Parts::extent(Value* a, std::int64_t axis) { return unary("Shape", a, attrs_of({{"start", axis}, {"end", axis + 1}})); }

Value* Parts::channels_first(Value* a, std::size_t rank) {
  std::vector<std::int64_t> perm{0, static_cast<std::int64_t>(rank) - 1};
  for (std::size_t i = 1; i + 1 < rank; ++i) perm.push_back(static_cast<std::int64_t>(i));
  return transpose(a, std::move(perm));
}

Value* Parts::channels_last(Value* a, std::size_t rank) {
  std::vector<std::int64_t> perm{0};
  for (std::size_t i = 2; i < rank; ++i) perm.push_back(static_cast<std::int64_t>(i));
  perm.push_back(1);
  return transpose(a, std::move(perm));
}

Value* Parts::dequantized(Value* x, Value* scale, Value* zero_point, std::int64_t axis) {
  return ctx.add("DequantizeLinear", {x, scale, zero_point}, attrs_of({{"axis", axis}}));
}

Value* Parts::quantized(Value* x, Value* scale, Value* zero_point, DType dtype) {
  if (zero_point) return ctx.add("QuantizeLinear", {x, scale, zero_point});
  return ctx.add("QuantizeLinear", {x, scale}, attrs_of({{"output_dtype", static_cast<std::int64_t>(dtype)}}));
}

Value* Parts::flat_softmax(Value* x, std::int64_t axis, Value* like) {
  Value* rows = unary("Flatten", x, attrs_of({{"axis", axis}}));
  Value* soft = unary("Softmax", rows, attrs_of({{"axis", -1}}));
  return binary("Reshape", soft, unary("Shape", like));
}

bool is_activation(const std::string& name) {
  static constexpr std::string_view kNames[] = {"",         "Relu", "Sigmoid",         "Tanh", "LeakyRelu", "Elu", "Selu", "HardSigmoid", "Softplus",
                                                "Softsign", "Clip", "ThresholdedRelu", "Gelu", "HardSwish"};
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames);
}

Value* Parts::activation(Value* x, DType dtype, const std::string& name, std::optional<float> alpha, std::optional<float> beta) {
  if (name.empty()) return x;
  if (!is_activation(name)) return nullptr;
  if (name == "Clip") return ctx.add("Clip", {x, alpha ? number(dtype, *alpha) : nullptr, beta ? number(dtype, *beta) : nullptr});
  Attrs attrs;
  const bool has_alpha = name == "LeakyRelu" || name == "Elu" || name == "Selu" || name == "HardSigmoid" || name == "ThresholdedRelu";
  if (alpha && has_alpha) attrs.set("alpha", *alpha);
  if (beta && name == "HardSigmoid") attrs.set("beta", *beta);
  if (beta && name == "Selu") attrs.set("gamma", *beta);
  return unary(name, x, std::move(attrs));
}

std::optional<std::size_t> rank_of(const Value* value) {
  if (!value || !value->type.is_tensor() || !value->has_shape()) return std::nullopt;
  return value->shape().size();
}

std::int64_t expand_axis(const ExpandContext& ctx, std::int64_t axis, std::int64_t rank) {
  if (axis < -rank || axis >= rank) ctx.fail("axis " + std::to_string(axis) + " is outside a tensor of rank " + std::to_string(rank));
  return axis < 0 ? axis + rank : axis;
}

std::optional<std::int64_t> extent_of(const Value* value, std::size_t axis) {
  const auto rank = rank_of(value);
  if (!rank || axis >= *rank) return std::nullopt;
  return value->shape()[axis].constant();
}

Attrs attrs_of(std::initializer_list<std::pair<const char*, ir::Attribute>> list) {
  Attrs attrs;
  for (const auto& [name, value] : list) attrs.set(name, value);
  return attrs;
}

std::optional<float> given_float(const Attrs& attrs, std::string_view name) {
  if (!attrs.has(name)) return std::nullopt;
  return attrs.get_float(name, 0);
}

Attrs some_attrs(const Attrs& attrs, std::initializer_list<std::string_view> names) {
  Attrs some;
  for (const auto name : names)
    if (const auto* attribute = attrs.find(name)) some.set(std::string(name), *attribute);
  return some;
}

Attrs conv_attrs(const Attrs& attrs) { return some_attrs(attrs, {"auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"}); }

}  // namespace lathe::ops
