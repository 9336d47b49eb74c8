// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// lathe check: every defect of an ONNX file at once.

#include <fmt/format.h>

#include "cli/command.h"
#include "lathe/check.h"

namespace lathe::cli {

void add_check(CLI::App& app, Action& action) {
  struct Options {
    std::string input;
    bool json = false, all = false;
  };
  auto options = std::make_shared<Options>();
  auto* command = add_command(app, "check", "Find every defect of an ONNX file: what, where, what was expected, what to do; exit code 1 when it is invalid",
                              {"lathe check model.onnx", "lathe check model.onnx --all", "lathe check model.onnx --json"});
  command->add_option("input", options->input, "ONNX file")->required()->type_name("MODEL.onnx");
  command->add_flag("--all", options->all, "Print every defect, not the first ten of each kind");
  command->add_flag("--json", options->json, "Print the report as JSON");
  command->callback([options, &action] {
    action = [options] {
      require_onnx(options->input, "check", "`lathe show` reads engines.");
      const CheckReport report = lathe::check(std::filesystem::path(options->input));
      if (options->json) fmt::print("{}\n", report.json());
      else fmt::print("{}", report.text(options->all ? 0 : 10));
      return report.valid() ? 0 : 1;
    };
  });
}

}  // namespace lathe::cli
