// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#include "ops/random/stream.h"

#include <cmath>

namespace lathe::ops {

RandomStream RandomStream::fresh() {
  std::random_device device;
  std::seed_seq seeds{device(), device(), device(), device(), device(), device(), device(), device()};
  return RandomStream(std::mt19937(seeds));
}

double RandomStream::uniform() {
  const std::uint32_t high = static_cast<std::uint32_t>(engine_()) >> 5, low = static_cast<std::uint32_t>(engine_()) >> 6;
  return (static_cast<double>(high) * 67108864.0 + static_cast<double>(low)) / 9007199254740992.0;
}

double RandomStream::normal() {
  if (second_) {
    const double value = *second_;
    second_.reset();
    return value;
  }
  double a, b, square;
  do {
    a = 2.0 * uniform() - 1.0;
    b = 2.0 * uniform() - 1.0;
    square = a * a + b * b;
  } while (square >= 1.0 || square == 0.0);
  const double factor = std::sqrt(-2.0 * std::log(square) / square);
  second_ = factor * a;
  return factor * b;
}

// A binomial number of one trial by inversion: the rarer outcome is the one that is counted.
bool RandomStream::bernoulli(double p) {
  const bool mirrored = p > 0.5;
  const double rare = mirrored ? 1.0 - p : p, other = 1.0 - rare, most = std::exp(std::log(other));
  double u = uniform(), share = most;
  std::int64_t count = 0;
  while (u > share) {
    ++count;
    if (count > 1) {  // rounding left a remainder: again
      count = 0;
      share = most;
      u = uniform();
    } else {
      u -= share;
      share = static_cast<double>(2 - count) * rare * share / (static_cast<double>(count) * other);
    }
  }
  return mirrored ? count == 0 : count == 1;
}

}  // namespace lathe::ops
