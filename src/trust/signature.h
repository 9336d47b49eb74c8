// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Ed25519 keys and signatures. Key files are one line of text: a word that says what it is, and the key in hexadecimal digits.

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace lathe::trust {

struct PublicKey {
  std::array<std::byte, 32> bytes{};
  bool operator==(const PublicKey&) const = default;
  std::string id() const;    ///< the first 16 digits, for messages
  std::string text() const;  ///< the line of a .pub file
};

/// The seed that both halves come from. Wiped when it goes.
class PrivateKey {
 public:
  static PrivateKey make();  ///< a new one, by the system's random numbers
  /// Throws Error(kInvalidArgument): this is no private key.
  static PrivateKey parse(std::string_view text);
  PrivateKey(const PrivateKey&) = default;
  PrivateKey& operator=(const PrivateKey&) = default;
  ~PrivateKey();
  PublicKey public_key() const;
  std::string text() const;  ///< the line of a .key file

 private:
  friend struct Signature sign(const PrivateKey& key, std::span<const std::byte> message);
  PrivateKey() = default;
  std::array<std::byte, 32> seed_{};
};

struct Signature {
  PublicKey key;
  std::array<std::byte, 64> bytes{};
  bool operator==(const Signature&) const = default;
  bool fits(std::span<const std::byte> message) const;
};

Signature sign(const PrivateKey& key, std::span<const std::byte> message);

/// The line of a .pub file, or the digits alone. Throws Error(kInvalidArgument).
PublicKey parse_public_key(std::string_view text);

}  // namespace lathe::trust
