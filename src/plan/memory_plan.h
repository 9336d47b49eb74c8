// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Offsets of activations in one arena: values whose lifetimes do not overlap share bytes.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace lathe::plan {

/// A block of memory that is needed from step `first` to step `last` (both included).
struct Block {
  std::size_t bytes = 0;
  std::int32_t first = 0, last = 0;
};

struct MemoryPlan {
  std::vector<std::size_t> offsets;  ///< one per block, multiples of 64
  std::size_t arena_bytes = 0;
  std::size_t lower_bound = 0;  ///< most bytes that are live at one step: no plan can be smaller
};

/// Greedy by size, best fit: the largest blocks first, each into the tightest gap among those already placed whose lifetimes overlap
/// (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020, section 5).
/// `reuse` false: every block has its own bytes.
MemoryPlan plan_memory(const std::vector<Block>& blocks, bool reuse = true);

}  // namespace lathe::plan
