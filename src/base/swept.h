// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// For tests: a share of a sweep's cases, where all would take too long (under an emulator). LATHE_SWEEP="10" keeps about every tenth case, "10:3" another
// tenth; unset keeps all. Tests read it, Lathe does not.

#include <cstdint>
#include <cstdlib>

namespace lathe::test {

struct SweepShare {
  std::uint64_t share = 1, seed = 0;

  static SweepShare from_environment() {
    SweepShare s;
    const char* text = std::getenv("LATHE_SWEEP");
    if (!text) return s;
    char* end = nullptr;
    s.share = std::strtoull(text, &end, 10);
    if (s.share == 0) s.share = 1;
    if (*end == ':') s.seed = std::strtoull(end + 1, nullptr, 10);
    return s;
  }
  /// Numbers that follow each other are taken at random, so that no period of a sweep meets that of the share.
  bool takes(std::uint64_t number) const {
    std::uint64_t x = (number + 1) * 0x9e3779b97f4a7c15ull ^ (seed + 1) * 0xd1b54a32d192ed03ull;
    x = (x ^ (x >> 29)) * 0xbf58476d1ce4e5b9ull;
    return (x ^ (x >> 32)) % share == 0;
  }
};

/// Is the case of this number to be run?
inline bool swept(std::uint64_t number) {
  static const SweepShare share = SweepShare::from_environment();
  return share.takes(number);
}

}  // namespace lathe::test
