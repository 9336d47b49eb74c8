// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See memory_plan.h.

#include "plan/memory_plan.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace lathe::plan {
namespace {

constexpr std::size_t kAlignment = 64;

std::size_t align(std::size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

MemoryPlan plan_memory(const std::vector<Block>& blocks, bool reuse) {
  MemoryPlan plan;
  plan.offsets.assign(blocks.size(), 0);
  std::int32_t steps = 0;
  for (const Block& block : blocks) steps = std::max(steps, block.last + 1);
  std::vector<std::size_t> live(static_cast<std::size_t>(steps), 0);
  for (const Block& block : blocks)
    for (std::int32_t step = block.first; step <= block.last; ++step) live[static_cast<std::size_t>(step)] += align(block.bytes);
  for (const std::size_t bytes : live) plan.lower_bound = std::max(plan.lower_bound, bytes);

  std::vector<std::size_t> order(blocks.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return blocks[a].bytes > blocks[b].bytes; });
  std::vector<std::size_t> placed;  // sorted by offset
  for (const std::size_t i : order) {
    const std::size_t size = align(blocks[i].bytes);
    if (size == 0) continue;
    std::size_t best = std::numeric_limits<std::size_t>::max(), best_gap = best, end = 0;
    for (const std::size_t other : placed) {
      if (reuse && (blocks[other].last < blocks[i].first || blocks[other].first > blocks[i].last)) continue;
      if (plan.offsets[other] > end && plan.offsets[other] - end >= size && plan.offsets[other] - end < best_gap) {
        best = end;
        best_gap = plan.offsets[other] - end;
      }
      end = std::max(end, plan.offsets[other] + align(blocks[other].bytes));
    }
    plan.offsets[i] = best == std::numeric_limits<std::size_t>::max() ? end : best;
    plan.arena_bytes = std::max(plan.arena_bytes, plan.offsets[i] + size);
    placed.insert(std::upper_bound(placed.begin(), placed.end(), i, [&](std::size_t a, std::size_t b) { return plan.offsets[a] < plan.offsets[b]; }), i);
  }
  return plan;
}

}  // namespace lathe::plan
