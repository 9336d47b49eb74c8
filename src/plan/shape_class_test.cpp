// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Ranges hold their value, do not overlap, respect hints, and are few.

#include "plan/shape_class.h"

#include <gtest/gtest.h>

#include <set>
#include <utility>

namespace lathe::plan {
namespace {

std::set<std::pair<std::int64_t, std::int64_t>> ranges(std::int64_t from, std::int64_t to, const SymbolHint& hint) {
  std::set<std::pair<std::int64_t, std::int64_t>> seen;
  for (std::int64_t value = from; value <= to; ++value) {
    const SymbolRange range = symbol_range(value, hint);
    EXPECT_LE(range.low, value);
    EXPECT_GE(range.high, value);
    EXPECT_LE(range.high, 2 * value) << "memory for more than twice the extent";
    // All values of a range but the tuned one are given that range.
    for (const std::int64_t other : {range.low, range.high})
      if (other != hint.opt && value != hint.opt) {
        EXPECT_EQ(symbol_range(other, hint), range) << value << " and " << other;
      }
    seen.emplace(range.low, range.high);
  }
  return seen;
}

TEST(ShapeClass, IsAStretchBetweenPowersOfTwo) {
  EXPECT_EQ(symbol_range(5, {"n"}), (SymbolRange{5, 8}));
  EXPECT_EQ(symbol_range(8, {"n"}), (SymbolRange{5, 8}));
  EXPECT_EQ(symbol_range(9, {"n"}), (SymbolRange{9, 16}));
  EXPECT_EQ(symbol_range(1, {"n"}), symbol_range(2, {"n"}));
  EXPECT_EQ(symbol_range(0, {"n"}), (SymbolRange{0, 0}));
  const std::int64_t huge = std::int64_t{1} << 62;
  EXPECT_GE(symbol_range(huge, {"n"}).high, huge);
}

TEST(ShapeClass, SetsTheTunedValueApart) {
  EXPECT_EQ(symbol_range(640, {"width", 1, 640, -1}), (SymbolRange{640, 640}));
  EXPECT_EQ(symbol_range(641, {"width", 1, 640, -1}), (SymbolRange{513, 1024}));
}

TEST(ShapeClass, EndsAtTheLimitsOfTheHint) {
  EXPECT_EQ(symbol_range(700, {"width", 520, 640, 720}), (SymbolRange{520, 720}));
  EXPECT_EQ(symbol_range(720, {"width", 520, 640, 720}), (SymbolRange{520, 720}));
}

TEST(ShapeClass, AreFew) {
  for (const std::int64_t opt : {-1, 1, 3, 16, 200, 512}) {
    EXPECT_LE(ranges(1, 512, {"length", 1, opt, -1}).size(), 10U) << opt;
    EXPECT_LE(ranges(1, 32, {"batch", 1, opt, -1}).size(), 7U) << opt;
    EXPECT_LE(ranges(1, 512, {"length", 1, opt, 512}).size(), 10U) << opt;
  }
  EXPECT_GE(ranges(1, 512, {"length"}).size(), 9U);
}

}  // namespace
}  // namespace lathe::plan
