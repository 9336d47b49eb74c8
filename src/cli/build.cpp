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

Engine build_file(const std::string& model, const std::string& output, BuildConfig config, bool quiet) {
  require_onnx(model, "build", "It is built already: `lathe show`, `run` and `bench` take it as it is.");
  if (!output.empty()) check_output(output, model);
  const Engine engine = [&] {
    TerminalProgress progress(quiet);  // its line is gone before anything is printed
    config.progress = &progress;
    return build(model, config);
  }();
  if (!output.empty()) engine.save(output);
  return engine;
}

std::string built_text(const Engine& engine, const std::string& output, double seconds) {
  const auto report = nlohmann::json::parse(engine.report_json());
  std::string text = fmt::format("{}: {} steps from {} nodes, {} of packed weights, built in {}\n", output, report["steps"].get<int>(),
                                 report["nodes_read"].get<int>(), human_bytes(static_cast<double>(engine.weight_bytes())), human_time(seconds));
  if (report.contains("host_steps")) {
    text += fmt::format("{} step(s) have no kernel on the GPU and run on the CPU between copies:\n", report["host_steps"].size());
    for (const auto& step : report["host_steps"]) text += fmt::format("  {}\n", step.get<std::string>());
  }
  return text + builder::verify_text(report["verify"]) + "\n";
}

void add_build(CLI::App& app, Action& action) {
  struct Options {
    std::string model, output;
    BuildFlags flags;
    bool explain = false, json = false, no_native = false;
  };
  auto options = std::make_shared<Options>();
  auto* command = add_command(app, "build", "ONNX to an engine: simplify, fuse, time candidates, verify, save",
                              {"lathe build m.onnx -o m.engine", "lathe build m.onnx -o m.engine --precision bf16 --shape images:1x3x640x640 --explain",
                               "lathe build m.onnx -o m.engine --shape images:1x3x320x320:1x3x640x640:8x3x1280x1280   any batch to 8, tuned for 1"});
  command->add_option("model", options->model, "ONNX file")->required()->type_name("M.onnx");
  command->add_option("-o,--output", options->output, "Engine file to write")->required()->type_name("M.engine");
  options->flags.add_to(*command);
  command->add_flag("--no-native", options->no_native, "On cuda: leave out the machine code of fused regions, which others then compile by NVRTC");
  command->add_flag("--explain", options->explain, "Print, per region, the candidates taken and refused with their times and reasons");
  command->add_flag("--json", options->json, "Print the report as JSON");
  command->callback([options, &action] {
    action = [options] {
      const double started = os::now_seconds();
      BuildConfig config = options->flags.config(nullptr);
      config.native = !options->no_native;
      const Engine engine = build_file(options->model, options->output, std::move(config), options->flags.quiet);
      const auto report = nlohmann::json::parse(engine.report_json());
      if (options->json) {
        std::puts(report.dump(2).c_str());
        return 0;
      }
      if (options->explain) std::fputs(builder::explain_text(report).c_str(), stdout);
      fmt::print("{}", built_text(engine, options->output, os::now_seconds() - started));
      return 0;
    };
  });
}

}  // namespace lathe::cli
