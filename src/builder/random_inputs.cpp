// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See random_inputs.h.

#include "builder/random_inputs.h"

#include <random>

#include "builder/hints.h"

namespace lathe::builder {

Tensor random_input(const ir::Value& input, const Dims& dims, std::uint64_t seed) {
  Tensor tensor(input.dtype(), dims);
  std::mt19937_64 random(seed);
  if (is_float(input.dtype())) {
    std::normal_distribution<double> normal(0.25, 0.5);
    for (std::int64_t i = 0; i < tensor.size(); ++i) tensor.set_from_double(i, normal(random));
  } else {
    for (std::int64_t i = 0; i < tensor.size(); ++i) tensor.set_from_int64(i, static_cast<std::int64_t>(random() % 2));
  }
  return tensor;
}

std::map<std::string, Tensor> random_inputs(const ir::Graph& graph, const ir::Bindings& bindings, std::uint64_t seed) {
  std::map<std::string, Tensor> inputs;
  std::uint64_t at = seed * 1000;
  for (const ir::Value* input : graph.inputs()) inputs[input->name] = random_input(*input, concrete_dims(*input, bindings), ++at);
  return inputs;
}

}  // namespace lathe::builder
