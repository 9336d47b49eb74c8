// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Operators that rewrite cases need and the registry may lack: If and Loop (without scan outputs) and an op that is not deterministic.
// Where the registry knows one of them already, that definition serves.

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
    ops::OpDef noise = op("test", "Noise", {1, "x:T -> y:T", "", "T: @float", false}, infer_like_input, run_noise);
    noise.deterministic = false;
    add(std::move(noise));
    return true;
  }();
  (void)once;
}

}  // namespace lathe::passes
