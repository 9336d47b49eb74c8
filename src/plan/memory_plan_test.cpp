// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The planner against a checker that knows only what a plan must guarantee: blocks that live at the same time never share a byte.

#include "plan/memory_plan.h"

#include <gtest/gtest.h>

#include <random>

namespace lathe::plan {
namespace {

void check(const std::vector<Block>& blocks, const MemoryPlan& plan, bool reuse) {
  ASSERT_EQ(plan.offsets.size(), blocks.size());
  std::size_t end = 0;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    ASSERT_EQ(plan.offsets[i] % 64, 0U);
    if (blocks[i].bytes == 0) continue;
    end = std::max(end, plan.offsets[i] + blocks[i].bytes);
    for (std::size_t j = 0; j < i; ++j) {
      if (blocks[j].bytes == 0) continue;
      const bool together = !reuse || (blocks[i].first <= blocks[j].last && blocks[j].first <= blocks[i].last);
      const bool apart = plan.offsets[i] + blocks[i].bytes <= plan.offsets[j] || plan.offsets[j] + blocks[j].bytes <= plan.offsets[i];
      ASSERT_TRUE(!together || apart) << "blocks " << i << " and " << j << " overlap";
    }
  }
  ASSERT_LE(end, plan.arena_bytes);
  ASSERT_LT(plan.arena_bytes, end + 64);
  ASSERT_GE(plan.arena_bytes, plan.lower_bound);
}

std::size_t most_live(const std::vector<Block>& blocks, std::int32_t steps) {
  std::size_t most = 0;
  for (std::int32_t step = 0; step < steps; ++step) {
    std::size_t live = 0;
    for (const Block& block : blocks)
      if (block.first <= step && step <= block.last) live += (block.bytes + 63) / 64 * 64;
    most = std::max(most, live);
  }
  return most;
}

TEST(MemoryPlan, NeverOverlapsLiveBlocks) {
  std::mt19937 random(3);
  double worst = 1, sum = 0;
  constexpr int kRounds = 300;
  for (int round = 0; round < kRounds; ++round) {
    const std::int32_t steps = 1 + static_cast<std::int32_t>(random() % 60);
    std::vector<Block> blocks(1 + random() % 120);
    for (Block& block : blocks) {
      block.first = static_cast<std::int32_t>(random() % static_cast<unsigned>(steps));
      // Mostly short lives, as in a network, some long ones, as in a U-shaped one.
      const std::int32_t life = static_cast<std::int32_t>(random() % 8 == 0 ? random() % 60 : random() % 4);
      block.last = std::min(steps - 1, block.first + life);
      block.bytes = random() % 10 == 0 ? random() % 3 : std::size_t{1} << (random() % 20);
      if (random() % 3 == 0) block.bytes += random() % 1000;
    }
    const MemoryPlan plan = plan_memory(blocks);
    check(blocks, plan, true);
    if (HasFatalFailure()) FAIL() << "round " << round;
    ASSERT_EQ(plan.lower_bound, most_live(blocks, steps));
    const double ratio = plan.lower_bound ? static_cast<double>(plan.arena_bytes) / static_cast<double>(plan.lower_bound) : 1;
    worst = std::max(worst, ratio);
    sum += ratio;
    check(blocks, plan_memory(blocks, false), false);
  }
  EXPECT_LT(sum / kRounds, 1.1);
  EXPECT_LT(worst, 1.6);
}

TEST(MemoryPlan, ReusesBytesAlongAChain) {
  std::vector<Block> chain;
  for (std::int32_t i = 0; i < 100; ++i) chain.push_back({1000, i, i + 1});
  const MemoryPlan plan = plan_memory(chain);
  EXPECT_EQ(plan.arena_bytes, 2048U);
  EXPECT_EQ(plan.lower_bound, 2048U);
  EXPECT_EQ(plan_memory(chain, false).arena_bytes, 102400U);
}

TEST(MemoryPlan, HandlesNothing) {
  EXPECT_EQ(plan_memory({}).arena_bytes, 0U);
  EXPECT_EQ(plan_memory({{0, 0, 3}}).arena_bytes, 0U);
}

}  // namespace
}  // namespace lathe::plan
