// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See signature.h.

#include "trust/signature.h"

#include <fmt/format.h>
#include <sodium.h>

#include "lathe/status.h"
#include "trust/digest.h"
#include "trust/library.h"

namespace lathe::trust {
namespace {

constexpr std::string_view kPrivateWord = "lathe-private-key-1", kPublicWord = "lathe-public-key-1";

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const std::size_t first = text.find_first_not_of(kSpace);
  return first == std::string_view::npos ? std::string_view() : text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

/// What follows `word` on the line; the text itself when it begins otherwise.
std::string_view behind(std::string_view word, std::string_view text) {
  text = trimmed(text);
  return text.starts_with(word) ? trimmed(text.substr(word.size())) : text;
}

/// Both halves, as the library wants them for signing.
struct Pair {
  explicit Pair(const std::array<std::byte, 32>& seed) {
    use_library();
    crypto_sign_seed_keypair(raw(key.bytes), secret, raw(seed));
  }
  ~Pair() { sodium_memzero(secret, sizeof secret); }
  Pair(const Pair&) = delete;
  Pair& operator=(const Pair&) = delete;
  PublicKey key;
  unsigned char secret[crypto_sign_SECRETKEYBYTES];
};

}  // namespace

void use_library() {
  // Safe to call again and by several threads; 1: it was started before.
  if (sodium_init() < 0) throw Error(Code::kMachine, "the library of signatures does not start: this machine gives no random numbers");
}

std::string PublicKey::id() const { return hex(bytes).substr(0, 16); }
std::string PublicKey::text() const { return fmt::format("{} {}\n", kPublicWord, hex(bytes)); }

PrivateKey PrivateKey::make() {
  use_library();
  PrivateKey key;
  randombytes_buf(key.seed_.data(), key.seed_.size());
  return key;
}

PrivateKey PrivateKey::parse(std::string_view text) {
  PrivateKey key;
  if (!trimmed(text).starts_with(kPrivateWord) || !from_hex(behind(kPrivateWord, text), key.seed_))
    throw Error(Code::kInvalidArgument,
                trimmed(text).starts_with(kPublicWord) ? "this is the public half of a key; the private one signs" : "this is no key that signs")
        .with_remedy("`lathe engine keygen -o NAME.key` makes one.");
  return key;
}

PrivateKey::~PrivateKey() { sodium_memzero(seed_.data(), seed_.size()); }

PublicKey PrivateKey::public_key() const { return Pair(seed_).key; }
std::string PrivateKey::text() const { return fmt::format("{} {}\n", kPrivateWord, hex(seed_)); }

bool Signature::fits(std::span<const std::byte> message) const {
  use_library();
  return crypto_sign_verify_detached(raw(bytes), raw(message), message.size(), raw(key.bytes)) == 0;
}

Signature sign(const PrivateKey& key, std::span<const std::byte> message) {
  const Pair pair(key.seed_);
  Signature signature;
  signature.key = pair.key;
  crypto_sign_detached(raw(signature.bytes), nullptr, raw(message), message.size(), pair.secret);
  return signature;
}

PublicKey parse_public_key(std::string_view text) {
  PublicKey key;
  if (!from_hex(behind(kPublicWord, text), key.bytes))
    throw Error(Code::kInvalidArgument, trimmed(text).starts_with(kPrivateWord)
                                            ? "this is the private half of a key, which its owner keeps; the public one is trusted"
                                            : "this is no public key")
        .with_remedy("`lathe engine keygen` prints the public half of this user's own key, and writes NAME.pub beside a new NAME.key.");
  return key;
}

}  // namespace lathe::trust
