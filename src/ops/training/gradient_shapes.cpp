// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Derivatives of what multiplies matrices, moves elements and reduces axes.
#include <algorithm>
#include <map>

#include "ops/infer.h"
#include "ops/training/gradient_terms.h"

namespace lathe::ops {

const Shape& shape_of(const BackwardNode& b, const Value* value) {
  if (!rank_of(value)) b.fail("the shape of '" + value->name + "' is not known");
  return value->shape();
}

Value* extents(BackwardNode& b, Value* like) {
  if (like->type.is_tensor() && like->has_shape())
    if (const auto dims = ir::constant_dims(like->shape())) return b.parts.ints(*dims);
  return b.parts.unary("Shape", like);
}

Value* reshaped_like(BackwardNode& b, Value* value, Value* like) { return b.parts.ctx.add("Reshape", {value, extents(b, like)}, attrs_of({{"allowzero", 1}})); }

Value* sum_over(BackwardNode& b, Value* value, const std::vector<std::int64_t>& axes, bool keep) {
  if (axes.empty()) return value;
  return b.parts.ctx.add("ReduceSum", {value, b.parts.ints(axes)}, attrs_of({{"keepdims", keep ? 1 : 0}}));
}

/// Undoes a broadcast: `value`, of shape `from`, becomes one of shape `to`.
Value* sum_to(BackwardNode& b, Value* value, const Shape& from, const Shape& to) {
  if (to.size() > from.size()) b.fail("a result has fewer axes than what it was made of");
  const std::size_t more = from.size() - to.size();
  std::vector<std::int64_t> leading, kept;
  for (std::size_t i = 0; i < more; ++i) leading.push_back(static_cast<std::int64_t>(i));
  for (std::size_t i = 0; i < to.size(); ++i) {
    const Dim &whole = from[more + i], &part = to[i];
    if (whole == part || part.lower_bound().value_or(0) > 1) continue;
    // Zero rows are no broadcast of anything but one row.
    if (part.constant() == std::int64_t{0}) continue;
    if (part.constant() != std::int64_t{1}) {
      b.fail("whether an extent of " + part.to_string() + " was broadcast to " + whole.to_string() + " is not known before it runs");
    }
    kept.push_back(static_cast<std::int64_t>(i));
  }
  return sum_over(b, sum_over(b, value, leading, false), kept, true);
}

namespace {

// Products ----------------------------------------------------------------------------------------------------------------------------

Value* transposed(BackwardNode& b, Value* matrix, std::size_t rank) {
  std::vector<std::int64_t> perm(rank);
  for (std::size_t i = 0; i < rank; ++i) perm[i] = static_cast<std::int64_t>(i);
  std::swap(perm[rank - 1], perm[rank - 2]);
  return b.parts.transpose(matrix, std::move(perm));
}

void matmul(BackwardNode& node) {
  const Rule r(node);
  Shape a_shape = r.shape(0), b_shape = r.shape(1), batch = r.result_shape();
  const bool row = a_shape.size() == 1, column = b_shape.size() == 1;  // vectors are matrices of one row, of one column
  Value *a = node.node.input(0), *b = node.node.input(1), *g = r.g.value;
  if (row) {
    a = node.parts.unsqueeze(a, {0});
    a_shape.insert(a_shape.begin(), Dim(1));
  }
  if (column) {
    b = node.parts.unsqueeze(b, {1});
    b_shape.push_back(Dim(1));
  }
  if (row && column) g = node.parts.unsqueeze(g, {0, 1});
  else if (row) g = node.parts.unsqueeze(g, {-2});
  else if (column) g = node.parts.unsqueeze(g, {-1});
  const std::size_t matrix_axes = (row ? 0 : 1) + (column ? 0 : 1);
  if (batch.size() < matrix_axes) node.fail("its result has too few axes");
  batch.resize(batch.size() - matrix_axes);
  const auto summed = [&](Value* product, const Shape& to) {
    Shape from = batch;
    from.insert(from.end(), to.end() - 2, to.end());
    return sum_to(node, product, from, to);
  };
  if (r.wants(0)) {
    Value* by_a = summed(node.parts.binary("MatMul", g, transposed(node, b, b_shape.size())), a_shape);
    node.give(0, row ? node.parts.squeeze(by_a, {0}) : by_a);
  }
  if (r.wants(1)) {
    Value* by_b = summed(node.parts.binary("MatMul", transposed(node, a, a_shape.size()), g), b_shape);
    node.give(1, column ? node.parts.squeeze(by_b, {1}) : by_b);
  }
}

void gemm(BackwardNode& node) {
  const Rule r(node);
  const bool a_turned = node.node.attrs.get_int("transA", 0) != 0, b_turned = node.node.attrs.get_int("transB", 0) != 0;
  const float alpha = node.node.attrs.get_float("alpha", 1), beta = node.node.attrs.get_float("beta", 1);
  Value *a = node.node.input(0), *b = node.node.input(1), *g = r.g.value;
  const auto product = [&](Value* left, bool turn_left, Value* right, bool turn_right) {
    return node.parts.ctx.add("Gemm", {left, right}, attrs_of({{"alpha", alpha}, {"transA", turn_left}, {"transB", turn_right}}));
  };
  if (r.wants(0)) node.give(0, a_turned ? product(b, b_turned, g, true) : product(g, false, b, !b_turned));
  if (r.wants(1)) node.give(1, b_turned ? product(g, true, a, a_turned) : product(a, !a_turned, g, false));
  if (r.wants(2)) r.give(2, r.g * beta);
}

// Movement ----------------------------------------------------------------------------------------------------------------------------

void transpose(BackwardNode& node) {
  if (!node.wanted[0]) return;
  auto perm = node.node.attrs.get_ints("perm");
  if (perm.empty()) {
    perm.resize(shape_of(node, node.node.input(0)).size());
    for (std::size_t i = 0; i < perm.size(); ++i) perm[i] = static_cast<std::int64_t>(perm.size() - 1 - i);
  }
  std::vector<std::int64_t> back(perm.size());
  for (std::size_t i = 0; i < perm.size(); ++i) {
    if (perm[i] < 0 || perm[i] >= static_cast<std::int64_t>(perm.size())) node.fail("perm is no permutation");
    back[static_cast<std::size_t>(perm[i])] = static_cast<std::int64_t>(i);
  }
  node.give(0, node.parts.transpose(node.gradients[0], std::move(back)));
}

void reshape(BackwardNode& node) {
  if (node.wanted[0]) node.give(0, reshaped_like(node, node.gradients[0], node.node.input(0)));
}

void expand(BackwardNode& node) {
  const Rule r(node);
  if (r.wants(0)) r.give(0, r.g);
}

std::int64_t axis_of(const BackwardNode& node, const char* name, std::int64_t fallback, const Value* value) {
  const auto rank = static_cast<std::int64_t>(shape_of(node, value).size());
  const std::int64_t axis = node.node.attrs.get_int(name, fallback);
  if (axis < -rank || axis >= rank) node.fail("axis " + std::to_string(axis) + " is out of range");
  return axis < 0 ? axis + rank : axis;
}

/// Each input has its own stretch of the axis.
void concat(BackwardNode& node) {
  const std::int64_t axis = axis_of(node, "axis", 0, node.node.outputs[0]);
  Value* start = node.parts.ints({0});
  for (std::size_t i = 0; i < node.wanted.size(); ++i) {
    Value* input = node.node.input(i);
    const auto extent = extent_of(input, static_cast<std::size_t>(axis));
    Value* length = extent ? node.parts.ints({*extent}) : node.parts.extent(input, axis);
    Value* end = i == 0 ? length : node.parts.plus(start, length);
    if (node.wanted[i]) node.give(i, node.parts.slice(node.gradients[0], axis, start, end));
    start = end;
  }
}

void split(BackwardNode& node) {
  if (!node.wanted[0]) return;
  const std::int64_t axis = axis_of(node, "axis", 0, node.node.input(0));
  std::vector<Value*> parts;
  for (std::size_t i = 0; i < node.gradients.size(); ++i) {
    Value* output = node.node.outputs[i];
    if (!output) node.fail("one of its outputs is left out");
    parts.push_back(node.gradients[i] ? node.gradients[i] : filled_like(node.parts, output, 0));
  }
  node.give(0, node.parts.concat(std::move(parts), axis));
}

// Reductions --------------------------------------------------------------------------------------------------------------------------

struct Reduced {
  std::vector<std::int64_t> axes;
  bool nothing = false;  ///< the result is the input
};

Reduced reduced_axes(const BackwardNode& node) {
  const auto rank = static_cast<std::int64_t>(shape_of(node, node.node.input(0)).size());
  Reduced reduced;
  if (const Value* axes = node.node.input(1)) {
    const auto content = known_content(*axes, static_cast<std::size_t>(rank));
    if (!content) node.fail("which axes it reduces is not known before it runs");
    for (const Dim& dim : *content) {
      const auto axis = dim.constant();
      if (!axis || *axis < -rank || *axis >= rank) node.fail("which axes it reduces is not known before it runs");
      reduced.axes.push_back(*axis < 0 ? *axis + rank : *axis);
    }
  }
  if (!reduced.axes.empty()) return reduced;
  reduced.nothing = node.node.attrs.get_int("noop_with_empty_axes", 0) != 0;
  for (std::int64_t i = 0; i < rank; ++i) reduced.axes.push_back(i);
  return reduced;
}

/// How many elements make one of the result.
Term count_of(const Rule& r, const Reduced& reduced) {
  Value* x = r.b.node.input(0);
  std::int64_t count = 1;
  for (const std::int64_t axis : reduced.axes) {
    const auto extent = extent_of(x, static_cast<std::size_t>(axis));
    if (extent && !__builtin_mul_overflow(count, *extent, &count)) continue;
    Value* all = r.b.parts.gather(r.b.parts.unary("Shape", x), r.b.parts.ints(reduced.axes), 0);
    return r.term(r.b.parts.cast(r.b.parts.unary("ReduceProd", all, attrs_of({{"keepdims", 0}})), r.g.dtype));
  }
  return r.g.number(static_cast<double>(count));
}

/// `back` sees result and gradient with the reduced axes as extents of 1.
void reduce(BackwardNode& node, Term (*back)(const Rule& r, const Reduced& reduced, Term g, Term x, Term y)) {
  const Rule r(node);
  if (!r.wants(0)) return;
  const Reduced reduced = reduced_axes(node);
  Term g = r.g, y = r.result();
  if (!reduced.nothing && node.node.attrs.get_int("keepdims", 1) == 0 && !reduced.axes.empty()) {
    g.value = node.parts.unsqueeze(g.value, reduced.axes);
    y.value = node.parts.unsqueeze(y.value, reduced.axes);
  }
  node.give(0, back(r, reduced, g, r.in(0), y).value);
}

Term spread(const Rule& r, Term g) {
  if (r.shape(0).empty()) return g;
  return r.term(r.b.parts.binary("Expand", g.value, extents(r.b, r.b.node.input(0))));
}

void reduce_sum(BackwardNode& node) {
  reduce(node, [](const Rule& r, const Reduced&, Term g, Term, Term) { return spread(r, g); });
}

void reduce_mean(BackwardNode& node) {
  reduce(node, [](const Rule& r, const Reduced& reduced, Term g, Term, Term) { return reduced.nothing ? g : spread(r, g / count_of(r, reduced)); });
}

void reduce_sum_square(BackwardNode& node) {
  reduce(node, [](const Rule&, const Reduced&, Term g, Term x, Term) { return g * x * 2; });
}

void reduce_l1(BackwardNode& node) {
  reduce(node, [](const Rule&, const Reduced&, Term g, Term x, Term) { return g * call("Sign", x); });
}

void reduce_l2(BackwardNode& node) {
  reduce(node, [](const Rule&, const Reduced&, Term g, Term x, Term y) { return g * x / y; });
}

void reduce_log_sum_exp(BackwardNode& node) {
  reduce(node, [](const Rule&, const Reduced&, Term g, Term x, Term y) { return g * exp(x - y); });
}

void softmax(BackwardNode& node) {
  const Rule r(node);
  if (!r.wants(0)) return;
  if (r.shape(0).empty()) return node.give(0, nullptr);  // a constant 1
  const std::int64_t axis = axis_of(node, "axis", -1, node.node.input(0));
  const Term y = r.result();
  const auto sum = [&](Term t) { return r.term(sum_over(node, t.value, {axis}, true)); };
  const bool logarithm = node.node.op == "LogSoftmax";
  node.give(0, (logarithm ? r.g - exp(y) * sum(r.g) : y * (r.g - sum(r.g * y))).value);
}

}  // namespace

GradientRule find_shape_rule(const ir::Node& node) {
  static const std::map<std::string_view, GradientRule> rules{
      {"MatMul", matmul},
      {"Gemm", gemm},
      {"Transpose", transpose},
      {"Reshape", reshape},
      {"Flatten", reshape},
      {"Squeeze", reshape},
      {"Unsqueeze", reshape},
      {"Expand", expand},
      {"Concat", concat},
      {"Split", split},
      {"ReduceSum", reduce_sum},
      {"ReduceMean", reduce_mean},
      {"ReduceSumSquare", reduce_sum_square},
      {"ReduceL1", reduce_l1},
      {"ReduceL2", reduce_l2},
      {"ReduceLogSumExp", reduce_log_sum_exp},
      {"Softmax", softmax},
      {"LogSoftmax", softmax},
  };
  const auto found = rules.find(node.op);
  return found == rules.end() ? nullptr : found->second;
}

}  // namespace lathe::ops
