// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// `lathe completion bash|zsh`: prints a completion script made from the command's own options, so that it cannot go stale.

#include <fmt/format.h>

#include "cli/command.h"

namespace lathe::cli {

void add_completion(CLI::App& app, Action& action) {
  auto shell = std::make_shared<std::string>("bash");
  auto* command = add_command(app, "completion", "Print a completion script",
                              {R"x(eval "$(lathe completion bash)"   for this shell; put it into ~/.bashrc for all)x",
                               "lathe completion zsh > ~/.lathe-completion && . ~/.lathe-completion"});
  command->add_option("shell", *shell, "bash or zsh")->capture_default_str()->check(CLI::IsMember({"bash", "zsh"}));
  command->callback([shell, &app, &action] {
    action = [shell, &app] {
      std::string names, cases;
      for (const CLI::App* sub : app.get_subcommands([](CLI::App*) { return true; })) {
        names += (names.empty() ? "" : " ") + sub->get_name();
        std::string options;
        for (const CLI::Option* option : sub->get_options())
          for (const std::string& name : option->get_lnames()) options += (options.empty() ? "--" : " --") + name;
        cases += fmt::format("    {}) words=\"{}\";;\n", sub->get_name(), options);
      }
      if (*shell == "zsh") fmt::print("autoload -U +X bashcompinit && bashcompinit\n");
      fmt::print(
          "_lathe() {{\n  local words=\"{}\" word=\"${{COMP_WORDS[COMP_CWORD]}}\"\n"
          "  if [ \"$COMP_CWORD\" -gt 1 ]; then\n  case \"${{COMP_WORDS[1]}}\" in\n{}  esac\n  fi\n"
          "  case \"$word\" in\n    -*) COMPREPLY=($(compgen -W \"$words\" -- \"$word\"));;\n"
          "    *) if [ \"$COMP_CWORD\" -eq 1 ]; then COMPREPLY=($(compgen -W \"$words\" -- \"$word\")); else COMPREPLY=($(compgen -f -- \"$word\")); fi;;\n"
          "  esac\n}}\ncomplete -o filenames -F _lathe lathe\n",
          names, cases);
      return 0;
    };
  });
}

}  // namespace lathe::cli
