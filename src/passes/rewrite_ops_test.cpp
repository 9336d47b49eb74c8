// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Operators that rewrite cases need and the registry may lack: If and Loop (without scan outputs), DequantizeLinear with one scale, Pad
// (constant and edge mode) and an op that is not deterministic. Where the registry knows one of them already, that definition serves.

#include <algorithm>

#include "ops/registry.h"
#include "passes/rewrite_cases.h"

namespace lathe::passes {
namespace {

using ops::InferContext;
using ops::RefContext;

// If ---------------------------------------------------------------------------------------------------------------------------

/// The type that holds for both.
ir::Type common_type(const ir::Type& a, const ir::Type& b) {
  if (a == b) return a;
  if (!a.is_tensor() || !b.is_tensor() || a.dtype != b.dtype) return {};
  return ir::Type::tensor(a.dtype);
}

void infer_if(InferContext& context) {
  const auto then_types = context.infer_subgraph(*context.attrs().get_graph("then_branch"), {});
  const auto else_types = context.infer_subgraph(*context.attrs().get_graph("else_branch"), {});
  for (std::size_t i = 0; i < then_types.size() && i < else_types.size(); ++i) context.set_type(i, common_type(then_types[i], else_types[i]));
}

void run_if(RefContext& context) {
  const bool taken = context.input(0).as_int64(0) != 0;
  auto results = context.run_subgraph(*context.attrs().get_graph(taken ? "then_branch" : "else_branch"), {});
  for (std::size_t i = 0; i < results.size(); ++i) context.set_output(i, std::move(results[i]));
}

// Loop -------------------------------------------------------------------------------------------------------------------------

void infer_loop(InferContext& context) {
  std::vector<ir::Type> types{ir::Type::tensor(DType::kInt64, {}), ir::Type::tensor(DType::kBool, {})};
  for (std::size_t i = 2; i < context.input_count(); ++i) {
    ir::Type type = context.node().input(i)->type;
    type.shape.reset();  // may change from one iteration to the next
    types.push_back(std::move(type));
  }
  const auto results = context.infer_subgraph(*context.attrs().get_graph("body"), types);
  for (std::size_t i = 1; i < results.size(); ++i) context.set_type(i - 1, results[i].is_tensor() ? ir::Type::tensor(results[i].dtype) : results[i]);
}

void run_loop(RefContext& context) {
  const auto body = context.attrs().get_graph("body");
  const std::int64_t limit = context.has_input(0) ? context.input(0).as_int64(0) : 1000;
  bool go_on = !context.has_input(1) || context.input(1).as_int64(0) != 0;
  std::vector<Tensor> carried;
  for (std::size_t i = 2; i < context.input_count(); ++i) carried.push_back(context.input(i));
  if (body->outputs().size() != carried.size() + 1) context.fail("scan outputs are not defined here");
  for (std::int64_t i = 0; i < limit && go_on; ++i) {
    Tensor condition(DType::kBool, {});
    condition.set_from_int64(0, 1);
    std::vector<Tensor> arguments{Tensor::scalar(i), condition};
    arguments.insert(arguments.end(), carried.begin(), carried.end());
    auto results = context.run_subgraph(*body, arguments);
    go_on = results[0].as_int64(0) != 0;
    for (std::size_t k = 1; k < results.size(); ++k) carried[k - 1] = std::move(results[k]);
  }
  for (std::size_t i = 0; i < carried.size(); ++i) context.set_output(i, std::move(carried[i]));
}

// DequantizeLinear -------------------------------------------------------------------------------------------------------------

void infer_dequantize(InferContext& context) {
  if (context.shape(0)) context.set(0, context.dtype(1), *context.shape(0));
  else context.set_unknown(0, context.dtype(1));
}

void run_dequantize(RefContext& context) {
  const Tensor &x = context.input(0), &scale = context.input(1);
  if (scale.size() != 1) context.fail("scales along an axis are not defined here");
  const std::int64_t zero = context.has_input(2) ? context.input(2).as_int64(0) : 0;
  Tensor y(scale.dtype(), x.dims());
  for (std::int64_t i = 0; i < x.size(); ++i) y.set_from_double(i, static_cast<double>(x.as_int64(i) - zero) * scale.as_double(0));
  context.set_output(0, std::move(y));
}

// Pad --------------------------------------------------------------------------------------------------------------------------

// Amounts per axis of the data, begins then ends; nullopt when they are not known.
std::optional<std::vector<std::int64_t>> pad_amounts(const std::optional<std::vector<std::int64_t>>& pads, const std::optional<std::vector<std::int64_t>>& axes,
                                                     std::int64_t rank) {
  if (!pads) return std::nullopt;
  if (!axes) return pads;
  std::vector<std::int64_t> amounts(static_cast<std::size_t>(2 * rank), 0);
  for (std::size_t i = 0; i < axes->size(); ++i) {
    const std::int64_t axis = (*axes)[i] + ((*axes)[i] < 0 ? rank : 0);
    amounts[static_cast<std::size_t>(axis)] = (*pads)[i];
    amounts[static_cast<std::size_t>(axis + rank)] = (*pads)[i + axes->size()];
  }
  return amounts;
}

void infer_pad(InferContext& context) {
  const auto known = [&](std::size_t i) -> std::optional<std::vector<std::int64_t>> {
    const Tensor tensor = i < context.input_count() && context.has_input(i) ? context.constant(i) : Tensor();
    if (!tensor.defined()) return std::nullopt;
    return tensor.to_int64_vector();
  };
  if (!context.shape(0)) return context.set_unknown(0, context.dtype(0));
  ir::Shape shape = *context.shape(0);
  const auto rank = static_cast<std::int64_t>(shape.size());
  const bool has_axes = context.input_count() > 3 && context.has_input(3);
  const auto amounts = has_axes && !known(3) ? std::nullopt : pad_amounts(known(1), known(3), rank);
  for (std::size_t i = 0; i < shape.size(); ++i) {
    shape[i] = amounts ? shape[i] + ir::Dim((*amounts)[i] + (*amounts)[i + shape.size()]) : context.fresh_symbol();
  }
  context.set(0, context.dtype(0), std::move(shape));
}

void run_pad(RefContext& context) {
  const Tensor& x = context.input(0);
  const auto rank = static_cast<std::size_t>(x.rank());
  const bool has_axes = context.has_input(3);
  const auto amounts = *pad_amounts(context.input(1).to_int64_vector(), has_axes ? std::optional(context.input(3).to_int64_vector()) : std::nullopt, x.rank());
  const std::string mode = context.attrs().get_string("mode", "constant");
  if (mode != "constant" && mode != "edge") context.fail("only constant and edge padding are defined here");
  Dims dims = x.dims();
  for (std::size_t i = 0; i < rank; ++i) dims[i] += amounts[i] + amounts[i + rank];
  Tensor y(x.dtype(), dims);
  for (std::int64_t flat = 0; flat < y.size(); ++flat) {
    std::int64_t rest = flat, source = 0, stride = 1;
    bool inside = true;
    for (std::size_t i = rank; i-- > 0;) {
      std::int64_t at = rest % dims[i] - amounts[i];
      rest /= dims[i];
      inside = inside && at >= 0 && at < x.dims()[i];
      at = std::clamp<std::int64_t>(at, 0, x.dims()[i] - 1);
      source += at * stride;
      stride *= x.dims()[i];
    }
    if (inside || mode == "edge") y.set_from_double(flat, x.as_double(source));
    else if (context.has_input(2)) y.set_from_double(flat, context.input(2).as_double(0));
  }
  context.set_output(0, std::move(y));
}

// test::Noise: the same each time here, so that graphs around it can be compared; for the passes it is random ------------------------

void infer_like_input(InferContext& context) { context.set_type(0, context.node().input(0)->type); }

void run_noise(RefContext& context) {
  Tensor y = context.input(0);
  for (std::int64_t i = 0; i < y.size(); ++i) y.set_from_double(i, y.as_double(i) + 0.25 * static_cast<double>(i));
  context.set_output(0, std::move(y));
}

ops::OpDef op(std::string_view domain, std::string_view name, ops::VersionDef version, void (*infer)(InferContext&), void (*reference)(RefContext&)) {
  ops::OpDef def;
  def.domain = domain;
  def.name = name;
  def.versions = {version};
  def.infer = infer;
  def.reference = reference;
  return def;
}

}  // namespace

void register_test_ops() {
  static const bool once = [] {
    const auto add = [](ops::OpDef def) {
      if (!ops::find_op(def.domain, def.name)) ops::register_op(std::move(def));
    };
    add(op("", "If", {25, "cond:B -> outputs++:V", "then_branch:graph else_branch:graph", "B: bool; V: @all25", false}, infer_if, run_if));
    add(op("", "Loop", {25, "M?:I cond?:B v_initial**:V -> v_final++:V", "body:graph", "I: int64; B: bool; V: @all25", false}, infer_loop, run_loop));
    add(op("", "DequantizeLinear", {25, "x:T1 x_scale:T2 x_zero_point?:T1 -> y:T2", "axis:int=1", "T1: int8 uint8; T2: float", false}, infer_dequantize,
           run_dequantize));
    add(op("", "Pad", {25, "data:T pads:I constant_value?:T axes?:A -> output:T", "mode:string=constant", "T: @all25; I: int64; A: int32 int64", false},
           infer_pad, run_pad));
    ops::OpDef noise = op("test", "Noise", {1, "x:T -> y:T", "", "T: @float", false}, infer_like_input, run_noise);
    noise.deterministic = false;
    add(std::move(noise));
    return true;
  }();
  (void)once;
}

}  // namespace lathe::passes
