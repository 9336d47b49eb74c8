// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// `lathe python`: a script for TensorRT and PyCUDA with Lathe in their place, by the Python package (lathe.compat).

#include <string>

#include "cli/app_tree.h"
#include "cli/command.h"

namespace lathe::cli {

void add_python(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("python", "Run a script that imports tensorrt and pycuda on Lathe's engines (TensorRT 7, 8 or 10)");
  command->allow_extras();
  command->prefix_command();
  command->set_help_flag();  // Python prints the help
  // Read and explained by lathe/compat/launcher.py; a test holds the two lists together.
  CLI::App& shown = shadow_of(*command);
  static std::string text;
  static bool flag;
  shown.add_option("script", text, "The script; its own options stand behind it")->required()->type_name("SCRIPT.py");
  shown.add_option("--tensorrt", text, "Version that `import tensorrt` shows")->check(CLI::IsMember({"7", "8", "10"}));
  shown.add_option("--device", text, "Where engines run")->type_name("cpu|cuda|cuda:N");
  shown.add_option("--budget", text, "For timing candidates in builds: 30s, 2m; 0 takes modelled costs")->type_name("TIME");
  shown.add_flag("--no-verify", flag, "Leave out the comparison with the oracle in builds");
  shown.add_flag("--no-cache", flag, "Neither read nor write the tuning cache");
  command->callback([command, &action] { action = [command] { return run_python("lathe.compat.launcher", command->remaining()); }; });
}

}  // namespace lathe::cli
