// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Shape rule of a row: NumPy broadcasting over symbolic extents, and value propagation by evaluating the row's expression over the
// known elements of small integer tensors.
#include <algorithm>

#include <fmt/format.h>

#include "loops/scalar.h"
#include "ops/pointwise/row.h"
#include "ops/shape_util.h"

namespace lathe::ops::pointwise {
namespace {

using loops::ExprOp;

constexpr std::int64_t kMaxContent = 64;

/// Back end of eval() over symbolic integers; nullopt = unknown. Real numbers are not propagated.
struct DimBackEnd {
  using Value = std::optional<Dim>;
  const Row& row;
  const Attrs& attrs;
  std::function<const Value*(const std::string&)> input;  ///< nullptr: left out
  InferContext* context = nullptr;

  Value number(double v) {
    const auto whole = static_cast<std::int64_t>(v);
    return static_cast<double>(whole) == v ? Value(Dim(whole)) : std::nullopt;
  }
  bool has(const std::string& name) { return input(name) != nullptr; }
  bool equals(const std::string& attribute, const std::string& literal) {
    const std::string text = attrs.find(attribute) ? attrs.get_string(attribute, "") : row.attribute_default(attribute);
    return text == literal;
  }
  std::optional<bool> known(const Value& v) {
    if (!v || !v->constant()) return std::nullopt;
    return *v->constant() != 0;
  }
  Value name(const std::string& name) {
    if (const Value* v = input(name)) return *v;
    const ir::Attribute* a = attrs.find(name);
    if (a && std::holds_alternative<std::int64_t>(a->value)) return Dim(std::get<std::int64_t>(a->value));
    if (a && std::holds_alternative<float>(a->value)) return number(std::get<float>(a->value));
    if (name == "inf" || name == "nan" || name == "lowest" || name == "highest") return std::nullopt;
    return number(std::stod(row.attribute_default(name)));
  }
  Value unary(ExprOp op, const Value& a) {
    if (!a) return std::nullopt;
    if (op == ExprOp::kNeg) return Dim(0) - *a;
    if (op == ExprOp::kFloor || op == ExprOp::kCeil || op == ExprOp::kRound) return a;
    if (op == ExprOp::kAbs && at_least(*a, 0)) return a;
    if (op == ExprOp::kSign && at_least(*a, 1)) return Dim(1);
    const bool exact = op == ExprOp::kAbs || op == ExprOp::kSign || op == ExprOp::kNot || op == ExprOp::kBitNot;
    if (!exact || !a->constant()) return std::nullopt;
    return Dim(loops::apply_unary(op, DType::kInt64, loops::Scalar::of(*a->constant())).whole);
  }
  Value binary(ExprOp op, const Value& a, const Value& b) {
    if (!a || !b) return std::nullopt;
    const bool divides = op == ExprOp::kDiv || op == ExprOp::kMod || op == ExprOp::kFmod;
    if (divides && b->constant() == 0) return std::nullopt;
    if (a->constant() && b->constant())
      return Dim(loops::apply_binary(op, DType::kInt64, loops::Scalar::of(*a->constant()), loops::Scalar::of(*b->constant())).whole);
    switch (op) {
      case ExprOp::kAdd: return *a + *b;
      case ExprOp::kSub: return *a - *b;
      case ExprOp::kMul: return *a * *b;
      case ExprOp::kMin: return Dim::min(*a, *b);
      case ExprOp::kMax: return Dim::max(*a, *b);
      case ExprOp::kMod: return Dim::mod(*a, *b);
      case ExprOp::kDiv: {
        if (const auto exact = Dim::exact_div(*a, *b)) return *exact;
        // Truncation equals the floor only where neither side is negative.
        if (at_least(*a, 0) && at_least(*b, 1)) return Dim::floordiv(*a, *b);
        return std::nullopt;
      }
      case ExprOp::kFmod:
        if (at_least(*a, 0) && at_least(*b, 1)) return Dim::mod(*a, *b);
        return std::nullopt;
      case ExprOp::kEqual:
      case ExprOp::kNotEqual: {
        if (*a == *b) return Dim(op == ExprOp::kEqual);
        const Dim difference = *a - *b;
        const bool differs = at_least(difference, 1) || at_least(Dim(0) - difference, 1);
        return differs ? Value(Dim(op == ExprOp::kNotEqual)) : std::nullopt;
      }
      case ExprOp::kGreaterEqual: return compare(*a, *b, 0);
      case ExprOp::kGreater: return compare(*a, *b, 1);
      case ExprOp::kLessEqual: return compare(*b, *a, 0);
      case ExprOp::kLess: return compare(*b, *a, 1);
      case ExprOp::kAnd:
        if (a->constant() == 0 || b->constant() == 0) return Dim(0);
        return std::nullopt;
      case ExprOp::kOr:
        if (a->constant().value_or(0) != 0 || b->constant().value_or(0) != 0) return Dim(1);
        return std::nullopt;
      default: return std::nullopt;
    }
  }
  Value select(const Value&, const Value& a, const Value& b) { return a && b && *a == *b ? a : std::nullopt; }

 private:
  bool at_least(const Dim& a, std::int64_t limit) const {
    const auto bound = context->is_extent(a) ? a.lower_bound_of_extents() : a.lower_bound();
    return bound && *bound >= limit;
  }
  /// a - b >= margin, or its negation, when the bounds tell.
  Value compare(const Dim& a, const Dim& b, std::int64_t margin) const {
    if (at_least(a - b, margin)) return Dim(1);
    if (at_least(b - a, 1 - margin)) return Dim(0);
    return std::nullopt;
  }
};

bool is_unknown_symbol(const Dim& d) { return d.is_symbol() && d.to_string().starts_with("?"); }

/// Position in a tensor of shape `own` that broadcasting pairs with element `flat` of `out`.
std::size_t paired(std::size_t flat, const Dims& out, const Dims& own) {
  std::size_t at = 0, stride = 1;
  for (std::size_t d = out.size(), k = own.size(); d-- > 0;) {
    const std::size_t index = flat % static_cast<std::size_t>(out[d]);
    flat /= static_cast<std::size_t>(out[d]);
    if (k == 0) continue;
    --k;
    if (own[k] != 1) at += index * stride;
    stride *= static_cast<std::size_t>(own[k]);
  }
  return at;
}

void propagate(InferContext& context, const Row& row, const Shape& out, DType result) {
  if (is_float(result) || result == DType::kString) return;
  const auto out_dims = ir::constant_dims(out);
  if (!out_dims || ir::product(out).constant().value_or(kMaxContent + 1) > kMaxContent) return;
  const std::size_t count = static_cast<std::size_t>(*ir::product(out).constant());
  struct Operand {
    bool present = false;
    Dims dims;
    std::optional<std::vector<Dim>> content;
  };
  std::vector<Operand> operands(context.input_count());
  bool any = false;
  for (std::size_t i = 0; i < operands.size(); ++i) {
    if (!context.has_input(i)) continue;
    if (is_float(context.dtype(i)) || context.dtype(i) == DType::kString) return;
    operands[i].present = true;
    operands[i].dims = *ir::constant_dims(*context.shape(i));
    operands[i].content = context.content(i);
    if (operands[i].content) any = true;
  }
  if (!any) return;
  DimBackEnd back_end{row, context.attrs(), {}, &context};
  std::vector<Dim> content;
  bool some_known = false;
  for (std::size_t e = 0; e < count; ++e) {
    std::vector<std::optional<Dim>> elements(operands.size());
    for (std::size_t i = 0; i < operands.size(); ++i) {
      if (!operands[i].content) continue;
      const Dim& d = (*operands[i].content)[paired(e, *out_dims, operands[i].dims)];
      elements[i] = d;
    }
    std::optional<Dim> value, next;
    if (!row.variadic) {
      back_end.input = [&](const std::string& name) -> const std::optional<Dim>* {
        for (std::size_t i = 0; i < row.inputs.size() && i < operands.size(); ++i) {
          if (row.inputs[i] == name && operands[i].present) return &elements[i];
        }
        return nullptr;
      };
      value = eval(row.ast, row.ast.root, back_end);
    } else {
      value = elements[0];
      back_end.input = [&](const std::string& name) -> const std::optional<Dim>* { return name == "a" ? &value : name == "b" ? &next : nullptr; };
      for (std::size_t i = 1; i < elements.size(); ++i) {
        next = elements[i];
        value = eval(row.ast, row.ast.root, back_end);
      }
    }
    if (value && value->constant()) value = Dim(loops::wrap_integer(*value->constant(), result));
    some_known |= value && !is_unknown_symbol(*value);
    content.push_back(value ? *value : context.fresh_symbol());
  }
  if (some_known) context.set_content(0, std::move(content));
}

}  // namespace

bool broadcast(const Shape& a, const Shape& b, Shape& out, const std::function<Dim()>& unknown) {
  const std::size_t rank = std::max(a.size(), b.size());
  Shape result(rank);
  for (std::size_t d = 0; d < rank; ++d) {
    const Dim one = 1;
    const Dim& x = d + a.size() >= rank ? a[d + a.size() - rank] : one;
    const Dim& y = d + b.size() >= rank ? b[d + b.size() - rank] : one;
    const auto common = broadcast_extent(x, y, unknown);
    if (!common) return false;
    result[d] = *common;
  }
  out = std::move(result);
  return true;
}

void infer_row(InferContext& context) {
  const Row& row = row_of(context.node().op);
  if (context.input_count() == 0) context.fail("it has no input");
  const std::size_t decides = row.type_input();
  // An input of unknown type (behind an op that nobody has defined) contradicts nothing; the others then tell.
  DType decided = context.dtype(decides);
  Shape out;
  bool known = true;
  for (std::size_t i = 0; i < context.input_count(); ++i) {
    if (!context.has_input(i)) continue;
    const bool same_type = !(row.name == "Pow" && i == 1) && !(decides == 1 && i == 0);
    if (same_type && decided == DType::kUndefined) decided = context.dtype(i);
    if (same_type && context.dtype(i) != decided && context.dtype(i) != DType::kUndefined) {
      context.fail(fmt::format("its inputs have types {} and {}; they must be the same", dtype_name(decided), dtype_name(context.dtype(i))));
    }
    if (row.name == "Clip" && i > 0) continue;  // scalars; some exporters write shape [1]
    if (!context.shape(i)) {
      known = false;
      continue;
    }
    Shape next;
    if (!broadcast(out, *context.shape(i), next, [&] { return context.fresh_symbol(); })) {
      context.fail(fmt::format("shapes {} and {} of its inputs cannot be broadcast together", ir::to_string(out), ir::to_string(*context.shape(i))));
    }
    out = std::move(next);
  }
  const DType result = row.gives_bool ? DType::kBool : decided;
  if (!known) return context.set_unknown(0, result);
  context.set(0, result, out);
  bool shapes_constant = true;
  for (std::size_t i = 0; i < context.input_count(); ++i) {
    shapes_constant &= !context.has_input(i) || (context.shape(i) && ir::constant_dims(*context.shape(i)));
  }
  if (shapes_constant) propagate(context, row, out, result);
}

}  // namespace lathe::ops::pointwise
