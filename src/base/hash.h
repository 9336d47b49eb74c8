// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Content hashes (XXH3, 64 and 128 bits) for weights, tuning keys and engine sections. Not cryptographic.

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace lathe {

std::uint64_t hash64(const void* data, std::size_t bytes, std::uint64_t seed = 0) noexcept;
inline std::uint64_t hash64(std::string_view text, std::uint64_t seed = 0) noexcept { return hash64(text.data(), text.size(), seed); }

struct Hash128 {
  std::uint64_t low = 0, high = 0;
  bool operator==(const Hash128&) const = default;
  std::string hex() const;  ///< 32 digits
};
Hash128 hash128(const void* data, std::size_t bytes) noexcept;

}  // namespace lathe
