// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The pattern "pool": MaxPool (without indices), AveragePool, GlobalMaxPool, GlobalAveragePool, and ReduceMean / ReduceMax over all
// spatial axes. Candidates in pool_candidates.cpp, the kernel in pool_cpu.cpp.

#include "regions/match.h"

namespace lathe::regions {

enum class PoolMode : std::uint8_t { kMax, kAverage, kGlobalMax, kGlobalAverage };

/// What `node` pools, or nullopt when it is none of the pattern's.
std::optional<PoolMode> pool_mode(const ir::Node& node);
std::vector<ops::Region> propose_pool(const ir::Node& node);

}  // namespace lathe::regions
