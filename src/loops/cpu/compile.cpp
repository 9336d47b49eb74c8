// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// From an analysed stage to a tile program: joins loops, chooses rows and columns, translates the expression, assigns registers.

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "lathe/status.h"
#include "loops/cpu/program.h"
#include "loops/cpu/tile_shape.h"
#include "loops/scalar.h"

namespace lathe::loops::cpu {
namespace {

constexpr std::int64_t kEnoughTasks = 32;    // fewer than these: a reduction is cut
constexpr std::int64_t kLeastRowApart = 32;  // columns from which on a kernel is called row by row rather than on repeated operands
constexpr std::int64_t kPiecePoints = 8192;  // least points of a piece

bool is_narrow_integer(DType type) {
  return type == DType::kInt8 || type == DType::kUint8 || type == DType::kInt16 || type == DType::kUint16 || type == DType::kUint32;
}

/// Types that cast_from() of the kernels knows; an 8-bit float or a packed integer has no register type.
bool has_cast(DType to) { return (is_float(to) && dtype_bits(to) >= 16) || (is_integer(to) && dtype_bits(to) >= 8) || to == DType::kBool; }

/// Bit pattern of a number in a register type.
std::int64_t bits_of(VmType type, double number, std::int64_t integer, bool is_real) {
  std::int64_t bits = 0;
  switch (type) {
    case VmType::kF32: {
      const float v = static_cast<float>(is_real ? number : static_cast<double>(integer));
      std::memcpy(&bits, &v, sizeof v);
      break;
    }
    case VmType::kF64: {
      const double v = is_real ? number : static_cast<double>(integer);
      std::memcpy(&bits, &v, sizeof v);
      break;
    }
    case VmType::kI32: {
      const auto v = static_cast<std::int32_t>(integer);
      std::memcpy(&bits, &v, sizeof v);
      break;
    }
    case VmType::kI64: bits = integer; break;
  }
  return bits;
}

[[noreturn]] void unsupported(std::string what) { throw Error(Code::kUnsupported, std::move(what)); }

class Compiler {
 public:
  Compiler(const LoopRegion& region, StageAnalysis analysis, std::span<const plan::TensorDesc> buffers, const Fusion& fusion, std::pmr::memory_resource* memory,
           StageProgram& into)
      : region_(region),
        a_(std::move(analysis)),
        buffers_(buffers),
        fusion_(fusion),
        fused_(fusion.loops),
        p_(into),
        memory_(memory),
        memo_(memory),
        uses_(memory),
        spread_(memory) {}

  void run() {
    const bool first = p_.values.capacity() == 0;
    p_.clear();
    translate_stage();
    if (first) leave_room();
  }

 private:
  void translate_stage() {
    const Stage& stage = *a_.stage;
    p_.source = &stage.source;
    p_.target = stage.target;
    p_.reduce = stage.reduce;
    p_.fused = fused_;
    if (a_.empty) {
      p_.tasks = 0;
      return;
    }
    linearize();
    join_loops();
    choose_sides();
    const bool is_arg = is_arg_reduce(stage.reduce);
    const DType value_type = region_.exprs[stage.value].type;
    std::int32_t result = value(stage.value);
    if (stage.reduce != Reduce::kNone) {
      p_.accumulate = vm_type(is_arg ? value_type : stage.accumulate);
      if (!is_arg && value_type != stage.accumulate) result = cast(result, value_type, stage.accumulate);
      if (is_arg) p_.arg_fn = k_.arg_reduce(stage.reduce, p_.accumulate);
      else p_.reduce_fn = k_.reduce(stage.reduce, p_.accumulate);
      if (!p_.arg_fn && !p_.reduce_fn) unsupported(fmt::format("no kernel reduces {} by {}", dtype_name(stage.accumulate), reduce_name(stage.reduce)));
      const Scalar identity = is_arg ? Scalar{} : reduce_identity(stage.reduce, stage.accumulate);
      p_.identity = bits_of(p_.accumulate, identity.real, identity.whole, is_float(stage.accumulate));
      p_.position = tile(a_.position);
    }
    p_.result = whole(result);
    const plan::TensorDesc& target = buffers_[static_cast<std::size_t>(stage.target)];
    const DType from = is_arg ? DType::kInt64 : stage.reduce != Reduce::kNone ? stage.accumulate : value_type;
    // A store converts between register types too: through a cast to the buffer's own type first.
    const DType logical = region_.buffers[static_cast<std::size_t>(stage.target)].dtype;
    if (vm_type(from) != vm_type(logical)) {
      if (stage.reduce != Reduce::kNone) unsupported("a reduction whose result is stored in another kind of number");
      p_.result = whole(cast(result, from, logical));
    }
    p_.store_offset = tile(a_.store.offset, stage.target);
    p_.store_size = dtype_bytes(target.dtype, 1);
    p_.store = k_.store(target.dtype);
    p_.store_fill = k_.store_fill(target.dtype);
    if (!p_.store) unsupported(fmt::format("no kernel stores {}", dtype_name(target.dtype)));
    const VmType stored = vm_type(logical);
    p_.fill = k_.fill(p_.values[static_cast<std::size_t>(p_.result)].type);
    p_.store_same_type = vm_size(stored) == p_.store_size && (target.dtype == DType::kFloat32 || target.dtype == DType::kFloat64 ||
                                                              target.dtype == DType::kInt32 || target.dtype == DType::kInt64 || target.dtype == DType::kUint64);
    assign_registers();
    widen_copy();
    finish_nest();
    cut_reduction();
  }

  /// Other extents may take a few instructions more (checks, repeated operands) or less.
  void leave_room() {
    const auto room = [](auto& list) { list.reserve(list.size() + list.size() / 2 + 4); };
    room(p_.kept);
    room(p_.reduced);
    room(p_.kept_loop);
    room(p_.reduced_loop);
    room(p_.instrs);
    room(p_.values);
    room(p_.reads);
    room(p_.dims);
    room(p_.iotas);
  }

  // Loops ----------------------------------------------------------------------------------------------------------------

  void linearize() {
    const auto offset = [&](Access& access) {
      const plan::TensorDesc& desc = buffers_[static_cast<std::size_t>(access.buffer)];
      access.offset = Affine{};
      for (std::size_t d = 0; d < access.dims.size(); ++d) {
        if (!access.dims[d].affine) continue;
        access.offset.c += access.dims[d].value.c * desc.strides[d];
        for (int l = 0; l < kMaxLoops; ++l)
          access.offset.k[static_cast<std::size_t>(l)] += access.dims[d].value.k[static_cast<std::size_t>(l)] * desc.strides[d];
      }
    };
    offset(a_.store);
    for (auto& [id, access] : a_.loads) offset(access);
    // What nobody asks for must not keep loops apart: indices of dimensions that need no check, the position outside of arg reductions.
    const auto forget = [](Access& access, bool guarded) {
      for (DimIndex& d : access.dims)
        if (d.affine && (d.in_bounds || !guarded)) d.value = Affine{};
    };
    forget(a_.store, false);
    for (auto& [id, access] : a_.loads) forget(access, access.fallback >= 0);
    if (!is_arg_reduce(a_.stage->reduce)) a_.position = Affine{};
  }

  int loops() const { return static_cast<int>(a_.loops.size()); }

  /// Orders the loops behind the fused ones from far to near in memory and joins neighbours that one loop can walk.
  void join_loops() {
    std::array<int, kMaxLoops> order{};
    for (int l = 0; l < loops(); ++l) order[static_cast<std::size_t>(l)] = l;
    const auto distance = [&](int l) {
      const auto at = static_cast<std::size_t>(l);
      std::int64_t best = a_.loops[at].reduction ? 0 : std::abs(a_.store.offset.k[at]);
      if (best == 0)
        for (const auto& [id, access] : a_.loads) best = std::max(best, std::abs(access.offset.k[at]));
      return best;
    };
    const auto before = [&](int x, int y) {
      if (a_.loops[static_cast<std::size_t>(x)].reduction != a_.loops[static_cast<std::size_t>(y)].reduction)
        return !a_.loops[static_cast<std::size_t>(x)].reduction;
      return distance(x) > distance(y);
    };
    // A stable sort that needs no memory.
    for (int i = fused_ + 1; i < loops(); ++i)
      for (int j = i; j > fused_ && before(order[static_cast<std::size_t>(j)], order[static_cast<std::size_t>(j - 1)]); --j)
        std::swap(order[static_cast<std::size_t>(j)], order[static_cast<std::size_t>(j - 1)]);
    a_.permute(std::span(order).first(a_.loops.size()));
    for (int l = loops() - 2; l >= fused_; --l) {
      const auto x = static_cast<std::size_t>(l), y = x + 1;
      if (y >= a_.loops.size() || a_.loops[x].reduction != a_.loops[y].reduction) continue;
      bool joins = true;
      a_.for_each_affine([&](Affine& f) { joins &= f.k[x] == f.k[y] * a_.loops[y].extent; });
      if (joins) a_.merge_with_next(l);
    }
  }

  bool is_pure_copy() const {
    const ExprId id = a_.resolve(a_.stage->value);
    const auto found = a_.loads.find(id);
    if (a_.stage->reduce != Reduce::kNone || found == a_.loads.end()) return false;
    const Access& access = found->second;
    if (std::any_of(access.dims.begin(), access.dims.end(), [&](const DimIndex& d) { return !d.affine || (access.fallback >= 0 && !d.in_bounds); }))
      return false;
    const DType from = buffers_[static_cast<std::size_t>(access.buffer)].dtype, to = buffers_[static_cast<std::size_t>(a_.stage->target)].dtype;
    const std::size_t size = dtype_bytes(from, 1);
    return from == to && (size == 1 || size == 2 || size == 4 || size == 8);
  }

  void choose_sides() {
    p_.pure_copy = is_pure_copy();
    const bool blocked = fusion_.block > 1;
    const TileShape shape = choose_tile({a_, fused_, blocked ? fused_ - 1 : -1, fusion_.block, p_.pure_copy});
    p_.row_loop = shape.row_loop;
    p_.col_loop = shape.col_loop;
    p_.row_step = shape.row_step;
    p_.col_step = shape.col_step;
    if (p_.row_loop >= 0) {
      p_.row_extent = a_.loops[static_cast<std::size_t>(p_.row_loop)].extent;
      p_.row_kept = !a_.loops[static_cast<std::size_t>(p_.row_loop)].reduction;
    }
    if (p_.col_loop >= 0) {
      p_.col_extent = a_.loops[static_cast<std::size_t>(p_.col_loop)].extent;
      p_.col_kept = !a_.loops[static_cast<std::size_t>(p_.col_loop)].reduction;
    }
    full_ = (p_.row_loop >= 0 ? kByRow : 0) | (p_.col_loop >= 0 ? kByCol : 0);
  }

  /// `buffer`: whose offset it is; a local one holds one block, so the block's start does not count.
  TileAffine tile(const Affine& f, BufferId buffer = -1) const {
    TileAffine t;
    t.c = f.c;
    t.loops = loops();
    std::copy_n(f.k.begin(), t.loops, t.k.begin());
    if (buffer >= 0 && fused_ > 0 && fusion_.local[static_cast<std::size_t>(buffer)]) t.k[static_cast<std::size_t>(fused_ - 1)] = 0;
    if (p_.row_loop >= 0) t.row = f.k[static_cast<std::size_t>(p_.row_loop)];
    if (p_.col_loop >= 0) t.col = f.k[static_cast<std::size_t>(p_.col_loop)];
    return t;
  }

  void finish_nest() {
    for (int l = 0; l < loops(); ++l) {
      const LoopAxis& loop = a_.loops[static_cast<std::size_t>(l)];
      NestLoop nest{loop.extent, std::max<std::int64_t>(1, l == p_.row_loop ? p_.row_step : l == p_.col_loop ? p_.col_step : 1)};
      (loop.reduction ? p_.reduced : p_.kept).push_back(nest);
      (loop.reduction ? p_.reduced_loop : p_.kept_loop).push_back(l);
    }
    p_.tasks = p_.tasks_per_outer = 1;
    for (std::size_t i = 0; i < p_.kept.size(); ++i) {
      p_.tasks *= p_.kept[i].count();
      if (static_cast<int>(i) >= p_.fused) p_.tasks_per_outer *= p_.kept[i].count();
    }
    p_.points_per_task = p_.row_step * p_.col_step;
    for (std::size_t i = 0; i < p_.reduced.size(); ++i)
      if (p_.reduced_loop[i] != p_.row_loop && p_.reduced_loop[i] != p_.col_loop) p_.points_per_task *= std::max<std::int64_t>(1, p_.reduced[i].extent);
      else p_.points_per_task = p_.points_per_task / p_.reduced[i].step * std::max<std::int64_t>(1, p_.reduced[i].extent);
    if (p_.reduce != Reduce::kNone && p_.reduced.empty()) {
      // Every reduced extent was 1: one round.
      p_.reduced.push_back({1, 1});
      p_.reduced_loop.push_back(-1);
    }
  }

  // Expressions ----------------------------------------------------------------------------------------------------------

  std::int32_t add_value(VmType type, int varies) {
    if (p_.values.size() >= kMaxValues) unsupported("an expression too large for one tile program");
    p_.values.push_back({type, varies, -1, 0});
    return static_cast<std::int32_t>(p_.values.size() - 1);
  }
  const TileValue& at(std::int32_t v) const { return p_.values[static_cast<std::size_t>(v)]; }
  int varies(std::int32_t v) const { return v < 0 ? 0 : at(v).varies; }

  std::int32_t constant(VmType type, std::int64_t bits) {
    const std::int32_t v = add_value(type, 0);
    p_.values.back().constant = bits;
    TileInstr instr;
    instr.kind = TileInstr::Kind::kConstant;
    instr.dst = v;
    p_.instrs.push_back(instr);
    return v;
  }

  std::int32_t kernel(KernelFn fn, VmType type, int varies, std::int32_t a, std::int32_t b = -1, std::int32_t c = -1) {
    TileInstr instr;
    instr.fn = fn;
    instr.dst = add_value(type, varies);
    instr.a = a;
    instr.b = b;
    instr.c = c;
    p_.instrs.push_back(instr);
    return p_.instrs.back().dst;
  }

  std::int32_t cast(std::int32_t v, DType from, DType to) {
    if (!has_cast(to)) unsupported("a conversion to " + std::string(dtype_name(to)) + " in between");
    const KernelFn fn = k_.cast(vm_type(from), to);
    if (!fn) return v;
    return kernel(fn, vm_type(to), varies(v), v);
  }

  /// The same value, varying along `sides` (a superset of its own).
  std::int32_t spread(std::int32_t v, int sides) {
    if (varies(v) == sides) return v;
    const auto key = std::make_pair(v, sides);
    if (const auto found = spread_.find(key); found != spread_.end()) return found->second;
    TileInstr instr;
    instr.kind = TileInstr::Kind::kSpread;
    instr.fn = k_.fill(at(v).type);
    instr.a = v;
    instr.dst = add_value(at(v).type, sides);
    p_.instrs.push_back(instr);
    return spread_[key] = p_.instrs.back().dst;
  }
  /// A kernel takes operands of its own sides, or of one element.
  std::int32_t fitted(std::int32_t v, int sides) { return varies(v) == 0 ? v : spread(v, sides); }
  /// Row by row a kernel takes operands of any sides: one element per row, the same columns for every row. Short rows are not worth it.
  bool rows_apart(int sides, std::initializer_list<std::int32_t> operands) const {
    if (sides != (kByRow | kByCol) || p_.col_step < kLeastRowApart) return false;
    return std::any_of(operands.begin(), operands.end(), [&](std::int32_t v) { return varies(v) == kByRow || varies(v) == kByCol; });
  }
  bool is_single(std::int32_t v, bool apart) const { return varies(v) == 0 || (apart && varies(v) == kByRow); }
  std::int32_t operand(std::int32_t v, int sides, bool apart) { return apart ? v : fitted(v, sides); }

  /// What is stored or reduced: every point, or one element.
  std::int32_t whole(std::int32_t v) { return fitted(v, full_); }

  std::int32_t iota(const Affine& f) {
    TileInstr instr;
    instr.kind = TileInstr::Kind::kIota;
    instr.read = static_cast<std::int32_t>(p_.iotas.size());
    p_.iotas.push_back(tile(f));
    instr.dst = add_value(VmType::kI64, sides_of(p_.iotas.back()));
    p_.instrs.push_back(instr);
    return p_.instrs.back().dst;
  }
  static int sides_of(const TileAffine& f) { return (f.row != 0 ? kByRow : 0) | (f.col != 0 ? kByCol : 0); }

  std::int32_t value(ExprId id) {
    id = a_.resolve(id);
    if (const auto found = memo_.find(id); found != memo_.end()) return found->second;
    const std::int32_t v = translate(id);
    memo_[id] = v;
    return v;
  }

  std::int32_t translate(ExprId id) {
    const Expr& e = region_.exprs[static_cast<std::size_t>(id)];
    if (const auto known = a_.truths.find(id); known != a_.truths.end()) return constant(VmType::kI32, known->second ? 1 : 0);
    if (const auto affine = a_.affine_values.find(id); affine != a_.affine_values.end()) {
      if (affine->second.is_constant()) return constant(VmType::kI64, affine->second.c);
      return iota(affine->second);
    }
    if (e.type == DType::kUint64 && op_arity(e.op) > 0) unsupported("64-bit unsigned arithmetic");
    switch (e.op) {
      case ExprOp::kConst: return constant(vm_type(e.type), bits_of(vm_type(e.type), e.number, e.integer, is_float(e.type)));
      case ExprOp::kLoad:
      case ExprOp::kLoadOr: return read(id);
      case ExprOp::kCast: return cast(value(e.args[0]), region_.exprs[static_cast<std::size_t>(a_.resolve(e.args[0]))].type, e.type);
      case ExprOp::kSelect: {
        const std::int32_t condition = value(e.args[0]), x = value(e.args[1]), y = value(e.args[2]);
        const int sides = varies(condition) | varies(x) | varies(y);
        const bool apart = rows_apart(sides, {condition, x, y});
        const KernelFn fn = k_.select(vm_type(e.type), (is_single(x, apart) ? 1 : 0) | (is_single(y, apart) ? 2 : 0));
        const std::int32_t where = is_single(condition, apart) ? spread(condition, sides) : operand(condition, sides, apart);
        const std::int32_t v = kernel(fn, vm_type(e.type), sides, where, operand(x, sides, apart), operand(y, sides, apart));
        p_.instrs.back().by_row = apart;
        return v;
      }
      case ExprOp::kAxis:
      case ExprOp::kDim: throw Error(Code::kInternal, "an index expression without an affine form");
      default: break;
    }
    const DType element = region_.exprs[static_cast<std::size_t>(a_.resolve(e.args[0]))].type;
    const VmType type = vm_type(element), result = gives_bool(e.op) ? VmType::kI32 : vm_type(e.type);
    if (element == DType::kUint64) unsupported("64-bit unsigned arithmetic");
    std::int32_t v = -1;
    if (op_arity(e.op) == 1) {
      const std::int32_t x = value(e.args[0]);
      const KernelFn fn = k_.unary(e.op, type);
      if (!fn) unsupported(fmt::format("no kernel computes {} of {}", op_name(e.op), dtype_name(element)));
      v = kernel(fn, result, varies(x), x);
    } else {
      if (const std::int32_t joined = joined_kernel(e); joined >= 0) return joined;
      const std::int32_t x = value(e.args[0]), y = value(e.args[1]);
      const int sides = varies(x) | varies(y);
      const bool apart = rows_apart(sides, {x, y}), left = is_single(x, apart), right = is_single(y, apart);
      const Mode mode = left == right ? Mode::kVectors : left ? Mode::kScalarLeft : Mode::kScalarRight;
      const KernelFn fn = k_.binary(e.op, type, mode);
      if (!fn) unsupported(fmt::format("no kernel computes {} of {}", op_name(e.op), dtype_name(element)));
      v = kernel(fn, result, sides, operand(x, sides, apart), operand(y, sides, apart));
      p_.instrs.back().by_row = apart;
    }
    if (!gives_bool(e.op) && is_narrow_integer(e.type)) v = cast(v, e.type, e.type);
    return v;
  }

  int uses_of(ExprId id) {
    if (uses_.empty()) {
      uses_.assign(region_.exprs.size(), 0);
      std::pmr::vector<bool> reached(region_.exprs.size(), false, memory_);
      reached[static_cast<std::size_t>(a_.stage->value)] = true;
      for (std::size_t e = region_.exprs.size(); e-- > 0;) {  // arguments come before users
        if (!reached[e]) continue;
        for (const ExprId arg : region_.exprs[e].args) {
          reached[static_cast<std::size_t>(arg)] = true;
          ++uses_[static_cast<std::size_t>(arg)];
        }
      }
    }
    return uses_[static_cast<std::size_t>(id)];
  }

  /// a * b + c and x * sigmoid(x) as one kernel; -1 when the pattern is not there.
  std::int32_t joined_kernel(const Expr& e) {
    if (e.type != DType::kFloat32) return -1;
    const auto expr = [&](ExprId id) -> const Expr& { return region_.exprs[static_cast<std::size_t>(a_.resolve(id))]; };
    if (e.op == ExprOp::kMul)
      for (const int side : {0, 1}) {
        const ExprId x = e.args[static_cast<std::size_t>(side)], s = e.args[static_cast<std::size_t>(1 - side)];
        if (expr(s).op == ExprOp::kSigmoid && a_.resolve(expr(s).args[0]) == a_.resolve(x) && uses_of(s) == 1 && a_.resolve(s) == s) {
          const std::int32_t v = value(x);
          return kernel(k_.silu(), VmType::kF32, varies(v), v);
        }
      }
    if (e.op == ExprOp::kAdd)
      for (const int side : {0, 1}) {
        const ExprId m = e.args[static_cast<std::size_t>(side)];
        if (expr(m).op != ExprOp::kMul || expr(m).type != DType::kFloat32 || a_.resolve(m) != m || uses_of(m) != 1 || memo_.count(m)) continue;
        // x * sigmoid(x) + y is left to the other kernel.
        const Expr& product = expr(m);
        if (expr(product.args[0]).op == ExprOp::kSigmoid || expr(product.args[1]).op == ExprOp::kSigmoid) continue;
        std::int32_t a = value(product.args[0]), b = value(product.args[1]);
        const std::int32_t c = value(e.args[static_cast<std::size_t>(1 - side)]);
        // Where the product varies along fewer sides than the sum it is made once, not per point.
        const int sides = varies(a) | varies(b) | varies(c);
        if ((varies(a) | varies(b)) != sides) continue;
        const bool apart = rows_apart(sides, {a, b, c});
        if (is_single(a, apart)) std::swap(a, b);
        const KernelFn fn = k_.mul_add((is_single(b, apart) ? 1 : 0) | (is_single(c, apart) ? 2 : 0));
        const std::int32_t factor = is_single(a, apart) ? spread(a, sides) : operand(a, sides, apart);
        const std::int32_t v = kernel(fn, VmType::kF32, sides, factor, operand(b, sides, apart), operand(c, sides, apart));
        p_.instrs.back().by_row = apart;
        return v;
      }
    return -1;
  }

  std::int32_t read(ExprId id) {
    const Access& access = a_.loads.at(id);
    const plan::TensorDesc& desc = buffers_[static_cast<std::size_t>(access.buffer)];
    const DType logical = region_.buffers[static_cast<std::size_t>(access.buffer)].dtype;
    TileRead r;
    r.buffer = access.buffer;
    r.offset = tile(access.offset, access.buffer);
    r.load = k_.load(desc.dtype);
    if (!r.load) unsupported(fmt::format("no kernel reads {}", dtype_name(desc.dtype)));
    r.size = dtype_bytes(desc.dtype, 1);
    r.same_type = desc.dtype == DType::kFloat32 || desc.dtype == DType::kFloat64 || desc.dtype == DType::kInt32 || desc.dtype == DType::kInt64 ||
                  desc.dtype == DType::kUint64;
    int sides = sides_of(r.offset);
    const bool guarded = access.fallback >= 0;
    // Values of indices are translated first: they may be reads with dimensions of their own.
    for (const DimIndex& dim : access.dims)
      if (!dim.affine) value(dim.expr);
    if (guarded) value(access.fallback);
    r.first_dim = static_cast<std::int32_t>(p_.dims.size());
    for (std::size_t d = 0; d < access.dims.size(); ++d) {
      const DimIndex& dim = access.dims[d];
      if (dim.affine && (dim.in_bounds || !guarded)) continue;
      GuardedDim g;
      g.extent = dim.extent;
      g.stride = desc.strides[d];
      g.check = !dim.in_bounds;
      if (dim.affine) {
        g.index = tile(dim.value);
        sides |= sides_of(g.index);
      } else {
        g.value = value(dim.expr);
        sides |= varies(g.value);
        r.computed = true;
      }
      p_.dims.push_back(g);
      ++r.dims;
    }
    if (guarded) {
      r.fallback = value(access.fallback);
      sides |= varies(r.fallback);
      r.fallback = fitted(r.fallback, sides);
    }
    for (GuardedDim& g : dims_of(r))
      if (g.value >= 0) g.value = fitted(g.value, sides);
    if (p_.reads.size() >= kMaxAccesses) unsupported("too many reads for one tile program");
    TileInstr instr;
    instr.kind = TileInstr::Kind::kRead;
    instr.read = static_cast<std::int32_t>(p_.reads.size());
    instr.dst = add_value(vm_type(logical), sides);
    p_.reads.push_back(r);
    p_.instrs.push_back(instr);
    return p_.instrs.back().dst;
  }

  std::span<GuardedDim> dims_of(const TileRead& r) {
    return std::span(p_.dims).subspan(static_cast<std::size_t>(r.first_dim), static_cast<std::size_t>(r.dims));
  }

  // Registers ------------------------------------------------------------------------------------------------------------

  void assign_registers() {
    std::pmr::vector<std::size_t> last(p_.values.size(), 0, memory_);
    const auto use = [&](std::int32_t v, std::size_t where) {
      if (v >= 0) last[static_cast<std::size_t>(v)] = std::max(last[static_cast<std::size_t>(v)], where);
    };
    for (std::size_t i = 0; i < p_.instrs.size(); ++i) {
      const TileInstr& instr = p_.instrs[i];
      use(instr.a, i);
      use(instr.b, i);
      use(instr.c, i);
      if (instr.kind == TileInstr::Kind::kRead) {
        const TileRead& r = p_.reads[static_cast<std::size_t>(instr.read)];
        use(r.fallback, i);
        for (const GuardedDim& d : dims_of(r)) use(d.value, i);
      }
    }
    use(p_.result, p_.instrs.size());
    std::int32_t top = 0;
    const auto fresh = [&](std::int64_t bytes) {
      const std::int32_t offset = top;
      top += static_cast<std::int32_t>((bytes + 63) / 64 * 64);
      return offset;
    };
    const auto bytes_of = [&](const TileValue& v) {
      return static_cast<std::int64_t>(vm_size(v.type)) * (v.varies & kByRow ? p_.row_step : 1) * (v.varies & kByCol ? p_.col_step : 1);
    };
    // Freed registers by size. A kernel reads element i before it writes element i, but never reads a register that this very step takes.
    std::pmr::unordered_map<std::int64_t, std::pmr::vector<std::int32_t>> free(memory_);
    std::pmr::vector<std::pmr::vector<std::int32_t>> dying(p_.instrs.size() + 1, memory_);
    for (std::size_t v = 0; v < p_.values.size(); ++v) dying[last[v]].push_back(static_cast<std::int32_t>(v));
    for (std::size_t i = 0; i < p_.instrs.size(); ++i) {
      TileValue& v = p_.values[static_cast<std::size_t>(p_.instrs[i].dst)];
      if (p_.instrs[i].kind != TileInstr::Kind::kConstant) {
        auto& list = free[bytes_of(v)];
        if (!list.empty()) {
          v.reg = list.back();
          list.pop_back();
        } else {
          v.reg = fresh(bytes_of(v));
        }
      }
      for (const std::int32_t d : dying[i])
        if (at(d).reg >= 0) free[bytes_of(at(d))].push_back(at(d).reg);
    }
    if (p_.reduce != Reduce::kNone) {
      const std::int64_t kept = (p_.row_kept ? p_.row_step : 1) * (p_.col_kept ? p_.col_step : 1);
      p_.accumulators = fresh(kept * 8);
      p_.positions = fresh(kept * 8);
      p_.filled = fresh(p_.row_step * p_.col_step * 8);
    }
    p_.register_bytes = top;
    p_.weight = 1 + static_cast<int>(p_.instrs.size());
  }

  /// Nothing of a pure copy passes through registers; transposed ones do best in square tiles.
  void widen_copy() {
    if (!p_.pure_copy || fusion_.block > 1) return;
    const TileRead& r = p_.reads[0];
    if ((r.offset.col != 1 && r.offset.row == 1) || (p_.store_offset.col != 1 && p_.store_offset.row == 1)) {
      p_.col_step = std::min<std::int64_t>(std::max<std::int64_t>(p_.col_extent, 1), 64);
      p_.row_step = std::min<std::int64_t>(std::max<std::int64_t>(p_.row_extent, 1), 64);
    }
  }

  /// A long reduction to few results in pieces of a fixed number of points, so that all threads take part and the sum does not depend on
  /// how many there are.
  void cut_reduction() {
    if (p_.reduce == Reduce::kNone || p_.arg_fn || p_.fused > 0 || p_.tasks >= kEnoughTasks || p_.tasks == 0) return;
    std::int64_t count = 1;
    for (std::size_t i = 0; i < p_.reduced.size(); ++i)
      if (p_.reduced[i].count() > count) {
        count = p_.reduced[i].count();
        p_.piece_loop = static_cast<int>(i);
      }
    if (p_.piece_loop < 0) return;
    p_.pieces = std::clamp<std::int64_t>(std::min(p_.points_per_task / kPiecePoints, (kEnoughTasks + p_.tasks - 1) / p_.tasks), 1, count);
  }

  const LoopRegion& region_;
  StageAnalysis a_;
  std::span<const plan::TensorDesc> buffers_;
  const Fusion& fusion_;
  int fused_;
  int full_ = 0;  ///< sides of the tile
  const Kernels& k_ = kernels();
  StageProgram& p_;
  std::pmr::memory_resource* memory_;
  std::pmr::unordered_map<ExprId, std::int32_t> memo_;
  std::pmr::vector<int> uses_;
  std::pmr::map<std::pair<std::int32_t, int>, std::int32_t> spread_;
};

}  // namespace

void StageProgram::clear() {
  StageProgram fresh;
  const auto keep = [](auto& mine, auto& its) {
    mine.clear();
    its = std::move(mine);
  };
  keep(kept, fresh.kept);
  keep(reduced, fresh.reduced);
  keep(kept_loop, fresh.kept_loop);
  keep(reduced_loop, fresh.reduced_loop);
  keep(instrs, fresh.instrs);
  keep(values, fresh.values);
  keep(reads, fresh.reads);
  keep(dims, fresh.dims);
  keep(iotas, fresh.iotas);
  *this = std::move(fresh);
}

void compile_stage(const LoopRegion& region, StageAnalysis analysis, std::span<const plan::TensorDesc> buffers, const Fusion& fusion,
                   std::pmr::memory_resource* memory, StageProgram& into) {
  Compiler(region, std::move(analysis), buffers, fusion, memory, into).run();
}

}  // namespace lathe::loops::cpu
