// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// A program as chosen, on the GPU that it is built for, as one CUDA graph over random inputs at the hint shapes: other kernels take the place of
// steps, and the two graphs are replayed in turn. in_place.h decides what is tried.

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "backend/cuda/memory.h"
#include "backend/cuda/stream.h"
#include "builder/blob_store.h"
#include "builder/cover.h"
#include "plan/shape_program.h"
#include "runtime/cuda_run.h"
#include "runtime/specialisation.h"

namespace lathe::builder {

/// A program to be lowered from regions that are chosen.
struct WholeRunRequest {
  const ir::Graph& graph;
  const std::vector<PlannedRegion>& regions;
  const ValuePlans& plans;
  const ir::Bindings& hints;
  const std::vector<plan::SymbolHint>& symbols;
  const BuildOptions& options;
  PackedWeights& packed;  ///< weights packed here serve the engine too
};

class WholeRun {
 public:
  /// Lowers, packs, uploads, runs. Throws Error. What `request` refers to outlives it.
  explicit WholeRun(const WholeRunRequest& request);

  /// Seconds that making it took, without the packing of weights, which the engine needs anyway.
  double made_in() const noexcept { return made_in_; }
  /// Seconds of a run with other kernels over those of the present one: `plans[i]` for the step of region `regions[i]`. 1 where the difference is no
  /// more than noise. Nothing where such kernels cannot stand there. Throws Error when the device fails.
  std::optional<double> compare(std::span<const std::size_t> regions, std::span<const ops::StepPlan* const> plans);
  /// What compare() tried last is the present run from now on.
  void keep();

 private:
  /// A way to run some steps, and what that needs to live.
  struct Other {
    std::vector<std::size_t> steps;
    std::vector<runtime::StepKernel> kernels;
    std::vector<std::vector<std::string>> weights;
    std::vector<cuda::Block> uploaded;
    cuda::Graph graph;
  };
  void exchange(Other& other) noexcept;
  bool bind(std::size_t step, const ops::StepPlan& plan, Other& other);
  double seconds(const cuda::Graph& graph, int runs);
  double ratio(const cuda::Graph& other);
  runtime::CudaCall call() const;

  PackedWeights& packed_;
  std::shared_ptr<const runtime::Engine> engine_;
  std::vector<std::size_t> step_of_;  // by region
  std::unique_ptr<plan::ShapeProgram> shapes_;
  std::unique_ptr<runtime::Specialisation> spec_;
  std::unique_ptr<runtime::CudaRun> run_;
  std::vector<cuda::Block> tensors_;  // inputs, then outputs
  std::vector<const void*> inputs_;
  std::vector<void*> outputs_;
  cuda::Block arena_;
  std::size_t scratch_bytes_ = 0;
  double made_in_ = 0;
  std::unique_ptr<cuda::Event> start_, stop_;
  std::vector<std::vector<std::string>> weights_;  // by step: what they are packed from
  std::vector<cuda::Block> kept_;                  // weights of kernels that were taken
  Other last_;
  cuda::Graph graph_;
};

}  // namespace lathe::builder
