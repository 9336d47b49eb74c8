// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The domain ai.onnx.preview.training: one step of an optimiser on any number of tensors, and Gradient, which canonicalisation
// replaces (gradient.h).
#include <cmath>
#include <functional>

#include "loops/builder.h"
#include "ops/lower_util.h"
#include "ops/ref_util.h"
#include "ops/registry_internal.h"
#include "ops/training/gradient.h"

namespace lathe::ops {
namespace {

constexpr std::string_view kDomain = kTrainingDomain;

/// Each optimiser takes R, T, then the tensors and `kStates` further values of each: gradients first, then its own state. It gives the new
/// tensors and the new states.
template <std::size_t kStates>
std::size_t tensors_of(std::size_t inputs) {
  if (inputs < 2 || (inputs - 2) % (kStates + 1) != 0) {
    throw Error(Code::kInvalidModel, "has " + std::to_string(inputs) + " inputs; expected R, T and " + std::to_string(kStates + 1) + " for each tensor");
  }
  return (inputs - 2) / (kStates + 1);
}

template <std::size_t kStates>
void step_infer(InferContext& ctx) {
  const std::size_t tensors = tensors_of<kStates>(ctx.input_count());
  if (ctx.node().outputs.size() > tensors * kStates) {
    ctx.fail("has " + std::to_string(ctx.node().outputs.size()) + " outputs; expected " + std::to_string(tensors * kStates));
  }
  for (std::size_t i = 0; i < tensors; ++i) {
    for (std::size_t k = 1; k <= kStates; ++k) {
      const std::size_t at = 2 + k * tensors + i;
      if (ctx.dtype(at) != ctx.dtype(2 + i)) ctx.fail("input " + std::to_string(at) + " has another type than its tensor, input " + std::to_string(2 + i));
      const auto &own = ctx.shape(2 + i), &its = ctx.shape(at);
      const auto differ = [&] {
        if (own->size() != its->size()) return true;
        for (std::size_t axis = 0; axis < own->size(); ++axis)
          if ((*own)[axis].is_constant() && (*its)[axis].is_constant() && (*own)[axis] != (*its)[axis]) return true;
        return false;
      };
      if (own && its && differ()) ctx.fail("input " + std::to_string(at) + " has another shape than its tensor, input " + std::to_string(2 + i));
    }
    ctx.set_type(i, ctx.node().input(2 + i)->type);
    for (std::size_t k = 1; k < kStates; ++k) ctx.set_type(k * tensors + i, ctx.node().input(2 + i)->type);
  }
}

struct Step {
  double rate, count;
  const Attrs& attrs;
};

/// One element: `x[0]` the tensor's, then the states'; both become new. The gradient is `gradient`.
using Update = void (*)(const Step& step, double gradient, double* x);

template <std::size_t kStates>
void run_step(RefContext& ctx, Update update) {
  const std::size_t tensors = tensors_of<kStates>(ctx.input_count());
  for (std::size_t i : {std::size_t{0}, std::size_t{1}})
    if (ctx.input(i).size() != 1) ctx.fail(std::string(i == 0 ? "R" : "T") + " has " + std::to_string(ctx.input(i).size()) + " elements; expected one");
  const Step step{ctx.input(0).as_double(0), static_cast<double>(ctx.input(1).as_int64(0)), ctx.attrs()};
  for (std::size_t i = 0; i < tensors; ++i) {
    const Tensor& x = ctx.input(2 + i);
    std::vector<std::vector<double>> values;  // the tensor, its gradient, its states
    for (std::size_t k = 0; k <= kStates; ++k) {
      const Tensor& its = ctx.input(2 + k * tensors + i);
      if (its.dims() != x.dims()) ctx.fail("input " + std::to_string(2 + k * tensors + i) + " has another shape than its tensor");
      values.push_back(to_doubles(its));
    }
    for (std::size_t e = 0; e < values[0].size(); ++e) {
      double own[kStates];
      own[0] = values[0][e];
      for (std::size_t k = 1; k < kStates; ++k) own[k] = values[k + 1][e];
      update(step, values[1][e], own);
      values[0][e] = own[0];
      for (std::size_t k = 1; k < kStates; ++k) values[k + 1][e] = own[k];
    }
    ctx.set_output(i, from_doubles(x.dtype(), x.dims(), values[0]));
    for (std::size_t k = 1; k < kStates; ++k) ctx.set_output(k * tensors + i, from_doubles(x.dtype(), x.dims(), values[k + 1]));
  }
}

/// The gradient with that of 0.5 * norm_coefficient * |x|^2.
double regularised(const Step& step, double gradient, double x) { return step.attrs.get_float("norm_coefficient", 0) * x + gradient; }

void adagrad_reference(RefContext& ctx) {
  run_step<2>(ctx, [](const Step& step, double gradient, double* x) {
    const double rate = step.rate / (1 + step.count * step.attrs.get_float("decay_factor", 0)), g = regularised(step, gradient, x[0]);
    x[1] += g * g;
    x[0] -= rate * g / (std::sqrt(x[1]) + step.attrs.get_float("epsilon", 1e-6f));
  });
}

void adam_reference(RefContext& ctx) {
  run_step<3>(ctx, [](const Step& step, double gradient, double* x) {
    const double alpha = step.attrs.get_float("alpha", 0.9f), beta = step.attrs.get_float("beta", 0.999f), g = regularised(step, gradient, x[0]);
    x[1] = alpha * x[1] + (1 - alpha) * g;
    x[2] = beta * x[2] + (1 - beta) * g * g;
    const double rate = step.count > 0 ? step.rate * std::sqrt(1 - std::pow(beta, step.count)) / (1 - std::pow(alpha, step.count)) : step.rate;
    const double moved = x[0] - rate * x[1] / (std::sqrt(x[2]) + step.attrs.get_float("epsilon", 1e-6f));
    x[0] = (1 - step.attrs.get_float("norm_coefficient_post", 0)) * moved;
  });
}

bool is_nesterov(const Attrs& attrs) {
  const std::string mode = attrs.get_string("mode", "");
  if (mode != "standard" && mode != "nesterov") throw Error(Code::kInvalidModel, "mode '" + mode + "' is none of standard, nesterov");
  return mode == "nesterov";
}

void momentum_infer(InferContext& ctx) {
  is_nesterov(ctx.attrs());
  step_infer<2>(ctx);
}

void momentum_reference(RefContext& ctx) {
  const auto update = [](const Step& step, double gradient, double* x, bool nesterov) {
    const double alpha = step.attrs.get_float("alpha", 0), beta = step.count > 0 ? step.attrs.get_float("beta", 0) : 1;
    const double g = regularised(step, gradient, x[0]);
    x[1] = alpha * x[1] + beta * g;
    x[0] -= step.rate * (nesterov ? g + alpha * x[1] : x[1]);
  };
  static constexpr auto kUpdate = update;
  if (is_nesterov(ctx.attrs())) run_step<2>(ctx, [](const Step& s, double g, double* x) { kUpdate(s, g, x, true); });
  else run_step<2>(ctx, [](const Step& s, double g, double* x) { kUpdate(s, g, x, false); });
}

// Lowering: the same expressions, element by element -----------------------------------------------------------------------

using loops::ExprId;
using loops::ExprOp;
using loops::RegionBuilder;

/// Expressions in one type.
struct Calculator {
  RegionBuilder& b;
  DType type;
  ExprId number(double v) const { return b.constant(v, type); }
  ExprId add(ExprId l, ExprId r) const { return b.binary(ExprOp::kAdd, l, r); }
  ExprId sub(ExprId l, ExprId r) const { return b.binary(ExprOp::kSub, l, r); }
  ExprId mul(ExprId l, ExprId r) const { return b.binary(ExprOp::kMul, l, r); }
  ExprId div(ExprId l, ExprId r) const { return b.binary(ExprOp::kDiv, l, r); }
  ExprId root(ExprId v) const { return b.unary(ExprOp::kSqrt, v); }
  ExprId power(double base, ExprId exponent) const { return b.binary(ExprOp::kPow, number(base), exponent); }
};

/// A scalar of the step from R and T in double precision: 1 - 0.999^T is a small difference.
using StepScalar = std::function<ExprId(const Calculator& c, ExprId rate, ExprId count)>;
/// The new tensor and states from the old ones, the regularised gradient and the scalar.
using StepBody = std::function<std::vector<ExprId>(const Calculator& c, ExprId scalar, ExprId gradient, const std::vector<ExprId>& old)>;

template <std::size_t kStates>
bool lower_step(const Node& node, RegionBuilder& builder, StepScalar scalar_of, StepBody body) {
  const std::size_t tensors = tensors_of<kStates>(node.inputs.size());
  for (const Value* input : node.inputs)
    if (!input || !can_lower_real(input, builder)) return false;
  for (std::size_t i = 0; i < 2; ++i)
    if (ir::product(node.input(i)->shape()) != Dim(1)) {
      builder.decline("R or T that may not be one number");
      return false;
    }
  const Value* scalar = builder.temporary("step", DType::kFloat64, {});
  builder.define(scalar, [=, rate = node.input(0), count = node.input(1)](RegionBuilder& b, const RegionBuilder::Indices&) {
    const auto read = [&](const Value* v) { return b.cast(b.read(v, RegionBuilder::Indices(v->shape().size(), b.integer(0))), DType::kFloat64); };
    return scalar_of({b, DType::kFloat64}, read(rate), read(count));
  });
  const double norm = node.attrs.get_float("norm_coefficient", 0);
  for (std::size_t i = 0; i < tensors; ++i) {
    std::vector<const Value*> values;  // the tensor, its gradient, its states
    for (std::size_t k = 0; k <= kStates; ++k) values.push_back(node.input(2 + k * tensors + i));
    for (std::size_t k = 0; k < kStates; ++k) {
      const Value* out = node.output(k * tensors + i);
      if (!out) continue;
      builder.define(out, [=](RegionBuilder& b, const RegionBuilder::Indices& at) {
        const Calculator c{b, values[0]->dtype()};
        std::vector<ExprId> old;
        for (const Value* value : values) {
          if (value->shape().size() != at.size()) throw Error(Code::kInvalidModel, "'" + value->name + "' has another rank than its tensor");
          for (std::size_t a = 0; a < at.size(); ++a) b.require_equal(value, value->shape()[a], values[0]->shape()[a]);
          old.push_back(b.read(value, at));
        }
        const ExprId gradient = c.add(c.mul(c.number(norm), old[0]), old[1]);
        old.erase(old.begin() + 1);
        return body(c, b.cast(b.read(scalar, {}), c.type), gradient, old)[k];
      });
    }
  }
  return true;
}

bool adagrad_lower(const Node& node, RegionBuilder& builder) {
  const double decay = node.attrs.get_float("decay_factor", 0), epsilon = node.attrs.get_float("epsilon", 1e-6f);
  return lower_step<2>(
      node, builder, [=](const Calculator& c, ExprId rate, ExprId count) { return c.div(rate, c.add(c.number(1), c.mul(count, c.number(decay)))); },
      [=](const Calculator& c, ExprId rate, ExprId g, const std::vector<ExprId>& old) -> std::vector<ExprId> {
        const ExprId squares = c.add(old[1], c.mul(g, g));
        return {c.sub(old[0], c.div(c.mul(rate, g), c.add(c.root(squares), c.number(epsilon)))), squares};
      });
}

bool adam_lower(const Node& node, RegionBuilder& builder) {
  const double alpha = node.attrs.get_float("alpha", 0.9f), beta = node.attrs.get_float("beta", 0.999f), epsilon = node.attrs.get_float("epsilon", 1e-6f),
               post = node.attrs.get_float("norm_coefficient_post", 0);
  return lower_step<3>(
      node, builder,
      [=](const Calculator& c, ExprId rate, ExprId count) {
        const ExprId one = c.number(1);
        const ExprId corrected = c.div(c.mul(rate, c.root(c.sub(one, c.power(beta, count)))), c.sub(one, c.power(alpha, count)));
        return c.b.select(c.b.binary(ExprOp::kGreater, count, c.number(0)), corrected, rate);
      },
      [=](const Calculator& c, ExprId rate, ExprId g, const std::vector<ExprId>& old) -> std::vector<ExprId> {
        const ExprId mean = c.add(c.mul(c.number(alpha), old[1]), c.mul(c.number(1 - alpha), g));
        const ExprId squares = c.add(c.mul(c.number(beta), old[2]), c.mul(c.mul(c.number(1 - beta), g), g));
        const ExprId moved = c.sub(old[0], c.div(c.mul(rate, mean), c.add(c.root(squares), c.number(epsilon))));
        return {c.mul(c.number(1 - post), moved), mean, squares};
      });
}

bool momentum_lower(const Node& node, RegionBuilder& builder) {
  const double alpha = node.attrs.get_float("alpha", 0), beta = node.attrs.get_float("beta", 0);
  const bool nesterov = is_nesterov(node.attrs);
  // The scalar is the share of the gradient; the rate needs no precision beyond its own.
  return lower_step<2>(
      node, builder,
      [=](const Calculator& c, ExprId, ExprId count) { return c.b.select(c.b.binary(ExprOp::kGreater, count, c.number(0)), c.number(beta), c.number(1)); },
      [=, rate = node.input(0)](const Calculator& c, ExprId share, ExprId g, const std::vector<ExprId>& old) -> std::vector<ExprId> {
        const ExprId step = c.b.cast(c.b.read(rate, RegionBuilder::Indices(rate->shape().size(), c.b.integer(0))), c.type);
        const ExprId momentum = c.add(c.mul(c.number(alpha), old[1]), c.mul(share, g));
        const ExprId way = nesterov ? c.add(g, c.mul(c.number(alpha), momentum)) : momentum;
        return {c.sub(old[0], c.mul(step, way)), momentum};
      });
}

// Gradient --------------------------------------------------------------------------------------------------------

/// A derivative has the type and shape of what is differentiated by.
void gradient_infer(InferContext& ctx) {
  const auto xs = ctx.attrs().get_strings("xs"), zs = ctx.attrs().get_strings("zs");
  if (xs.empty()) ctx.fail("xs is empty: there is nothing to differentiate by");
  if (ctx.input_count() != xs.size() + zs.size()) {
    ctx.fail("has " + std::to_string(ctx.input_count()) + " inputs; expected one for each of its " + std::to_string(xs.size() + zs.size()) + " xs and zs");
  }
  if (ctx.node().outputs.size() > xs.size()) ctx.fail("has " + std::to_string(ctx.node().outputs.size()) + " outputs for " + std::to_string(xs.size()) + " xs");
  for (std::size_t i = 0; i < ctx.node().outputs.size(); ++i) ctx.set_type(i, ctx.node().input(i)->type);
}

/// Alone it says nothing of what lies between xs and y; canonicalise_opsets has replaced it where a graph runs.
void gradient_reference(RefContext& ctx) { ctx.fail("is a node that only its whole graph can compute"); }

}  // namespace

std::span<const OpDef> ops_training() {
  constexpr std::string_view kIo = "R:T1 T:T2 inputs++:T3 -> outputs++:T3", kTypes = "T1: float double; T2: int64; T3: float double";
  constexpr Tolerance kTolerance{.relative = 1e-5, .absolute = 1e-6};
  static const std::vector<OpDef> ops{
      {.domain = kDomain,
       .name = "Adagrad",
       .versions = {{1, kIo, "decay_factor:float=0 epsilon:float=1e-6 norm_coefficient:float=0", kTypes}},
       .infer = step_infer<2>,
       .reference = adagrad_reference,
       .tolerance = kTolerance,
       .lower = adagrad_lower,
       .doc = "one step of ADAGRAD"},
      {.domain = kDomain,
       .name = "Adam",
       .versions = {{1, kIo, "alpha:float=0.9 beta:float=0.999 epsilon:float=1e-6 norm_coefficient:float=0 norm_coefficient_post:float=0", kTypes}},
       .infer = step_infer<3>,
       .reference = adam_reference,
       .tolerance = kTolerance,
       .lower = adam_lower,
       .doc = "one step of Adam"},
      {.domain = kDomain,
       .name = "Momentum",
       .versions = {{1, kIo, "alpha:float beta:float mode:string norm_coefficient:float", kTypes}},
       .infer = momentum_infer,
       .reference = momentum_reference,
       .tolerance = kTolerance,
       .lower = momentum_lower,
       .doc = "one step of gradient descent with momentum"},
      {.domain = kDomain,
       .name = "Gradient",
       .versions = {{1, "Inputs++:T1 -> Outputs++:T2", "xs:strings y:string zs:strings?", "T1: @all; T2: @float"}},
       .infer = gradient_infer,
       .reference = gradient_reference,
       .deterministic = false,
       .doc = "derivatives of a tensor of the graph by others, computed by nodes that take its place (through the common operators: "
              "`src/ops/training/gradient_*.cpp`)"},
  };
  return ops;
}

}  // namespace lathe::ops
