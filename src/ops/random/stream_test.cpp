// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The streams are NumPy's: numbers here were printed by numpy.random.RandomState(seed).
#include "ops/random/stream.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

namespace lathe::ops {
namespace {

TEST(RandomStream, UniformNumbersOfNumPy) {
  RandomStream zero(0), last(4294967295u);
  for (const double expected : {0.5488135039273248, 0.7151893663724195, 0.6027633760716439}) EXPECT_EQ(zero.uniform(), expected);
  for (const double expected : {0.0976320289940138, 0.9123828453026218}) EXPECT_EQ(last.uniform(), expected);
}

TEST(RandomStream, TheThousandthIsBeyondTheFirstState) {
  RandomStream stream(0);
  for (int i = 0; i < 999; ++i) stream.uniform();
  EXPECT_EQ(stream.uniform(), 0.6771411441114241);
}

TEST(RandomStream, NormalNumbersOfNumPy) {
  RandomStream zero(0), other(12345);
  for (const double expected : {1.764052345967664, 0.4001572083672233, 0.9787379841057392, 2.240893199201458, 1.8675579901499675})
    EXPECT_DOUBLE_EQ(zero.normal(), expected);
  for (const double expected : {-0.20470765948471295, 0.47894333805754824, -0.5194387150567381}) EXPECT_DOUBLE_EQ(other.normal(), expected);
}

TEST(RandomStream, BernoulliNumbersOfNumPy) {
  RandomStream stream(7);
  constexpr std::array p{.1, .5, .9, .3, .7, 1.0, 0.0, .5000001, 1e-9, .999999};
  std::vector<int> drawn;
  for (int round = 0; round < 2; ++round)
    for (const double share : p) drawn.push_back(stream.bernoulli(share) ? 1 : 0);
  EXPECT_EQ(drawn, (std::vector<int>{0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 0, 1, 1, 0, 1, 1, 0, 1, 0, 1}));
}

TEST(RandomStream, BernoulliSharesAreTheProbabilities) {
  RandomStream stream = RandomStream::fresh();
  for (const double p : {0.0, 0.02, 0.5, 0.75, 1.0}) {
    int ones = 0;
    for (int i = 0; i < 100000; ++i) ones += stream.bernoulli(p) ? 1 : 0;
    EXPECT_NEAR(ones / 1e5, p, 0.01) << p;  // more than six deviations
  }
}

TEST(RandomStream, FreshStreamsDiffer) { EXPECT_NE(RandomStream::fresh().uniform(), RandomStream::fresh().uniform()); }

}  // namespace
}  // namespace lathe::ops
