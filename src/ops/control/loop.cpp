// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Loop: a graph run again and again on what it gave, up to a count and while a condition holds.
#include <limits>

#include "ops/control/control.h"
#include "ops/control/join.h"
#include "ops/control/types.h"

namespace lathe::ops {
namespace {

constexpr std::int64_t kNoLimit = std::numeric_limits<std::int64_t>::max();
constexpr std::size_t kFixed = 2;  // inputs of node and body before the carried ones: count and condition
constexpr int kMaxRounds = 4;
// Loops inside that many others are inferred without extents at once: each level multiplies the rounds.
constexpr int kMaxNesting = 3;

// Types --------------------------------------------------------------------------------------------------------------------------

std::size_t carried_count(const Node& node) { return node.inputs.size() > kFixed ? node.inputs.size() - kFixed : 0; }

/// What is wrong with the body's interface; empty: nothing.
std::string body_defect(const Node& node, const ir::Graph& body) {
  const std::size_t carried = carried_count(node);
  if (body.inputs().size() != carried + kFixed) {
    return "carries " + std::to_string(carried) + " values, but its body takes " + std::to_string(body.inputs().size()) + " inputs; it must take " +
           std::to_string(carried + kFixed);
  }
  if (body.outputs().size() < carried + 1) {
    return "carries " + std::to_string(carried) + " values, but its body gives " + std::to_string(body.outputs().size()) + " outputs; it must give " +
           std::to_string(carried + 1) + " at least";
  }
  if (body.outputs().size() < node.outputs.size() + 1) {
    return "has " + std::to_string(node.outputs.size()) + " outputs, but its body gives " + std::to_string(body.outputs().size() - 1);
  }
  return {};
}

/// A scalar, or the one-element vector that some exporters declare for the counter and the condition.
Shape scalar_shape(const Value& formal) {
  if (formal.has_shape() && formal.shape().size() == 1) return {Dim(1)};
  return {};
}

int nesting(const Node& node) {
  int depth = 0;
  for (const ir::Graph* g = node.graph; g && g->parent(); g = g->parent()) ++depth;
  return depth;
}

/// How often the body runs, where that is known.
struct Trips {
  std::optional<Dim> count;  // exactly
  bool some = false;         // at least once
};

Trips known_trips(InferContext& ctx, const ir::Graph& body) {
  const auto starts = ctx.has_input(1) ? known_flag(ctx.node().input(1)) : std::optional(true);
  if (starts == false) return {Dim(0), false};
  const auto limit = ctx.has_input(0) ? ctx.content(0) : std::nullopt;
  if (ctx.has_input(0) && limit && limit->size() == 1 && limit->front().constant().value_or(1) <= 0) return {Dim(0), false};
  Trips trips;
  const bool limited = limit && limit->size() == 1 && limit->front().constant() != kNoLimit;
  const bool unlimited = !ctx.has_input(0) || (limit && !limited);
  trips.some = starts == true && (unlimited || (limited && limit->front().lower_bound().value_or(0) >= 1 && ctx.is_extent(limit->front())));
  if (starts == true && limited && known_flag(body.outputs()[0]) == true && ctx.is_extent(limit->front())) trips.count = Dim::max(limit->front(), Dim(0));
  return trips;
}

void loop_infer(InferContext& ctx) {
  const ir::GraphPtr body = nested_graph(ctx, "body");
  Node& node = ctx.node();
  if (const std::string defect = body_defect(node, *body); !defect.empty()) ctx.fail(defect);
  const std::size_t carried = carried_count(node);
  const LaterSymbols inner(ctx);
  TypeJoin join(ctx);
  std::vector<ir::Type> types;
  for (std::size_t i = 0; i < kFixed; ++i) types.push_back(ir::Type::tensor(i == 0 ? DType::kInt64 : DType::kBool, scalar_shape(*body->inputs()[i])));
  std::vector<ir::Type> initial;
  for (std::size_t k = 0; k < carried; ++k) {
    if (!ctx.has_input(kFixed + k)) ctx.fail("the carried input " + std::to_string(kFixed + k) + " is left out");
    initial.push_back(node.input(kFixed + k)->type);
  }
  types.insert(types.end(), initial.begin(), initial.end());
  if (nesting(node) >= kMaxNesting)
    for (std::size_t k = 0; k < carried; ++k) types[kFixed + k] = without_shape(types[kFixed + k]);
  std::vector<ir::Type> results;
  for (int round = 0;; ++round) {
    results = ctx.infer_subgraph(*body, types);
    bool stable = true;
    for (std::size_t k = 0; k < carried; ++k) {
      ir::Type& type = types[kFixed + k];
      auto joined = join(type, results[k + 1]);
      if (!joined) ctx.fail("carries " + type.to_string() + " as value " + std::to_string(k) + ", but its body gives " + results[k + 1].to_string());
      if (*joined == type) continue;
      stable = false;
      type = round < kMaxRounds ? *joined : without_shape(*joined);
    }
    if (stable) break;
    if (round < kMaxRounds) continue;
    // Extents still move after many rounds, so no carried value keeps any: nothing can move then.
    for (std::size_t k = 0; k < carried; ++k) types[kFixed + k] = without_shape(types[kFixed + k]);
    if (round == kMaxRounds) continue;
    results = ctx.infer_subgraph(*body, types);
    break;
  }
  const Trips trips = known_trips(ctx, *body);
  for (std::size_t k = 0; k < carried && k < node.outputs.size(); ++k) {
    const bool untouched = trips.count && trips.count->constant() == 0;
    ctx.set_type(k, inner.outside(untouched ? initial[k] : trips.some ? results[k + 1] : types[kFixed + k]));
    if (untouched) {
      if (const auto content = ctx.content(kFixed + k)) ctx.set_content(k, *content);
    }
  }
  std::optional<Dim> count = trips.count;
  for (std::size_t i = carried; i < node.outputs.size(); ++i) {
    const ir::Type& element = results[i + 1];
    if (element.kind != ir::TypeKind::kTensor && element.kind != ir::TypeKind::kUnknown) {
      ctx.fail("output " + std::to_string(i) + " would stack values of type " + element.to_string() + "; only tensors are stacked");
    }
    if (!element.shape) {
      ctx.set_unknown(i, element.dtype);
      continue;
    }
    if (!count) count = ctx.fresh_symbol();  // one for all: they are stacked as often
    Shape shape = inner.outside(*element.shape);
    shape.insert(shape.begin(), *count);
    ctx.set(i, element.dtype, std::move(shape));
  }
}

// Values -------------------------------------------------------------------------------------------------------------------------

Tensor scalar_like(const Value& formal, Tensor tensor) { return scalar_shape(formal).empty() ? tensor : tensor.reshaped({1}); }

void loop_reference(RefContext& ctx) {
  const ir::GraphPtr body = nested_graph(ctx, "body");
  const Node& node = ctx.node();
  if (const std::string defect = body_defect(node, *body); !defect.empty()) ctx.fail(defect);
  const std::size_t carried = carried_count(node);
  std::int64_t limit = kNoLimit;
  if (ctx.has_input(0)) {
    const Tensor& count = ctx.input(0);
    if (count.dtype() != DType::kInt64 || count.size() != 1) ctx.fail("the trip count must be one int64");
    limit = count.as_int64(0);
  }
  bool goes_on = !ctx.has_input(1) || condition_of(ctx, ctx.input(1), "the condition");
  std::vector<Tensor> arguments(kFixed);
  for (std::size_t k = 0; k < carried; ++k) arguments.push_back(ctx.input(kFixed + k));
  std::vector<std::vector<Tensor>> stacks(node.outputs.size() > carried ? node.outputs.size() - carried : 0);
  Tensor yes(DType::kBool, {});
  yes.set_from_int64(0, 1);
  for (std::int64_t trip = 0; goes_on && trip < limit; ++trip) {
    if (trip >= ctx.most_trips()) ctx.fail("took more than " + std::to_string(ctx.most_trips()) + " trips");
    arguments[0] = scalar_like(*body->inputs()[0], Tensor::scalar(trip));
    arguments[1] = scalar_like(*body->inputs()[1], yes);
    std::vector<Tensor> results = ctx.run_subgraph(*body, arguments);
    goes_on = condition_of(ctx, results[0], "the condition that its body gives");
    for (std::size_t k = 0; k < carried; ++k) arguments[kFixed + k] = std::move(results[k + 1]);
    for (std::size_t s = 0; s < stacks.size(); ++s) {
      if (!ctx.wants_output(carried + s)) continue;
      Tensor& part = results[carried + s + 1];
      if (!part.is_tensor()) ctx.fail("output " + std::to_string(carried + s) + " would stack values that are no tensors");
      stacks[s].push_back(std::move(part));
    }
  }
  for (std::size_t k = 0; k < carried && k < node.outputs.size(); ++k) ctx.set_output(k, std::move(arguments[kFixed + k]));
  for (std::size_t s = 0; s < stacks.size(); ++s) {
    if (!ctx.wants_output(carried + s)) continue;
    ctx.set_output(carried + s,
                   stacks[s].empty() ? stacked_nothing(ctx, body->outputs()[carried + s + 1]->type, carried + s, 0) : stack_along(ctx, stacks[s], 0));
  }
}

}  // namespace

OpDef loop_op() {
  constexpr std::string_view kIo1 = "M?:I cond?:B v_initial++:V -> v_final_and_scan_outputs++:V",
                             kIo = "M?:I cond?:B v_initial**:V -> v_final_and_scan_outputs++:V", kAttrs = "body:graph";
  const auto types = [](std::string_view passed) { return "I: int64; B: bool; V: " + std::string(passed); };
  static const std::string texts[] = {types(kPassed1),  types(kPassed13), types(kPassed16), types(kPassed19),
                                      types(kPassed21), types(kPassed23), types(kPassed24), types(kPassed25)};
  return {.name = "Loop",
          .versions = {{1, kIo1, kAttrs, texts[0]},
                       {11, kIo, kAttrs, texts[0]},
                       {13, kIo, kAttrs, texts[1]},
                       {16, kIo, kAttrs, texts[2]},
                       {19, kIo, kAttrs, texts[3]},
                       {21, kIo, kAttrs, texts[4]},
                       {23, kIo, kAttrs, texts[5]},
                       {24, kIo, kAttrs, texts[6]},
                       {25, kIo, kAttrs, texts[7]}},
          .infer = loop_infer,
          .reference = loop_reference,
          .doc = "a graph run again and again, up to a count and while a condition holds"};
}

}  // namespace lathe::ops
