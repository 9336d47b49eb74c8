// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// `lathe engine sign`: a signature for the native code that a file holds. Whoever signs answers for the code: it is not looked into.

#include <fmt/format.h>

#include <filesystem>

#include "base/os.h"
#include "cli/engine/subcommands.h"
#include "engine/engine.h"

namespace lathe::cli {
namespace {

struct Options {
  std::string file, key, output;
};

trust::PrivateKey signing_key(const std::string& file) {
  if (file.empty()) return trust::own_key();
  namespace fs = std::filesystem;
  try {
    const std::string text = os::read_text(file);
    if ((fs::status(file).permissions() & (fs::perms::group_all | fs::perms::others_all)) != fs::perms::none)
      throw Error(Code::kIo, "other users can read or write the key").with_remedy(fmt::format("chmod 600 {}", file));
    return trust::PrivateKey::parse(text);
  } catch (Error& error) {
    if (error.source().empty()) error.in_source(file);
    throw;
  }
}

int sign(const Options& options) {
  engine::EngineData data = read_whole_engine(options.file);
  std::size_t count = 0;
  for (const engine::DeviceSection& section : data.sections) count += section.native.bytes.empty() ? 0 : 1;
  if (count == 0)
    throw DataError(
        Code::kInvalidArgument,
        fmt::format("'{}' holds no native code, which alone is signed. `lathe build --device cuda` keeps it unless --no-native is given", options.file));
  const std::string path = edited_path(options.file, options.output);
  const trust::PrivateKey key = signing_key(options.key);
  for (engine::DeviceSection& section : data.sections)
    if (!section.native.bytes.empty()) engine::sign_native(section.native, key);
  engine::write_engine(data, path);
  fmt::print("{}: native code of {} device{} signed by the key {}\n", path, count, count == 1 ? "" : "s", key.public_key().id());
  return 0;
}

}  // namespace

void add_engine_sign(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  auto* command = add_command(app, "sign", "Sign the native code of an engine, so that whoever trusts the key runs it. Sign only what you built or know",
                              {"lathe engine sign m.engine", "lathe engine sign m.engine --key release.key -o signed.engine"});
  command->add_option("file", options->file, "Engine file")->required()->type_name("M.engine");
  command->add_option("--key", options->key, "Private key that signs; without it this user's own")->type_name("NAME.key");
  command->add_option("-o,--output", options->output, "Where to write; without it the file itself is replaced")->type_name("M.engine");
  command->callback([options, &action] { action = [options] { return sign(*options); }; });
}

}  // namespace lathe::cli
