// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Pointwise identities. The output must have the type of the operand that remains, so a constant that broadcasts the operand up is
// left alone. Floating rules are exact for NaN and infinities; where only the sign of zero could change (x + 0.0 turns -0 into +0)
// the rule asks whether anything can tell (zero_sign_is_free).
//
//   x + 0, x - 0, x * 1, x / 1, x ^ 1            -> x
//   --x, not not x; f(f(x)) for idempotent f     -> x; f(x)
//   x and true, x or false, x xor false          -> x        x and false -> false, x or true -> true (constant of x's shape only)
//   max(x, x), min(x, x), x and x, x or x        -> x        max/min/mean/sum of one -> x
//   where(true, a, b), where(c, x, x)            -> a, x
//   max(x, +0)                                   -> Relu(x)  (floating)
//   a[.., m, 1] b[.., 1, n]                      -> a * b    (a product without a sum: the angles of a rotary embedding)
//   max(max(x, c), d) is left to clip_chains

#include <cmath>
#include <set>

#include "passes/pass.h"
#include "passes/rewrite.h"

namespace lathe::passes {
namespace {

using ir::Node;
using ir::Value;

// The constant cannot change the shape: the output is known to equal x's shape, or the constant is a scalar.
bool keeps_type(const Node& node, const Value* x, const Value* constant) {
  const Value* out = node.outputs[0];
  if (out->type.is_tensor() && x->type.is_tensor() && x->dtype() != DType::kUndefined && x->dtype() == out->dtype() && rank_of(constant) == 0) return true;
  return same_type(out, x);
}

// x op c with c on the right, or on either side for commutative ops. Returns x, or nullptr.
Value* neutral_operand(const Node& node) {
  if (node.inputs.size() != 2 || !node.inputs[0] || !node.inputs[1]) return nullptr;
  const auto right = [&](double neutral) -> Value* {
    return is_splat(node.inputs[1], neutral) && keeps_type(node, node.inputs[0], node.inputs[1]) ? node.inputs[0] : nullptr;
  };
  if (node.is("Add")) {
    // canonicalise puts the constant last
    Value* x = right(0);
    if (!x) return nullptr;
    const bool negative_zero = is_float(x->dtype()) && std::signbit(*splat_of(node.inputs[1]));
    return negative_zero || zero_sign_is_free(x) || zero_sign_is_free(node.outputs[0]) ? x : nullptr;
  }
  if (node.is("Sub")) {
    Value* x = right(0);
    if (!x) return nullptr;
    const bool positive_zero = !is_float(x->dtype()) || !std::signbit(*splat_of(node.inputs[1]));
    return positive_zero || zero_sign_is_free(x) || zero_sign_is_free(node.outputs[0]) ? x : nullptr;
  }
  if (node.is("Mul") || node.is("Div")) return right(1);
  if (node.is("Pow")) return right(1);  // the exponent may be of another type; keeps_type compares output and base
  if (node.is("And")) return right(1);
  if (node.is("Or") || node.is("Xor")) return right(0);
  if (node.is("BitShift") || node.is("BitwiseOr") || node.is("BitwiseXor")) return right(0);
  return nullptr;
}

// f(g(x)) where the outer one adds nothing or undoes the inner one.
Value* nested_operand(Node& node) {
  static const std::set<std::string_view> kIdempotent = {"Relu", "Abs", "Ceil", "Floor", "Round", "Sign"};
  static const std::set<std::string_view> kInvolutions = {"Neg", "Not", "BitwiseNot"};
  const Value* input = node.input(0);
  if (!input || node.inputs.size() != 1) return nullptr;
  if (kIdempotent.contains(node.op) && producer_of(input, node.op)) return node.inputs[0];
  if (!kInvolutions.contains(node.op)) return nullptr;
  const Node* inner = producer_of(input, node.op);
  if (!inner) return nullptr;
  if (inner->graph == node.graph) merge_sources(node, *inner);
  return inner->inputs[0];
}

bool all_same(const Node& node) {
  for (const Value* input : node.inputs) {
    if (input != node.inputs[0]) return false;
  }
  return true;
}

Value* selected_operand(const Node& node) {
  static const std::set<std::string_view> kOfOne = {"Max", "Min", "Mean", "Sum"};
  static const std::set<std::string_view> kOfEqual = {"Max", "Min", "And", "Or", "BitwiseAnd", "BitwiseOr"};
  if (node.inputs.empty() || !node.inputs[0]) return nullptr;
  if (node.inputs.size() == 1 && kOfOne.contains(node.op)) return node.inputs[0];
  if (node.inputs.size() >= 2 && kOfEqual.contains(node.op) && all_same(node)) return node.inputs[0];
  if (!node.is("Where")) return nullptr;
  const Value* out = node.outputs[0];
  if (node.inputs[1] == node.inputs[2] && same_type(out, node.inputs[1])) return node.inputs[1];
  const auto condition = splat_of(node.inputs[0]);
  if (!condition) return nullptr;
  Value* chosen = *condition != 0 ? node.inputs[1] : node.inputs[2];
  return same_type(out, chosen) ? chosen : nullptr;
}

// and(x, false) = false, or(x, true) = true; x * 0 is not zero for NaN and infinity, and integers may carry a shape.
std::optional<Tensor> absorbed(const Node& node) {
  const bool is_and = node.is("And"), is_or = node.is("Or");
  if ((!is_and && !is_or) || node.inputs.size() != 2 || !is_splat(node.inputs[1], is_or ? 1 : 0)) return std::nullopt;
  const Value* out = node.outputs[0];
  if (!same_shape(out, node.inputs[1])) return std::nullopt;  // else it would grow
  return node.inputs[1]->constant;
}

bool max_with_zero(Node& node) {
  if (!node.is("Max") || node.inputs.size() != 2 || !is_float(node.inputs[0]->dtype())) return false;
  if (!is_splat(node.inputs[1], 0) || std::signbit(*splat_of(node.inputs[1])) || !keeps_type(node, node.inputs[0], node.inputs[1])) return false;
  transmute(node, "Relu", {node.inputs[0]});
  return true;
}

/// Whether the sum of one product of -0 is -0 differs from one library to the next, so no rule asks for it.
bool product_of_one(Node& node) {
  if (!node.is("MatMul") || rank_of(node.input(0)).value_or(0) < 2 || rank_of(node.input(1)).value_or(0) < 2) return false;
  const ir::Shape &a = node.inputs[0]->shape(), &b = node.inputs[1]->shape();
  if (a.back() != ir::Dim(1) || b[b.size() - 2] != ir::Dim(1)) return false;
  transmute(node, "Mul", {node.inputs[0], node.inputs[1]});
  return true;
}

}  // namespace

int identities(ir::Graph& graph, PassContext&) {
  int rewrites = 0;
  graph.for_each([&](Node& node) {
    if (!node.domain.empty() || node.outputs.size() != 1 || !node.outputs[0]) return;
    if (const auto tensor = absorbed(node)) {
      rewrites += replace_by_constant(node, 0, *tensor) ? 1 : 0;
      return;
    }
    Value* remains = neutral_operand(node);
    if (!remains) remains = nested_operand(node);
    if (!remains) remains = selected_operand(node);
    if (remains) {
      rewrites += bypass(node, remains) ? 1 : 0;
    } else if (max_with_zero(node) || product_of_one(node)) {
      ++rewrites;
    }
  });
  return rewrites;
}

}  // namespace lathe::passes
