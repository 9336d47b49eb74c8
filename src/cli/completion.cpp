// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// `lathe completion bash|zsh`: prints a completion script made from the command's own options, so that it cannot go stale. With --json what it is made
// from, which is what docs/cli.md is made from too.

#include <fmt/format.h>

#include "cli/app_tree.h"
#include "cli/command.h"

namespace lathe::cli {

void add_completion(CLI::App& app, Action& action) {
  struct Options {
    std::string shell = "bash";
    bool json = false;
  };
  auto options = std::make_shared<Options>();
  auto* command = add_command(app, "completion", "Print a completion script: subcommands, options, their values, files by their endings",
                              {R"x(eval "$(lathe completion bash)"                     for this shell; in ~/.bashrc for all)x",
                               R"x(lathe completion zsh > "${fpath[1]}/_lathe"         for all shells to come)x"});
  command->add_option("shell", options->shell, "bash or zsh")->capture_default_str()->check(CLI::IsMember({"bash", "zsh"}));
  command->add_flag("--json", options->json, "Print all subcommands and options as JSON instead");
  command->callback([options, &app, &action] {
    action = [options, &app] {
      const nlohmann::json tree = describe_app(app);
      if (options->json) fmt::print("{}\n", tree.dump(2));
      else fmt::print("{}", options->shell == "zsh" ? zsh_completion(tree, "lathe") : bash_completion(tree, "lathe"));
      return 0;
    };
  });
}

}  // namespace lathe::cli
