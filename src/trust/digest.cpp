// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See digest.h.

#include "trust/digest.h"

#include <sodium.h>

#include "trust/library.h"

namespace lathe::trust {
namespace {

template <class Out>
Out blake2b(std::span<const std::byte> bytes) {
  use_library();
  Out out;
  crypto_generichash(raw(out), out.size(), raw(bytes), bytes.size(), nullptr, 0);
  return out;
}

int digit(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

Digest digest(std::span<const std::byte> bytes) { return blake2b<Digest>(bytes); }
LongDigest long_digest(std::span<const std::byte> bytes) { return blake2b<LongDigest>(bytes); }

std::string hex(std::span<const std::byte> bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(2 * bytes.size());
  for (const std::byte byte : bytes) {
    text += kDigits[static_cast<unsigned>(byte) >> 4];
    text += kDigits[static_cast<unsigned>(byte) & 15];
  }
  return text;
}

bool from_hex(std::string_view text, std::span<std::byte> out) noexcept {
  if (text.size() != 2 * out.size()) return false;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    out[i] = static_cast<std::byte>(high * 16 + low);
  }
  return true;
}

}  // namespace lathe::trust
