// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The back end of eval() that builds region expressions. `Pool` is loops::RegionBuilder (lowering) or loops::ExprPool (reference).
// Literals and attributes take the type of what they meet; a fraction that meets an integer lifts both to double, as Pow and Shrink need.

#include <cmath>
#include <functional>
#include <limits>

#include "ir/attribute.h"
#include "lathe/status.h"
#include "loops/scalar.h"
#include "ops/pointwise/row.h"

namespace lathe::ops::pointwise {

template <class Pool>
class ExprBackEnd {
 public:
  struct Value {
    loops::ExprId id = -1;
    bool literal = false;
    double number = 0;
  };

  Pool& pool;
  const Row& row;
  const ir::Attrs& attrs;
  DType type;                                                             ///< T
  std::function<std::optional<loops::ExprId>(const std::string&)> input;  ///< nullopt: no such input, or left out

  Value number(double v) { return {-1, true, v}; }
  bool has(const std::string& name) { return input(name).has_value(); }
  bool equals(const std::string& attribute, const std::string& literal) {
    return (attrs.has(attribute) ? attrs.get_string(attribute, "") : row.attribute_default(attribute)) == literal;
  }
  std::optional<bool> known(const Value& v) { return v.literal ? std::optional<bool>(v.number != 0) : std::nullopt; }

  Value name(const std::string& name) {
    if (const auto id = input(name)) return {*id, false, 0};
    if (name == "inf") return number(std::numeric_limits<double>::infinity());
    if (name == "nan") return number(std::numeric_limits<double>::quiet_NaN());
    if (name == "lowest" || name == "highest") {
      const loops::Scalar end = loops::reduce_identity(name == "lowest" ? loops::Reduce::kMax : loops::Reduce::kMin, type);
      return {is_float(type) ? pool.constant(end.real, type) : integer(end.whole, type), false, 0};
    }
    const ir::Attribute* attribute = attrs.find(name);
    if (!attribute) return number(std::stod(row.attribute_default(name)));
    if (const auto* f = std::get_if<float>(&attribute->value)) return number(*f);
    if (const auto* i = std::get_if<std::int64_t>(&attribute->value)) return number(static_cast<double>(*i));
    throw Error(Code::kInvalidModel, "attribute '" + name + "' is no number");
  }

  Value unary(loops::ExprOp op, Value a) {
    if (a.literal) {
      const auto r = loops::apply_unary(op, DType::kFloat64, loops::Scalar::of(a.number));
      return number(loops::gives_bool(op) ? static_cast<double>(r.whole) : r.real);
    }
    return {pool.unary(op, a.id), false, 0};
  }

  Value binary(loops::ExprOp op, Value a, Value b) {
    if (a.literal && b.literal) {
      const auto r = loops::apply_binary(op, DType::kFloat64, loops::Scalar::of(a.number), loops::Scalar::of(b.number));
      return number(loops::gives_bool(op) ? static_cast<double>(r.whole) : r.real);
    }
    if ((op == loops::ExprOp::kAnd || op == loops::ExprOp::kOr) && (a.literal || b.literal)) {
      const bool truth = (a.literal ? a.number : b.number) != 0;
      if (truth == (op == loops::ExprOp::kOr)) return number(truth ? 1 : 0);
      return a.literal ? b : a;
    }
    unify(a, b);
    return {pool.binary(op, a.id, b.id), false, 0};
  }

  Value select(const Value& condition, Value a, Value b) {
    if (a.literal && b.literal) a = {literal(a.number, type), false, 0};
    unify(a, b);
    return {pool.select(condition.id, a.id, b.id), false, 0};
  }

  /// The value as an expression of type `result`.
  loops::ExprId finish(const Value& v, DType result) { return v.literal ? literal(v.number, result) : pool.cast(v.id, result); }

 private:
  DType type_of(loops::ExprId e) {
    if constexpr (requires { pool.type_of(e); }) return pool.type_of(e);
    else return pool.at(e).type;
  }
  loops::ExprId integer(std::int64_t v, DType t) {
    if constexpr (requires { pool.integer(v, t); }) return pool.integer(v, t);
    else return pool.cast(pool.integer(v), t);
  }
  loops::ExprId literal(double v, DType t) { return is_float(t) ? pool.constant(v, t) : integer(static_cast<std::int64_t>(v), t); }

  void unify(Value& a, Value& b) {
    if (a.literal) {
      unify_literal(b, a);
    } else if (b.literal) {
      unify_literal(a, b);
    } else if (type_of(a.id) != type_of(b.id)) {
      const DType x = type_of(a.id), y = type_of(b.id);
      // Pow: the exponent has its own type. A real base keeps its type; integers with a real exponent go through double.
      const DType common = is_float(x) ? x : is_float(y) ? DType::kFloat64 : DType::kInt64;
      a.id = pool.cast(a.id, common);
      b.id = pool.cast(b.id, common);
    }
  }
  void unify_literal(Value& typed, Value& lit) {
    DType t = type_of(typed.id);
    if (!is_float(t) && lit.number != std::floor(lit.number)) {
      t = DType::kFloat64;
      typed.id = pool.cast(typed.id, t);
    }
    lit = {literal(lit.number, t), false, 0};
  }
};

}  // namespace lathe::ops::pointwise
