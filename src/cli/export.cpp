// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// `lathe export`: PyTorch to ONNX, by the Python package (PyTorch lives there).

#include "cli/command.h"

namespace lathe::cli {

void add_export(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("export", "PyTorch (FILE.py:FUNCTION, TorchScript, .pt2) to ONNX, run and compared with PyTorch");
  command->allow_extras();
  command->prefix_command();
  command->set_help_flag();  // Python prints the help
  command->callback([command, &action] { action = [command] { return run_python("lathe.exporter", command->remaining()); }; });
}

}  // namespace lathe::cli
