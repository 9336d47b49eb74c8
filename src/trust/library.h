// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// libsodium as this folder calls it. Private to src/trust.

#include <array>
#include <cstddef>
#include <span>

namespace lathe::trust {

/// Before any other call of the library; by any thread. Throws Error(kMachine) when it does not start.
void use_library();

inline unsigned char* raw(std::span<std::byte> bytes) noexcept { return reinterpret_cast<unsigned char*>(bytes.data()); }
inline const unsigned char* raw(std::span<const std::byte> bytes) noexcept { return reinterpret_cast<const unsigned char*>(bytes.data()); }
template <std::size_t N>
unsigned char* raw(std::array<std::byte, N>& bytes) noexcept {
  return reinterpret_cast<unsigned char*>(bytes.data());
}
template <std::size_t N>
const unsigned char* raw(const std::array<std::byte, N>& bytes) noexcept {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}

}  // namespace lathe::trust
