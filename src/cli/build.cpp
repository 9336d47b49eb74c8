// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// `lathe build`: ONNX to an engine file.

#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/os.h"
#include "builder/builder.h"
#include "builder/build_text.h"
#include "cli/command.h"

namespace lathe::cli {

void add_build(CLI::App& app, Action& action) {
  struct Options {
    std::string model, output;
    BuildFlags flags;
    bool explain = false, json = false;
  };
  auto options = std::make_shared<Options>();
  auto* command = add_command(app, "build", "ONNX to an engine: simplify, fuse, time candidates, verify, save",
                              {"lathe build m.onnx -o m.engine", "lathe build m.onnx -o m.engine --precision bf16 --shape images:1x3x640x640 --explain",
                               "lathe build m.onnx -o m.engine --shape images:1x3x320x320:1x3x640x640:8x3x1280x1280   any batch to 8, tuned for 1"});
  command->add_option("model", options->model, "ONNX file")->required()->type_name("M.onnx");
  command->add_option("-o,--output", options->output, "Engine file to write")->required()->type_name("M.engine");
  options->flags.add_to(*command);
  command->add_flag("--explain", options->explain, "Print, per region, the candidates taken and refused with their times and reasons");
  command->add_flag("--json", options->json, "Print the report as JSON");
  command->callback([options, &action] {
    action = [options] {
      require_onnx(options->model, "build", "It is built already: `lathe show`, `run` and `bench` take it as it is.");
      check_output(options->output, options->model);
      const double started = os::now_seconds();
      const Engine engine = [&] {
        TerminalProgress progress(options->flags.quiet);  // its line is gone before anything is printed
        return build(options->model, options->flags.config(&progress));
      }();
      engine.save(options->output);
      const auto report = nlohmann::json::parse(engine.report_json());
      if (options->json) {
        std::puts(report.dump(2).c_str());
        return 0;
      }
      if (options->explain) std::fputs(builder::explain_text(report).c_str(), stdout);
      fmt::print("{}: {} steps from {} nodes, {} of packed weights, built in {}\n", options->output, report["steps"].get<int>(),
                 report["nodes_read"].get<int>(), human_bytes(static_cast<double>(engine.weight_bytes())), human_time(os::now_seconds() - started));
      if (report.contains("host_steps")) {
        fmt::print("{} step(s) have no kernel on the GPU and run on the CPU between copies:\n", report["host_steps"].size());
        for (const auto& step : report["host_steps"]) fmt::print("  {}\n", step.get<std::string>());
      }
      fmt::print("{}\n", builder::verify_text(report["verify"]));
      return 0;
    };
  });
}

}  // namespace lathe::cli
