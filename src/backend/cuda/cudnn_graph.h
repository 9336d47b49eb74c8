// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Inside of cudnn_conv: a problem as the library's graph of operations, and what its heuristics say of one.

#include <vector>

#include "backend/cuda/cudnn_conv.h"

namespace lathe::cuda::cudnn {

/// Names of a graph's tensors, by which a run gives their addresses.
enum TensorId : std::int64_t { kX = 1, kW, kBias, kResidual, kY, kFirstVirtual = 100 };
/// Bytes that the address of every tensor is a multiple of.
inline constexpr std::int64_t kAlignment = 16;
/// Settings of an engine that are read and taken.
inline constexpr std::int64_t kMostKnobs = 32;

inline std::int64_t bytes_of(ElementType type) noexcept { return type == kElementFloat32 ? 4 : 2; }

/// Room for the descriptors of a graph and of a plan for it: references into it are kept while it fills.
std::vector<Descriptor> room_for_graph();
/// The operation graph of a problem; `parts` takes its descriptors, the graph's own last.
RawDescriptor make_graph(const ConvProblem& problem, Handle handle, std::vector<Descriptor>& parts);

struct Config {
  EngineChoice choice;
  std::vector<int> notes;
};
/// What one mode of the heuristics says.
std::vector<Config> ask(RawDescriptor graph, Mode mode);
/// Engines whose arithmetic is not that of a plain convolution with float32 sums are left out.
bool arithmetic_suits(const ConvProblem& problem, const std::vector<int>& notes);

}  // namespace lathe::cuda::cudnn
