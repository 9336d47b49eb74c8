// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Which stages of a region run together, slice by slice, so that what one writes the next finds in cache. The choice depends on shapes
// and strides alone, never on the number of threads: it decides the order of sums.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "loops/cpu/program.h"

namespace lathe::loops::cpu {

struct StageGroup {
  std::size_t first = 0, last = 0;   ///< stages [first, last)
  std::int64_t slices = 0;           ///< of a fused group; 0: one stage by itself
  Fusion fusion;
};

/// Rewrites the strides of temporaries that exist for one block of a group only (fusion.local tells which); `elements`: how many each
/// buffer holds then.
std::vector<StageGroup> plan_groups(const LoopRegion& region, const std::vector<StageAnalysis>& stages, std::vector<plan::TensorDesc>& buffers,
                                    std::vector<std::int64_t>& elements);

}  // namespace lathe::loops::cpu
