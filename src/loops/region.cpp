// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The operator table of the region language, the printer and the soundness check. The parser is parse.cpp.
#include "loops/region.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

#include "lathe/status.h"

namespace lathe::loops {
namespace {

struct OpInfo {
  ExprOp op;
  std::string_view name;
  int arity;
  int cost;
  bool boolean;
};

constexpr std::array kOps = {
    OpInfo{ExprOp::kConst, "const", 0, 0, false},
    OpInfo{ExprOp::kAxis, "axis", 0, 0, false},
    OpInfo{ExprOp::kDim, "dim", 0, 0, false},
    OpInfo{ExprOp::kLoad, "load", 0, 2, false},
    OpInfo{ExprOp::kLoadOr, "load_or", 0, 3, false},
    OpInfo{ExprOp::kNeg, "neg", 1, 1, false},
    OpInfo{ExprOp::kAbs, "abs", 1, 1, false},
    OpInfo{ExprOp::kSign, "sign", 1, 2, false},
    OpInfo{ExprOp::kFloor, "floor", 1, 1, false},
    OpInfo{ExprOp::kCeil, "ceil", 1, 1, false},
    OpInfo{ExprOp::kRound, "round", 1, 1, false},
    OpInfo{ExprOp::kSqrt, "sqrt", 1, 4, false},
    OpInfo{ExprOp::kRsqrt, "rsqrt", 1, 6, false},
    OpInfo{ExprOp::kReciprocal, "reciprocal", 1, 4, false},
    OpInfo{ExprOp::kExp, "exp", 1, 10, false},
    OpInfo{ExprOp::kLog, "log", 1, 14, false},
    OpInfo{ExprOp::kSin, "sin", 1, 14, false},
    OpInfo{ExprOp::kCos, "cos", 1, 14, false},
    OpInfo{ExprOp::kTan, "tan", 1, 24, false},
    OpInfo{ExprOp::kAsin, "asin", 1, 16, false},
    OpInfo{ExprOp::kAcos, "acos", 1, 16, false},
    OpInfo{ExprOp::kAtan, "atan", 1, 16, false},
    OpInfo{ExprOp::kSinh, "sinh", 1, 18, false},
    OpInfo{ExprOp::kCosh, "cosh", 1, 18, false},
    OpInfo{ExprOp::kTanh, "tanh", 1, 14, false},
    OpInfo{ExprOp::kAsinh, "asinh", 1, 20, false},
    OpInfo{ExprOp::kAcosh, "acosh", 1, 20, false},
    OpInfo{ExprOp::kAtanh, "atanh", 1, 20, false},
    OpInfo{ExprOp::kErf, "erf", 1, 16, false},
    OpInfo{ExprOp::kSigmoid, "sigmoid", 1, 14, false},
    OpInfo{ExprOp::kNot, "not", 1, 1, true},
    OpInfo{ExprOp::kBitNot, "bitnot", 1, 1, false},
    OpInfo{ExprOp::kIsNan, "isnan", 1, 1, true},
    OpInfo{ExprOp::kIsInf, "isinf", 1, 1, true},
    OpInfo{ExprOp::kCast, "cast", 1, 1, false},
    OpInfo{ExprOp::kAdd, "add", 2, 1, false},
    OpInfo{ExprOp::kSub, "sub", 2, 1, false},
    OpInfo{ExprOp::kMul, "mul", 2, 1, false},
    OpInfo{ExprOp::kDiv, "div", 2, 4, false},
    OpInfo{ExprOp::kFloorDiv, "floordiv", 2, 6, false},
    OpInfo{ExprOp::kMod, "mod", 2, 8, false},
    OpInfo{ExprOp::kFmod, "fmod", 2, 10, false},
    OpInfo{ExprOp::kPow, "pow", 2, 24, false},
    OpInfo{ExprOp::kMin, "min", 2, 1, false},
    OpInfo{ExprOp::kMax, "max", 2, 1, false},
    OpInfo{ExprOp::kAnd, "and", 2, 1, true},
    OpInfo{ExprOp::kOr, "or", 2, 1, true},
    OpInfo{ExprOp::kXor, "xor", 2, 1, true},
    OpInfo{ExprOp::kBitAnd, "bitand", 2, 1, false},
    OpInfo{ExprOp::kBitOr, "bitor", 2, 1, false},
    OpInfo{ExprOp::kBitXor, "bitxor", 2, 1, false},
    OpInfo{ExprOp::kShiftLeft, "shl", 2, 1, false},
    OpInfo{ExprOp::kShiftRight, "shr", 2, 1, false},
    OpInfo{ExprOp::kLess, "less", 2, 1, true},
    OpInfo{ExprOp::kLessEqual, "lessequal", 2, 1, true},
    OpInfo{ExprOp::kGreater, "greater", 2, 1, true},
    OpInfo{ExprOp::kGreaterEqual, "greaterequal", 2, 1, true},
    OpInfo{ExprOp::kEqual, "equal", 2, 1, true},
    OpInfo{ExprOp::kNotEqual, "notequal", 2, 1, true},
    OpInfo{ExprOp::kSelect, "select", 3, 1, false},
};
static_assert(kOps.size() == static_cast<std::size_t>(ExprOp::kSelect) + 1, "one row per operator");

constexpr bool in_order() {
  for (std::size_t i = 0; i < kOps.size(); ++i) {
    if (kOps[i].op != static_cast<ExprOp>(i)) return false;
  }
  return true;
}
static_assert(in_order(), "rows follow the enumeration");

const OpInfo& info(ExprOp op) { return kOps[static_cast<std::size_t>(op)]; }

constexpr std::array<std::string_view, 11> kReduceNames = {"none", "sum", "max", "min", "prod", "all", "any", "argmax", "argmin", "argmax_last", "argmin_last"};

/// Writes expressions as nested calls; those used more than once get a %number before the first stage that needs them.
class Printer {
 public:
  Printer(const LoopRegion& region, bool compact) : region_(region), compact_(compact), uses_(region.exprs.size(), 0), number_(region.exprs.size(), -1) {}

  std::string print() {
    std::vector<ExprId> roots;
    for (const Stage& stage : region_.stages) {
      roots.push_back(stage.value);
      roots.insert(roots.end(), stage.store_index.begin(), stage.store_index.end());
    }
    const std::vector<ExprId> order = reachable(region_, roots);
    for (const ExprId e : order) {
      for (const ExprId a : region_.exprs[e].args) ++uses_[a];
    }
    for (const ExprId e : roots) ++uses_[e];
    const std::string_view indent = compact_ ? "" : "  ";
    std::string text = "region {\n";
    for (std::size_t b = 0; b < region_.buffers.size(); ++b) {
      const Buffer& buffer = region_.buffers[b];
      const std::string_view role = buffer.role == Role::kInput ? "input" : buffer.role == Role::kOutput ? "output" : "temp";
      text += fmt::format("{}${} {} \"{}\": {}{}\n", indent, b, role, escape(buffer.name), dtype_name(buffer.dtype), ir::to_string(buffer.shape));
    }
    for (const Requirement& r : region_.requirements)
      text += fmt::format("{}require \"{}\": {} = {};\n", indent, escape(r.tensor), r.extent.to_string(), r.target.to_string());
    for (const ExprId e : order) {
      const Expr& expr = region_.exprs[e];
      if (uses_[e] < 2 || is_leaf(expr)) continue;
      std::string body = expression(e);
      number_[e] = next_++;
      text += fmt::format("{}%{} = {}\n", indent, number_[e], body);
    }
    for (const Stage& stage : region_.stages) {
      std::string axes;
      for (std::size_t i = 0; i < stage.axes.size(); ++i) {
        axes += fmt::format("{}{}{}", i ? ", " : "", stage.axes[i].extent.to_string(), stage.axes[i].reduction ? " reduce" : "");
      }
      const std::string value = reference(stage.value);
      const std::string source = stage.source.empty() ? "" : fmt::format(" \"{}\"", escape(stage.source));
      text += fmt::format("{}stage{} ({}) ${}[{}] = ", indent, source, axes, stage.target, list(stage.store_index));
      text += stage.reduce == Reduce::kNone ? value : fmt::format("{}<{}> {}", reduce_name(stage.reduce), dtype_name(stage.accumulate), value);
      text += '\n';
    }
    return text + "}\n";
  }

 private:
  static bool is_leaf(const Expr& e) { return e.op == ExprOp::kConst || e.op == ExprOp::kAxis || e.op == ExprOp::kDim; }

  static std::string escape(const std::string& name) {
    std::string out;
    for (const char c : name) {
      if (c == '"' || c == '\\') out += '\\';
      out += c == '\n' ? ' ' : c;
    }
    return out;
  }

  std::string list(std::span<const ExprId> ids) {
    std::string out;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (i) out += ", ";
      out += reference(ids[i]);
    }
    return out;
  }

  std::string reference(ExprId e) { return number_[e] >= 0 ? fmt::format("%{}", number_[e]) : expression(e); }

  std::string expression(ExprId id) {
    const Expr& e = region_.exprs[id];
    switch (e.op) {
      case ExprOp::kConst:
        if (e.type == DType::kInt64) return fmt::format("{}", e.integer);
        if (!is_float(e.type)) return fmt::format("{}({})", dtype_name(e.type), e.integer);
        return fmt::format("{}({})", dtype_name(e.type), std::isnan(e.number) ? std::string("nan") : fmt::format("{}", e.number));
      case ExprOp::kAxis: return fmt::format("i{}", e.index);
      case ExprOp::kDim: return fmt::format("dim({})", e.dim.to_string());
      case ExprOp::kLoad:
      case ExprOp::kLoadOr: {
        const bool guarded = e.op == ExprOp::kLoadOr;
        const std::span<const ExprId> args = e.args;
        std::string text = fmt::format("${}[{}", e.index, list(args.first(args.size() - (guarded ? 1 : 0))));
        if (guarded) text += fmt::format(" | {}", reference(args.back()));
        text += ']';
        if (e.type != region_.buffers[e.index].dtype) text += fmt::format(":{}", dtype_name(e.type));
        return text;
      }
      case ExprOp::kCast: return fmt::format("cast<{}>({})", dtype_name(e.type), list(e.args));
      default: return fmt::format("{}({})", op_name(e.op), list(e.args));
    }
  }

  const LoopRegion& region_;
  bool compact_;
  std::vector<int> uses_, number_;
  int next_ = 0;
};

void check_expr(const LoopRegion& region, ExprId id, std::vector<std::string>& defects) {
  const Expr& e = region.exprs[id];
  auto bad = [&](std::string what) { defects.push_back(fmt::format("expression {} ({}): {}", id, op_name(e.op), what)); };
  for (const ExprId a : e.args) {
    if (a < 0 || a >= id) return bad("an argument does not come before it");
  }
  auto arg_type = [&](std::size_t i) { return region.exprs[e.args[i]].type; };
  if (e.op == ExprOp::kLoad || e.op == ExprOp::kLoadOr) {
    if (e.index < 0 || e.index >= static_cast<int>(region.buffers.size())) return bad("no such buffer");
    const Buffer& buffer = region.buffers[e.index];
    const std::size_t rank = buffer.shape.size();
    if (e.args.size() != rank + (e.op == ExprOp::kLoadOr ? 1 : 0)) return bad("index count differs from the buffer's rank");
    for (std::size_t i = 0; i < rank; ++i) {
      if (arg_type(i) != DType::kInt64) bad("an index is not int64");
    }
    if (e.op == ExprOp::kLoadOr && arg_type(rank) != e.type) bad("the fallback has another type");
    const bool widened = buffer.role == Role::kTemporary && buffer.dtype == DType::kFloat32 && is_float(e.type);
    if (e.type != buffer.dtype && !widened) bad("its type is not the buffer's");
    return;
  }
  if (static_cast<int>(e.args.size()) != op_arity(e.op)) return bad("wrong number of arguments");
  if (e.op == ExprOp::kAxis && e.index < 0) bad("negative axis");
  if ((e.op == ExprOp::kAxis || e.op == ExprOp::kDim) && e.type != DType::kInt64) bad("not int64");
  if (op_arity(e.op) == 2 && arg_type(0) != arg_type(1)) {
    bad(fmt::format("operands of types {} and {}", dtype_name(arg_type(0)), dtype_name(arg_type(1))));
  }
  if (e.op == ExprOp::kSelect && (arg_type(0) != DType::kBool || arg_type(1) != arg_type(2) || e.type != arg_type(1))) bad("types do not fit");
  if (op_arity(e.op) >= 1 && op_arity(e.op) <= 2 && e.op != ExprOp::kCast) {
    if (e.type != (gives_bool(e.op) ? DType::kBool : arg_type(0))) bad("wrong result type");
  }
}

}  // namespace

std::string_view op_name(ExprOp op) noexcept { return info(op).name; }
int op_arity(ExprOp op) noexcept { return info(op).arity; }
int op_cost(ExprOp op) noexcept { return info(op).cost; }
bool gives_bool(ExprOp op) noexcept { return info(op).boolean; }
std::string_view reduce_name(Reduce reduce) noexcept { return kReduceNames[static_cast<std::size_t>(reduce)]; }

std::optional<ExprOp> find_expr_op(std::string_view name) noexcept {
  const auto row = std::find_if(kOps.begin(), kOps.end(), [&](const OpInfo& o) { return o.name == name; });
  if (row == kOps.end()) return std::nullopt;
  return row->op;
}

std::string LoopRegion::to_string() const { return Printer(*this, false).print(); }
std::string LoopRegion::serialize() const { return Printer(*this, true).print(); }

std::vector<ExprId> reachable(const LoopRegion& region, std::span<const ExprId> roots) {
  std::vector<bool> wanted(region.exprs.size(), false);
  ExprId top = -1;
  for (const ExprId r : roots) {
    wanted[r] = true;
    top = std::max(top, r);
  }
  for (ExprId e = top; e >= 0; --e) {  // arguments come before users, so one downward sweep suffices
    if (!wanted[e]) continue;
    for (const ExprId a : region.exprs[e].args) wanted[a] = true;
  }
  std::vector<ExprId> order;
  for (ExprId e = 0; e <= top; ++e) {
    if (wanted[e]) order.push_back(e);
  }
  return order;
}

std::vector<std::string> find_defects(const LoopRegion& region) {
  std::vector<std::string> defects;
  for (ExprId e = 0; e < static_cast<ExprId>(region.exprs.size()); ++e) check_expr(region, e, defects);
  if (!defects.empty()) return defects;  // ids may be bad: the rest relies on them
  std::vector<bool> written(region.buffers.size(), false);
  for (std::size_t b = 0; b < region.buffers.size(); ++b) {
    written[b] = region.buffers[b].role == Role::kInput;
    if (b && region.buffers[b].role < region.buffers[b - 1].role) defects.push_back("buffers are not ordered inputs, outputs, temporaries");
  }
  const auto count = static_cast<ExprId>(region.exprs.size());
  for (std::size_t s = 0; s < region.stages.size(); ++s) {
    const Stage& stage = region.stages[s];
    auto bad = [&](std::string what) { defects.push_back(fmt::format("stage {}: {}", s, what)); };
    if (stage.value < 0 || stage.value >= count) {
      bad("no such value");
      continue;
    }
    if (stage.target < 0 || stage.target >= static_cast<int>(region.buffers.size()) || region.buffers[stage.target].role == Role::kInput) {
      bad("its target is no output or temporary");
      continue;
    }
    if (stage.store_index.size() != region.buffers[stage.target].shape.size()) bad("store index count differs from the target's rank");
    const bool reduces = std::any_of(stage.axes.begin(), stage.axes.end(), [](const Axis& a) { return a.reduction; });
    if (reduces && stage.reduce == Reduce::kNone) bad("reduction axes without a reduction");
    if (std::any_of(stage.store_index.begin(), stage.store_index.end(),
                    [&](ExprId e) { return e < 0 || e >= count || region.exprs[e].type != DType::kInt64; })) {
      bad("a store index is missing or not int64");
      continue;
    }
    for (const ExprId e : reachable(region, stage.store_index)) {
      if (region.exprs[e].op == ExprOp::kAxis && region.exprs[e].index < static_cast<int>(stage.axes.size()) && stage.axes[region.exprs[e].index].reduction) {
        bad("a store index depends on a reduction axis");
      }
    }
    std::vector<ExprId> roots = stage.store_index;
    roots.push_back(stage.value);
    for (const ExprId e : reachable(region, roots)) {
      const Expr& expr = region.exprs[e];
      if (expr.op == ExprOp::kAxis && expr.index >= static_cast<int>(stage.axes.size())) bad("uses an axis that it lacks");
      if ((expr.op == ExprOp::kLoad || expr.op == ExprOp::kLoadOr) && !written[expr.index]) {
        bad(fmt::format("reads ${} before any stage writes it", expr.index));
      }
    }
    written[stage.target] = true;
  }
  return defects;
}

void check_requirements(const LoopRegion& region, const ir::Bindings& symbols) {
  for (const Requirement& r : region.requirements) {
    const auto extent = r.extent.evaluate(symbols), target = r.target.evaluate(symbols);
    if (!extent || !target) throw Error(Code::kCorruptFile, fmt::format("a requirement of '{}' has an unbound symbol", r.tensor));
    if (*extent == *target || *extent == 1) continue;
    throw Error(Code::kInvalidArgument,
                fmt::format("the extent {} = {} does not broadcast to {} = {}", r.extent.to_string(), *extent, r.target.to_string(), *target))
        .at_tensor(r.tensor)
        .with_remedy("Give inputs whose extents agree; a number on one side is a limit of the model.");
  }
}

}  // namespace lathe::loops
