// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See expressions.h.

#include "loops/cuda/expressions.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "lathe/status.h"

namespace lathe::loops::cuda {
namespace {

using cpu::Access;
using cpu::Affine;
using cpu::DimIndex;

bool is_double(DType type) { return type == DType::kFloat64; }

/// Widest load of one thread: two accesses of 16 bytes.
constexpr std::size_t kPackBytes = 32;

}  // namespace

std::string compute_type(DType type) {
  switch (type) {
    case DType::kFloat32:
    case DType::kFloat16:
    case DType::kBFloat16: return "float";
    case DType::kFloat64: return "double";
    case DType::kBool: return "bool";
    case DType::kInt8: return "signed char";
    case DType::kUint8: return "unsigned char";
    case DType::kInt16: return "short";
    case DType::kUint16: return "unsigned short";
    case DType::kInt32: return "int";
    case DType::kUint32: return "u32";
    case DType::kInt64: return "i64";
    case DType::kUint64: return "u64";
    default: throw Error(Code::kUnsupported, fmt::format("{} has no CUDA form in fused regions", dtype_name(type)));
  }
}

std::string storage_type(DType type) {
  if (type == DType::kFloat16) return "half_t";
  if (type == DType::kBFloat16) return "bf16_t";
  return compute_type(type);
}

std::string cast_text(const std::string& text, DType from, DType to) {
  if (from == to) return text;
  if (is_float(to)) {
    const std::string real = fmt::format("({}){}", compute_type(to), text);
    if (to == DType::kFloat16) return fmt::format("widen(to_half({}))", real);
    if (to == DType::kBFloat16) return fmt::format("widen(to_bf16({}))", real);
    return real;
  }
  if (to == DType::kBool) return fmt::format("({} != 0)", text);
  if (!is_float(from)) return fmt::format("({}){}", compute_type(to), text);
  if (to == DType::kUint64) return fmt::format("to_u64({})", text);
  return fmt::format("({})to_i64({})", compute_type(to), text);
}

std::string stored_text(const std::string& text, DType from, DType logical, DType stored) {
  if (stored == DType::kFloat16 || stored == DType::kBFloat16) {
    const std::string real = is_float(from) ? text : cast_text(text, from, logical);
    return fmt::format("{}((float){})", stored == DType::kFloat16 ? "to_half" : "to_bf16", real);
  }
  const std::string value = cast_text(text, from, logical);
  return logical == stored ? value : fmt::format("({})({})", storage_type(stored), value);
}

std::string literal(DType type, double real, std::int64_t whole) {
  if (is_double(type)) return fmt::format("double_of(0x{:x}ull)", std::bit_cast<std::uint64_t>(real));
  if (is_float(type)) return fmt::format("float_of(0x{:x}u)", std::bit_cast<std::uint32_t>(static_cast<float>(real)));
  if (type == DType::kBool) return whole != 0 ? "true" : "false";
  return fmt::format("({})(i64)0x{:x}ull", compute_type(type), static_cast<std::uint64_t>(whole));
}

std::string unary_text(ExprOp op, DType type, const std::string& a) {
  const std::string f = is_double(type) ? "" : "f", one = is_double(type) ? "1.0" : "1.0f";
  if (is_float(type)) {
    const auto call = [&](const char* name) { return fmt::format("{}{}({})", name, f, a); };
    switch (op) {
      case ExprOp::kNeg: return fmt::format("(-{})", a);
      case ExprOp::kAbs: return call("fabs");
      case ExprOp::kSign: return fmt::format("sign_of({})", a);
      case ExprOp::kFloor: return call("floor");
      case ExprOp::kCeil: return call("ceil");
      case ExprOp::kRound: return call("rint");
      case ExprOp::kSqrt: return call("sqrt");
      case ExprOp::kRsqrt: return fmt::format("({} / sqrt{}({}))", one, f, a);
      case ExprOp::kReciprocal: return fmt::format("({} / {})", one, a);
      case ExprOp::kExp: return call("exp");
      case ExprOp::kLog: return call("log");
      case ExprOp::kSin: return call("sin");
      case ExprOp::kCos: return call("cos");
      case ExprOp::kTan: return call("tan");
      case ExprOp::kAsin: return call("asin");
      case ExprOp::kAcos: return call("acos");
      case ExprOp::kAtan: return call("atan");
      case ExprOp::kSinh: return call("sinh");
      case ExprOp::kCosh: return call("cosh");
      case ExprOp::kTanh: return call("tanh");
      case ExprOp::kAsinh: return call("asinh");
      case ExprOp::kAcosh: return call("acosh");
      case ExprOp::kAtanh: return call("atanh");
      case ExprOp::kErf: return call("erf");
      case ExprOp::kSigmoid: return fmt::format("sigmoid({})", a);
      case ExprOp::kNot: return fmt::format("({} == 0)", a);
      case ExprOp::kIsNan: return fmt::format("({0} != {0})", a);
      case ExprOp::kIsInf: return fmt::format("(fabs{}({}) == {})", f, a, literal(type, INFINITY, 0));
      default: throw Error(Code::kUnsupported, fmt::format("{} of {}", op_name(op), dtype_name(type)));
    }
  }
  const std::string t = compute_type(type);
  switch (op) {
    case ExprOp::kNeg: return fmt::format("({})(0 - (u64){})", t, a);
    case ExprOp::kAbs: return is_signed_integer(type) ? fmt::format("({0} < 0 ? ({1})(0 - (u64){0}) : {0})", a, t) : a;
    case ExprOp::kSign: return fmt::format("({1})(({0} > 0) - ({0} < 0))", a, t);
    case ExprOp::kFloor:
    case ExprOp::kCeil:
    case ExprOp::kRound: return a;
    case ExprOp::kNot: return fmt::format("({} == 0)", a);
    case ExprOp::kBitNot: return type == DType::kBool ? "true" : fmt::format("({})(~{})", t, a);
    case ExprOp::kIsNan:
    case ExprOp::kIsInf: return "false";
    default: return cast_text(fmt::format("({})", unary_text(op, DType::kFloat64, fmt::format("(double){}", a))), DType::kFloat64, type);
  }
}

std::string binary_text(ExprOp op, DType type, const std::string& a, const std::string& b) {
  const auto infix = [&](const char* sign) { return fmt::format("({} {} {})", a, sign, b); };
  switch (op) {
    case ExprOp::kAnd: return fmt::format("({} != 0 && {} != 0)", a, b);
    case ExprOp::kOr: return fmt::format("({} != 0 || {} != 0)", a, b);
    case ExprOp::kXor: return fmt::format("(({} != 0) != ({} != 0))", a, b);
    case ExprOp::kLess: return infix("<");
    case ExprOp::kLessEqual: return infix("<=");
    case ExprOp::kGreater: return infix(">");
    case ExprOp::kGreaterEqual: return infix(">=");
    case ExprOp::kEqual: return infix("==");
    case ExprOp::kNotEqual: return infix("!=");
    case ExprOp::kMin: return fmt::format("low<{}>({}, {})", compute_type(type), a, b);
    case ExprOp::kMax: return fmt::format("high<{}>({}, {})", compute_type(type), a, b);
    default: break;
  }
  const std::string f = is_double(type) ? "" : "f", t = compute_type(type);
  if (is_float(type)) {
    switch (op) {
      case ExprOp::kAdd: return infix("+");
      case ExprOp::kSub: return infix("-");
      case ExprOp::kMul: return infix("*");
      case ExprOp::kDiv: return infix("/");
      case ExprOp::kFloorDiv: return fmt::format("floor{}({} / {})", f, a, b);
      case ExprOp::kMod: return fmt::format("real_mod({}, {})", a, b);
      case ExprOp::kFmod: return fmt::format("fmod{}({}, {})", f, a, b);
      case ExprOp::kPow: return fmt::format("pow{}({}, {})", f, a, b);
      default: throw Error(Code::kUnsupported, fmt::format("{} of {}", op_name(op), dtype_name(type)));
    }
  }
  const auto wrapped = [&](const char* sign) { return cast_text(fmt::format("((u64){} {} (u64){})", a, sign, b), DType::kUint64, type); };
  const auto call = [&](const char* name) { return fmt::format("{}<{}>({}, {})", name, t, a, b); };
  switch (op) {
    case ExprOp::kAdd: return wrapped("+");
    case ExprOp::kSub: return wrapped("-");
    case ExprOp::kMul: return wrapped("*");
    case ExprOp::kBitAnd: return wrapped("&");
    case ExprOp::kBitOr: return wrapped("|");
    case ExprOp::kBitXor: return wrapped("^");
    case ExprOp::kDiv: return call("whole_div");
    case ExprOp::kFloorDiv: return call("whole_floordiv");
    case ExprOp::kMod: return call("whole_mod");
    case ExprOp::kFmod: return call("whole_fmod");
    case ExprOp::kPow: return call("whole_pow");
    case ExprOp::kShiftLeft: return call("shift_left");
    case ExprOp::kShiftRight: return call("shift_right");
    default: throw Error(Code::kUnsupported, fmt::format("{} of {}", op_name(op), dtype_name(type)));
  }
}

std::string Expressions::affine(const Affine& a) const {
  std::string text;
  for (std::size_t l = 0; l < stage_.nest->loops.size(); ++l) {
    if (a.k[l] == 0) continue;
    const std::string factor = a.k[l] == 1 ? "" : around_.number(a.k[l]) + " * ";
    text += fmt::format("{}{}i{}", text.empty() ? "" : " + ", factor, l);
  }
  if (a.c != 0 || text.empty()) text += fmt::format("{}{}", text.empty() ? "" : " + ", around_.number(a.c));
  return text;
}

std::string Expressions::offset(const Access& access) {
  std::string text = affine(access.offset);
  for (std::size_t d = 0; d < access.dims.size(); ++d) {
    const DimIndex& dim = access.dims[d];
    if (dim.affine) continue;
    std::string index = value(dim.expr);
    // An index that comes from data and is out of range must not leave the buffer.
    if (!dim.in_bounds && access.fallback < 0) {
      const std::string top = around_.number(dim.extent - 1);
      index = fmt::format("({0} < 0 ? (i64)0 : {0} > {1} ? (i64){1} : {0})", index, top);
    }
    const std::int64_t stride = around_.buffers[static_cast<std::size_t>(access.buffer)].strides[d];
    text += fmt::format(" + (idx){} * {}", index, around_.number(stride));
  }
  return text;
}

std::string Expressions::guard(const Access& access) {
  std::string text;
  if (access.fallback < 0) return text;
  for (const DimIndex& dim : access.dims) {
    if (dim.in_bounds) continue;
    const std::string index = dim.affine ? fmt::format("({})", affine(dim.value)) : value(dim.expr);
    text += fmt::format("{}{} >= 0 && {} < {}", text.empty() ? "" : " && ", index, index, around_.number(dim.extent));
  }
  return text;
}

std::string Expressions::load_packs() {
  std::string text;
  if (stage_.vector == 1) return text;
  const auto last = static_cast<std::size_t>(stage_.shared + stage_.kept - 1);
  const std::int64_t v = stage_.vector;
  std::vector<ExprId> ids;
  for (const auto& [id, access] : stage_.nest->loads) ids.push_back(id);
  std::sort(ids.begin(), ids.end());
  for (const ExprId id : ids) {
    const Access& access = stage_.nest->loads.at(id);
    const DType stored = around_.buffers[static_cast<std::size_t>(access.buffer)].dtype;
    const std::size_t bytes = dtype_bytes(stored, v);
    bool fits = access.offset.k[last] == 1 && access.offset.c % v == 0 && bytes <= kPackBytes;
    for (std::size_t l = 0; l < last; ++l) fits = fits && access.offset.k[l] % v == 0;
    for (const DimIndex& dim : access.dims) fits = fits && dim.affine && (dim.in_bounds || dim.value.k[last] == 0);
    if (!fits) continue;
    const std::string name = fmt::format("pack{}", packs_.size()), condition = guard(access);
    const std::string fetch =
        fmt::format("{} = *(const Pack<{}, {}>*)({} + ({}));", name, storage_type(stored), v, around_.pointer(access.buffer), offset(access));
    text +=
        fmt::format("      Pack<{}, {}> {};\n      {}{}\n", storage_type(stored), v, name, condition.empty() ? "" : fmt::format("if ({}) ", condition), fetch);
    packs_[id] = name;
    std::uint32_t& needed = alignment_[access.buffer];
    needed = std::max(needed, static_cast<std::uint32_t>(std::min<std::size_t>(bytes, 16)));
  }
  return text;
}

std::string Expressions::define(DType type, const std::string& text) {
  std::string name = fmt::format("v{}", next_++);
  statements_ += fmt::format("      const {} {} = {};\n", compute_type(type), name, text);
  return name;
}

std::string Expressions::load(ExprId id, const Expr& e) {
  const Access& access = stage_.nest->loads.at(id);
  const DType stored = around_.buffers[static_cast<std::size_t>(access.buffer)].dtype;
  const auto pack = packs_.find(id);
  std::string text = pack != packs_.end() ? fmt::format("{}.v[u]", pack->second) : fmt::format("{}[{}]", around_.pointer(access.buffer), offset(access));
  if (is_float(stored)) text = fmt::format("widen({})", text);
  const DType read = is_float(stored) && stored != DType::kFloat64 ? DType::kFloat32 : stored;
  if (compute_type(read) != compute_type(e.type)) text = cast_text(text, read, e.type);
  const std::string condition = guard(access);
  if (condition.empty()) return text;
  const std::string fallback = value(access.fallback);
  return fmt::format("({}) ? {} : {}", condition, text, fallback);
}

std::string Expressions::value(ExprId id) {
  id = stage_.nest->resolve(id);
  if (const auto known = names_.find(id); known != names_.end()) return known->second;
  const Expr& e = region_.exprs[static_cast<std::size_t>(id)];
  if (const auto truth = stage_.nest->truths.find(id); truth != stage_.nest->truths.end()) return truth->second ? "true" : "false";
  if (e.op == ExprOp::kConst) return literal(e.type, e.number, e.integer);
  std::string text;
  if (const auto known = stage_.nest->affine_values.find(id); known != stage_.nest->affine_values.end()) {
    text = fmt::format("(i64)({})", affine(known->second));
  } else if (e.op == ExprOp::kLoad || e.op == ExprOp::kLoadOr) {
    text = load(id, e);
  } else if (e.op == ExprOp::kSelect) {
    const std::string condition = value(e.args[0]), a = value(e.args[1]), b = value(e.args[2]);
    text = fmt::format("{} ? {} : {}", condition, a, b);
  } else if (e.op == ExprOp::kCast) {
    text = cast_text(value(e.args[0]), region_.exprs[static_cast<std::size_t>(e.args[0])].type, e.type);
  } else if (op_arity(e.op) == 1) {
    text = unary_text(e.op, region_.exprs[static_cast<std::size_t>(e.args[0])].type, value(e.args[0]));
  } else if (op_arity(e.op) == 2) {
    const std::string a = value(e.args[0]), b = value(e.args[1]);
    text = binary_text(e.op, region_.exprs[static_cast<std::size_t>(e.args[0])].type, a, b);
  } else {
    throw Error(Code::kInternal, fmt::format("the index {} is not known at this point", op_name(e.op)));
  }
  return names_[id] = define(e.type, text);
}

}  // namespace lathe::loops::cuda
