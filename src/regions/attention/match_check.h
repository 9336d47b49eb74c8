// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Holds a match of attention against the graph that it was made from: the definition, evaluated on the operands where the match says that they lie.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>

#include "ops/reference_runner.h"
#include "regions/attention/attention.h"

namespace lathe::regions::test {

inline std::vector<Tensor> random_inputs(const ir::Graph& graph, const ir::Bindings& bindings) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  std::vector<Tensor> inputs;
  for (const ir::Value* input : graph.inputs()) {
    Tensor tensor(input->dtype(), *ir::evaluate(input->shape(), bindings));
    for (float& x : tensor.mutable_data<float>()) x = normal(random);
    inputs.push_back(std::move(tensor));
  }
  return inputs;
}

inline std::int64_t index_of(const AttentionOperand& operand, const Tensor& tensor, std::span<const std::int64_t> batch, std::int64_t row,
                             std::int64_t column) {
  std::vector<std::int64_t> at = operand.offset;
  const auto move = [&](const Place& place, std::int64_t index) {
    if (place.axis >= 0) at[static_cast<std::size_t>(place.axis)] += index * place.step;
  };
  for (std::size_t i = 0; i < batch.size(); ++i) move(operand.batch[i], batch[i]);
  move(operand.row, row);
  move(operand.column, column);
  std::int64_t index = 0;
  for (std::size_t a = 0; a < at.size(); ++a) {
    EXPECT_LT(at[a], tensor.dims()[a]);
    index = index * tensor.dims()[a] + at[a];
  }
  return index;
}

/// Every alternative of the attention whose second product this is.
inline void check_match(const ir::Graph& graph, const ir::Node* product, const ir::Bindings& bindings) {
  std::map<const ir::Value*, Tensor> seen;
  ops::RunnerOptions options;
  options.observe = [&](const ir::Value& value, Tensor& tensor) { seen[&value] = tensor; };
  ops::ReferenceRunner(graph, options).run(random_inputs(graph, bindings));
  ASSERT_TRUE(product);
  for (const ops::Region& region : propose_attention(*product)) {
    const AttentionBlock b = match_attention(region);
    ASSERT_EQ(region.outputs.size(), 1u);
    ASSERT_EQ(region.outputs[0], b.out.value);
    for (const AttentionOperand* operand : {&b.q, &b.k, &b.v, &b.mask}) {
      if (!operand->value) continue;
      ASSERT_TRUE(std::find(region.inputs.begin(), region.inputs.end(), operand->value) != region.inputs.end())
          << "'" << operand->value->name << "' is never stored";
    }
    ASSERT_LE(b.batch.size(), 2u);
    std::vector<std::int64_t> extents;
    for (const ir::Dim& dim : b.batch) extents.push_back(*dim.evaluate(bindings));
    extents.resize(2, 1);
    const std::int64_t queries = *b.queries.evaluate(bindings), keys = *b.keys.evaluate(bindings);
    const auto at = [&](const AttentionOperand& operand, std::span<const std::int64_t> batch, std::int64_t row, std::int64_t column) {
      const Tensor& tensor = seen.at(operand.value);
      return static_cast<double>(tensor.data<float>()[static_cast<std::size_t>(index_of(operand, tensor, batch, row, column))]);
    };
    ASSERT_EQ(extents[0] * extents[1] * queries * b.value_depth, seen.at(b.out.value).size());
    for (std::int64_t outer = 0; outer < extents[0]; ++outer)
      for (std::int64_t inner = 0; inner < extents[1]; ++inner)
        for (std::int64_t i = 0; i < queries; ++i) {
          const std::int64_t both[] = {outer, inner};
          const std::span<const std::int64_t> batch(both, b.batch.size());
          std::vector<double> weight(static_cast<std::size_t>(keys));
          double most = -std::numeric_limits<double>::infinity(), sum = 0;
          for (std::int64_t j = 0; j < keys; ++j) {
            double& x = weight[static_cast<std::size_t>(j)];
            for (std::int64_t d = 0; d < b.depth; ++d) x += at(b.q, batch, i, d) * at(b.k, batch, j, d);
            x *= static_cast<double>(b.scale);
            if (b.mask.value) x += at(b.mask, batch, i, j);
            most = std::max(most, x);
          }
          for (double& x : weight) sum += x = std::exp(x - most);
          for (double& x : weight) x = std::isnan(sum) && b.zeroes ? 0 : x / sum;
          for (std::int64_t d = 0; d < b.value_depth; ++d) {
            double value = 0;
            for (std::int64_t j = 0; j < keys; ++j) value += weight[static_cast<std::size_t>(j)] * at(b.v, batch, j, d);
            const double actual = at(b.out, batch, i, d);
            if (std::isnan(value) && std::isnan(actual)) continue;
            ASSERT_NEAR(actual, value, 1e-4) << region.nodes.size() << " nodes, item " << outer << "," << inner << ", query " << i;
          }
        }
  }
}

}  // namespace lathe::regions::test
