// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Constant, ConstantOfShape, Range, EyeLike: tensors made from attributes and sizes.
#include <cmath>

#include "loops/builder.h"
#include "ops/ref_util.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

Tensor dense(const ir::SparseTensor& sparse) {
  Tensor out(sparse.values.dtype(), sparse.dims);
  const Dims strides = strides_of(sparse.dims);
  const std::int64_t count = sparse.values.size();
  const bool linear = sparse.indices.rank() == 1;
  for (std::int64_t i = 0; i < count; ++i) {
    std::int64_t at = 0;
    if (linear) {
      at = sparse.indices.as_int64(i);
    } else {
      const auto rank = static_cast<std::int64_t>(sparse.dims.size());
      for (std::int64_t a = 0; a < rank; ++a) at += sparse.indices.as_int64(i * rank + a) * strides[static_cast<std::size_t>(a)];
    }
    if (at < 0 || at >= out.size()) throw Error(Code::kInvalidModel, "a sparse index lies outside the tensor");
    copy_element(out, at, sparse.values, i);
  }
  return out;
}

/// The value of a Constant node; undefined when it does not have exactly one value attribute.
Tensor constant_value(const Attrs& attrs) {
  Tensor value;
  int given = 0;
  for (const auto& [name, attribute] : attrs) {
    ++given;
    if (name == "value") {
      value = attrs.get_tensor("value");
    } else if (name == "sparse_value") {
      if (const auto* sparse = std::get_if<ir::SparseTensor>(&attribute.value)) value = dense(*sparse);
    } else if (name == "value_int") {
      value = Tensor::scalar(attrs.get_int(name, 0));
    } else if (name == "value_ints") {
      value = Tensor::vector(attrs.get_ints(name));
    } else if (name == "value_float") {
      value = from_doubles(DType::kFloat32, {}, {attrs.get_float(name, 0)});
    } else if (name == "value_floats") {
      const auto floats = attrs.get_floats(name);
      value = from_doubles(DType::kFloat32, {static_cast<std::int64_t>(floats.size())}, {floats.begin(), floats.end()});
    } else if (name == "value_string") {
      value = Tensor::strings({}, {attrs.get_string(name, "")});
    } else if (name == "value_strings") {
      auto strings = attrs.get_strings(name);
      const auto count = static_cast<std::int64_t>(strings.size());
      value = Tensor::strings({count}, std::move(strings));
    }
  }
  return given == 1 ? value : Tensor();
}

void constant_infer(InferContext& ctx) {
  const Tensor value = constant_value(ctx.attrs());
  if (!value.defined()) ctx.fail("needs exactly one value attribute");
  ctx.set(0, value.dtype(), Shape(value.dims().begin(), value.dims().end()));
  if (value.size() <= 64 && (is_integer(value.dtype()) || value.dtype() == DType::kBool)) {
    std::vector<Dim> content;
    for (std::int64_t i = 0; i < value.size(); ++i) content.emplace_back(value.as_int64(i));
    ctx.set_content(0, std::move(content));
  }
}

void constant_reference(RefContext& ctx) {
  Tensor value = constant_value(ctx.attrs());
  if (!value.defined()) ctx.fail("needs exactly one value attribute");
  ctx.set_output(0, std::move(value));
}

/// The element that ConstantOfShape repeats: float 0 by default.
Tensor fill_value(const Node& node) {
  Tensor value = node.attrs.get_tensor("value");
  return value.defined() ? value : Tensor(DType::kFloat32, {1});
}

void constant_of_shape_infer(InferContext& ctx) {
  const Tensor value = fill_value(ctx.node());
  if (value.size() != 1) ctx.fail("attribute 'value' must hold one element, has " + std::to_string(value.size()));
  if (const auto shape = ctx.content(0)) {
    ctx.set(0, value.dtype(), *shape);
    const auto count = ir::product(*shape).constant();
    if (count && *count <= 64 && (is_integer(value.dtype()) || value.dtype() == DType::kBool)) {
      ctx.set_content(0, std::vector<Dim>(static_cast<std::size_t>(*count), Dim(value.as_int64(0))));
    }
  } else if (const auto rank = known_length(ctx, 0)) {
    ctx.set(0, value.dtype(), fresh_shape(ctx, static_cast<std::size_t>(*rank)));
  } else {
    ctx.set_unknown(0, value.dtype());
  }
}

void constant_of_shape_reference(RefContext& ctx) {
  const Tensor value = fill_value(ctx.node());
  const auto dims = ctx.input(0).to_int64_vector();
  for (const auto d : dims) {
    if (d < 0) ctx.fail("extent " + std::to_string(d) + " is negative");
  }
  ctx.set_output(0, remap(value, dims, [](std::int64_t) { return std::int64_t{0}; }));
}

bool constant_of_shape_lower(const Node& node, loops::RegionBuilder& builder) {
  const Tensor value = fill_value(node);
  if (!is_float(value.dtype()) && !is_integer(value.dtype()) && value.dtype() != DType::kBool) {
    builder.decline("a constant that is no number");
    return false;
  }
  builder.define(node.output(), [value](loops::RegionBuilder& b, const auto&) {
    if (value.dtype() == DType::kInt64) return b.integer(value.as_int64(0));
    return b.constant(value.as_double(0), value.dtype());
  });
  return true;
}

void range_infer(InferContext& ctx) {
  const DType dtype = ctx.dtype(0);
  const auto start = ctx.content(0), limit = ctx.content(1), delta = ctx.content(2);
  for (std::size_t i = 0; i < 3; ++i) {
    const auto& shape = ctx.shape(i);
    if (shape && shape->size() > 1) ctx.fail("start, limit and delta must be scalars");
  }
  const auto one = [](const auto& c) { return c && c->size() == 1; };
  if (one(start) && one(limit) && one(delta)) {
    const Dim first = (*start)[0], step = (*delta)[0];
    if (step.constant() == std::int64_t{0}) ctx.fail("delta is 0");
    const Dim count = Dim::max(Dim::ceildiv((*limit)[0] - first, step), Dim(0));
    ctx.set(0, dtype, {count});
    if (const auto n = count.constant(); n && *n <= 64) {
      std::vector<Dim> content;
      for (std::int64_t i = 0; i < *n; ++i) content.push_back(first + step * Dim(i));
      ctx.set_content(0, std::move(content));
    }
    return;
  }
  const Tensor a = ctx.constant(0), b = ctx.constant(1), d = ctx.constant(2);
  if (is_float(dtype) && a.defined() && b.defined() && d.defined()) {
    const double count = std::ceil((b.as_double(0) - a.as_double(0)) / d.as_double(0));
    if (!std::isfinite(count)) ctx.fail("delta is 0, or a bound is not finite");
    ctx.set(0, dtype, {Dim(std::max<std::int64_t>(0, static_cast<std::int64_t>(count)))});
    return;
  }
  ctx.set(0, dtype, {ctx.fresh_symbol()});
}

void range_reference(RefContext& ctx) {
  const DType dtype = ctx.input(0).dtype();
  if (is_integer(dtype)) {
    const std::int64_t start = ctx.input(0).as_int64(0), limit = ctx.input(1).as_int64(0), delta = ctx.input(2).as_int64(0);
    if (delta == 0) ctx.fail("delta is 0");
    std::vector<std::int64_t> values;
    for (std::int64_t v = start; delta > 0 ? v < limit : v > limit; v += delta) values.push_back(v);
    ctx.set_output(0, from_int64s(dtype, {static_cast<std::int64_t>(values.size())}, values));
    return;
  }
  const double start = ctx.input(0).as_double(0), limit = ctx.input(1).as_double(0), delta = ctx.input(2).as_double(0);
  const double count = std::max(std::ceil((limit - start) / delta), 0.0);
  if (!std::isfinite(count)) ctx.fail("delta is 0, or a bound is not finite");
  std::vector<double> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = start + static_cast<double>(i) * delta;
  ctx.set_output(0, from_doubles(dtype, {static_cast<std::int64_t>(values.size())}, values));
}

bool range_lower(const Node& node, loops::RegionBuilder& builder) {
  const DType dtype = node.output()->dtype();
  const std::size_t ranks[] = {node.input(0)->has_shape() ? node.input(0)->shape().size() : 9, node.input(2)->has_shape() ? node.input(2)->shape().size() : 9};
  if (ranks[0] > 1 || ranks[1] > 1) {
    builder.decline("Range with bounds of unknown rank");
    return false;
  }
  builder.define(node.output(), [&node, dtype, r0 = ranks[0], r2 = ranks[1]](loops::RegionBuilder& b, const auto& i) {
    const auto first = b.read(node.input(0), loops::RegionBuilder::Indices(r0, b.integer(0)));
    const auto step = b.read(node.input(2), loops::RegionBuilder::Indices(r2, b.integer(0)));
    return b.binary(loops::ExprOp::kAdd, first, b.binary(loops::ExprOp::kMul, b.cast(i[0], dtype), step));
  });
  return true;
}

DType eye_dtype(const Node& node, DType input) {
  const auto dtype = node.attrs.get_int("dtype", 0);
  return dtype > 0 && dtype < kDTypeCount ? static_cast<DType>(dtype) : input;
}

void eye_infer(InferContext& ctx) {
  const DType dtype = eye_dtype(ctx.node(), ctx.dtype(0));
  const auto& shape = ctx.shape(0);
  if (!shape) return ctx.set(0, dtype, fresh_shape(ctx, 2));
  if (shape->size() != 2) ctx.fail("takes a matrix, got rank " + std::to_string(shape->size()));
  ctx.set(0, dtype, *shape);
}

void eye_reference(RefContext& ctx) {
  const Tensor& in = ctx.input(0);
  if (in.rank() != 2) ctx.fail("takes a matrix, got rank " + std::to_string(in.rank()));
  Tensor out(eye_dtype(ctx.node(), in.dtype()), in.dims());
  const std::int64_t k = ctx.attrs().get_int("k", 0), columns = in.dims()[1];
  for (std::int64_t row = 0; row < in.dims()[0]; ++row) {
    if (row + k >= 0 && row + k < columns) out.set_from_double(row * columns + row + k, 1.0);
  }
  ctx.set_output(0, std::move(out));
}

bool eye_lower(const Node& node, loops::RegionBuilder& builder) {
  const DType dtype = node.output()->dtype();
  if (!is_float(dtype) && !is_integer(dtype) && dtype != DType::kBool) {
    builder.decline("a matrix of no numbers");
    return false;
  }
  builder.define(node.output(), [dtype, k = node.attrs.get_int("k", 0)](loops::RegionBuilder& b, const auto& i) {
    const auto distance = b.binary(loops::ExprOp::kSub, i[1], i[0]);
    return b.select(b.binary(loops::ExprOp::kEqual, distance, b.integer(k)), b.constant(1, dtype), b.constant(0, dtype));
  });
  return true;
}

}  // namespace

std::span<const OpDef> ops_constant() {
  constexpr std::string_view kOut = "-> output:T";
  constexpr std::string_view k11 = "value:tensor? sparse_value:sparse_tensor?";
  constexpr std::string_view k12 =
      "value:tensor? sparse_value:sparse_tensor? value_int:int? value_ints:ints? value_float:float? value_floats:floats? "
      "value_string:string? value_strings:strings?";
  constexpr std::string_view kShapeIo = "input:T1 -> output:T2", kValue = "value:tensor?";
  static const std::vector<OpDef> ops{
      {.name = "Constant",
       .versions = {{1, kOut, "value:tensor", "T: @float"},
                    {9, kOut, "value:tensor", "T: @all"},
                    {11, kOut, k11, "T: @all"},
                    {12, kOut, k12, "T: @all"},
                    {13, kOut, k12, "T: @all13"},
                    {19, kOut, k12, "T: @all19"},
                    {21, kOut, k12, "T: @all21"},
                    {23, kOut, k12, "T: @all23"},
                    {24, kOut, k12, "T: @all24"},
                    {25, kOut, k12, "T: @all25"}},
       .infer = constant_infer,
       .reference = constant_reference,
       .doc = "a tensor stored in the model"},
      {.name = "ConstantOfShape",
       .versions = {{9, kShapeIo, kValue, "T1: int64; T2: @num bool"},
                    {20, kShapeIo, kValue, "T1: int64; T2: @all19 -string -complex64 -complex128"},
                    {21, kShapeIo, kValue, "T1: int64; T2: @all21 -string -complex64 -complex128"},
                    {23, kShapeIo, kValue, "T1: int64; T2: @all23 -string -complex64 -complex128"},
                    {24, kShapeIo, kValue, "T1: int64; T2: @all24 -string -complex64 -complex128"},
                    {25, kShapeIo, kValue, "T1: int64; T2: @all25 -string -complex64 -complex128"}},
       .infer = constant_of_shape_infer,
       .reference = constant_of_shape_reference,
       .lower = constant_of_shape_lower,
       .doc = "one value repeated over a computed shape"},
      {.name = "Range",
       .versions = {{11, "start:T limit:T delta:T -> output:T", "", "T: float double int16 int32 int64"},
                    {27, "start:T limit:T delta:T -> output:T", "stash_type:int=1", "T: @float13 int16 int32 int64"}},
       .infer = range_infer,
       .reference = range_reference,
       .tolerance = {.relative = 1e-6},
       .lower = range_lower,
       .doc = "numbers from start to limit by delta"},
      {.name = "EyeLike",
       .versions = {{9, kShapeIo, "dtype:int? k:int=0", "T1: @num bool; T2: @num bool"},
                    {22, kShapeIo, "dtype:int? k:int=0", "T1: @num13 bool; T2: @num13 bool"}},
       .infer = eye_infer,
       .reference = eye_reference,
       .lower = eye_lower,
       .doc = "ones on a diagonal"},
  };
  return ops;
}

}  // namespace lathe::ops
