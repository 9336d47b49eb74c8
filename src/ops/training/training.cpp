// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The domain ai.onnx.preview.training: one step of an optimiser on any number of tensors, and Gradient, which canonicalisation
// replaces (gradient.h).
#include <cmath>
#include <functional>

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
       .doc = "one step of ADAGRAD"},
      {.domain = kDomain,
       .name = "Adam",
       .versions = {{1, kIo, "alpha:float=0.9 beta:float=0.999 epsilon:float=1e-6 norm_coefficient:float=0 norm_coefficient_post:float=0", kTypes}},
       .infer = step_infer<3>,
       .reference = adam_reference,
       .tolerance = kTolerance,
       .doc = "one step of Adam"},
      {.domain = kDomain,
       .name = "Momentum",
       .versions = {{1, kIo, "alpha:float beta:float mode:string norm_coefficient:float", kTypes}},
       .infer = momentum_infer,
       .reference = momentum_reference,
       .tolerance = kTolerance,
       .doc = "one step of gradient descent with momentum"},
      {.domain = kDomain,
       .name = "Gradient",
       .versions = {{1, "Inputs++:T1 -> Outputs++:T2", "xs:strings y:string zs:strings?", "T1: @all; T2: @float"}},
       .infer = gradient_infer,
       .deterministic = false,
       .doc = "derivatives of a tensor of the graph by others, computed by nodes that take its place (through the common operators: "
              "`src/ops/training/gradient_*.cpp`)"},
  };
  return ops;
}

}  // namespace lathe::ops
