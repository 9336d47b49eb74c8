// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See key_store.h.

#include "trust/key_store.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/os.h"
#include "lathe/status.h"
#include "trust/digest.h"

namespace lathe::trust {
namespace {

namespace fs = std::filesystem;

fs::path own_file() { return key_folder() / "own.key"; }
fs::path trusted_folder() { return key_folder() / "trusted"; }

PrivateKey read_own() {
  const fs::path file = own_file();
  try {
    return PrivateKey::parse(os::read_guarded(file, true));
  } catch (Error& error) {
    if (error.source().empty()) error.in_source(file.string());
    throw;
  }
}

/// Names become files: nothing that leads elsewhere or hides.
void check_name(const std::string& name) {
  const auto fit = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || std::string_view("-_.@+").find(c) != std::string_view::npos;
  };
  if (name.empty() || name.size() > 100 || name[0] == '.' || name[0] == '-' || !std::all_of(name.begin(), name.end(), fit))
    throw Error(Code::kInvalidArgument, fmt::format("'{}' is no name for a key", name))
        .with_remedy("Use letters, digits, '-', '_', '.', '@' and '+': --name alice.");
}

}  // namespace

std::string KeyRing::who(const PublicKey& key) const {
  if (own && *own == key) return "this user's own key";
  for (const NamedKey& each : trusted)
    if (each.key == key) return fmt::format("'{}'", each.name);
  return {};
}

fs::path key_folder() { return os::cache_dir() / "keys"; }

KeyRing read_keys() {
  KeyRing ring;
  const auto guarded = [&](const fs::path& file, auto&& read) {
    try {
      read();
    } catch (const std::exception& error) {
      ring.unusable.push_back(fmt::format("the key {} does not count: {}", file.string(), error.what()));
    }
  };
  std::error_code error;
  if (fs::exists(own_file(), error)) guarded(own_file(), [&] { ring.own = read_own().public_key(); });
  for (fs::directory_iterator at(trusted_folder(), error), end; !error && at != end; at.increment(error)) {
    const fs::path& file = at->path();
    if (file.extension() != ".pub" || file.filename().string()[0] == '.') continue;
    guarded(file, [&] { ring.trusted.push_back({file.stem().string(), parse_public_key(os::read_guarded(file, false))}); });
  }
  std::sort(ring.trusted.begin(), ring.trusted.end(), [](const NamedKey& a, const NamedKey& b) { return a.name < b.name; });
  return ring;
}

PrivateKey own_key() {
  std::error_code error;
  if (!fs::exists(own_file(), error)) {
    os::make_own_folder(key_folder());
    os::create_secret(own_file(), PrivateKey::make().text());  // or somebody was first: then theirs is read
  }
  return read_own();
}

void trust_key(const PublicKey& key, const std::string& name) {
  check_name(name);
  for (const NamedKey& each : read_keys().trusted) {
    if (each.name == name && each.key == key) return;
    if (each.name == name)
      throw Error(Code::kInvalidArgument, fmt::format("another key ({}) is trusted under the name '{}'", each.key.id(), name))
          .with_remedy(fmt::format("Give --name, or remove that one first: lathe engine trust --remove {}", name));
  }
  os::make_own_folder(key_folder());
  os::make_own_folder(trusted_folder());
  const fs::path file = trusted_folder() / (name + ".pub");
  if (!os::create_secret(file, key.text()))  // no secret, but others must not write it, whatever the umask says
    throw Error(Code::kInvalidArgument, "there is such a file already, which does not count")
        .in_source(file.string())
        .with_remedy(fmt::format("`lathe engine trust --list` says why; lathe engine trust --remove {} takes it away.", name));
}

std::string distrust_key(const std::string& name) {
  std::vector<std::string> found;
  for (const NamedKey& each : read_keys().trusted)
    if (each.name == name || (name.size() >= 8 && hex(each.key.bytes).starts_with(name))) found.push_back(each.name);
  // A file that does not count is removed by its name all the same.
  std::error_code error;
  const bool plain = name.find('/') == std::string::npos && fs::exists(trusted_folder() / (name + ".pub"), error);
  if (found.empty() && plain) found.push_back(name);
  if (found.size() != 1)
    throw Error(Code::kInvalidArgument,
                found.empty() ? fmt::format("no trusted key is called '{}'", name) : fmt::format("'{}' fits several trusted keys", name))
        .with_remedy("`lathe engine trust --list` names them.");
  if (!fs::remove(trusted_folder() / (found[0] + ".pub"), error) || error)
    throw Error(Code::kIo, fmt::format("the key cannot be removed: {}", error.message())).in_source((trusted_folder() / (found[0] + ".pub")).string());
  return found[0];
}

}  // namespace lathe::trust
