// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Point by point, in the order written: slow and plain on purpose.
#include "loops/interpreter.h"

#include <cmath>

#include <fmt/format.h>

#include "lathe/status.h"
#include "loops/scalar.h"

namespace lathe::loops {
namespace {

/// A buffer under interpretation. `values` holds doubles or integers at full width until the tensors are made.
struct Cells {
  DType dtype = DType::kUndefined;
  Dims dims;
  std::vector<Scalar> values;
};

Dims concrete(const ir::Shape& shape, const ir::Bindings& symbols, std::string_view what) {
  const auto dims = ir::evaluate(shape, symbols);
  if (!dims) throw Error(Code::kInvalidArgument, fmt::format("the shape {} of {} has an unbound symbol", ir::to_string(shape), what));
  return *dims;
}

class Interpreter {
 public:
  Interpreter(const LoopRegion& region, const ir::Bindings& symbols, bool round_temporaries)
      : region_(region), symbols_(symbols), round_temporaries_(round_temporaries), now_(region.exprs.size()) {}

  std::vector<Tensor> run(std::span<const Tensor> inputs) {
    check_requirements(region_, symbols_);
    std::size_t next_input = 0;
    for (const Buffer& buffer : region_.buffers) {
      Cells cells{buffer.dtype, concrete(buffer.shape, symbols_, buffer.name), {}};
      std::int64_t count = 1;
      for (const std::int64_t d : cells.dims) count *= d;
      cells.values.resize(static_cast<std::size_t>(count));
      if (buffer.role == Role::kInput) {
        if (next_input >= inputs.size()) throw Error(Code::kInvalidArgument, "too few inputs for the region");
        const Tensor& tensor = inputs[next_input++];
        if (tensor.dtype() != buffer.dtype || tensor.dims() != cells.dims)
          throw Error(Code::kInvalidArgument, "input '" + buffer.name + "' differs from its buffer in type or shape");
        for (std::int64_t i = 0; i < count; ++i) {
          cells.values[i] = is_float(buffer.dtype) ? Scalar::of(tensor.as_double(i)) : Scalar::of(tensor.as_int64(i));
        }
      }
      cells_.push_back(std::move(cells));
    }
    for (const Stage& stage : region_.stages) run_stage(stage);
    std::vector<Tensor> outputs;
    for (std::size_t b = 0; b < region_.buffers.size(); ++b) {
      if (region_.buffers[b].role != Role::kOutput) continue;
      Tensor tensor(cells_[b].dtype, cells_[b].dims);
      for (std::size_t i = 0; i < cells_[b].values.size(); ++i) {
        if (is_float(tensor.dtype())) {
          tensor.set_from_double(static_cast<std::int64_t>(i), cells_[b].values[i].real);
        } else {
          tensor.set_from_int64(static_cast<std::int64_t>(i), cells_[b].values[i].whole);
        }
      }
      outputs.push_back(std::move(tensor));
    }
    return outputs;
  }

 private:
  void run_stage(const Stage& stage) {
    Dims extents;
    ir::Shape shape;
    for (const Axis& axis : stage.axes) shape.push_back(axis.extent);
    extents = concrete(shape, symbols_, "an axis");
    std::vector<std::size_t> kept, reduced;
    for (std::size_t i = 0; i < stage.axes.size(); ++i) (stage.axes[i].reduction ? reduced : kept).push_back(i);
    const std::vector<ExprId> value_order = reachable(region_, std::span(&stage.value, 1));
    const std::vector<ExprId> index_order = reachable(region_, stage.store_index);
    axes_.assign(stage.axes.size(), 0);
    const DType running_type = is_float(stage.accumulate) ? DType::kFloat64 : stage.accumulate;
    for_each_point(extents, kept, [&] {
      Scalar result;
      if (stage.reduce == Reduce::kNone) {
        evaluate(value_order);
        result = now_[stage.value];
      } else {
        result = reduce(stage, extents, reduced, value_order, running_type);
      }
      evaluate(index_order);
      Cells& target = cells_[stage.target];
      const std::int64_t at = flat(target, stage.store_index);
      if (at < 0)
        throw Error(Code::kInvalidArgument,
                    "the extents of this run do not fit each other: a step would write outside of '" + region_.buffers[stage.target].name + "'");
      const DType from = is_arg_reduce(stage.reduce) ? DType::kInt64 : stage.reduce != Reduce::kNone ? running_type : region_.exprs[stage.value].type;
      const bool keep_wide = region_.buffers[stage.target].role == Role::kTemporary && !round_temporaries_ && is_float(from) && is_float(target.dtype);
      target.values[at] = keep_wide ? result : cast_scalar(result, from, target.dtype);
    });
  }

  Scalar reduce(const Stage& stage, const Dims& extents, const std::vector<std::size_t>& reduced, const std::vector<ExprId>& order, DType type) {
    Scalar running = reduce_identity(stage.reduce, type);
    std::int64_t position = 0, best_position = 0;
    const DType value_type = region_.exprs[stage.value].type;
    const bool is_arg = is_arg_reduce(stage.reduce);
    const bool seeks_max = stage.reduce == Reduce::kArgMax || stage.reduce == Reduce::kArgMaxLast;
    const bool last = stage.reduce == Reduce::kArgMaxLast || stage.reduce == Reduce::kArgMinLast;
    for_each_point(extents, reduced, [&] {
      evaluate(order);
      const Scalar next = now_[stage.value];
      if (!is_arg) {
        running = reduce_step(stage.reduce, type, running, value_type == type ? next : cast_scalar(next, value_type, type));
      } else {
        // NaN ranks above all numbers for both directions, as in NumPy.
        const bool nan_now = is_float(value_type) && std::isnan(next.real), nan_best = is_float(value_type) && std::isnan(running.real);
        const bool better = apply_binary(seeks_max ? ExprOp::kGreater : ExprOp::kLess, value_type, next, running).whole != 0;
        const bool equal = apply_binary(ExprOp::kEqual, value_type, next, running).whole != 0 || (nan_now && nan_best);
        if (position == 0 || (nan_now && !nan_best) || (!nan_best && better) || (last && equal)) {
          running = next;
          best_position = position;
        }
        ++position;
      }
    });
    return is_arg ? Scalar::of(best_position) : running;
  }

  template <class Visit>
  void for_each_point(const Dims& extents, const std::vector<std::size_t>& over, Visit visit) {
    for (const std::size_t a : over) {
      if (extents[a] <= 0) return;
      axes_[a] = 0;
    }
    for (;;) {
      visit();
      std::size_t k = over.size();
      while (k > 0) {
        const std::size_t a = over[k - 1];
        if (++axes_[a] < extents[a]) break;
        axes_[a] = 0;
        --k;
      }
      if (k == 0) return;
    }
  }

  /// Row-major position, or -1 when an index is out of bounds.
  std::int64_t flat(const Cells& cells, std::span<const ExprId> indices) const {
    std::int64_t at = 0;
    for (std::size_t d = 0; d < cells.dims.size(); ++d) {
      const std::int64_t i = now_[indices[d]].whole;
      if (i < 0 || i >= cells.dims[d]) return -1;
      at = at * cells.dims[d] + i;
    }
    return at;
  }

  void evaluate(std::span<const ExprId> order) {
    for (const ExprId id : order) {
      const Expr& e = region_.exprs[id];
      Scalar& result = now_[id];
      switch (e.op) {
        case ExprOp::kConst: result = Scalar{e.number, e.integer}; break;
        case ExprOp::kAxis: result = Scalar::of(axes_[e.index]); break;
        case ExprOp::kDim: {
          const auto value = e.dim.evaluate(symbols_);
          if (!value) throw Error(Code::kInvalidArgument, "the extent " + e.dim.to_string() + " has an unbound symbol");
          result = Scalar::of(*value);
          break;
        }
        case ExprOp::kLoad: {
          const std::int64_t at = flat(cells_[e.index], e.args);
          if (at < 0)
            throw Error(Code::kInvalidArgument,
                        "the extents of this run do not fit each other: a step would read outside of '" + region_.buffers[e.index].name + "'");
          result = cells_[e.index].values[at];
          break;
        }
        case ExprOp::kLoadOr: {
          const std::int64_t at = flat(cells_[e.index], std::span(e.args).first(e.args.size() - 1));
          result = at < 0 ? now_[e.args.back()] : cells_[e.index].values[at];
          break;
        }
        case ExprOp::kSelect: result = now_[e.args[0]].whole ? now_[e.args[1]] : now_[e.args[2]]; break;
        case ExprOp::kCast: result = cast_scalar(now_[e.args[0]], region_.exprs[e.args[0]].type, e.type); break;
        default: {
          const DType type = region_.exprs[e.args[0]].type;
          result = op_arity(e.op) == 1 ? apply_unary(e.op, type, now_[e.args[0]]) : apply_binary(e.op, type, now_[e.args[0]], now_[e.args[1]]);
        }
      }
    }
  }

  const LoopRegion& region_;
  const ir::Bindings& symbols_;
  bool round_temporaries_;
  std::vector<Cells> cells_;
  std::vector<Scalar> now_;  ///< value of each expression at the current point
  std::vector<std::int64_t> axes_;
};

}  // namespace

std::vector<Tensor> interpret(const LoopRegion& region, std::span<const Tensor> inputs, const ir::Bindings& symbols, bool round_temporaries) {
  return Interpreter(region, symbols, round_temporaries).run(inputs);
}

}  // namespace lathe::loops
