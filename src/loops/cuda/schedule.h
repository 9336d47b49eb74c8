// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// How a region's stages are laid over launches, blocks and threads, for concrete tensors. Pure decisions, no text.

#include <memory>
#include <memory_resource>
#include <vector>

#include "loops/cpu/analysis.h"
#include "loops/cuda/emitter.h"

namespace lathe::loops::cuda {

/// A stage with its loops in the order: shared with its part's other stages, kept (far to near in memory), reduced. Offsets of accesses
/// are in elements; indices that need no check are forgotten.
struct ScheduledStage {
  std::shared_ptr<cpu::StageAnalysis> nest;
  int shared = 0, kept = 0, reduced = 0;   ///< how many loops of each kind
  std::int64_t points = 1, reduction = 1;  ///< per slice
  int lanes = 1;                           ///< threads that share one reduction
  bool reduction_fastest = false;          ///< neighbouring threads walk the reduction (else the kept loops)
  int vector = 1;                          ///< elements that one thread makes at once, along the last kept loop
};

/// Stages that run one after the other in the same threads.
struct Part {
  std::vector<ScheduledStage> stages;
  std::int64_t slices = 0;  ///< points of the shared loops; 0: one stage over the whole grid
  int group = kThreads;     ///< threads that share a slice: a warp or a block
  std::uint32_t blocks = 1;
};

/// Parts of one launch.
using Wave = std::vector<Part>;

/// `memory` must outlive what comes back.
std::vector<Wave> schedule(const LoopRegion& region, std::span<const plan::TensorDesc> buffers, const ir::Bindings& symbols, const EmitOptions& options,
                           std::pmr::memory_resource* memory);

/// The same wave with one element a thread everywhere.
Wave without_vectors(Wave wave, const EmitOptions& options);

}  // namespace lathe::loops::cuda
