// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Times a planned step in place: its real shapes, strides, types and packed weights, on the pool that will run it.

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "builder/blob_store.h"
#include "builder/builder.h"
#include "builder/tuning_cache.h"
#include "ops/candidate.h"

namespace lathe {
class ThreadPool;
}

namespace lathe::builder {

class CudaTimer;

/// A way to run a region, with the descs of its run-time inputs and outputs in the plan's order.
struct TimedOption {
  const ops::StepPlan* plan;
  std::string_view candidate;
  std::vector<plan::TensorDesc> inputs, outputs;
};

class Tuner {
 public:
  /// `weight_bytes`: of the whole network. When they do not stay in cache from run to run, steps are timed with theirs out of it.
  Tuner(const BuildOptions& options, BuildReport& report, ThreadPool& pool, std::size_t weight_bytes);
  ~Tuner();

  /// Least seconds of a run of each option, from the cache or measured side by side; negative for those that the budget left out. Throws
  /// what a kernel's bind throws.
  std::vector<double> time(std::span<const TimedOption> options, const ir::Bindings& symbols);
  bool budget_left() const;
  /// Everything that the time of an option depends on but the weights' values, as text.
  std::string key(const TimedOption& option) const;
  TuningCache& cache() noexcept { return cache_; }
  /// Forget the packed weights kept between variants of one region.
  void next_region();

 private:
  struct Trial;
  class Buffers;
  /// Packed once for all options of a region.
  std::vector<std::span<const std::byte>> packed_weights(const ops::StepPlan& plan);
  Trial prepare(const TimedOption& option, Buffers& buffers, const ir::Bindings& symbols);
  double run(const Trial& trial, std::byte* scratch);
  const BuildOptions& options_;
  BuildReport& report_;
  ThreadPool& pool_;
  TuningCache cache_;
  double started_;
  bool cold_weights_;
  std::string machine_;
  PackedWeights packed_;
  std::unique_ptr<CudaTimer> cuda_;
};

}  // namespace lathe::builder
