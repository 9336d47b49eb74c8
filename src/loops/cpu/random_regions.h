// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Seeded random regions for the tests of emitters: expressions, extents (odd, 1, 0), memory orders, storage types, index maps (shifts,
// strides, reversal, quotients and remainders, guards, data-dependent gathers), reductions of every kind, temporaries, piecewise stores.

#include <algorithm>

#include "loops/cpu/emitter_test_util.h"
#include "loops/interpreter.h"
#include "loops/simplify.h"

namespace lathe::loops::cpu::testing {

/// Builds one region from a seed. Values stay within a few units, so that a relative bound on 1 + |x| fits all.
class Generator {
 public:
  explicit Generator(unsigned seed) : gen_(seed) {
    static constexpr DType kTypes[] = {DType::kFloat32, DType::kFloat32, DType::kFloat32, DType::kFloat32, DType::kFloat32, DType::kFloat64,
                                       DType::kInt64,   DType::kInt32,   DType::kUint8,   DType::kInt8,    DType::kInt16,   DType::kUint32};
    type_ = kTypes[below(std::size(kTypes))];
  }

  EmitterCase make() {
    choose_extents();
    const int stages = 1 + below(4);
    for (int s = 0; s < stages; ++s) {
      const bool last = s + 1 == stages;
      if (last && below(4) == 0 && !extents_.empty()) piecewise();
      else stage(last);
    }
    return finish();
  }

 private:
  struct Made {  ///< a value that a stage stores: which axes it has
    int buffer;
    std::vector<int> axes;
  };

  int below(std::size_t n) { return static_cast<int>(gen_() % n); }
  bool real() const { return is_float(type_); }

  void choose_extents() {
    static constexpr std::int64_t kExtents[] = {1, 2, 3, 4, 5, 6, 7, 8, 12, 15, 16, 17, 31, 33, 64, 67, 130, 1100};
    const int rank = below(5);
    std::int64_t points = 1;
    for (int a = 0; a < rank; ++a) {
      std::int64_t e = kExtents[below(std::size(kExtents))];
      while (points * e > 12000) e = kExtents[below(8)];
      if (below(60) == 0) e = 0;
      points *= std::max<std::int64_t>(e, 1);
      extents_.push_back(e);
    }
    symbolic_ = !extents_.empty() && below(2) == 0;
    if (symbolic_) symbols_["s"] = extents_[0];
  }
  ir::Dim extent(int axis) const { return symbolic_ && axis == 0 ? ir::Dim::symbol("s") : ir::Dim(extents_[static_cast<std::size_t>(axis)]); }

  int add_buffer(DType dtype, ir::Shape shape, Role role) {
    const int id = static_cast<int>(buffers_.size());
    std::string name = "b";
    name += std::to_string(id);
    buffers_.push_back({std::move(name), dtype, std::move(shape), role});
    return id;
  }

  ExprId index(std::int64_t v) { return pool_.integer(v); }

  /// An affine or divided index over the stage's axes with its least buffer extent.
  std::pair<ExprId, std::int64_t> index_map() {
    if (extents_.empty()) return {index(below(3)), 3};
    const int a = below(extents_.size());
    const std::int64_t e = std::max<std::int64_t>(extents_[static_cast<std::size_t>(a)], 1);
    const ExprId i = pool_.axis(a);
    switch (below(9)) {
      case 0: {
        const std::int64_t shift = below(4);
        return {pool_.binary(ExprOp::kAdd, i, index(shift)), e + shift + below(2)};
      }
      case 1: {
        const std::int64_t step = 2 + below(3);
        return {pool_.binary(ExprOp::kMul, i, index(step)), (e - 1) * step + 1 + below(2)};
      }
      case 2: return {pool_.binary(ExprOp::kSub, pool_.integer(e - 1), i), e};
      case 3: {
        const std::int64_t by = 1 + below(4);
        return {pool_.binary(ExprOp::kFloorDiv, i, index(by)), (e - 1) / by + 1};
      }
      case 4: {
        const std::int64_t by = 1 + below(5);
        return {pool_.binary(ExprOp::kMod, i, index(by)), by};
      }
      case 5: {  // two axes as one, divided anew
        const int b = below(extents_.size());
        const std::int64_t f = std::max<std::int64_t>(extents_[static_cast<std::size_t>(b)], 1), by = 1 + below(7);
        const ExprId flat = pool_.binary(ExprOp::kAdd, pool_.binary(ExprOp::kMul, i, index(f)), pool_.axis(b));
        if (below(2)) return {pool_.binary(ExprOp::kMod, flat, index(by)), by};
        return {pool_.binary(ExprOp::kFloorDiv, flat, index(by)), (e * f - 1) / by + 1};
      }
      case 6: return {pool_.binary(ExprOp::kMin, i, index(e / 2)), e / 2 + 1};
      default: return {i, e};
    }
  }

  /// A fresh input, read through random index maps.
  ExprId fresh_read(DType type) {
    const int rank = extents_.empty() ? below(2) : 1 + below(extents_.size() + 1);
    ir::Shape shape;
    std::vector<ExprId> indices;
    bool guard = false;
    std::int64_t elements = 1;
    const bool identity = below(3) != 0;
    for (int d = 0; d < rank; ++d) {
      auto [e, n] = index_map();
      if (identity && d < static_cast<int>(extents_.size())) {
        e = pool_.axis(d);
        n = std::max<std::int64_t>(extents_[static_cast<std::size_t>(d)], 1);
        if (below(5) == 0) e = index(0), n = 1;
      }
      if (elements * n > 40000) e = index(0), n = 1;
      if (below(10) == 0 && elements < 2000) {  // the index comes from a tensor
        const int table = add_buffer(DType::kInt64, {ir::Dim(n)}, Role::kInput);
        limit_[table] = 7;
        e = pool_.load(table, DType::kInt64, {e}, -1);
        n = 7;
      } else if (below(7) == 0) {
        guard = true;
        e = pool_.binary(ExprOp::kSub, e, index(1 + below(3)));
      }
      elements *= n;
      shape.push_back(n);
      indices.push_back(e);
    }
    const int buffer = add_buffer(type, std::move(shape), Role::kInput);
    const ExprId fallback = guard ? (below(3) || depth_ > 3 ? constant(2, type) : (++depth_, fresh_read(type))) : -1;
    return pool_.load(buffer, type, std::move(indices), fallback);
  }

  ExprId constant(double value, DType type) { return is_float(type) ? pool_.constant(value, type) : pool_.integer(static_cast<std::int64_t>(value), type); }

  ExprId leaf() {
    if (!made_.empty() && below(2)) {
      const Made& m = made_[static_cast<std::size_t>(below(made_.size()))];
      std::vector<ExprId> indices;
      for (const int a : m.axes) indices.push_back(below(12) ? pool_.axis(a) : pool_.binary(ExprOp::kSub, pool_.dim(extent(a) - ir::Dim(1)), pool_.axis(a)));
      return pool_.load(m.buffer, type_, std::move(indices), -1);
    }
    switch (below(8)) {
      case 0: return constant(1 + below(3), type_);
      case 1: return extents_.empty() ? constant(1, type_) : pool_.cast(pool_.binary(ExprOp::kMod, pool_.axis(below(extents_.size())), index(3)), type_);
      case 2: {  // another type, converted
        const DType other = is_float(type_) ? (below(2) ? DType::kInt32 : DType::kUint8) : DType::kInt16;
        return pool_.cast(fresh_read(other), type_);
      }
      default: return fresh_read(type_);
    }
  }

  ExprId condition() {
    const ExprOp compare[] = {ExprOp::kLess, ExprOp::kLessEqual, ExprOp::kGreater, ExprOp::kGreaterEqual, ExprOp::kEqual, ExprOp::kNotEqual};
    const ExprOp op = compare[below(6)];
    ExprId c;
    if (below(3) == 0 && !extents_.empty()) c = pool_.binary(op, index_map().first, index(3));
    else c = pool_.binary(op, fresh_read(DType::kInt32), pool_.integer(1, DType::kInt32));
    if (below(4) == 0) c = pool_.unary(ExprOp::kNot, c);
    if (below(4) == 0)
      c = pool_.binary(below(2) ? ExprOp::kAnd : ExprOp::kOr, c, pool_.binary(ExprOp::kGreater, fresh_read(DType::kInt8), pool_.integer(0, DType::kInt8)));
    return c;
  }

  ExprId bounded(ExprId x) {  // real values back into [-4, 4]
    return pool_.binary(ExprOp::kMax, pool_.binary(ExprOp::kMin, x, constant(4, type_)), constant(-4, type_));
  }

  ExprId value(int depth) {
    if (depth == 0) return leaf();
    const auto sub = [&] { return value(below(3) ? depth - 1 : 0); };
    if (!real()) {
      switch (below(10)) {
        case 0: return pool_.binary(ExprOp::kMul, sub(), sub());
        case 1: return pool_.binary(ExprOp::kSub, sub(), sub());
        case 2: return pool_.binary(ExprOp::kMin, sub(), sub());
        case 3: return pool_.binary(ExprOp::kMax, sub(), sub());
        case 4: return pool_.binary(below(2) ? ExprOp::kFloorDiv : ExprOp::kMod, sub(), constant(3, type_));
        case 5: return pool_.binary(ExprOp::kBitXor, sub(), sub());
        case 6: return pool_.unary(is_signed_integer(type_) ? ExprOp::kAbs : ExprOp::kBitNot, sub());
        case 7: return pool_.select(condition(), sub(), sub());
        default: return pool_.binary(ExprOp::kAdd, sub(), sub());
      }
    }
    const auto positive = [&] { return pool_.binary(ExprOp::kAdd, pool_.unary(ExprOp::kAbs, sub()), constant(0.5, type_)); };
    switch (below(20)) {
      case 0: return bounded(pool_.binary(ExprOp::kMul, sub(), sub()));
      case 1: return pool_.unary(ExprOp::kTanh, sub());
      case 2: return pool_.unary(ExprOp::kSigmoid, sub());
      case 3: return pool_.unary(ExprOp::kErf, sub());
      case 4: return pool_.unary(ExprOp::kExp, pool_.binary(ExprOp::kMin, sub(), constant(1, type_)));
      case 5: return pool_.unary(ExprOp::kLog, positive());
      case 6: return pool_.unary(ExprOp::kSqrt, positive());
      case 7: return pool_.unary(ExprOp::kRsqrt, positive());
      case 8: {
        const ExprId top = sub();
        return bounded(pool_.binary(ExprOp::kDiv, top, positive()));
      }
      case 9: return pool_.unary(ExprOp::kNeg, sub());
      case 10: return pool_.select(condition(), sub(), sub());
      case 11: return pool_.binary(ExprOp::kMin, sub(), sub());
      case 12: return pool_.binary(ExprOp::kMax, sub(), sub());
      case 13: {
        const ExprId x = sub();
        return bounded(pool_.binary(ExprOp::kMul, x, pool_.unary(ExprOp::kSigmoid, x)));
      }
      case 14: return bounded(pool_.binary(ExprOp::kAdd, pool_.binary(ExprOp::kMul, sub(), sub()), sub()));
      case 15: return pool_.unary(below(2) ? ExprOp::kSin : ExprOp::kCos, sub());
      case 16: return bounded(pool_.binary(ExprOp::kSub, sub(), sub()));
      case 17: return pool_.unary(ExprOp::kReciprocal, positive());
      default: return bounded(pool_.binary(ExprOp::kAdd, sub(), sub()));
    }
  }

  void stage(bool last) {
    Stage s;
    const bool reduces = below(3) == 0 && !extents_.empty();
    std::vector<int> kept;
    for (int a = 0; a < static_cast<int>(extents_.size()); ++a) {
      const bool reduced = reduces && (below(2) || (a + 1 == static_cast<int>(extents_.size()) && kept.size() == extents_.size() - 1));
      s.axes.push_back({extent(a), reduced});
      if (!reduced) kept.push_back(a);
    }
    depth_ = 0;
    s.value = value(1 + below(4));
    DType stored = type_;
    if (reduces) {
      static constexpr Reduce kReal[] = {Reduce::kSum, Reduce::kSum, Reduce::kMax, Reduce::kMin, Reduce::kArgMax, Reduce::kArgMinLast};
      static constexpr Reduce kWhole[] = {Reduce::kSum, Reduce::kMax, Reduce::kMin, Reduce::kProd, Reduce::kArgMin, Reduce::kArgMaxLast};
      s.reduce = real() ? kReal[below(6)] : kWhole[below(6)];
      if (is_arg_reduce(s.reduce)) {  // ties and rounding: over exact values only
        s.value = fresh_read(type_);
        stored = DType::kInt64;
      }
      s.accumulate = s.reduce == Reduce::kSum && !real() ? DType::kInt64 : type_;
      if (s.accumulate != stored && !is_arg_reduce(s.reduce)) s.accumulate = type_;
    }
    if (!real() && stored == type_ && is_integer(type_) && below(5) == 0 && !reduces) {
      s.value = pool_.binary(ExprOp::kLess, s.value, constant(2, type_));
      stored = DType::kBool;
    }
    const bool output = last || stored != type_ || below(4) == 0;
    std::vector<int> order = kept;
    if (output && below(4) == 0) std::shuffle(order.begin(), order.end(), gen_);
    ir::Shape shape;
    for (const int a : order) {
      shape.push_back(extent(a));
      s.store_index.push_back(pool_.axis(a));
    }
    s.target = add_buffer(stored, std::move(shape), output ? Role::kOutput : Role::kTemporary);
    s.source = "random node";
    if (stored == type_) made_.push_back({s.target, order});
    stages_.push_back(std::move(s));
  }

  /// Two stages that write the two parts of one output along an axis (Concat).
  void piecewise() {
    const int axis = below(extents_.size());
    const std::int64_t whole = extents_[static_cast<std::size_t>(axis)];
    ir::Shape shape;
    for (int a = 0; a < static_cast<int>(extents_.size()); ++a) shape.push_back(a == axis ? ir::Dim(2 * whole + 1) : extent(a));
    const int target = add_buffer(type_, std::move(shape), Role::kOutput);
    for (int part = 0; part < 2; ++part) {
      Stage s;
      const std::int64_t own = part == 0 ? whole : whole + 1, offset = part == 0 ? 0 : whole;
      const auto saved = extents_;
      const auto made = made_;
      const bool symbolic = symbolic_;
      if (axis == 0) symbolic_ = false;
      extents_[static_cast<std::size_t>(axis)] = own;
      if (own != whole) made_.clear();  // temporaries have the extents of the others
      for (int a = 0; a < static_cast<int>(extents_.size()); ++a) {
        s.axes.push_back({extent(a), false});
        s.store_index.push_back(a == axis ? pool_.binary(ExprOp::kAdd, pool_.axis(a), index(offset)) : pool_.axis(a));
      }
      depth_ = 0;
      s.value = value(1 + below(3));
      s.target = target;
      stages_.push_back(std::move(s));
      extents_ = saved;
      made_ = made;
      symbolic_ = symbolic;
    }
  }

  EmitterCase finish() {
    EmitterCase c;
    c.symbols = symbols_;
    // Only what stages reach; inputs, outputs, temporaries in this order.
    std::vector<ExprId> roots;
    for (const Stage& s : stages_) {
      roots.push_back(s.value);
      roots.insert(roots.end(), s.store_index.begin(), s.store_index.end());
    }
    LoopRegion all;
    all.exprs = pool_.exprs();
    std::vector<bool> used(buffers_.size(), false);
    for (const Stage& s : stages_) used[static_cast<std::size_t>(s.target)] = true;
    const std::vector<ExprId> order = reachable(all, roots);
    for (const ExprId e : order)
      if (all.exprs[static_cast<std::size_t>(e)].op == ExprOp::kLoad || all.exprs[static_cast<std::size_t>(e)].op == ExprOp::kLoadOr)
        used[static_cast<std::size_t>(all.exprs[static_cast<std::size_t>(e)].index)] = true;
    std::vector<int> renumber(buffers_.size(), -1);
    for (const Role role : {Role::kInput, Role::kOutput, Role::kTemporary})
      for (std::size_t b = 0; b < buffers_.size(); ++b)
        if (used[b] && buffers_[b].role == role) {
          renumber[b] = static_cast<int>(c.region.buffers.size());
          c.region.buffers.push_back(buffers_[b]);
          const Dims dims = *ir::evaluate(buffers_[b].shape, symbols_);
          DType memory = buffers_[b].dtype;
          if (memory == DType::kFloat32 && below(5) == 0) memory = below(2) ? DType::kBFloat16 : DType::kFloat16;
          if (role == Role::kInput) {
            c.ins.push_back(random_layout(memory, dims, gen_));
            c.inputs.push_back(contents(buffers_[b].dtype, memory, dims, limit_.count(static_cast<int>(b)) ? limit_[static_cast<int>(b)] : 0));
          } else if (role == Role::kOutput) {
            // A later stage may read an output back: then it must hold full precision.
            c.outs.push_back(random_layout(buffers_[b].dtype, dims, gen_));
          }
        }
    std::vector<ExprId> moved(all.exprs.size(), -1);
    for (const ExprId old : order) {
      Expr e = all.exprs[static_cast<std::size_t>(old)];
      for (ExprId& a : e.args) a = moved[static_cast<std::size_t>(a)];
      if (e.op == ExprOp::kLoad || e.op == ExprOp::kLoadOr) e.index = renumber[static_cast<std::size_t>(e.index)];
      moved[static_cast<std::size_t>(old)] = static_cast<ExprId>(c.region.exprs.size());
      c.region.exprs.push_back(std::move(e));
    }
    for (Stage s : stages_) {
      s.value = moved[static_cast<std::size_t>(s.value)];
      for (ExprId& e : s.store_index) e = moved[static_cast<std::size_t>(e)];
      s.target = renumber[static_cast<std::size_t>(s.target)];
      c.region.stages.push_back(std::move(s));
    }
    return c;
  }

  Tensor contents(DType dtype, DType memory, const Dims& dims, std::int64_t limit) {
    Tensor t(dtype, dims);
    for (std::int64_t i = 0; i < t.size(); ++i) {
      if (limit > 0) t.set_from_int64(i, below(static_cast<std::size_t>(limit)));
      else if (is_float(dtype)) t.set_from_double(i, (static_cast<double>(gen_() % 20001) - 10000) / 4000.0);
      else t.set_from_int64(i, is_signed_integer(dtype) ? below(9) - 4 : below(5));
    }
    return memory == dtype ? t : t.cast(memory).cast(dtype);
  }

  std::mt19937 gen_;
  DType type_;
  ExprPool pool_;
  std::vector<std::int64_t> extents_;
  bool symbolic_ = false;
  int depth_ = 0;
  ir::Bindings symbols_;
  std::vector<Buffer> buffers_;
  std::unordered_map<int, std::int64_t> limit_;  ///< index tensors: values below this
  std::vector<Stage> stages_;
  std::vector<Made> made_;
};

/// What sums may add up to: errors grow with the points that they add, and later sums may add what earlier ones made.
inline double mass_of(const EmitterCase& c) {
  double mass = 1;
  for (const Stage& s : c.region.stages) {
    double reduced = 1;
    for (const Axis& a : s.axes)
      if (a.reduction) reduced *= static_cast<double>(*a.extent.evaluate(c.symbols));
    if (s.reduce == Reduce::kSum) mass *= std::max(1.0, reduced);
  }
  return mass;
}

inline bool close(double a, double b, DType type, double mass) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  if (std::isinf(a) || std::isinf(b)) return a == b;
  return std::fabs(a - b) <= (type == DType::kFloat64 ? 1e-9 : 3e-5) * (mass + std::fabs(b));
}

}  // namespace lathe::loops::cpu::testing
