// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Definitions are kept as functions and evaluated in finish() only. Evaluation is repeated: each round inlines every pointwise value
// that is not yet marked, counts how often and how redundantly each is recomputed, and marks the worst one to become a buffer, until
// nothing is worth a buffer any more. Bodies must therefore be pure.
#include "loops/builder.h"

#include <algorithm>
#include <deque>
#include <map>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include <fmt/format.h>

#include "lathe/status.h"
#include "loops/simplify.h"

namespace lathe::loops {
namespace {

/// A value whose recomputation costs this much more than reading it back becomes a temporary.
constexpr int kRecomputeLimit = 8;
/// An expression this cheap is recomputed per point rather than stored, however redundantly.
constexpr int kTrivialCost = 4;
constexpr int kCostCap = 1 << 20;

enum class Kind : std::uint8_t { kPointwise, kReduction, kParts };

struct Definition {
  Kind kind = Kind::kPointwise;
  RegionBuilder::Body body;
  RegionBuilder::ReduceBody reduce_body;
  Reduce reduce = Reduce::kNone;
  ir::Shape space;
  DType accumulate = DType::kFloat32;
  int axis = 0;
  std::vector<std::pair<ir::Dim, RegionBuilder::Body>> parts;
  int order = 0;  ///< definition order: a consumer is defined after its producers
  std::string source;
};

/// How one inlined value is read: the stage and the index map.
struct Use {
  int stage;
  std::vector<ExprId> indices;
  bool redundant;  ///< the stage has an axis that the indices do not contain: the same element many times
  bool operator<(const Use& o) const { return stage != o.stage ? stage < o.stage : indices < o.indices; }
};

struct Usage {
  std::set<Use> uses;
  ExprId expression = -1;
  ir::Dim points = 0;  ///< evaluations over all uses
};

struct DraftStage {
  Stage stage;
  const ir::Value* target;
};

}  // namespace

struct RegionBuilder::Impl {
  ExprPool pool;
  std::unordered_map<const ir::Value*, Definition> definitions;
  std::deque<ir::Value> temporaries;
  std::unordered_map<const ir::Value*, int> numbers;  ///< provisional buffer ids of loads
  std::vector<const ir::Value*> numbered;
  std::string declined;

  // State of one evaluation round
  std::unordered_set<const ir::Value*> stored;  ///< values with a buffer
  std::map<std::pair<const ir::Value*, Indices>, ExprId> memo;
  std::unordered_map<const ir::Value*, Usage> usage;
  std::vector<DraftStage> drafts;
  std::unordered_set<const ir::Value*> emitted;
  int stage_number = -1;
  ir::Dim stage_points = 1;
  std::vector<bool> stage_axes_live;  ///< axes of the current stage whose extent is not 1
  bool guarded = false;               ///< inside read_or: any index may be out of bounds

  std::vector<Requirement> requirements;

  void require(const ir::Value* value, const ir::Dim& extent, const ir::Dim& target) {
    for (const Requirement& r : requirements)
      if (r.extent == extent && r.target == target) return;
    requirements.push_back({value->name, extent, target});
  }

  int number_of(const ir::Value* value) {
    const auto [it, fresh] = numbers.try_emplace(value, static_cast<int>(numbered.size()));
    if (fresh) numbered.push_back(value);
    return it->second;
  }
  bool has_buffer(const ir::Value* value) const { return stored.count(value) || !definitions.count(value); }

  ExprId zero_of(DType type) { return is_float(type) ? pool.constant(0, type) : pool.integer(0, type); }

  /// Axis numbers below `e` (loads' indices included).
  void collect_axes(ExprId e, std::vector<bool>& seen) const {
    const Expr& expr = pool.at(e);
    if (expr.op == ExprOp::kAxis && expr.index < static_cast<int>(seen.size())) seen[static_cast<std::size_t>(expr.index)] = true;
    for (const ExprId a : expr.args) collect_axes(a, seen);
  }

  /// Cost of computing `e` once, shared parts counted once, indices of loads left out.
  int cost(ExprId e) const {
    std::unordered_set<ExprId> seen;
    return cost(e, seen);
  }
  int cost(ExprId e, std::unordered_set<ExprId>& seen) const {
    if (!seen.insert(e).second) return 0;
    const Expr& expr = pool.at(e);
    int total = op_cost(expr.op);
    if (expr.op == ExprOp::kLoad) return total;
    if (expr.op == ExprOp::kLoadOr) return total + cost(expr.args.back(), seen);
    for (const ExprId a : expr.args) total = std::min(kCostCap, total + cost(a, seen));
    return total;
  }

  void collect_loads(ExprId e, std::unordered_set<ExprId>& seen, std::vector<const ir::Value*>& out) const {
    if (!seen.insert(e).second) return;
    const Expr& expr = pool.at(e);
    if (expr.op == ExprOp::kLoad || expr.op == ExprOp::kLoadOr) {
      const ir::Value* value = numbered[static_cast<std::size_t>(expr.index)];
      if (std::find(out.begin(), out.end(), value) == out.end()) out.push_back(value);
    }
    for (const ExprId a : expr.args) collect_loads(a, seen, out);
  }

  void begin_stage(const std::vector<Axis>& axes) {
    ++stage_number;
    memo.clear();
    stage_axes_live.assign(axes.size(), false);
    stage_points = 1;
    for (std::size_t i = 0; i < axes.size(); ++i) {
      stage_axes_live[i] = axes[i].extent != ir::Dim(1);
      stage_points = stage_points * axes[i].extent;
    }
  }

  void note_use(const ir::Value* value, const Indices& indices, ExprId expression) {
    std::vector<bool> seen(stage_axes_live.size(), false);
    for (const ExprId i : indices) collect_axes(i, seen);
    bool redundant = false;
    for (std::size_t a = 0; a < seen.size(); ++a) redundant |= stage_axes_live[a] && !seen[a];
    Usage& u = usage[value];
    u.expression = expression;
    if (u.uses.insert(Use{stage_number, indices, redundant}).second) u.points = u.points + stage_points;
  }

  /// Emits the stages of a stored value after those of all that they read.
  void emit(RegionBuilder& self, const ir::Value* value);
  void finish_stage(RegionBuilder& self, Stage stage, const ir::Value* value);
  const ir::Value* worst_recomputed() const;
};

RegionBuilder::RegionBuilder() : impl_(std::make_unique<Impl>()) {}
RegionBuilder::~RegionBuilder() = default;

ExprId RegionBuilder::constant(double value, DType type) { return impl_->pool.constant(value, type); }
ExprId RegionBuilder::integer(std::int64_t value) { return impl_->pool.integer(value); }
ExprId RegionBuilder::dim(const ir::Dim& dim) { return impl_->pool.dim(dim); }
ExprId RegionBuilder::unary(ExprOp op, ExprId a) { return impl_->pool.unary(op, a); }
ExprId RegionBuilder::binary(ExprOp op, ExprId a, ExprId b) { return impl_->pool.binary(op, a, b); }
ExprId RegionBuilder::select(ExprId condition, ExprId a, ExprId b) { return impl_->pool.select(condition, a, b); }
ExprId RegionBuilder::cast(ExprId a, DType type) { return impl_->pool.cast(a, type); }
DType RegionBuilder::type_of(ExprId e) const { return impl_->pool.at(e).type; }

ExprId RegionBuilder::read(const ir::Value* value, const Indices& indices) {
  Impl& m = *impl_;
  if (value->has_shape() && value->shape().size() != indices.size()) {
    throw Error(Code::kInternal, fmt::format("a region body reads '{}' of rank {} with {} indices", value->name, value->shape().size(), indices.size()));
  }
  if (m.has_buffer(value)) {
    if (!m.definitions.count(value) && value->is_constant() && value->constant.size() == 1 &&
        (is_float(value->dtype()) || is_integer(value->dtype()) || value->dtype() == DType::kBool)) {
      return is_float(value->dtype()) ? m.pool.constant(value->constant.as_double(0), value->dtype())
                                      : m.pool.integer(value->constant.as_int64(0), value->dtype());
    }
    return m.pool.load(m.number_of(value), value->dtype(), indices, m.guarded ? m.zero_of(value->dtype()) : -1);
  }
  const auto key = std::make_pair(value, indices);
  if (!m.guarded) {
    if (const auto it = m.memo.find(key); it != m.memo.end()) return it->second;
  }
  const ExprId e = m.definitions.at(value).body(*this, indices);
  if (type_of(e) != value->dtype()) {
    throw Error(Code::kInternal,
                fmt::format("the region body of '{}' has type {} instead of {}", value->name, dtype_name(type_of(e)), dtype_name(value->dtype())));
  }
  if (!m.guarded) m.memo.emplace(key, e);
  m.note_use(value, indices, e);
  return e;
}

ExprId RegionBuilder::read_or(const ir::Value* value, const Indices& indices, ExprId fallback) {
  Impl& m = *impl_;
  const bool single = value->is_constant() && value->constant.size() == 1;
  if (m.has_buffer(value) && !single) return m.pool.load(m.number_of(value), value->dtype(), indices, fallback);
  // The bounds are those of this value, not of what its body reads; inside, every load is guarded, so nothing is read out of bounds.
  ExprId inside = constant(1, DType::kBool);
  for (std::size_t d = 0; d < indices.size(); ++d) {
    inside = binary(ExprOp::kAnd, inside, binary(ExprOp::kGreaterEqual, indices[d], integer(0)));
    inside = binary(ExprOp::kAnd, inside, binary(ExprOp::kLess, indices[d], dim(value->shape()[d])));
  }
  const bool outer = m.guarded;
  m.guarded = true;
  const ExprId e = read(value, indices);
  m.guarded = outer;
  return select(inside, e, fallback);
}

ExprId RegionBuilder::read_broadcast(const ir::Value* value, const ir::Shape& out, const Indices& indices) {
  const ir::Shape& shape = value->shape();
  Indices own;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    if (d + out.size() < shape.size()) {  // more dimensions than the output: they are 1 (the bounds of a Clip)
      own.push_back(integer(0));
      continue;
    }
    const std::size_t to = d + out.size() - shape.size();
    const ExprId index = indices[to];
    if (shape[d] == out[to]) {
      own.push_back(index);
    } else if (shape[d] == ir::Dim(1)) {
      own.push_back(integer(0));
    } else {
      // Equal to the output's extent or 1, which only the run tells: min() is right for both, and binding refuses anything else.
      impl_->require(value, shape[d], out[to]);
      own.push_back(binary(ExprOp::kMin, index, dim(shape[d] - ir::Dim(1))));
    }
  }
  return read(value, own);
}

void RegionBuilder::define(const ir::Value* value, Body body) {
  Definition d;
  d.body = std::move(body);
  d.order = static_cast<int>(impl_->definitions.size());
  impl_->definitions[value] = std::move(d);
}

void RegionBuilder::define_reduction(const ir::Value* value, Reduce reduce, ir::Shape reduction_space, ReduceBody body, DType accumulate) {
  Definition d;
  d.kind = Kind::kReduction;
  d.reduce = reduce;
  d.space = std::move(reduction_space);
  d.reduce_body = std::move(body);
  d.accumulate = accumulate;
  d.order = static_cast<int>(impl_->definitions.size());
  impl_->definitions[value] = std::move(d);
}

const ir::Value* RegionBuilder::temporary(std::string name, DType dtype, ir::Shape shape) {
  ir::Value& value = impl_->temporaries.emplace_back();
  value.name = std::move(name);
  value.type = ir::Type::tensor(dtype, std::move(shape));
  return &value;
}

void RegionBuilder::define_parts(const ir::Value* value, int axis, std::vector<std::pair<ir::Dim, Body>> parts) {
  Definition d;
  d.kind = Kind::kParts;
  d.axis = axis;
  d.parts = std::move(parts);
  d.order = static_cast<int>(impl_->definitions.size());
  impl_->definitions[value] = std::move(d);
}

void RegionBuilder::require_equal(const ir::Value* value, const ir::Dim& a, const ir::Dim& b) {
  if (a == b) return;
  // Each is the other or 1.
  impl_->require(value, a, b);
  impl_->require(value, b, a);
}

void RegionBuilder::decline(std::string reason) { impl_->declined = std::move(reason); }
const std::string& RegionBuilder::declined() const { return impl_->declined; }
void RegionBuilder::set_source(const ir::Value* value, std::string source) {
  if (const auto it = impl_->definitions.find(value); it != impl_->definitions.end()) it->second.source = std::move(source);
}
bool RegionBuilder::is_defined(const ir::Value* value) const { return impl_->definitions.count(value) != 0; }

void RegionBuilder::Impl::finish_stage(RegionBuilder& self, Stage stage, const ir::Value* value) {
  std::vector<const ir::Value*> loads;
  std::unordered_set<ExprId> seen;
  collect_loads(stage.value, seen, loads);
  for (const ExprId e : stage.store_index) collect_loads(e, seen, loads);
  for (const ir::Value* load : loads) emit(self, load);
  drafts.push_back({std::move(stage), value});
}

void RegionBuilder::Impl::emit(RegionBuilder& self, const ir::Value* value) {
  if (!definitions.count(value) || !emitted.insert(value).second) return;
  const Definition& d = definitions.at(value);
  const ir::Shape& shape = value->shape();
  const auto check_type = [&](ExprId e) {
    if (pool.at(e).type == value->dtype()) return;
    throw Error(Code::kInternal,
                fmt::format("the region body of '{}' has type {} instead of {}", value->name, dtype_name(pool.at(e).type), dtype_name(value->dtype())));
  };
  const auto kept_stage = [&] {
    Stage stage;
    stage.source = d.source;
    for (std::size_t i = 0; i < shape.size(); ++i) {
      stage.axes.push_back({shape[i], false});
      stage.store_index.push_back(pool.axis(static_cast<int>(i)));
    }
    return stage;
  };
  if (d.kind == Kind::kParts) {
    ir::Dim offset = 0;
    std::vector<Stage> stages;
    for (const auto& [extent, body] : d.parts) {
      if (extent == ir::Dim(0)) continue;
      Stage stage = kept_stage();
      const auto a = static_cast<std::size_t>(d.axis);
      stage.axes[a].extent = extent;
      begin_stage(stage.axes);
      const Indices indices = stage.store_index;
      stage.value = body(self, indices);
      check_type(stage.value);
      stage.store_index[a] = pool.binary(ExprOp::kAdd, indices[a], pool.dim(offset));
      offset = offset + extent;
      finish_stage(self, std::move(stage), value);
    }
    return;
  }
  Stage stage = kept_stage();
  if (d.kind == Kind::kPointwise) {
    begin_stage(stage.axes);
    stage.value = d.body(self, stage.store_index);
    check_type(stage.value);
  } else {
    Indices reduced;
    for (const ir::Dim& extent : d.space) {
      reduced.push_back(pool.axis(static_cast<int>(stage.axes.size())));
      stage.axes.push_back({extent, true});
    }
    begin_stage(stage.axes);
    stage.reduce = d.reduce;
    stage.accumulate = d.accumulate;
    stage.value = d.reduce_body(self, stage.store_index, reduced);
  }
  finish_stage(self, std::move(stage), value);
}

const ir::Value* RegionBuilder::Impl::worst_recomputed() const {
  // The last defined first: when a consumer is stored, its producers are read once through it.
  const ir::Value* found = nullptr;
  int found_order = -1;
  for (const auto& [value, u] : usage) {
    const Definition& d = definitions.at(value);
    if (d.order <= found_order) continue;
    const int c = cost(u.expression);
    const auto times = static_cast<long>(u.uses.size());
    // Parts of a Split that are used one each: many uses, no element twice.
    ir::Dim own = 1;
    for (const ir::Dim& e : value->shape()) own = own * e;
    const auto surplus = (u.points - own).constant();
    const bool disjoint = surplus && *surplus <= 0;
    const bool repeated = times > 1 && !disjoint && (times - 1) * c >= kRecomputeLimit && c > 2;
    const bool scalar = std::all_of(value->shape().begin(), value->shape().end(), [](const ir::Dim& e) { return e == ir::Dim(1); });
    const bool redundant = !scalar && c - 2 >= kTrivialCost && std::any_of(u.uses.begin(), u.uses.end(), [](const Use& use) { return use.redundant; });
    if (repeated || redundant) {
      found = value;
      found_order = d.order;
    }
  }
  return found;
}

LoopRegion RegionBuilder::finish(std::span<const ir::Value* const> inputs, std::span<const ir::Value* const> outputs) {
  Impl& m = *impl_;
  m.stored.clear();
  m.requirements.clear();
  for (const auto& [value, d] : m.definitions) {
    if (!value->has_shape()) {
      decline(fmt::format("the shape of '{}' is unknown", value->name));
      return {};
    }
    if (d.kind != Kind::kPointwise) m.stored.insert(value);
  }
  for (const ir::Value* output : outputs) {
    if (!m.definitions.count(output)) throw Error(Code::kInternal, fmt::format("region output '{}' has no definition", output->name));
    m.stored.insert(output);
  }
  for (;;) {
    m.drafts.clear();
    m.usage.clear();
    m.emitted.clear();
    m.stage_number = -1;
    for (const ir::Value* output : outputs) m.emit(*this, output);
    const ir::Value* next = m.worst_recomputed();
    if (!next) break;
    m.stored.insert(next);
  }

  LoopRegion region;
  region.requirements = m.requirements;
  std::unordered_map<const ir::Value*, BufferId> ids;
  const auto add_buffer = [&](const ir::Value* value, Role role) {
    if (!ids.emplace(value, static_cast<BufferId>(region.buffers.size())).second)
      throw Error(Code::kInternal, "region value '" + value->name + "' is listed twice");
    // Half-precision temporaries are kept in float: closer to the exact value, and no conversion on the way.
    const bool widen = role == Role::kTemporary && (value->dtype() == DType::kFloat16 || value->dtype() == DType::kBFloat16);
    region.buffers.push_back({value->name, widen ? DType::kFloat32 : value->dtype(), value->shape(), role});
  };
  for (const ir::Value* input : inputs) {
    if (!input->has_shape()) {
      decline(fmt::format("the shape of '{}' is unknown", input->name));
      return {};
    }
    add_buffer(input, Role::kInput);
  }
  for (const ir::Value* output : outputs) add_buffer(output, Role::kOutput);
  for (const DraftStage& draft : m.drafts) {
    if (!ids.count(draft.target)) add_buffer(draft.target, Role::kTemporary);
  }

  std::vector<ExprId> roots;
  for (const DraftStage& draft : m.drafts) {
    roots.push_back(draft.stage.value);
    roots.insert(roots.end(), draft.stage.store_index.begin(), draft.stage.store_index.end());
  }
  LoopRegion all;
  all.exprs = m.pool.exprs();
  std::vector<ExprId> renumber(all.exprs.size(), -1);
  for (const ExprId old : reachable(all, roots)) {
    Expr e = all.exprs[static_cast<std::size_t>(old)];
    for (ExprId& a : e.args) a = renumber[static_cast<std::size_t>(a)];
    if (e.op == ExprOp::kLoad || e.op == ExprOp::kLoadOr) {
      const ir::Value* value = m.numbered[static_cast<std::size_t>(e.index)];
      const auto id = ids.find(value);
      if (id == ids.end()) throw Error(Code::kInternal, fmt::format("the region reads '{}', which is neither an input nor defined", value->name));
      e.index = id->second;
    }
    renumber[static_cast<std::size_t>(old)] = static_cast<ExprId>(region.exprs.size());
    region.exprs.push_back(std::move(e));
  }
  for (const DraftStage& draft : m.drafts) {
    Stage stage = draft.stage;
    stage.value = renumber[static_cast<std::size_t>(stage.value)];
    for (ExprId& e : stage.store_index) e = renumber[static_cast<std::size_t>(e)];
    stage.target = ids.at(draft.target);
    region.stages.push_back(std::move(stage));
  }
  return region;
}

}  // namespace lathe::loops
