// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Covers the graph with regions at minimum cost and picks a candidate for each. Anchored patterns (convolution, matrix product, ...)
// propose alternatives of different reach; what stays over goes to the region language, plain views, or the defining reference.

#include <vector>

#include "builder/builder.h"
#include "builder/tuner.h"
#include "builder/value_plan.h"

namespace lathe::builder {

enum class RegionKind : std::uint8_t {
  kCandidate,  ///< one step by a candidate
  kView,       ///< Reshape and kin: same memory
  kGather,     ///< Concat whose inputs live inside the output: copies for those that do not
  kScatter,    ///< Split whose outputs live inside the input
};

/// Another measured way to run the same step: same inputs and outputs, in the same memory orders.
struct CloseOption {
  const ops::Candidate* candidate = nullptr;
  ops::StepPlan plan;
  double seconds = -1;
  std::size_t choice = 0;  ///< in report.choices
};

struct PlannedRegion {
  RegionKind kind = RegionKind::kCandidate;
  ops::Region region;
  const ops::Candidate* candidate = nullptr;
  ops::StepPlan plan;
  std::vector<ops::Layout> input_layouts, output_layouts;  ///< parallel to plan.inputs / plan.outputs
  double seconds = -1;
  bool on_host = false;  ///< a host-op of a program for a GPU: runs on the CPU between copies
  RegionReport report;
  std::size_t choice = 0;          ///< the chosen in report.choices
  std::vector<CloseOption> close;  ///< of a GPU's program: little slower where timed alone, fastest first
};

struct CoverRequest {
  const ir::Graph& graph;
  ValuePlans& plans;  ///< layouts of values are decided here
  const ir::Bindings& hints;
  const BuildOptions& options;
  Tuner* tuner;               ///< nullptr: modelled costs
  bool generic_only = false;  ///< candidates that any CPU runs
};

/// Regions in execution order. Throws Error(kUnsupported) listing every node that no candidate accepts.
std::vector<PlannedRegion> choose_cover(const CoverRequest& request);

}  // namespace lathe::builder
