// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The plan half of a candidate: one way to execute a region of the graph. The builder asks `supports` (yes, or a reason that
// --explain shows), then `plan` (plain data that goes into the engine), times what accepts and keeps the winner. A candidate's run
// half is the KernelType that its plan names (src/plan/kernel.h).

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ir/graph.h"
#include "plan/kernel.h"
#include "plan/program.h"

namespace lathe::ops {

/// Memory order of an activation at a region's edge.
enum class Layout : std::uint8_t { kRowMajor, kChannelsLast, kAny };

/// A connected piece of the graph that one step would compute. Nodes in topological order; inputs exclude constants that the
/// candidate consumes itself through `constant inputs`, which are listed too (Value::is_constant tells).
struct Region {
  std::string pattern;  ///< "conv_block", "loops", "single"; an op's name: that node alone
  std::vector<const ir::Node*> nodes;
  std::vector<ir::Value*> inputs;   ///< every outside value used, constants included, in first-use order
  std::vector<ir::Value*> outputs;  ///< values visible outside
};

/// Libraries that the caller of a build lets its steps depend on.
inline constexpr unsigned kCublasLt = 1, kCudnn = 2;

struct PlanRequest {
  const Region& region;
  std::vector<plan::TensorDesc> inputs, outputs;  ///< at the hint shapes, in the layout under consideration
  std::span<const Layout> input_layouts, output_layouts;
  bool exact = false;              ///< only class *exact* algorithms
  std::uint64_t cpu_features = 0;  ///< mask allowed (backend/cpu/features.h)
  int threads = 1;
  ir::Bindings symbols;    ///< the hint shapes' symbol values
  void* device = nullptr;  ///< the GPU (a cuda::Device) that the step is for; nullptr: the CPU
  bool tf32 = false;       ///< products of float32 may be made in TF32
  bool timed = true;       ///< plans are timed; by modelled costs alone none with a burden would be taken
  unsigned libraries = 0;  ///< NVIDIA's that may serve: kCublasLt, kCudnn
};

struct WeightRequest {
  std::string pack;  ///< PackFunction name
  ir::Attrs params;
  std::vector<ir::Value*> sources;  ///< constants of the graph
};

struct StepPlan {
  std::string kernel;  ///< KernelType name
  ir::Attrs params;
  std::vector<ir::Value*> inputs;  ///< run-time inputs of the step, in the kernel's order (nullptr = left out)
  std::vector<ir::Value*> outputs;
  std::vector<WeightRequest> weights;
  double flops = 0, bytes = 0;
  bool fast_class = false;  ///< error class *fast* (Winograd): reported, forbidden by --exact
  std::string variant;      ///< "direct 14x32", shown by --explain
  /// Factor on its time where plans are compared: above 1 for one that ties the engine to more than this library and a CPU level.
  double burden = 1;
};

struct Verdict {
  bool yes = true;
  std::string reason;  ///< why not
  static Verdict accept() { return {}; }
  static Verdict decline(std::string why) { return {false, std::move(why)}; }
};

struct Candidate {
  std::string_view name;     ///< "cpu.conv.direct"; the first word is the kind of device
  std::string_view pattern;  ///< Region::pattern it serves
  Verdict (*supports)(const PlanRequest& request);
  /// One or more plans (tunables differ), best guess first.
  std::vector<StepPlan> (*plan)(const PlanRequest& request);
  /// Layouts it wants for region input/output i of rank >= 3 (kAny: whatever comes, with any strides).
  Layout (*layout)(const Region& region, bool is_output, std::size_t index);
};

/// The layout() of a candidate that wants row-major tensors everywhere.
inline Layout row_major(const Region&, bool, std::size_t) { return Layout::kRowMajor; }

/// All candidates for a pattern, preferred first, the generic one last.
std::vector<const Candidate*> candidates_for(std::string_view pattern);
std::vector<const Candidate*> all_candidates();

}  // namespace lathe::ops
