// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// XXH3 behind hash.h, compiled once.

#include "base/hash.h"

#include <fmt/format.h>
#include <xxhash.h>

namespace lathe {

std::uint64_t hash64(const void* data, std::size_t bytes, std::uint64_t seed) noexcept { return XXH3_64bits_withSeed(data, bytes, seed); }

std::string Hash128::hex() const { return fmt::format("{:016x}{:016x}", high, low); }

Hash128 hash128(const void* data, std::size_t bytes) noexcept {
  const XXH128_hash_t hash = XXH3_128bits(data, bytes);
  return {hash.low64, hash.high64};
}

}  // namespace lathe
