// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// `lathe python`: a script for TensorRT and PyCUDA with Lathe in their place, by the Python package (lathe.compat).

#include "cli/command.h"

namespace lathe::cli {

void add_python(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("python", "Run a script that imports tensorrt and pycuda on Lathe's engines (TensorRT 7, 8 or 10)");
  command->allow_extras();
  command->prefix_command();
  command->set_help_flag();  // Python prints the help
  command->callback([command, &action] { action = [command] { return run_python("lathe.compat.launcher", command->remaining()); }; });
}

}  // namespace lathe::cli
