// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Which stages of a region run together, slice by slice, so that what one writes the next finds in cache. The choice depends on shapes
// and strides alone, never on the number of threads: it decides the order of sums.

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <span>
#include <vector>

#include "loops/cpu/program.h"

namespace lathe::loops::cpu {

struct StageGroup {
  explicit StageGroup(std::pmr::memory_resource* memory) : fusion(memory) {}
  std::size_t first = 0, last = 0;  ///< stages [first, last)
  std::int64_t slices = 0;          ///< of a fused group; 0: one stage by itself
  Fusion fusion;
};

/// Rewrites the strides of temporaries that exist for one block of a group only (fusion.local tells which); `elements`: how many each
/// buffer holds then. The groups lie in `memory`, and nothing else is allocated.
std::pmr::vector<StageGroup> plan_groups(const LoopRegion& region, std::span<const StageAnalysis> stages, std::span<plan::TensorDesc> buffers,
                                         std::span<std::int64_t> elements, std::pmr::memory_resource* memory);

}  // namespace lathe::loops::cpu
