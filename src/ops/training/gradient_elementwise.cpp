// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Derivatives of elementwise operators.
#include <cmath>
#include <map>
#include <numbers>

#include "ops/evaluate.h"
#include "ops/training/gradient_terms.h"

namespace lathe::ops {
namespace {

/// d = what the derivative is multiplied by; x the input, y the result.
using Unary = Term (*)(const Rule& r, Term g, Term x, Term y);

Term gelu(const Rule& r, Term g, Term x, Term) {
  if (r.b.node.attrs.get_string("approximate", "none") == "tanh") {
    const double scale = std::sqrt(2 / std::numbers::pi);
    const Term t = call("Tanh", (x + x * x * x * 0.044715) * scale);
    return g * ((t + 1) * 0.5 + x * 0.5 * (1 - t * t) * ((x * x * (3 * 0.044715) + 1) * scale));
  }
  const Term phi = (call("Erf", x * std::sqrt(0.5)) + 1) * 0.5;
  return g * (phi + x * exp(x * x * -0.5) * (1 / std::sqrt(2 * std::numbers::pi)));
}

const std::map<std::string_view, Unary>& unary_rules() {
  static const std::map<std::string_view, Unary> rules{
      {"Identity", [](const Rule&, Term g, Term, Term) { return g; }},
      {"Neg", [](const Rule&, Term g, Term, Term) { return -g; }},
      {"Abs", [](const Rule&, Term g, Term x, Term) { return g * call("Sign", x); }},
      {"Exp", [](const Rule&, Term g, Term, Term y) { return g * y; }},
      {"Log", [](const Rule&, Term g, Term x, Term) { return g / x; }},
      {"Sqrt", [](const Rule&, Term g, Term, Term y) { return g / (y * 2); }},
      {"Reciprocal", [](const Rule&, Term g, Term, Term y) { return -(g * y * y); }},
      {"Sin", [](const Rule&, Term g, Term x, Term) { return g * call("Cos", x); }},
      {"Cos", [](const Rule&, Term g, Term x, Term) { return -(g * call("Sin", x)); }},
      {"Tan", [](const Rule&, Term g, Term, Term y) { return g * (y * y + 1); }},
      {"Asin", [](const Rule&, Term g, Term x, Term) { return g / sqrt(1 - x * x); }},
      {"Acos", [](const Rule&, Term g, Term x, Term) { return -(g / sqrt(1 - x * x)); }},
      {"Atan", [](const Rule&, Term g, Term x, Term) { return g / (x * x + 1); }},
      {"Sinh", [](const Rule&, Term g, Term x, Term) { return g * call("Cosh", x); }},
      {"Cosh", [](const Rule&, Term g, Term x, Term) { return g * call("Sinh", x); }},
      {"Tanh", [](const Rule&, Term g, Term, Term y) { return g * (1 - y * y); }},
      {"Asinh", [](const Rule&, Term g, Term x, Term) { return g / sqrt(x * x + 1); }},
      {"Acosh", [](const Rule&, Term g, Term x, Term) { return g / sqrt(x * x - 1); }},
      {"Atanh", [](const Rule&, Term g, Term x, Term) { return g / (1 - x * x); }},
      {"Erf", [](const Rule&, Term g, Term x, Term) { return g * exp(-(x * x)) * (2 / std::sqrt(std::numbers::pi)); }},
      {"Sigmoid", [](const Rule&, Term g, Term, Term y) { return g * y * (1 - y); }},
      {"Softplus", [](const Rule&, Term g, Term x, Term) { return g * call("Sigmoid", x); }},
      {"Softsign",
       [](const Rule&, Term g, Term x, Term) {
         const Term d = call("Abs", x) + 1;
         return g / (d * d);
       }},
      {"Relu", [](const Rule&, Term g, Term x, Term) { return where(x > 0, g, 0); }},
      {"LeakyRelu", [](const Rule& r, Term g, Term x, Term) { return where(x < 0, g * r.attribute("alpha", 0.01), g); }},
      {"ThresholdedRelu", [](const Rule& r, Term g, Term x, Term) { return where(x > r.attribute("alpha", 1), g, 0); }},
      {"Elu", [](const Rule& r, Term g, Term x, Term y) { return where(x < 0, g * (y + r.attribute("alpha", 1)), g); }},
      {"Celu", [](const Rule& r, Term g, Term x, Term y) { return where(x < 0, g * (y / r.attribute("alpha", 1) + 1), g); }},
      {"Selu",
       [](const Rule& r, Term g, Term x, Term y) {
         const double alpha = r.attribute("alpha", 1.67326319217681884765625), gamma = r.attribute("gamma", 1.05070102214813232421875);
         return where(x > 0, g * gamma, g * (y + alpha * gamma));
       }},
      {"HardSigmoid", [](const Rule& r, Term g, Term, Term y) { return where(y > 0 && y < 1, g * r.attribute("alpha", 0.2), 0); }},
      {"HardSwish", [](const Rule&, Term g, Term x, Term) { return where(x < -3, 0, where(x > 3, g, g * (x / 3 + 0.5))); }},
      {"Mish",
       [](const Rule&, Term g, Term x, Term) {
         const Term t = call("Tanh", call("Softplus", x));
         return g * (t + x * (1 - t * t) * call("Sigmoid", x));
       }},
      {"Swish",
       [](const Rule& r, Term g, Term x, Term) {
         const double alpha = r.attribute("alpha", 1);
         const Term s = call("Sigmoid", x * alpha);
         return g * (s + x * alpha * s * (1 - s));
       }},
      {"Gelu", gelu},
  };
  return rules;
}

void unary(BackwardNode& node) {
  const Rule r(node);
  if (r.wants(0)) node.give(0, unary_rules().at(node.node.op)(r, r.g, r.in(0), r.result()).value);
}

void add(BackwardNode& node) {
  const Rule r(node);
  for (std::size_t i = 0; i < node.wanted.size(); ++i)
    if (r.wants(i)) r.give(i, r.g);
}

void mean(BackwardNode& node) {
  const Rule r(node);
  const Term share = r.g / static_cast<double>(node.wanted.size());
  for (std::size_t i = 0; i < node.wanted.size(); ++i)
    if (r.wants(i)) r.give(i, share);
}

void sub(BackwardNode& node) {
  const Rule r(node);
  if (r.wants(0)) r.give(0, r.g);
  if (r.wants(1)) r.give(1, -r.g);
}

void mul(BackwardNode& node) {
  const Rule r(node);
  if (r.wants(0)) r.give(0, r.g * r.in(1));
  if (r.wants(1)) r.give(1, r.g * r.in(0));
}

void div(BackwardNode& node) {
  const Rule r(node);
  if (r.wants(0)) r.give(0, r.g / r.in(1));
  if (r.wants(1)) r.give(1, -(r.g * r.result() / r.in(1)));
}

std::optional<double> constant_number(const Value* value) {
  Tensor tensor;
  if (value->is_constant()) tensor = value->constant;
  else if (value->producer && value->producer->is("Constant")) tensor = evaluate_node(*value->producer, {}).front();
  if (!tensor.is_tensor() || tensor.size() != 1 || !(is_integer(tensor.dtype()) || is_float(tensor.dtype()))) return std::nullopt;
  return tensor.as_double(0);
}

void power(BackwardNode& node) {
  const Rule r(node);
  const Term x = r.in(0);
  const Value* exponent = node.node.input(1);
  if (const auto constant = r.wants(1) ? std::nullopt : constant_number(exponent)) {
    if (!r.wants(0)) return;
    const double n = *constant;
    if (n == 0) return node.give(0, nullptr);
    const Term gn = r.g * n;
    return r.give(0, n == 1 ? r.g : n == 2 ? gn * x : gn * pow(x, x.number(n - 1)));
  }
  const Term n = r.term(node.parts.as(node.node.input(1), exponent->dtype(), x.dtype));
  const auto equals_zero = [](Term a) { return compare("Equal", a, a.number(0)); };
  // x^0 is 1 wherever x is, and 0^n stays 0 beside n > 0: formulas that would make 0 times infinity of that.
  if (r.wants(0)) r.give(0, where(equals_zero(n), 0, r.g * n * pow(x, n - 1)));
  if (r.wants(1)) {
    const Term flat = equals_zero(x) && compare("GreaterOrEqual", n, n.number(0));
    const Term by_n = where(flat, 0, r.g * r.result() * call("Log", where(flat, 1, x)));
    r.give(1, r.term(node.parts.as(by_n.value, x.dtype, exponent->dtype())));
  }
}

/// The one that the result is has it all; equal ones share.
void extremum(BackwardNode& node) {
  const Rule r(node);
  std::vector<Term> is;
  std::optional<Term> count;
  for (std::size_t i = 0; i < node.wanted.size(); ++i) {
    is.push_back(compare("Equal", r.in(i), r.result()));
    const Term one = r.term(node.parts.cast(is.back().value, r.g.dtype));
    count = count ? *count + one : one;
  }
  for (std::size_t i = 0; i < node.wanted.size(); ++i)
    if (r.wants(i)) r.give(i, where(is[i], r.g / *count, 0));
}

void clip(BackwardNode& node) {
  const Rule r(node);
  if (!r.wants(0)) return;
  Term g = r.g;
  if (node.node.input(1)) g = where(compare("Less", r.in(0), r.in(1)), 0, g);
  if (node.node.input(2)) g = where(r.in(0) > r.in(2), 0, g);
  node.give(0, g.value);
}

void where_rule(BackwardNode& node) {
  const Rule r(node);
  const Term condition{&node.parts, node.node.input(0), DType::kBool};
  if (r.wants(1)) r.give(1, where(condition, r.g, 0));
  if (r.wants(2)) r.give(2, where(condition, 0, r.g));
}

void cast(BackwardNode& node) {
  if (node.wanted[0]) node.give(0, node.parts.as(node.gradients[0], node.node.outputs[0]->dtype(), node.node.input(0)->dtype()));
}

}  // namespace

GradientRule find_elementwise_rule(const ir::Node& node) {
  static const std::map<std::string_view, GradientRule> rules{
      {"Add", add},      {"Sum", add},      {"Mean", mean}, {"Sub", sub},          {"Mul", mul},   {"Div", div},       {"Pow", power},
      {"Max", extremum}, {"Min", extremum}, {"Clip", clip}, {"Where", where_rule}, {"Cast", cast}, {"CastLike", cast},
  };
  if (unary_rules().contains(node.op)) return unary;
  const auto found = rules.find(node.op);
  return found == rules.end() ? nullptr : found->second;
}

}  // namespace lathe::ops
