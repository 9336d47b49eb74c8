// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Arenas give aligned memory that does not overlap, and reach the heap only while they grow.

#include "base/arena.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory_resource>
#include <random>
#include <unordered_map>
#include <utility>

namespace lathe {
namespace {

TEST(Arena, GivesAlignedMemoryThatDoesNotOverlap) {
  Arena arena;
  std::mt19937 random(3);
  for (int round = 0; round < 3; ++round) {
    arena.reset();
    std::vector<std::pair<unsigned char*, std::size_t>> parts;
    for (int i = 0; i < 400; ++i) {
      const std::size_t alignment = std::size_t{1} << (random() % 8), bytes = random() % 700;
      auto* data = static_cast<unsigned char*>(arena.allocate(bytes, alignment));
      ASSERT_EQ(reinterpret_cast<std::uintptr_t>(data) % alignment, 0U);
      std::memset(data, i % 251, bytes);
      parts.emplace_back(data, bytes);
    }
    for (int i = 0; i < 400; ++i)
      for (std::size_t b = 0; b < parts[static_cast<std::size_t>(i)].second; ++b) ASSERT_EQ(parts[static_cast<std::size_t>(i)].first[b], i % 251);
  }
}

TEST(Arena, KeepsWhatItReserved) {
  Arena arena;
  std::size_t reserved = 0;
  for (int round = 0; round < 5; ++round) {
    arena.reset();
    std::pmr::unordered_map<int, std::pmr::vector<int>> map(&arena);
    for (int i = 0; i < 2000; ++i) map[i].assign(10, i);
    EXPECT_EQ(map.at(1999).back(), 1999);
    if (round > 0) {
      EXPECT_EQ(arena.reserved(), reserved);
    }
    reserved = arena.reserved();
  }
  EXPECT_GT(reserved, 2000U * 40U);
}

TEST(Arena, MakesValueInitialisedElements) {
  Arena arena;
  std::memset(arena.allocate(4096, 8), 0xFF, 4096);
  arena.reset();
  for (const int value : make_span<int>(arena, 1000)) ASSERT_EQ(value, 0);
  EXPECT_TRUE(make_span<int>(arena, 0).empty());
}

}  // namespace
}  // namespace lathe
