// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// RNN, GRU and LSTM as the format's documentation gives their equations, step by step in double precision.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "ops/ref_util.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

enum class Kind { kPlain, kGru, kLstm };

constexpr std::int64_t gates_of(Kind kind) { return kind == Kind::kLstm ? 4 : kind == Kind::kGru ? 3 : 1; }
constexpr std::size_t activations_of(Kind kind) { return kind == Kind::kLstm ? 3 : kind == Kind::kGru ? 2 : 1; }

constexpr std::string_view kInputNames[] = {"X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"};

template <Kind kKind>
void rnn_infer(InferContext& ctx) {
  const DType type = ctx.dtype(0);
  const auto& x = ctx.shape(0);
  const auto& r = ctx.shape(2);
  const bool batch_first = ctx.attrs().get_int("layout", 0) != 0;
  const std::string direction = ctx.attrs().get_string("direction", "forward");
  if (direction != "forward" && direction != "reverse" && direction != "bidirectional")
    ctx.fail(fmt::format("attribute 'direction' is '{}'; expected forward, reverse or bidirectional", direction));
  const Dim directions(direction == "bidirectional" ? 2 : 1);
  if (x && x->size() != 3) ctx.fail(fmt::format("X has rank {}, expected 3", x->size()));
  if (r && r->size() != 3) ctx.fail(fmt::format("R has rank {}, expected 3", r->size()));
  const auto given = ctx.attrs().get_int("hidden_size", 0);
  const Dim hidden = r ? (*r)[2] : given > 0 ? Dim(given) : ctx.fresh_symbol();
  if (given > 0 && hidden.constant() && *hidden.constant() != given)
    ctx.fail(fmt::format("attribute 'hidden_size' is {}, R holds {}", given, *hidden.constant()));
  const Dim steps = x ? (*x)[batch_first ? 1 : 0] : ctx.fresh_symbol(), batch = x ? (*x)[batch_first ? 0 : 1] : ctx.fresh_symbol();
  const auto expect = [&](std::size_t i, const Shape& expected) {
    if (!ctx.has_input(i) || !ctx.shape(i)) return;
    const Shape& shape = *ctx.shape(i);
    bool fits = shape.size() == expected.size();
    for (std::size_t a = 0; fits && a < shape.size(); ++a) fits = !shape[a].is_constant() || !expected[a].is_constant() || shape[a] == expected[a];
    if (!fits) ctx.fail(fmt::format("{} has shape {}, expected {}", kInputNames[i], ir::to_string(shape), ir::to_string(expected)));
  };
  const Dim rows = Dim(gates_of(kKind)) * hidden;
  expect(1, {directions, rows, x ? (*x)[2] : ctx.fresh_symbol()});
  expect(2, {directions, rows, hidden});
  expect(3, {directions, Dim(2) * rows});
  expect(4, {batch});
  const Shape state = batch_first ? Shape{batch, directions, hidden} : Shape{directions, batch, hidden};
  expect(5, state);
  if (kKind == Kind::kLstm) {
    expect(6, state);
    expect(7, {directions, Dim(3) * hidden});
  }
  if (ctx.node().output(0)) ctx.set(0, type, batch_first ? Shape{batch, steps, directions, hidden} : Shape{steps, directions, batch, hidden});
  for (std::size_t i = 1; i < (kKind == Kind::kLstm ? 3 : 2); ++i)
    if (ctx.node().output(i)) ctx.set(i, type, batch_first ? Shape{batch, directions, hidden} : Shape{directions, batch, hidden});
}

struct Activation {
  std::string name;
  double alpha = 0, beta = 0;

  double operator()(double x) const {
    if (name == "Sigmoid") return 1 / (1 + std::exp(-x));
    if (name == "Tanh") return std::tanh(x);
    if (name == "Relu") return std::max(x, 0.0);
    if (name == "Affine") return alpha * x + beta;
    if (name == "LeakyRelu") return x < 0 ? alpha * x : x;
    if (name == "ThresholdedRelu") return x > alpha ? x : 0;
    if (name == "ScaledTanh") return alpha * std::tanh(beta * x);
    if (name == "HardSigmoid") return std::clamp(alpha * x + beta, 0.0, 1.0);
    if (name == "Elu") return x < 0 ? alpha * (std::exp(x) - 1) : x;
    if (name == "Softsign") return x / (1 + std::fabs(x));
    return std::log1p(std::exp(x));  // Softplus
  }
};

Activation make_activation(RefContext& ctx, const std::string& given) {
  struct Known {
    std::string_view name;
    double alpha, beta;
  };
  static constexpr Known kKnown[] = {
      {"Sigmoid", 0, 0},         {"Tanh", 0, 0}, {"Relu", 0, 0},     {"Affine", 1, 0},  {"LeakyRelu", 0.01, 0}, {"ThresholdedRelu", 1, 0}, {"ScaledTanh", 1, 1},
      {"HardSigmoid", 0.2, 0.5}, {"Elu", 1, 0},  {"Softsign", 0, 0}, {"Softplus", 0, 0}};
  const auto lower = [](std::string_view text) {
    std::string out(text);
    std::transform(out.begin(), out.end(), out.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return out;
  };
  const auto* known = std::find_if(std::begin(kKnown), std::end(kKnown), [&](const Known& k) { return lower(k.name) == lower(given); });
  if (known == std::end(kKnown)) ctx.fail(fmt::format("the activation '{}' is none that the format knows", given));
  return {std::string(known->name), known->alpha, known->beta};
}

struct Layer {
  std::int64_t steps, batch, input, hidden, directions;
  bool batch_first, reverse_first;
};

/// sum over k of row[k] * weights[j][k] for one gate row.
double dot(const double* a, const double* b, std::int64_t n) {
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

template <Kind kKind>
void rnn_reference(RefContext& ctx) {
  const Attrs& attrs = ctx.attrs();
  const Tensor &x_tensor = ctx.input(0), &w_tensor = ctx.input(1), &r_tensor = ctx.input(2);
  if (x_tensor.rank() != 3 || w_tensor.rank() != 3 || r_tensor.rank() != 3) ctx.fail("X, W and R must have rank 3");
  Layer l{};
  l.batch_first = attrs.get_int("layout", 0) != 0;
  l.steps = x_tensor.dims()[l.batch_first ? 1 : 0];
  l.batch = x_tensor.dims()[l.batch_first ? 0 : 1];
  l.input = x_tensor.dims()[2];
  l.hidden = r_tensor.dims()[2];
  l.directions = w_tensor.dims()[0];
  const std::string direction = attrs.get_string("direction", "forward");
  l.reverse_first = direction == "reverse";
  const std::int64_t h = l.hidden, gates = gates_of(kKind);
  if (l.directions != (direction == "bidirectional" ? 2 : 1) || w_tensor.dims() != Dims{l.directions, gates * h, l.input} ||
      r_tensor.dims() != Dims{l.directions, gates * h, h})
    ctx.fail(fmt::format("W {} and R {} do not fit X {}, {} gate(s) and direction {}", to_string(w_tensor.dims()), to_string(r_tensor.dims()),
                         to_string(x_tensor.dims()), gates, direction));
  const auto x = to_doubles(x_tensor), w = to_doubles(w_tensor), r = to_doubles(r_tensor);
  const auto optional = [&](std::size_t i, const Dims& expected) {
    if (!ctx.has_input(i)) return std::vector<double>();
    if (ctx.input(i).dims() != expected)
      ctx.fail(fmt::format("{} has shape {}, expected {}", kInputNames[i], to_string(ctx.input(i).dims()), to_string(expected)));
    return to_doubles(ctx.input(i));
  };
  const Dims state_dims = l.batch_first ? Dims{l.batch, l.directions, h} : Dims{l.directions, l.batch, h};
  const auto b = optional(3, {l.directions, 2 * gates * h}), initial_h = optional(5, state_dims);
  const auto initial_c = kKind == Kind::kLstm ? optional(6, state_dims) : std::vector<double>(),
             peephole = kKind == Kind::kLstm ? optional(7, {l.directions, 3 * h}) : std::vector<double>();
  const auto lengths = ctx.has_input(4) ? ctx.input(4).to_int64_vector() : std::vector<std::int64_t>(static_cast<std::size_t>(l.batch), l.steps);
  if (static_cast<std::int64_t>(lengths.size()) != l.batch) ctx.fail(fmt::format("sequence_lens has {} elements for a batch of {}", lengths.size(), l.batch));

  std::vector<std::string> names = attrs.get_strings("activations");
  constexpr std::size_t kEach = activations_of(kKind);
  if (names.empty())
    for (std::int64_t d = 0; d < l.directions; ++d)
      for (std::size_t i = 0; i < kEach; ++i) names.emplace_back(kKind != Kind::kPlain && i == 0 ? "Sigmoid" : "Tanh");
  if (names.size() < kEach * static_cast<std::size_t>(l.directions))
    ctx.fail(fmt::format("{} activations where {} belong", names.size(), kEach * static_cast<std::size_t>(l.directions)));
  const auto alphas = attrs.get_floats("activation_alpha"), betas = attrs.get_floats("activation_beta");
  std::vector<Activation> activations;
  std::size_t alpha_at = 0, beta_at = 0;
  for (const std::string& name : names) {
    Activation a = make_activation(ctx, name);
    // Parameters are consumed in order by the activations that take them.
    const bool takes_alpha = a.name != "Sigmoid" && a.name != "Tanh" && a.name != "Relu" && a.name != "Softsign" && a.name != "Softplus";
    const bool takes_beta = a.name == "Affine" || a.name == "ScaledTanh" || a.name == "HardSigmoid";
    if (takes_alpha && alpha_at < alphas.size()) a.alpha = alphas[alpha_at++];
    if (takes_beta && beta_at < betas.size()) a.beta = betas[beta_at++];
    activations.push_back(a);
  }
  const bool clips = attrs.has("clip");
  const double bound = attrs.get_float("clip", 0);
  if (clips && !(bound >= 0)) ctx.fail(fmt::format("attribute 'clip' is {}, which leaves nothing between -clip and clip", bound));
  const auto clip = [&](double v) { return clips ? std::clamp(v, -bound, bound) : v; };
  const bool linear_before_reset = attrs.get_int("linear_before_reset", 0) != 0, coupled = attrs.get_int("input_forget", 0) != 0;

  const auto y_at = [&](std::int64_t t, std::int64_t d, std::int64_t n) {
    return static_cast<std::size_t>((l.batch_first ? (n * l.steps + t) * l.directions + d : (t * l.directions + d) * l.batch + n) * h);
  };
  const auto state_at = [&](std::int64_t d, std::int64_t n) { return static_cast<std::size_t>((l.batch_first ? n * l.directions + d : d * l.batch + n) * h); };
  std::vector<double> y(static_cast<std::size_t>(l.steps * l.directions * l.batch * h), 0.0), y_h(static_cast<std::size_t>(l.directions * l.batch * h), 0.0),
      y_c = y_h;
  std::vector<double> gate(static_cast<std::size_t>(gates * h)), recurrent(static_cast<std::size_t>(gates * h));
  for (std::int64_t d = 0; d < l.directions; ++d) {
    const bool reversed = l.reverse_first || d == 1;
    const double *wd = w.data() + d * gates * h * l.input, *rd = r.data() + d * gates * h * h;
    const double* bd = b.empty() ? nullptr : b.data() + d * 2 * gates * h;
    const double* pd = peephole.empty() ? nullptr : peephole.data() + d * 3 * h;
    const Activation* f = activations.data() + static_cast<std::size_t>(d) * kEach;
    for (std::int64_t n = 0; n < l.batch; ++n) {
      std::vector<double> state(static_cast<std::size_t>(h), 0.0), cell(static_cast<std::size_t>(h), 0.0);
      if (!initial_h.empty()) std::copy_n(initial_h.begin() + static_cast<std::ptrdiff_t>(state_at(d, n)), h, state.begin());
      if (!initial_c.empty()) std::copy_n(initial_c.begin() + static_cast<std::ptrdiff_t>(state_at(d, n)), h, cell.begin());
      const std::int64_t length = std::min(lengths[static_cast<std::size_t>(n)], l.steps);
      for (std::int64_t s = 0; s < length; ++s) {
        const std::int64_t t = reversed ? length - 1 - s : s;
        const double* input = x.data() + (l.batch_first ? n * l.steps + t : t * l.batch + n) * l.input;
        for (std::int64_t j = 0; j < gates * h; ++j) {
          gate[static_cast<std::size_t>(j)] = dot(input, wd + j * l.input, l.input) + (bd ? bd[j] : 0);
          recurrent[static_cast<std::size_t>(j)] = dot(state.data(), rd + j * h, h) + (bd ? bd[gates * h + j] : 0);
        }
        const auto at = [&](std::int64_t g, std::int64_t j) { return static_cast<std::size_t>(g * h + j); };
        std::vector<double> next(state.size());
        if constexpr (kKind == Kind::kPlain) {
          for (std::int64_t j = 0; j < h; ++j) next[static_cast<std::size_t>(j)] = f[0](clip(gate[at(0, j)] + recurrent[at(0, j)]));
        } else if constexpr (kKind == Kind::kGru) {
          std::vector<double> z(state.size()), reset(state.size());
          for (std::int64_t j = 0; j < h; ++j) {
            z[static_cast<std::size_t>(j)] = f[0](clip(gate[at(0, j)] + recurrent[at(0, j)]));
            reset[static_cast<std::size_t>(j)] = f[0](clip(gate[at(1, j)] + recurrent[at(1, j)]));
          }
          std::vector<double> gated(state.size());
          for (std::size_t j = 0; j < gated.size(); ++j) gated[j] = reset[j] * state[j];
          for (std::int64_t j = 0; j < h; ++j) {
            const auto k = static_cast<std::size_t>(j);
            const double through =
                linear_before_reset ? reset[k] * recurrent[at(2, j)] : dot(gated.data(), rd + (2 * h + j) * h, h) + (bd ? bd[gates * h + 2 * h + j] : 0);
            const double candidate = f[1](clip(gate[at(2, j)] + through));
            next[k] = (1 - z[k]) * candidate + z[k] * state[k];
          }
        } else {
          // Gates in the format's order: input, output, forget, cell.
          for (std::int64_t j = 0; j < h; ++j) {
            const auto k = static_cast<std::size_t>(j);
            const double i = f[0](clip(gate[at(0, j)] + recurrent[at(0, j)] + (pd ? pd[j] * cell[k] : 0)));
            const double forget = coupled ? 1 - i : f[0](clip(gate[at(2, j)] + recurrent[at(2, j)] + (pd ? pd[2 * h + j] * cell[k] : 0)));
            const double candidate = f[1](clip(gate[at(3, j)] + recurrent[at(3, j)]));
            const double c = forget * cell[k] + i * candidate;
            const double o = f[0](clip(gate[at(1, j)] + recurrent[at(1, j)] + (pd ? pd[h + j] * c : 0)));
            cell[k] = c;
            next[k] = o * f[2](c);
          }
        }
        state = std::move(next);
        std::copy(state.begin(), state.end(), y.begin() + static_cast<std::ptrdiff_t>(y_at(t, d, n)));
      }
      std::copy(state.begin(), state.end(), y_h.begin() + static_cast<std::ptrdiff_t>(state_at(d, n)));
      std::copy(cell.begin(), cell.end(), y_c.begin() + static_cast<std::ptrdiff_t>(state_at(d, n)));
    }
  }
  const DType type = x_tensor.dtype();
  const Dims y_dims = l.batch_first ? Dims{l.batch, l.steps, l.directions, h} : Dims{l.steps, l.directions, l.batch, h};
  if (ctx.wants_output(0)) ctx.set_output(0, from_doubles(type, y_dims, y));
  if (ctx.output_count() > 1 && ctx.wants_output(1)) ctx.set_output(1, from_doubles(type, state_dims, y_h));
  if (kKind == Kind::kLstm && ctx.output_count() > 2 && ctx.wants_output(2)) ctx.set_output(2, from_doubles(type, state_dims, y_c));
}

constexpr std::string_view kIo = "X:T W:T R:T B?:T sequence_lens?:T1 initial_h?:T -> Y?:T Y_h?:T";
constexpr std::string_view kIoGru1 = "X:T W:T R:T B?:T sequence_lens?:T1 initial_h?:T -> Y?:T Y_h:T";
constexpr std::string_view kIoLstm = "X:T W:T R:T B?:T sequence_lens?:T1 initial_h?:T initial_c?:T P?:T -> Y?:T Y_h?:T Y_c?:T";
constexpr std::string_view kTypes = "T: @float; T1: int32", kTypes22 = "T: @float13; T1: int32";
#define LATHE_RNN_COMMON "activation_alpha:floats? activation_beta:floats? clip:float? hidden_size:int? "
constexpr std::string_view kPlain1 = LATHE_RNN_COMMON "activations:strings=Tanh,Tanh direction:string=forward output_sequence:int=0";
constexpr std::string_view kPlain7 = LATHE_RNN_COMMON "activations:strings=Tanh,Tanh direction:string=forward";
constexpr std::string_view kPlain14 = LATHE_RNN_COMMON "activations:strings=Tanh,Tanh direction:string=forward layout:int=0";
constexpr std::string_view kGru1 = LATHE_RNN_COMMON "activations:strings? direction:string=foward output_sequence:int=0";
constexpr std::string_view kGru3 = LATHE_RNN_COMMON "activations:strings? direction:string=forward linear_before_reset:int=0 output_sequence:int=0";
constexpr std::string_view kGru7 = LATHE_RNN_COMMON "activations:strings? direction:string=forward linear_before_reset:int=0";
constexpr std::string_view kGru14 = LATHE_RNN_COMMON "activations:strings? direction:string=forward layout:int=0 linear_before_reset:int=0";
constexpr std::string_view kLstm1 = LATHE_RNN_COMMON "activations:strings? direction:string=forward input_forget:int=0 output_sequence:int=0";
constexpr std::string_view kLstm7 = LATHE_RNN_COMMON "activations:strings? direction:string=forward input_forget:int=0";
constexpr std::string_view kLstm14 = LATHE_RNN_COMMON "activations:strings? direction:string=forward input_forget:int=0 layout:int=0";
#undef LATHE_RNN_COMMON

}  // namespace

std::span<const OpDef> ops_rnn() {
  static const OpDef ops[] = {
      {.name = "RNN",
       .versions = {{1, kIo, kPlain1, kTypes}, {7, kIo, kPlain7, kTypes}, {14, kIo, kPlain14, kTypes}, {22, kIo, kPlain14, kTypes22}},
       .infer = rnn_infer<Kind::kPlain>,
       .reference = rnn_reference<Kind::kPlain>,
       .tolerance = {.relative = 1e-5, .absolute = 1e-5},
       .doc = "Plain recurrent layer, one or both directions."},
      {.name = "GRU",
       .versions = {{1, kIoGru1, kGru1, kTypes}, {3, kIo, kGru3, kTypes}, {7, kIo, kGru7, kTypes}, {14, kIo, kGru14, kTypes}, {22, kIo, kGru14, kTypes22}},
       .infer = rnn_infer<Kind::kGru>,
       .reference = rnn_reference<Kind::kGru>,
       .tolerance = {.relative = 1e-5, .absolute = 1e-5},
       .doc = "Gated recurrent unit, one or both directions."},
      {.name = "LSTM",
       .versions = {{1, kIoLstm, kLstm1, kTypes}, {7, kIoLstm, kLstm7, kTypes}, {14, kIoLstm, kLstm14, kTypes}, {22, kIoLstm, kLstm14, kTypes22}},
       .infer = rnn_infer<Kind::kLstm>,
       .reference = rnn_reference<Kind::kLstm>,
       .tolerance = {.relative = 1e-5, .absolute = 1e-5},
       .doc = "Long short-term memory layer, one or both directions, with peepholes."},
  };
  return ops;
}

}  // namespace lathe::ops
