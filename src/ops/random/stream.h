// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The stream of random numbers that the format's reference has for a seed: the Mersenne Twister MT19937 (Matsumoto and Nishimura 1998)
// with 53-bit uniform numbers and the polar method for normal ones (Marsaglia and Bray 1964), as NumPy's RandomState gives them.

#include <cstdint>
#include <optional>
#include <random>

namespace lathe::ops {

class RandomStream {
 public:
  explicit RandomStream(std::uint32_t seed) : engine_(seed) {}
  /// A stream that nothing repeats.
  static RandomStream fresh();

  double uniform();  ///< in [0, 1), a multiple of 2^-53
  double normal();   ///< mean 0, deviation 1
  bool bernoulli(double p);

 private:
  explicit RandomStream(std::mt19937 engine) : engine_(engine) {}
  std::mt19937 engine_;
  std::optional<double> second_;  // normal numbers are made in pairs
};

}  // namespace lathe::ops
