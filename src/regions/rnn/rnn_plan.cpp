// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See rnn_plan.h.

#include "regions/rnn/rnn_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <limits>

#include "regions/cuda_params.h"

namespace lathe::regions {
namespace {

struct Known {
  std::string_view name;  ///< lower case
  bool takes_alpha, takes_beta;
  double alpha, beta;
};
constexpr Known kKnown[cuda::kRnnActivations] = {
    {"sigmoid", false, false, 0, 0},     {"tanh", false, false, 0, 0},           {"relu", false, false, 0, 0},     {"affine", true, true, 1, 0},
    {"leakyrelu", true, false, 0.01, 0}, {"thresholdedrelu", true, false, 1, 0}, {"scaledtanh", true, true, 1, 1}, {"hardsigmoid", true, true, 0.2, 0.5},
    {"elu", true, false, 1, 0},          {"softsign", false, false, 0, 0},       {"softplus", false, false, 0, 0}};

constexpr std::int64_t kMost = (std::int64_t{1} << 31) - 1;

std::int64_t padded(std::int64_t extent) { return (extent + 7) / 8 * 8; }
int bytes_of(int type) { return type == cuda::kRnnFloat64 ? 8 : type == cuda::kElementFloat32 ? 4 : 2; }

}  // namespace

std::optional<RnnSpec> rnn_spec(std::string_view op, const ir::Attrs& attrs, std::string& why) {
  RnnSpec spec;
  spec.op = op == "LSTM" ? RnnOp::kLstm : op == "GRU" ? RnnOp::kGru : RnnOp::kPlain;
  spec.gates = spec.op == RnnOp::kLstm ? 4 : spec.op == RnnOp::kGru ? 3 : 1;
  const std::string direction = attrs.get_string("direction", "forward");
  if (direction != "forward" && direction != "reverse" && direction != "bidirectional") {
    why = fmt::format("the direction '{}'", direction);
    return std::nullopt;
  }
  spec.directions = direction == "bidirectional" ? 2 : 1;
  spec.first_reverse = direction == "reverse";
  spec.linear = spec.op == RnnOp::kGru && attrs.get_int("linear_before_reset", 0) != 0;
  spec.coupled = spec.op == RnnOp::kLstm && attrs.get_int("input_forget", 0) != 0;
  spec.batch_first = attrs.get_int("layout", 0) != 0;
  spec.clip = attrs.has("clip") ? attrs.get_float("clip", 0) : std::numeric_limits<float>::infinity();
  if (!(spec.clip >= 0)) {
    why = fmt::format("a clip of {}", spec.clip);
    return std::nullopt;
  }
  const std::size_t each = spec.op == RnnOp::kLstm ? 3 : spec.op == RnnOp::kGru ? 2 : 1, wanted = each * static_cast<std::size_t>(spec.directions);
  std::vector<std::string> names = attrs.get_strings("activations");
  if (names.empty())
    for (std::size_t i = 0; i < wanted; ++i) names.emplace_back(spec.op != RnnOp::kPlain && i % each == 0 ? "Sigmoid" : "Tanh");
  if (names.size() < wanted) {
    why = fmt::format("{} activations where {} belong", names.size(), wanted);
    return std::nullopt;
  }
  const auto alphas = attrs.get_floats("activation_alpha"), betas = attrs.get_floats("activation_beta");
  std::size_t alpha_at = 0, beta_at = 0;
  for (std::size_t i = 0; i < wanted; ++i) {
    std::string name = names[i];
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    const auto* known = std::find_if(std::begin(kKnown), std::end(kKnown), [&](const Known& k) { return k.name == name; });
    if (known == std::end(kKnown)) {
      why = fmt::format("the activation '{}'", names[i]);
      return std::nullopt;
    }
    // Parameters are consumed in order by the activations that take them.
    cuda::RnnFunction& f = spec.functions[i / each][i % each];
    f = {};
    f.kind = static_cast<int>(known - std::begin(kKnown));
    f.wide_alpha = known->takes_alpha && alpha_at < alphas.size() ? static_cast<double>(alphas[alpha_at++]) : known->alpha;
    f.wide_beta = known->takes_beta && beta_at < betas.size() ? static_cast<double>(betas[beta_at++]) : known->beta;
    f.alpha = static_cast<float>(f.wide_alpha), f.beta = static_cast<float>(f.wide_beta);
  }
  return spec;
}

std::optional<int> rnn_element(DType dtype) noexcept {
  if (dtype == DType::kFloat64) return cuda::kRnnFloat64;
  const auto type = cuda_element(dtype);
  return type ? std::optional<int>(*type) : std::nullopt;
}

std::string rnn_kernel_name(RnnKernelKind kind, bool wide) {
  static constexpr std::string_view kNames[] = {"begin",
                                                "project_rows",
                                                "project_tiles",
                                                "pack",
                                                "bias",
                                                "step_lstm_1",
                                                "step_lstm_n",
                                                "step_gru_linear_1",
                                                "step_gru_linear_n",
                                                "step_gru_gates_1",
                                                "step_gru_gates_n",
                                                "step_gru_candidate_1",
                                                "step_gru_candidate_n",
                                                "step_plain_1",
                                                "step_plain_n"};
  static_assert(std::size(kNames) == static_cast<std::size_t>(RnnKernelKind::kCount));
  return fmt::format("{}_{}", rnn_module(wide), kNames[static_cast<std::size_t>(kind)]);
}

std::size_t RnnPlan::packed_rows_bytes(std::int64_t columns) const noexcept {
  return static_cast<std::size_t>(spec.directions * spec.gates * hidden * padded(columns) * bytes_of(weight_type));
}
std::size_t RnnPlan::packed_bias_bytes() const noexcept {
  return static_cast<std::size_t>(spec.directions * (spec.gates + (spec.op == RnnOp::kGru ? 1 : 0)) * hidden) * number_bytes();
}

bool rnn_plan(std::span<const plan::TensorDesc> inputs, std::span<const plan::TensorDesc> outputs, std::int64_t in, std::int64_t hidden, RnnPlan& into,
              std::string& why) {
  if (inputs.size() != kRnnInputs || outputs.size() != 3) {
    why = "another number of tensors than it takes";
    return false;
  }
  const RnnSpec& spec = into.spec;
  const plan::TensorDesc& x = inputs[kRnnX];
  const auto there = [](const plan::TensorDesc& desc) { return desc.dtype != DType::kUndefined; };
  const auto fits = [&](const plan::TensorDesc& desc, std::initializer_list<std::int64_t> dims, const char* name) {
    if (!there(desc)) return true;
    if (!std::equal(desc.dims.begin(), desc.dims.end(), dims.begin(), dims.end())) why = fmt::format("{} of other extents", name);
    else if (!rnn_element(desc.dtype)) why = kNoCudaElement;
    else if ((desc.dtype == DType::kFloat64) != into.wide()) why = fmt::format("float64 in a part of the layer alone: {} or X", name);
    else if (desc.dims.back() > 1 && desc.strides.back() != 1) why = fmt::format("the innermost elements of {} lie apart", name);
    else return true;
    return false;
  };
  const std::size_t time = spec.batch_first ? 1 : 0, batch = 1 - time;
  if (x.dims.size() != 3) {
    why = "X of another rank than 3";
    return false;
  }
  const auto type = rnn_element(x.dtype);
  if (!type) {
    why = kNoCudaElement;
    return false;
  }
  into.weight_type = *type;
  into.steps = x.dims[time];
  into.batch = x.dims[batch];
  into.in = in;
  into.hidden = hidden;
  // `hidden` and `in` may come from a file: each extent is held to what an int counts before any product of two.
  const bool counted = hidden >= 1 && hidden <= kMost / 2 && in >= 0 && in <= kMost / 2 && into.steps <= kMost && into.batch <= 65535 * into.batch_rows();
  const std::int64_t directions = spec.directions, rows = counted ? spec.gates * hidden : 0;
  if (!counted || directions * rows > kMost / 2 || into.steps * into.batch > kMost || (directions * rows + cuda::kRnnTile - 1) / cuda::kRnnTile > 65535 ||
      directions * into.batch * padded(hidden) > kMost * std::int64_t{256}) {
    why = "extents that the kernels do not count";
    return false;
  }
  if (!fits(
          x,
          spec.batch_first ? std::initializer_list<std::int64_t>{into.batch, into.steps, in} : std::initializer_list<std::int64_t>{into.steps, into.batch, in},
          "X"))
    return false;
  if (const plan::TensorDesc& lengths = inputs[kRnnLengths];
      there(lengths) && (lengths.dtype != DType::kInt32 || lengths.dims != Dims{into.batch} || (into.batch > 1 && lengths.strides[0] != 1))) {
    why = "sequence_lens of another form";
    return false;
  }
  cuda::RnnParams& p = into.step;
  p = {};
  const auto state = [&](const plan::TensorDesc& desc, const char* name, cuda::RnnState& to) {
    if (!there(desc)) return true;
    if (!fits(desc,
              spec.batch_first ? std::initializer_list<std::int64_t>{into.batch, directions, hidden}
                               : std::initializer_list<std::int64_t>{directions, into.batch, hidden},
              name))
      return false;
    to.type = *rnn_element(desc.dtype);
    to.direction = desc.strides[spec.batch_first ? 1 : 0];
    to.batch = desc.strides[spec.batch_first ? 0 : 1];
    return true;
  };
  if (!state(inputs[kRnnInitialH], "initial_h", p.initial_h) || !state(inputs[kRnnInitialC], "initial_c", p.initial_c) || !state(outputs[1], "Y_h", p.last_h) ||
      !state(outputs[2], "Y_c", p.last_c))
    return false;
  const plan::TensorDesc& y = outputs[0];
  if (!fits(y,
            spec.batch_first ? std::initializer_list<std::int64_t>{into.batch, into.steps, directions, hidden}
                             : std::initializer_list<std::int64_t>{into.steps, directions, into.batch, hidden},
            "Y"))
    return false;
  if (there(y)) {
    p.y_type = *rnn_element(y.dtype);
    p.y_step = y.strides[spec.batch_first ? 1 : 0];
    p.y_direction = y.strides[spec.batch_first ? 2 : 1];
    p.y_batch = y.strides[spec.batch_first ? 0 : 2];
  }
  p.steps = static_cast<int>(into.steps);
  p.batch = static_cast<int>(into.batch);
  p.hidden = static_cast<int>(hidden);
  p.padded = static_cast<int>(padded(hidden));
  p.directions = spec.directions;
  p.gates = spec.gates;
  p.first_reverse = spec.first_reverse;
  p.coupled = spec.coupled;
  p.clip = spec.clip;
  for (std::size_t d = 0; d < 2; ++d) std::copy(spec.functions[d].begin(), spec.functions[d].end(), p.functions[d]);
  p.weight_type = into.weight_type;
  p.projected_step = (spec.batch_first ? 1 : into.batch) * directions * rows;
  p.projected_batch = (spec.batch_first ? into.steps : 1) * directions * rows;
  cuda::RnnProjectParams& project = into.project;
  project = {};
  project.rows = into.steps * into.batch;
  project.seconds = static_cast<int>(std::max<std::int64_t>(x.dims[1], 1));
  project.x_first = x.strides[0];
  project.x_second = x.strides[1];
  project.columns = static_cast<int>(directions * rows);
  project.depth = static_cast<int>(in);
  project.padded = static_cast<int>(padded(in));
  project.x_type = project.weight_type = into.weight_type;
  into.vectors = in % 8 == 0 && x.strides[0] % 8 == 0 && x.strides[1] % 8 == 0;

  // Weights that come when it runs.
  const auto given = [&](RnnInput which, RnnWeight how, std::initializer_list<std::int64_t> dims, const char* name) {
    if ((how == RnnWeight::kGiven) != there(inputs[which])) why = fmt::format("{} where its plan says otherwise", name);
    else if (how != RnnWeight::kGiven || fits(inputs[which], dims, name)) return true;
    return false;
  };
  if (!given(kRnnW, into.weights[0], {directions, rows, in}, "W") || !given(kRnnR, into.weights[1], {directions, rows, hidden}, "R") ||
      !given(kRnnB, into.weights[2], {directions, 2 * rows}, "B") || !given(kRnnP, into.weights[3], {directions, 3 * hidden}, "P"))
    return false;
  into.packs = {};
  for (const std::size_t i : {std::size_t{0}, std::size_t{1}, std::size_t{2}}) {
    const plan::TensorDesc& desc = inputs[i == 2 ? kRnnP : kRnnW + i];
    if (!there(desc)) continue;
    cuda::RnnPackParams& pack = into.packs[i];
    pack.from_type = *rnn_element(desc.dtype);
    pack.to_type = i == 2 && !into.wide() ? static_cast<int>(cuda::kElementFloat32) : into.weight_type;
    pack.rows = i == 2 ? directions : directions * rows;
    pack.inner = i == 2 ? 1 : static_cast<int>(rows);
    pack.columns = static_cast<int>(i == 0 ? in : i == 1 ? hidden : 3 * hidden);
    pack.padded = static_cast<int>(i == 2 ? 3 * hidden : padded(pack.columns));
    pack.from_outer = desc.strides[0];
    pack.from_inner = i == 2 ? 0 : desc.strides[1];
    if (pack.rows * pack.padded > kMost * std::int64_t{256}) {
      why = "extents that the kernels do not count";
      return false;
    }
  }
  into.bias = {};
  into.bias.directions = spec.directions;
  into.bias.gates = spec.gates;
  into.bias.hidden = static_cast<int>(hidden);
  into.bias.linear = spec.linear;
  if (there(inputs[kRnnB])) {
    into.bias.from_type = *rnn_element(inputs[kRnnB].dtype);
    into.bias.from_direction = inputs[kRnnB].strides[0];
  }
  std::size_t end = 0;
  const auto reserve = [&](std::size_t bytes) {
    const std::size_t at = end;
    end += (bytes + 255) / 256 * 256;
    return at;
  };
  const auto states = static_cast<std::size_t>(directions * into.batch * p.padded) * into.number_bytes();
  for (std::size_t& offset : into.h) offset = reserve(states);
  into.c = spec.op == RnnOp::kLstm ? reserve(states) : 0;
  const bool two_parts = spec.op == RnnOp::kGru && !spec.linear;
  into.update = two_parts ? reserve(states) : 0;
  into.gated = two_parts ? reserve(states) : 0;
  into.projected = reserve(static_cast<std::size_t>(project.rows * project.columns) * into.number_bytes());
  into.given_w = into.weights[0] == RnnWeight::kGiven ? reserve(into.packed_rows_bytes(in)) : 0;
  into.given_r = into.weights[1] == RnnWeight::kGiven ? reserve(into.packed_rows_bytes(hidden)) : 0;
  into.given_b = into.weights[2] == RnnWeight::kGiven ? reserve(into.packed_bias_bytes()) : 0;
  into.given_p = into.weights[3] == RnnWeight::kGiven ? reserve(into.packed_peephole_bytes()) : 0;
  into.scratch = end;
  return true;
}

}  // namespace lathe::regions
