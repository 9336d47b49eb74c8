// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Every rewrite keeps the value bit for bit in double arithmetic, the sign of zero included, but for div-by-constant powers of two
// (exact anyway) and pow with the exponents 2, 3 and -1 (within the tolerance of pow).
#include "loops/simplify.h"

#include <bit>
#include <cmath>

#include "lathe/status.h"
#include "loops/scalar.h"

namespace lathe::loops {
namespace {

bool commutes(ExprOp op) {
  switch (op) {
    case ExprOp::kAdd:
    case ExprOp::kMul:
    case ExprOp::kMin:
    case ExprOp::kMax:
    case ExprOp::kAnd:
    case ExprOp::kOr:
    case ExprOp::kXor:
    case ExprOp::kBitAnd:
    case ExprOp::kBitOr:
    case ExprOp::kBitXor:
    case ExprOp::kEqual:
    case ExprOp::kNotEqual: return true;
    default: return false;
  }
}

std::uint64_t mix(std::uint64_t h, std::uint64_t v) {
  h ^= v + 0x9e3779b97f4a7c15ull + (h << 6) + (h >> 2);
  return h * 0xff51afd7ed558ccdull;
}

std::uint64_t hash_of(const Expr& e) {
  std::uint64_t h = mix(static_cast<std::uint64_t>(e.op), static_cast<std::uint64_t>(e.type));
  for (const ExprId a : e.args) h = mix(h, static_cast<std::uint64_t>(a));
  h = mix(h, static_cast<std::uint64_t>(e.index));
  h = mix(h, std::bit_cast<std::uint64_t>(e.number));
  h = mix(h, static_cast<std::uint64_t>(e.integer));
  return e.op == ExprOp::kDim ? mix(h, e.dim.hash()) : h;
}

bool same(const Expr& a, const Expr& b) {
  return a.op == b.op && a.type == b.type && a.index == b.index && a.integer == b.integer && a.args == b.args &&
         std::bit_cast<std::uint64_t>(a.number) == std::bit_cast<std::uint64_t>(b.number) && (a.op != ExprOp::kDim || a.dim == b.dim);
}

}  // namespace

ExprId ExprPool::add(Expr expr) {
  const std::uint64_t h = hash_of(expr);
  const auto [first, last] = index_.equal_range(h);
  for (auto it = first; it != last; ++it) {
    if (same(at(it->second), expr)) return it->second;
  }
  exprs_.push_back(std::move(expr));
  const auto id = static_cast<ExprId>(exprs_.size()) - 1;
  index_.emplace(h, id);
  return id;
}

ExprId ExprPool::constant(double value, DType type) {
  Expr e;
  e.type = type;
  if (is_float(type)) {
    e.number = value;
  } else {
    e.integer = cast_scalar(Scalar::of(value), DType::kFloat64, type).whole;
  }
  return add(std::move(e));
}

ExprId ExprPool::integer(std::int64_t value, DType type) {
  Expr e;
  e.type = type;
  e.integer = wrap_integer(value, type);
  return add(std::move(e));
}

ExprId ExprPool::axis(int index) {
  Expr e;
  e.op = ExprOp::kAxis;
  e.type = DType::kInt64;
  e.index = index;
  return add(std::move(e));
}

ExprId ExprPool::dim(const ir::Dim& dim) {
  if (const auto value = dim.constant()) return integer(*value);
  Expr e;
  e.op = ExprOp::kDim;
  e.type = DType::kInt64;
  e.dim = dim;
  return add(std::move(e));
}

ExprId ExprPool::load(int buffer, DType type, std::vector<ExprId> indices, ExprId fallback) {
  Expr e;
  e.op = fallback < 0 ? ExprOp::kLoad : ExprOp::kLoadOr;
  e.type = type;
  e.index = buffer;
  e.args = std::move(indices);
  if (fallback >= 0) e.args.push_back(fallback);
  return add(std::move(e));
}

ExprId ExprPool::fold(ExprOp op, DType operand, ExprId a, ExprId b) {
  const Scalar x{at(a).number, at(a).integer};
  const Scalar result = b < 0 ? apply_unary(op, operand, x) : apply_binary(op, operand, x, Scalar{at(b).number, at(b).integer});
  const DType type = gives_bool(op) ? DType::kBool : operand;
  return is_float(type) ? constant(result.real, type) : integer(result.whole, type);
}

ExprId ExprPool::unary(ExprOp op, ExprId a) {
  const Expr arg = at(a);
  if (is_const(a)) return fold(op, arg.type, a, -1);
  if (op == ExprOp::kNeg && arg.op == ExprOp::kNeg) return arg.args[0];
  if (op == ExprOp::kNot && arg.op == ExprOp::kNot && arg.type == DType::kBool && at(arg.args[0]).type == DType::kBool) return arg.args[0];
  if (op == ExprOp::kReciprocal && arg.op == ExprOp::kSqrt && is_float(arg.type)) return unary(ExprOp::kRsqrt, arg.args[0]);
  if (!is_float(arg.type)) {
    if (op == ExprOp::kFloor || op == ExprOp::kCeil || op == ExprOp::kRound) return a;
    if (op == ExprOp::kIsNan || op == ExprOp::kIsInf) return integer(0, DType::kBool);
  }
  Expr e;
  e.op = op;
  e.type = gives_bool(op) ? DType::kBool : arg.type;
  e.args = {a};
  return add(std::move(e));
}

ExprId ExprPool::integer_identity(ExprOp op, ExprId a, ExprId b) {
  const Expr left = at(a), right = at(b);
  const auto symbolic = [](const Expr& e) { return e.op == ExprOp::kDim || (e.op == ExprOp::kConst && e.type == DType::kInt64); };
  if (symbolic(left) && symbolic(right)) {
    const ir::Dim x = left.op == ExprOp::kDim ? left.dim : ir::Dim(left.integer), y = right.op == ExprOp::kDim ? right.dim : ir::Dim(right.integer);
    const bool divides = y.constant().value_or(1) != 0;
    switch (op) {
      case ExprOp::kAdd: return dim(x + y);
      case ExprOp::kSub: return dim(x - y);
      case ExprOp::kMul: return dim(x * y);
      case ExprOp::kMin: return dim(ir::Dim::min(x, y));
      case ExprOp::kMax: return dim(ir::Dim::max(x, y));
      case ExprOp::kFloorDiv:
        if (divides) return dim(ir::Dim::floordiv(x, y));
        break;
      case ExprOp::kMod:
        if (divides) return dim(ir::Dim::mod(x, y));
        break;
      default: break;
    }
  }
  switch (op) {
    case ExprOp::kAdd:
      if (is_integer_value(b, 0)) return a;
      if (is_const(b) && left.op == ExprOp::kAdd && is_const(left.args[1])) return binary(op, left.args[0], binary(op, left.args[1], b));
      break;
    case ExprOp::kSub:
      if (is_integer_value(b, 0)) return a;
      if (a == b) return integer(0, left.type);
      if (is_const(b)) return binary(ExprOp::kAdd, a, integer(static_cast<std::int64_t>(0 - static_cast<std::uint64_t>(right.integer)), right.type));
      if (left.op == ExprOp::kAdd && left.args[0] == b) return left.args[1];
      if (left.op == ExprOp::kAdd && left.args[1] == b) return left.args[0];
      break;
    case ExprOp::kMul:
      if (is_integer_value(b, 1)) return a;
      if (is_integer_value(b, 0)) return b;
      if (is_const(b) && left.op == ExprOp::kMul && is_const(left.args[1])) return binary(op, left.args[0], binary(op, left.args[1], b));
      break;
    case ExprOp::kDiv:
    case ExprOp::kFloorDiv:
      if (is_integer_value(b, 1)) return a;
      if (left.op == ExprOp::kMul && left.args[1] == b && left.type == DType::kInt64 && !is_integer_value(b, 0)) return left.args[0];
      break;
    case ExprOp::kMod:
    case ExprOp::kFmod:
      if (is_integer_value(b, 1)) return integer(0, left.type);
      if (op == ExprOp::kMod && left.op == ExprOp::kMul && left.args[1] == b && left.type == DType::kInt64) return integer(0, left.type);
      break;
    case ExprOp::kShiftLeft:
    case ExprOp::kShiftRight:
      if (is_integer_value(b, 0)) return a;
      break;
    case ExprOp::kMin:
    case ExprOp::kMax:
    case ExprOp::kBitAnd:
    case ExprOp::kBitOr:
      if (a == b) return a;
      break;
    case ExprOp::kAnd:
      if (left.type == DType::kBool && (a == b || is_integer_value(b, 1))) return a;
      if (is_integer_value(b, 0)) return integer(0, DType::kBool);
      break;
    case ExprOp::kOr:
      if (left.type == DType::kBool && (a == b || is_integer_value(b, 0))) return a;
      if (left.type == DType::kBool && is_integer_value(b, 1)) return b;
      break;
    default: break;
  }
  return -1;
}

ExprId ExprPool::real_identity(ExprOp op, ExprId a, ExprId b) {
  switch (op) {
    case ExprOp::kSub:
      if (is_real_value(b, 0) && !std::signbit(at(b).number)) return a;
      break;
    case ExprOp::kMul:
      if (is_real_value(b, 1)) return a;
      break;
    case ExprOp::kDiv: {
      if (is_real_value(b, 1)) return a;
      if (is_real_value(a, 1)) return unary(ExprOp::kReciprocal, b);
      int exponent = 0;
      if (is_const(b) && std::fabs(std::frexp(at(b).number, &exponent)) == 0.5 && std::abs(exponent) < 15) {
        return binary(ExprOp::kMul, a, constant(1.0 / at(b).number, at(b).type));  // a power of two: exact
      }
      break;
    }
    case ExprOp::kMin:
    case ExprOp::kMax:
      if (a == b) return a;
      break;
    case ExprOp::kPow:
      if (is_real_value(b, 1)) return a;
      if (is_real_value(b, 2)) return binary(ExprOp::kMul, a, a);
      if (is_real_value(b, 3)) return binary(ExprOp::kMul, binary(ExprOp::kMul, a, a), a);
      if (is_real_value(b, -1)) return unary(ExprOp::kReciprocal, a);
      break;
    default: break;
  }
  return -1;
}

ExprId ExprPool::binary(ExprOp op, ExprId a, ExprId b) {
  const DType type = at(a).type;
  if (type != at(b).type) {
    throw Error(Code::kInternal, "region expression '" + std::string(op_name(op)) + "' got operands of types " + std::string(dtype_name(type)) + " and " +
                                     std::string(dtype_name(at(b).type)));
  }
  if (is_const(a) && is_const(b)) return fold(op, type, a, b);
  // One order for commutative operands, constants and extents last, so that equal expressions meet.
  if (commutes(op)) {
    const auto rank = [this](ExprId e) { return is_const(e) ? 2 : at(e).op == ExprOp::kDim ? 1 : 0; };
    if (rank(a) > rank(b) || (rank(a) == rank(b) && a > b && !is_float(type))) std::swap(a, b);
  }
  const ExprId simpler = is_float(type) ? real_identity(op, a, b) : integer_identity(op, a, b);
  if (simpler >= 0) return simpler;
  Expr e;
  e.op = op;
  e.type = gives_bool(op) ? DType::kBool : type;
  e.args = {a, b};
  return add(std::move(e));
}

ExprId ExprPool::select(ExprId condition, ExprId a, ExprId b) {
  if (is_const(condition)) return at(condition).integer ? a : b;
  if (a == b) return a;
  if (at(a).type != at(b).type || at(condition).type != DType::kBool) throw Error(Code::kInternal, "region expression 'select' got operands of unlike types");
  Expr e;
  e.op = ExprOp::kSelect;
  e.type = at(a).type;
  e.args = {condition, a, b};
  return add(std::move(e));
}

ExprId ExprPool::cast(ExprId a, DType type) {
  const Expr arg = at(a);
  if (arg.type == type) return a;
  if (is_const(a)) {
    const Scalar result = cast_scalar(Scalar{arg.number, arg.integer}, arg.type, type);
    return is_float(type) ? constant(result.real, type) : integer(result.whole, type);
  }
  Expr e;
  e.op = ExprOp::kCast;
  e.type = type;
  e.args = {a};
  return add(std::move(e));
}

}  // namespace lathe::loops
