// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The tensors of a one-node region in the node's own order: a region lists each value once, in the order of first use.

#include <array>

#include "ops/candidate.h"

namespace lathe::ops {

/// Those of the region's node's first inputs; without type where one is left out.
template <std::size_t kCount>
std::array<plan::TensorDesc, kCount> node_input_descs(const PlanRequest& request) {
  const ir::Node& node = *request.region.nodes.front();
  std::array<plan::TensorDesc, kCount> descs;
  for (std::size_t i = 0; i < kCount; ++i)
    for (std::size_t r = 0; node.input(i) && r < request.region.inputs.size(); ++r)
      if (node.input(i) == request.region.inputs[r]) descs[i] = request.inputs[r];
  return descs;
}

/// Those of its first outputs; without type where the region does not show one: nobody reads it.
template <std::size_t kCount>
std::array<plan::TensorDesc, kCount> node_output_descs(const PlanRequest& request) {
  const ir::Node& node = *request.region.nodes.front();
  std::array<plan::TensorDesc, kCount> descs;
  for (std::size_t i = 0; i < kCount; ++i)
    for (std::size_t r = 0; node.output(i) && r < request.region.outputs.size(); ++r)
      if (node.output(i) == request.region.outputs[r]) descs[i] = request.outputs[r];
  return descs;
}

}  // namespace lathe::ops
