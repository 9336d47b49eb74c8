// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// `lathe engine keygen`: a new pair of keys, or the public half of this user's own.

#include <fmt/format.h>

#include "base/os.h"
#include "cli/engine/subcommands.h"

namespace lathe::cli {
namespace {

int keygen(const std::string& output) {
  if (output.empty()) {
    fmt::print("{}", trust::own_key().public_key().text());
    return 0;
  }
  const std::filesystem::path file = output;
  if (file.extension() == ".pub")
    throw Error(Code::kInvalidArgument, "the name of the private half is needed; the public one is written beside it, with the ending .pub").in_source(output);
  std::filesystem::path open = file;
  open.replace_extension(".pub");
  std::error_code ignored;
  const auto taken = [](const std::filesystem::path& path) {
    return Error(Code::kInvalidArgument, "there is such a file, and keys are not overwritten").in_source(path.string()).with_remedy("Give another name.");
  };
  if (std::filesystem::exists(open, ignored)) throw taken(open);
  os::AtomicFile half(open);
  const trust::PrivateKey key = trust::PrivateKey::make();
  half.write(key.public_key().text());
  if (!os::create_secret(file, key.text())) throw taken(file);
  half.commit();
  fmt::print("{}: signs (keep it to yourself)\n{}: for those who are to trust it: lathe engine trust {}\n", file.string(), open.string(),
             open.filename().string());
  return 0;
}

}  // namespace

void add_engine_keygen(CLI::App& app, Action& action) {
  auto output = std::make_shared<std::string>();
  auto* command = add_command(app, "keygen", "Print the public half of this user's own key (made when first needed), or make a new pair of keys",
                              {"lathe engine keygen > me.pub            for others to trust what is built here",
                               "lathe engine keygen -o release.key       release.key and release.pub"});
  command->add_option("-o,--output", *output, "Make a new pair: this file, readable for its owner alone, and NAME.pub beside it")->type_name("NAME.key");
  command->callback([output, &action] { action = [output] { return keygen(*output); }; });
}

}  // namespace lathe::cli
