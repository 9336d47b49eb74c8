// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The words in which derivatives are written: formulas of values, and what undoes a broadcast.

#include "ops/training/gradient.h"

namespace lathe::ops {

/// A value in a formula. Numbers take the type of what they meet.
struct Term {
  Parts* parts;
  Value* value;
  DType dtype;

  Term of(std::string_view op, std::vector<Value*> inputs, Attrs attrs = {}) const {
    return {parts, parts->ctx.add(op, std::move(inputs), std::move(attrs)), dtype};
  }
  Term number(double v) const { return {parts, parts->number(dtype, v), dtype}; }
};

inline Term operator+(Term a, Term b) { return a.of("Add", {a.value, b.value}); }
inline Term operator-(Term a, Term b) { return a.of("Sub", {a.value, b.value}); }
inline Term operator*(Term a, Term b) { return a.of("Mul", {a.value, b.value}); }
inline Term operator/(Term a, Term b) { return a.of("Div", {a.value, b.value}); }
inline Term operator+(Term a, double b) { return a + a.number(b); }
inline Term operator+(double a, Term b) { return b + a; }
inline Term operator-(Term a, double b) { return a - a.number(b); }
inline Term operator-(double a, Term b) { return b.number(a) - b; }
inline Term operator*(Term a, double b) { return b == 1 ? a : a * a.number(b); }
inline Term operator*(double a, Term b) { return b * a; }
inline Term operator/(Term a, double b) { return a / a.number(b); }
inline Term operator-(Term a) { return a.of("Neg", {a.value}); }
inline Term call(std::string_view op, Term a, Attrs attrs = {}) { return a.of(op, {a.value}, std::move(attrs)); }
inline Term pow(Term a, Term b) { return a.of("Pow", {a.value, b.value}); }
inline Term sqrt(Term a) { return call("Sqrt", a); }
inline Term exp(Term a) { return call("Exp", a); }
/// Conditions are terms as well, of bool.
inline Term compare(std::string_view op, Term a, Term b) { return {a.parts, a.parts->binary(op, a.value, b.value), DType::kBool}; }
inline Term operator>(Term a, Term b) { return compare("Greater", a, b); }
inline Term operator>(Term a, double b) { return a > a.number(b); }
inline Term operator<(Term a, double b) { return compare("Less", a, a.number(b)); }
inline Term operator&&(Term a, Term b) { return compare("And", a, b); }
inline Term where(Term condition, Term a, Term b) { return a.of("Where", {condition.value, a.value, b.value}); }
inline Term where(Term condition, Term a, double b) { return where(condition, a, a.number(b)); }
inline Term where(Term condition, double a, Term b) { return where(condition, b.number(a), b); }

// Shapes ------------------------------------------------------------------------------------------------------------------------------

const Shape& shape_of(const BackwardNode& b, const Value* value);  ///< fails when not even the rank is known
Value* extents(BackwardNode& b, Value* like);                      ///< its shape as int64 of rank 1
Value* reshaped_like(BackwardNode& b, Value* value, Value* like);
Value* sum_over(BackwardNode& b, Value* value, const std::vector<std::int64_t>& axes, bool keep);
/// Undoes a broadcast: `value`, of shape `from`, becomes one of shape `to`.
Value* sum_to(BackwardNode& b, Value* value, const Shape& from, const Shape& to);

/// What a rule works with: the node's inputs and result as terms, and the sums that fit its inputs. The node has one output.
struct Rule {
  BackwardNode& b;
  Term g = term(b.gradients[0]);  ///< of y by the node's result

  explicit Rule(BackwardNode& node) : b(node) {}
  Term term(Value* value) const { return {&b.parts, value, b.node.outputs[0]->dtype()}; }
  Term in(std::size_t i) const { return term(b.node.input(i)); }
  Term result() const { return term(b.node.outputs[0]); }
  bool wants(std::size_t i) const { return i < b.wanted.size() && b.wanted[i]; }
  const Shape& shape(std::size_t i) const { return shape_of(b, b.node.input(i)); }
  const Shape& result_shape() const { return shape_of(b, b.node.outputs[0]); }
  /// `value`, of the result's shape, summed to input i's.
  void give(std::size_t i, Term value) const { b.give(i, sum_to(b, value.value, result_shape(), shape(i))); }
  double attribute(const char* name, double fallback) const { return b.node.attrs.get_float(name, static_cast<float>(fallback)); }
};

/// The rules by name: elementwise ops; and those that multiply, move and reduce.
GradientRule find_elementwise_rule(const ir::Node& node);
GradientRule find_shape_rule(const ir::Node& node);

}  // namespace lathe::ops
