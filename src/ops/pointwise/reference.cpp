// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Reference of a row: its expression per element in double (or int64), rounded once to the result's type.
#include <cstring>

#include "loops/simplify.h"
#include "ops/pointwise/expr_back_end.h"

namespace lathe::ops::pointwise {
namespace {

using loops::ExprId;
using loops::ExprOp;
using loops::Scalar;

/// Steps through the elements of an output of extents `out` and gives the matching position in each broadcast operand.
class Walker {
 public:
  Walker(const Dims& out, const std::vector<const Tensor*>& operands) : out_(out), index_(out.size(), 0), positions(operands.size(), 0) {
    for (const Tensor* t : operands) {
      std::vector<std::int64_t> strides(out.size(), 0);
      std::int64_t stride = 1;
      for (std::size_t k = t->dims().size(), d = out.size(); k-- > 0;) {
        --d;
        strides[d] = t->dims()[k] == 1 ? 0 : stride;
        stride *= t->dims()[k];
      }
      strides_.push_back(std::move(strides));
    }
  }
  void next() {
    for (std::size_t d = out_.size(); d-- > 0;) {
      const bool wraps = ++index_[d] == out_[d];
      for (std::size_t i = 0; i < positions.size(); ++i) positions[i] += wraps ? -strides_[i][d] * (out_[d] - 1) : strides_[i][d];
      if (!wraps) return;
      index_[d] = 0;
    }
  }

 private:
  const Dims& out_;
  Dims index_;
  std::vector<std::vector<std::int64_t>> strides_;

 public:
  std::vector<std::int64_t> positions;
};

Dims broadcast_dims(RefContext& context, const std::vector<const Tensor*>& operands) {
  Shape shape;
  for (const Tensor* t : operands) {
    Shape next;
    if (!broadcast(shape, Shape(t->dims().begin(), t->dims().end()), next)) context.fail("the shapes of its inputs cannot be broadcast together");
    shape = std::move(next);
  }
  return *ir::constant_dims(shape);
}

std::int64_t count_of(const Dims& dims) {
  std::int64_t count = 1;
  for (const std::int64_t d : dims) count *= d;
  return count;
}

/// Where over types without arithmetic (strings, complex), and Equal over strings.
bool run_without_arithmetic(RefContext& context, const Row& row, const std::vector<const Tensor*>& operands) {
  const DType type = operands.back()->dtype();
  const bool text = type == DType::kString, complex = type == DType::kComplex64 || type == DType::kComplex128;
  if (!text && !complex) return false;
  const Dims dims = broadcast_dims(context, operands);
  Walker at(dims, operands);
  Tensor out(row.gives_bool ? DType::kBool : type, dims);
  const std::int64_t count = count_of(dims);
  const std::size_t width = complex ? dtype_bytes(type, 1) : 0;
  for (std::int64_t e = 0; e < count; ++e, at.next()) {
    if (row.name == "Equal") {
      out.set_from_int64(e, operands[0]->string_data()[at.positions[0]] == operands[1]->string_data()[at.positions[1]]);
    } else if (row.name == "Where") {
      const std::size_t side = operands[0]->as_int64(at.positions[0]) ? 1 : 2;
      if (text) out.mutable_string_data()[e] = operands[side]->string_data()[at.positions[side]];
      else std::memcpy(out.mutable_raw() + e * width, operands[side]->raw() + at.positions[side] * width, width);
    } else {
      context.fail("no arithmetic on elements of this type");
    }
  }
  context.set_output(0, std::move(out));
  return true;
}

/// The row's expression over loads of the operands, flattened to a straight program.
struct Program {
  loops::LoopRegion holder;  ///< only its expressions are used
  std::vector<ExprId> order;
  ExprId root;
};

Program compile(RefContext& context, const Row& row, const std::vector<const Tensor*>& operands, const std::vector<int>& operand_of_input, DType result) {
  loops::ExprPool pool;
  std::vector<ExprId> loads;
  for (std::size_t i = 0; i < operands.size(); ++i) loads.push_back(pool.load(static_cast<int>(i), operands[i]->dtype(), {}, -1));
  ExprBackEnd<loops::ExprPool> back_end{pool, row, context.attrs(), operands[row.type_input()]->dtype(), {}};
  ExprId root = -1;
  if (!row.variadic) {
    back_end.input = [&](const std::string& name) -> std::optional<ExprId> {
      for (std::size_t i = 0; i < row.inputs.size() && i < operand_of_input.size(); ++i) {
        if (row.inputs[i] == name && operand_of_input[i] >= 0) return loads[static_cast<std::size_t>(operand_of_input[i])];
      }
      return std::nullopt;
    };
    root = back_end.finish(eval(row.ast, row.ast.root, back_end), result);
  } else {
    ExprId running = loads[0], next = -1;
    back_end.input = [&](const std::string& name) -> std::optional<ExprId> {
      if (name == "a") return running;
      if (name == "b") return next;
      if (name == "n") return pool.constant(static_cast<double>(loads.size()), back_end.type);
      return std::nullopt;
    };
    for (std::size_t i = 1; i < loads.size(); ++i) {
      next = loads[i];
      running = back_end.finish(eval(row.ast, row.ast.root, back_end), result);
    }
    root = row.ast.finish < 0 ? running : back_end.finish(eval(row.ast, row.ast.finish, back_end), result);
  }
  Program program;
  program.holder.exprs = pool.exprs();
  program.order = loops::reachable(program.holder, std::span(&root, 1));
  program.root = root;
  return program;
}

void step(const loops::Expr& e, const std::vector<loops::Expr>& all, std::vector<Scalar>& now, const std::vector<const Tensor*>& operands, const Walker& at,
          ExprId id) {
  switch (e.op) {
    case ExprOp::kConst: return;
    case ExprOp::kLoad: {
      const auto i = static_cast<std::size_t>(e.index);
      now[id] = is_float(e.type) ? Scalar::of(operands[i]->as_double(at.positions[i])) : Scalar::of(operands[i]->as_int64(at.positions[i]));
      return;
    }
    case ExprOp::kSelect: now[id] = now[e.args[0]].whole ? now[e.args[1]] : now[e.args[2]]; return;
    case ExprOp::kCast: now[id] = loops::cast_scalar(now[e.args[0]], all[e.args[0]].type, e.type); return;
    default:
      now[id] = loops::op_arity(e.op) == 1 ? loops::apply_unary(e.op, all[e.args[0]].type, now[e.args[0]])
                                           : loops::apply_binary(e.op, all[e.args[0]].type, now[e.args[0]], now[e.args[1]]);
  }
}

}  // namespace

void reference_row(RefContext& context) {
  const Row& row = row_of(context.node().op);
  std::vector<const Tensor*> operands;
  std::vector<int> operand_of_input;
  for (std::size_t i = 0; i < context.input_count(); ++i) {
    operand_of_input.push_back(context.has_input(i) ? static_cast<int>(operands.size()) : -1);
    if (context.has_input(i)) operands.push_back(&context.input(i));
  }
  std::vector<Tensor> reshaped;
  if (row.name == "Clip") {  // bounds are scalars, whatever shape an exporter gave their one element
    reshaped.reserve(operands.size());
    for (std::size_t i = 1; i < operands.size(); ++i) {
      if (operands[i]->size() != 1) context.fail("min and max must hold one element");
      operands[i] = &reshaped.emplace_back(operands[i]->reshaped({}));
    }
  }
  if (run_without_arithmetic(context, row, operands)) return;
  const DType result = row.gives_bool ? DType::kBool : operands[row.type_input()]->dtype();
  const Dims dims = broadcast_dims(context, operands);
  const Program program = compile(context, row, operands, operand_of_input, result);
  const std::vector<loops::Expr>& exprs = program.holder.exprs;
  std::vector<Scalar> now(exprs.size());
  for (const ExprId id : program.order) now[id] = Scalar{exprs[id].number, exprs[id].integer};
  Walker at(dims, operands);
  Tensor out(result, dims);
  const std::int64_t count = count_of(dims);
  for (std::int64_t e = 0; e < count; ++e, at.next()) {
    for (const ExprId id : program.order) step(exprs[id], exprs, now, operands, at, id);
    if (is_float(result)) {
      out.set_from_double(e, now[program.root].real);
    } else {
      out.set_from_int64(e, now[program.root].whole);
    }
  }
  context.set_output(0, std::move(out));
}

}  // namespace lathe::ops::pointwise
