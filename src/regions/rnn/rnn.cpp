// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See rnn.h.

#include "regions/rnn/rnn.h"

#include <fmt/format.h>

namespace lathe::regions {
namespace {

bool is_rnn(const ir::Node& node) { return node.is("LSTM") || node.is("GRU") || node.is("RNN"); }

/// An activation of the op's list; those with parameters have the format's defaults.
std::optional<cpu::Epilogue> activation(std::string_view name) {
  cpu::Epilogue e;
  if (name == "Sigmoid") e.activation = cpu::Activation::kSigmoid;
  else if (name == "Tanh") e.activation = cpu::Activation::kTanh;
  else if (name == "Relu") e.activation = cpu::Activation::kRelu;
  else if (name == "LeakyRelu") e.activation = cpu::Activation::kLeakyRelu, e.alpha = 0.01F;
  else if (name == "HardSigmoid") e.activation = cpu::Activation::kHardSigmoid, e.alpha = 0.2F, e.beta = 0.5F;
  else if (name == "Elu") e.activation = cpu::Activation::kElu, e.alpha = 1.0F;
  else return std::nullopt;
  return e;
}

}  // namespace

std::vector<ops::Region> propose_rnn(const ir::Node& node) {
  if (!is_rnn(node) || !node.input(0) || !node.input(1) || !node.input(2)) return {};
  return {make_region("rnn", {&node})};
}

std::optional<cpu::RnnProblem> rnn_problem(std::string_view op, const ir::Attrs& attrs, std::string& why) {
  cpu::RnnProblem p;
  p.kind = op == "LSTM" ? cpu::RnnKind::kLstm : op == "GRU" ? cpu::RnnKind::kGru : cpu::RnnKind::kPlain;
  const std::string direction = attrs.get_string("direction", "forward");
  if (direction != "forward" && direction != "reverse" && direction != "bidirectional") {
    why = fmt::format("the direction '{}'", direction);
    return std::nullopt;
  }
  p.directions = direction == "bidirectional" ? 2 : 1;
  p.first_reverse = direction == "reverse";
  p.linear_before_reset = attrs.get_int("linear_before_reset", 0) != 0;
  if (attrs.has("clip")) why = "clipped gates";
  else if (attrs.get_int("input_forget", 0) != 0) why = "coupled input and forget gates";
  else if (!attrs.get_floats("activation_alpha").empty() || !attrs.get_floats("activation_beta").empty()) why = "activations with parameters";
  if (!why.empty()) return std::nullopt;

  const std::size_t each = p.kind == cpu::RnnKind::kLstm ? 3 : p.kind == cpu::RnnKind::kGru ? 2 : 1;
  std::vector<std::string> names = attrs.get_strings("activations");
  if (names.empty())
    for (int d = 0; d < p.directions; ++d)
      for (std::size_t i = 0; i < each; ++i) names.push_back(p.kind != cpu::RnnKind::kPlain && i == 0 ? "Sigmoid" : "Tanh");
  if (names.size() != each * static_cast<std::size_t>(p.directions)) {
    why = fmt::format("{} activations where {} belong", names.size(), each * static_cast<std::size_t>(p.directions));
    return std::nullopt;
  }
  for (std::size_t i = 0; i < names.size(); ++i) {
    const auto found = activation(names[i]);
    if (!found) {
      why = fmt::format("the activation {}", names[i]);
      return std::nullopt;
    }
    p.activations[i / each][i % each] = *found;
  }
  return p;
}

}  // namespace lathe::regions
