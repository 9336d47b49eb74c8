// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The keys of this user, in LATHE_CACHE_DIR/keys: own.key (mode 0600, made on first need) signs what is built here, trusted/NAME.pub are
// other people's. Files and folders that others can write do not count: whoever can change the cache could run code here anyway.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "trust/signature.h"

namespace lathe::trust {

struct NamedKey {
  std::string name;
  PublicKey key;
};

/// Whom this user trusts, as found at one time.
struct KeyRing {
  std::optional<PublicKey> own;
  std::vector<NamedKey> trusted;      ///< by name
  std::vector<std::string> unusable;  ///< files that do not count, and why: a sentence each
  bool trusts(const PublicKey& key) const { return !who(key).empty(); }
  /// "this user's own key", "'alice'"; "" for a key that is not trusted.
  std::string who(const PublicKey& key) const;
};

std::filesystem::path key_folder();
/// Never throws for what it finds: that is told in `unusable`.
KeyRing read_keys();
/// This user's own key; made by the first call, once whoever calls at the same time. Throws Error(kIo, kInvalidArgument).
PrivateKey own_key();

/// Trusts a key under a name. Throws Error(kInvalidArgument) for a name that is taken by another key or unfit for a file.
void trust_key(const PublicKey& key, const std::string& name);
/// Trusts it no longer; by name or by its digits' beginning (at least 8). Returns the name. Throws Error(kInvalidArgument) when there is none such.
std::string distrust_key(const std::string& name);

}  // namespace lathe::trust
