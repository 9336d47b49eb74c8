// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#include "loops/cpu/analysis.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/arena.h"
#include "lathe/status.h"

namespace lathe::loops::cpu {
namespace {

constexpr std::int64_t kLow = std::numeric_limits<std::int64_t>::min() / 4, kHigh = std::numeric_limits<std::int64_t>::max() / 4;

/// What is known of an int64 expression.
struct IndexValue {
  bool affine = false;
  Affine a;
  std::int64_t lo = kLow, hi = kHigh;
};

/// Splitting this loop makes a quotient affine.
struct SplitRequest {
  int loop;
  std::int64_t inner;
};

std::int64_t floor_div(std::int64_t a, std::int64_t b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }
std::int64_t saturate(std::int64_t v) { return std::clamp(v, kLow, kHigh); }

class Analyzer {
 public:
  Analyzer(const LoopRegion& region, const Stage& stage, const ir::Bindings& symbols, std::pmr::memory_resource* memory)
      : region_(region), symbols_(symbols), memory_(*memory), out_(memory), axes_(memory), memo_(memory), visited_(memory) {
    out_.loops.reserve(kMaxLoops);
    axes_.reserve(stage.axes.size());
    out_.stage = &stage;
    for (const Axis& axis : stage.axes) {
      const std::int64_t extent = number(axis.extent);
      Affine of_axis;
      if (extent == 0 && !axis.reduction) out_.empty = true;
      if (extent != 1) {
        if (out_.loops.size() == kMaxLoops) too_many();
        of_axis.k[out_.loops.size()] = 1;
        out_.loops.push_back({extent, axis.reduction});
      }
      axes_.push_back(of_axis);
    }
  }

  StageAnalysis run() {
    if (out_.empty) return std::move(out_);
    for (collect(); split_; collect()) {
      apply(*split_);
      split_.reset();
    }
    std::int64_t step = 1;
    for (std::size_t i = axes_.size(); i-- > 0;) {
      if (!out_.stage->axes[i].reduction) continue;
      for (int l = 0; l < kMaxLoops; ++l) out_.position.k[l] += step * axes_[i].k[l];
      step *= number(out_.stage->axes[i].extent);
    }
    return std::move(out_);
  }

 private:
  [[noreturn]] static void too_many() { throw Error(Code::kUnsupported, fmt::format("a loop nest of more than {} loops", kMaxLoops)); }

  std::int64_t number(const ir::Dim& dim) const {
    const auto value = dim.evaluate(symbols_);
    if (!value) throw Error(Code::kInvalidArgument, fmt::format("the extent {} has an unbound symbol", dim.to_string()));
    return *value;
  }

  void apply(const SplitRequest& split) {
    if (out_.loops.size() == kMaxLoops) too_many();
    const auto fresh = out_.loops.size();
    out_.loops.push_back({split.inner, out_.loops[split.loop].reduction});
    out_.loops[split.loop].extent /= split.inner;
    for (Affine& a : axes_) {
      a.k[fresh] = a.k[split.loop];
      a.k[split.loop] *= split.inner;
    }
  }

  IndexValue ranged(Affine a) const {
    IndexValue v;
    v.affine = true;
    v.a = a;
    v.lo = v.hi = a.c;
    for (std::size_t l = 0; l < out_.loops.size(); ++l) {
      const std::int64_t span = a.k[l] * std::max<std::int64_t>(out_.loops[l].extent - 1, 0);
      (span < 0 ? v.lo : v.hi) += span;
    }
    return v;
  }
  static IndexValue opaque(std::int64_t lo, std::int64_t hi) {
    IndexValue v;
    v.lo = saturate(lo);
    v.hi = saturate(hi);
    return v;
  }

  const IndexValue& value(ExprId e) {
    const auto [it, fresh] = memo_.try_emplace(e);
    if (fresh) {
      IndexValue v = compute(e);
      return memo_[e] = v;  // compute() may have rehashed
    }
    return it->second;
  }

  /// Quotient (or remainder) by a positive constant.
  IndexValue divide(const IndexValue& x, std::int64_t by, bool remainder) {
    if (!x.affine) {
      if (remainder) return x.lo >= 0 && x.hi < by ? x : opaque(0, by - 1);
      return opaque(floor_div(x.lo, by), floor_div(x.hi, by));
    }
    Affine quotient, rest;
    for (int l = 0; l < kMaxLoops; ++l) (x.a.k[l] % by == 0 ? quotient : rest).k[l] = x.a.k[l] % by == 0 ? x.a.k[l] / by : x.a.k[l];
    quotient.c = floor_div(x.a.c, by);
    rest.c = x.a.c - quotient.c * by;
    const IndexValue range = ranged(rest);
    const std::int64_t first = floor_div(range.lo, by);
    if (first == floor_div(range.hi, by)) {
      quotient.c += first;
      rest.c -= first * by;
      return ranged(remainder ? rest : quotient);
    }
    for (std::size_t l = 0; l < out_.loops.size(); ++l) {
      const std::int64_t k = rest.k[l];
      if (k <= 0 || by % k != 0) continue;
      const std::int64_t inner = by / k;
      if (!split_ && inner > 1 && inner < out_.loops[l].extent && out_.loops[l].extent % inner == 0) split_ = SplitRequest{static_cast<int>(l), inner};
    }
    if (remainder) return opaque(0, by - 1);
    return opaque(floor_div(x.lo, by), floor_div(x.hi, by));
  }

  IndexValue compute(ExprId id) {
    const Expr& e = region_.exprs[id];
    if (e.type != DType::kInt64) return {};
    const auto both = [&](auto combine) {
      const IndexValue a = value(e.args[0]), b = value(e.args[1]);
      return combine(a, b);
    };
    switch (e.op) {
      case ExprOp::kConst: {
        Affine a;
        a.c = e.integer;
        return ranged(a);
      }
      case ExprOp::kDim: {
        Affine a;
        a.c = number(e.dim);
        return ranged(a);
      }
      case ExprOp::kAxis: return ranged(axes_[e.index]);
      case ExprOp::kNeg: {
        const IndexValue a = value(e.args[0]);
        return a.affine ? ranged(scaled(a.a, -1)) : opaque(-a.hi, -a.lo);
      }
      case ExprOp::kAdd:
      case ExprOp::kSub:
        return both([&](const IndexValue& a, const IndexValue& b) {
          const std::int64_t sign = e.op == ExprOp::kAdd ? 1 : -1;
          if (!a.affine || !b.affine) return sign > 0 ? opaque(a.lo + b.lo, a.hi + b.hi) : opaque(a.lo - b.hi, a.hi - b.lo);
          Affine sum = scaled(b.a, sign);
          sum.c += a.a.c;
          for (int l = 0; l < kMaxLoops; ++l) sum.k[l] += a.a.k[l];
          return ranged(sum);
        });
      case ExprOp::kMul:
        return both([&](const IndexValue& a, const IndexValue& b) {
          if (a.affine && b.affine && b.a.is_constant()) return ranged(scaled(a.a, b.a.c));
          if (a.affine && b.affine && a.a.is_constant()) return ranged(scaled(b.a, a.a.c));
          return opaque(kLow, kHigh);
        });
      case ExprOp::kFloorDiv:
      case ExprOp::kMod:
      case ExprOp::kDiv:
      case ExprOp::kFmod:
        return both([&](const IndexValue& a, const IndexValue& b) {
          const bool remainder = e.op == ExprOp::kMod || e.op == ExprOp::kFmod;
          const bool truncates = e.op == ExprOp::kDiv || e.op == ExprOp::kFmod;
          if (!b.affine || !b.a.is_constant() || b.a.c <= 0 || (truncates && a.lo < 0)) return opaque(kLow, kHigh);
          return divide(a, b.a.c, remainder);
        });
      case ExprOp::kMin:
        return both([&](const IndexValue& a, const IndexValue& b) {
          return a.hi <= b.lo ? a : b.hi <= a.lo ? b : opaque(std::min(a.lo, b.lo), std::min(a.hi, b.hi));
        });
      case ExprOp::kMax:
        return both([&](const IndexValue& a, const IndexValue& b) {
          return a.lo >= b.hi ? a : b.lo >= a.hi ? b : opaque(std::max(a.lo, b.lo), std::max(a.hi, b.hi));
        });
      case ExprOp::kSelect: {
        if (const auto known = truth(e.args[0])) return value(e.args[*known ? 1 : 2]);
        const IndexValue a = value(e.args[1]), b = value(e.args[2]);
        return opaque(std::min(a.lo, b.lo), std::max(a.hi, b.hi));
      }
      case ExprOp::kAbs: {
        const IndexValue a = value(e.args[0]);
        return a.lo >= 0 ? a : opaque(0, std::max(-a.lo, a.hi));
      }
      default: return opaque(kLow, kHigh);
    }
  }

  static Affine scaled(Affine a, std::int64_t by) {
    a.c *= by;
    for (std::int64_t& k : a.k) k *= by;
    return a;
  }

  std::optional<bool> truth(ExprId id) {
    const Expr& e = region_.exprs[id];
    const auto compare = [&](bool strict, ExprId left, ExprId right) -> std::optional<bool> {  // left < right, or <=
      if (region_.exprs[left].type != DType::kInt64) return std::nullopt;
      const IndexValue a = value(left), b = value(right);
      if (strict ? a.hi < b.lo : a.hi <= b.lo) return true;
      if (strict ? a.lo >= b.hi : a.lo > b.hi) return false;
      return std::nullopt;
    };
    switch (e.op) {
      case ExprOp::kConst: return e.type == DType::kBool ? std::optional<bool>(e.integer != 0) : std::nullopt;
      case ExprOp::kLess: return compare(true, e.args[0], e.args[1]);
      case ExprOp::kLessEqual: return compare(false, e.args[0], e.args[1]);
      case ExprOp::kGreater: return compare(true, e.args[1], e.args[0]);
      case ExprOp::kGreaterEqual: return compare(false, e.args[1], e.args[0]);
      case ExprOp::kEqual:
      case ExprOp::kNotEqual: {
        if (region_.exprs[e.args[0]].type != DType::kInt64) return std::nullopt;
        const IndexValue a = value(e.args[0]), b = value(e.args[1]);
        if (a.hi < b.lo || b.hi < a.lo) return e.op == ExprOp::kNotEqual;
        if (a.lo == a.hi && b.lo == b.hi && a.lo == b.lo) return e.op == ExprOp::kEqual;
        return std::nullopt;
      }
      case ExprOp::kNot: {
        const auto a = truth(e.args[0]);
        return a ? std::optional<bool>(!*a) : std::nullopt;
      }
      case ExprOp::kAnd:
      case ExprOp::kOr: {
        if (region_.exprs[e.args[0]].type != DType::kBool) return std::nullopt;
        const bool decides = e.op == ExprOp::kOr;
        const auto a = truth(e.args[0]), b = truth(e.args[1]);
        if ((a && *a == decides) || (b && *b == decides)) return decides;
        if (a && b) return !decides;
        return std::nullopt;
      }
      default: return std::nullopt;
    }
  }

  Access access(BufferId buffer, std::span<const ExprId> indices) {
    Access out;
    out.buffer = buffer;
    out.dims = make_span<DimIndex>(memory_, indices.size());
    const ir::Shape& shape = region_.buffers[buffer].shape;
    for (std::size_t d = 0; d < indices.size(); ++d) {
      const IndexValue v = value(indices[d]);
      DimIndex& dim = out.dims[d];
      dim.expr = indices[d];
      dim.extent = number(shape[d]);
      dim.affine = v.affine;
      dim.in_bounds = v.lo >= 0 && v.hi < dim.extent;
      dim.value = v.a;
    }
    return out;
  }

  /// One walk over the stage. Where it meets a quotient that a split would make affine it notes the split, and its results are void.
  void collect() {
    memo_.clear();
    visited_.assign(region_.exprs.size(), false);
    out_.loads.clear();
    out_.affine_values.clear();
    out_.alias.clear();
    out_.truths.clear();
    out_.store = access(out_.stage->target, out_.stage->store_index);
    const bool no_point = std::any_of(out_.loops.begin(), out_.loops.end(), [](const LoopAxis& l) { return l.extent == 0; });
    if (split_) return;
    for (const DimIndex& d : out_.store.dims) {
      if (!d.affine || (!d.in_bounds && !no_point))
        throw Error(Code::kInvalidArgument,
                    "the extents of this run do not fit each other: a step would write outside of '" + region_.buffers[out_.stage->target].name + "'");
    }
    visit(out_.stage->value, no_point);
  }

  void visit(ExprId id, bool no_point) {
    if (visited_[id] || split_) return;
    visited_[id] = true;
    const Expr& e = region_.exprs[id];
    if (e.type == DType::kInt64 && e.op != ExprOp::kConst) {
      const IndexValue v = value(id);
      if (v.affine) {
        out_.affine_values.emplace(id, v.a);
        return;
      }
    }
    if (e.type == DType::kBool) {
      if (const auto known = truth(id)) {
        out_.truths.emplace(id, *known);
        return;
      }
    }
    if (e.op == ExprOp::kSelect) {
      if (const auto known = truth(e.args[0])) {
        out_.alias.emplace(id, e.args[*known ? 1 : 2]);
        visit(e.args[*known ? 1 : 2], no_point);
        return;
      }
    }
    if (e.op == ExprOp::kLoad || e.op == ExprOp::kLoadOr) {
      const bool guarded = e.op == ExprOp::kLoadOr;
      Access a = access(e.index, std::span(e.args).first(e.args.size() - (guarded ? 1 : 0)));
      if (split_) return;
      bool can_miss = false;
      for (const DimIndex& d : a.dims) {
        can_miss |= !d.in_bounds;
        if (d.affine && !d.in_bounds && !guarded && !no_point)
          throw Error(Code::kInvalidArgument,
                      "the extents of this run do not fit each other: a step would read outside of '" + region_.buffers[e.index].name + "'");
        if (!d.affine) visit(d.expr, no_point);
        if (d.affine && guarded && !d.in_bounds) out_.affine_values.emplace(d.expr, d.value);  // needed if the guard must be computed
      }
      if (guarded && can_miss) {
        a.fallback = e.args.back();
        visit(a.fallback, no_point);
      }
      out_.loads.emplace(id, a);
      return;
    }
    for (const ExprId arg : e.args) visit(arg, no_point);
  }

  const LoopRegion& region_;
  const ir::Bindings& symbols_;
  std::pmr::memory_resource& memory_;
  StageAnalysis out_;
  std::pmr::vector<Affine> axes_;  ///< original axes over the loops
  std::pmr::unordered_map<ExprId, IndexValue> memo_;
  std::pmr::vector<bool> visited_;
  std::optional<SplitRequest> split_;
};

}  // namespace

std::int64_t StageAnalysis::points() const {
  std::int64_t n = 1;
  for (const LoopAxis& l : loops) n *= l.extent;
  return n;
}

void StageAnalysis::permute(std::span<const int> order) {
  std::array<LoopAxis, kMaxLoops> old_loops;
  std::copy(loops.begin(), loops.end(), old_loops.begin());
  for (std::size_t i = 0; i < order.size(); ++i) loops[i] = old_loops[static_cast<std::size_t>(order[i])];
  for_each_affine([&](Affine& a) {
    const Affine old = a;
    for (std::size_t i = 0; i < order.size(); ++i) a.k[i] = old.k[order[i]];
  });
}

void StageAnalysis::merge_with_next(int outer) {
  loops[outer + 1].extent *= loops[outer].extent;
  loops.erase(loops.begin() + outer);
  for_each_affine([&](Affine& a) {
    for (int l = outer; l + 1 < kMaxLoops; ++l) a.k[l] = a.k[l + 1];
    a.k[kMaxLoops - 1] = 0;
  });
}

StageAnalysis analyze(const LoopRegion& region, const Stage& stage, const ir::Bindings& symbols, std::pmr::memory_resource* memory) {
  return Analyzer(region, stage, symbols, memory).run();
}

int plain_loop(const StageAnalysis& stage, const DimIndex& index) {
  if (!index.affine || index.value.c != 0) return -1;
  int found = -1;
  for (std::size_t l = 0; l < stage.loops.size(); ++l) {
    if (index.value.k[l] == 0) continue;
    if (index.value.k[l] != 1 || found >= 0) return -1;
    found = static_cast<int>(l);
  }
  return found >= 0 && stage.loops[found].extent == index.extent ? found : -1;
}

}  // namespace lathe::loops::cpu
