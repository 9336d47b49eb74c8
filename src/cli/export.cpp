// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// `lathe export`: PyTorch to ONNX, by the Python package (PyTorch lives there).

#include <string>
#include <vector>

#include "cli/app_tree.h"
#include "cli/command.h"

namespace lathe::cli {

void add_export(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("export", "PyTorch (FILE.py:FUNCTION, TorchScript, .pt2) to ONNX, run and compared with PyTorch");
  command->allow_extras();
  command->prefix_command();
  command->set_help_flag();  // Python prints the help
  // Read and explained by lathe/exporter.py; a test holds the two lists together.
  CLI::App& shown = shadow_of(*command);
  static std::vector<std::string> texts;
  static std::string text;
  static bool flag;
  shown.add_option("source", text, "FILE.py:FUNCTION (returns an nn.Module), a TorchScript file, or a torch.export file")
      ->required()
      ->type_name("FILE.py:FUNCTION|FILE.pt|FILE.pt2");
  shown.add_option("-o,--output", text, "File to write")->required()->type_name("M.onnx");
  shown.add_option("--input", texts, "Dummy input, once for each input: 1x3x640x640, ids:1x128:int64")->type_name("NAME:SHAPE:DTYPE");
  shown.add_flag("--half", flag, "Convert the module and its inputs to float16");
  shown.add_option("--dynamic", texts, "Axes that may change: images:0=batch,2=height")->type_name("NAME:AXIS=SYMBOL,...");
  shown.add_option("--opset", text, "ONNX opset")->type_name("N");
  shown.add_option("--output-names", text, "Names of the outputs")->type_name("A,B");
  shown.add_option("--exporter", text, "Which of PyTorch's exporters to try first")->check(CLI::IsMember({"dynamo", "torchscript"}));
  shown.add_option("--seed", text, "Seed of the dummy inputs")->type_name("N");
  shown.add_flag("--json", flag, "Print the report as JSON");
  command->callback([command, &action] { action = [command] { return run_python("lathe.exporter", command->remaining()); }; });
}

}  // namespace lathe::cli
