// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// `lathe engine trust`: whose native code may run here.

#include <fmt/format.h>

#include "base/os.h"
#include "cli/engine/subcommands.h"
#include "trust/digest.h"

namespace lathe::cli {
namespace {

struct Options {
  std::string key, name, remove;
  bool list = false, json = false;
};

int list(bool as_json) {
  const trust::KeyRing keys = trust::read_keys();
  if (as_json) {
    nlohmann::json trusted = nlohmann::json::array();
    for (const trust::NamedKey& each : keys.trusted) trusted.push_back({{"name", each.name}, {"key", trust::hex(each.key.bytes)}});
    const nlohmann::json out = {{"folder", trust::key_folder().string()},
                                {"own", keys.own ? nlohmann::json(trust::hex(keys.own->bytes)) : nlohmann::json()},
                                {"trusted", std::move(trusted)},
                                {"unusable", keys.unusable}};
    fmt::print("{}\n", out.dump(2));
    return 0;
  }
  std::vector<std::vector<std::string>> rows{{"name", "key"}};
  if (keys.own) rows.push_back({"(own)", trust::hex(keys.own->bytes)});
  for (const trust::NamedKey& each : keys.trusted) rows.push_back({each.name, trust::hex(each.key.bytes)});
  if (rows.size() == 1) fmt::print("no key yet: this user's own is made when first needed (in {})\n", trust::key_folder().string());
  else fmt::print("{}", table(rows));
  for (const std::string& sentence : keys.unusable) fmt::print("{}\n", sentence);
  return 0;
}

/// A file, or the digits themselves.
trust::PublicKey read_key(const std::string& word) {
  std::error_code ignored;
  if (!std::filesystem::exists(word, ignored)) {
    trust::PublicKey key;
    if (trust::from_hex(word, key.bytes)) return key;
    throw Error(Code::kIo, "there is no such file, and these are not the 64 digits of a key").in_source(word);
  }
  if (std::filesystem::file_size(word, ignored) > 4096) throw Error(Code::kInvalidArgument, "this is no public key: it is too large").in_source(word);
  try {
    return trust::parse_public_key(os::read_text(word));
  } catch (Error& error) {
    error.in_source(word);
    throw;
  }
}

int trust_or_not(const Options& options) {
  const int asked = (options.list ? 1 : 0) + (options.remove.empty() ? 0 : 1) + (options.key.empty() ? 0 : 1);
  if (asked != 1) throw Error(Code::kInvalidArgument, "name one key to trust, or --list, or --remove NAME").with_remedy("See lathe engine trust --help.");
  if (!options.name.empty() && options.key.empty()) throw Error(Code::kInvalidArgument, "--name goes with a key to trust");
  if (options.list) return list(options.json);
  if (options.json) throw Error(Code::kInvalidArgument, "--json goes with --list");
  if (!options.remove.empty()) {
    fmt::print("'{}' is trusted no longer\n", trust::distrust_key(options.remove));
    return 0;
  }
  const trust::PublicKey key = read_key(options.key);
  std::error_code ignored;
  const bool digits = !std::filesystem::exists(options.key, ignored);
  const std::string name = !options.name.empty() ? options.name : digits ? key.id() : std::filesystem::path(options.key).stem().string();
  trust::trust_key(key, name);
  fmt::print("'{}' is trusted: native code signed by {} runs here\n", name, trust::hex(key.bytes));
  return 0;
}

}  // namespace

void add_engine_trust(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  auto* command = add_command(app, "trust", "Trust a key: native code that it signed runs here. Check with its owner that it is theirs",
                              {"lathe engine trust alice.pub", "lathe engine trust --list", "lathe engine trust --remove alice"});
  command->add_option("key", options->key, "Public key: a file, or its 64 digits")->type_name("KEY.pub");
  command->add_option("--name", options->name, "What to call it; without it the file's name")->type_name("NAME");
  command->add_flag("--list", options->list, "Print the keys that are trusted");
  command->add_option("--remove", options->remove, "Trust this one no longer")->type_name("NAME");
  command->add_flag("--json", options->json, "Print the list as JSON");
  command->callback([options, &action] { action = [options] { return trust_or_not(*options); }; });
}

}  // namespace lathe::cli
