// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Cryptographic digests (BLAKE2b): for content that a stranger may have chosen. base/hash.h is for damage alone.

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace lathe::trust {

using Digest = std::array<std::byte, 32>;
using LongDigest = std::array<std::byte, 64>;

Digest digest(std::span<const std::byte> bytes);
LongDigest long_digest(std::span<const std::byte> bytes);

std::string hex(std::span<const std::byte> bytes);
/// The digits' bytes; false unless there are exactly two digits for each byte of `out`.
bool from_hex(std::string_view text, std::span<std::byte> out) noexcept;

}  // namespace lathe::trust
