// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// `lathe verify`: an engine (or a model built in memory) against the oracle and, where installed, ONNX Runtime.

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "builder/build_text.h"
#include "builder/builder.h"
#include "builder/hints.h"
#include "cli/command.h"
#include "engine/engine.h"
#include "onnx/reader.h"

namespace lathe::cli {

void add_verify(CLI::App& app, Action& action) {
  struct Options {
    std::string model, onnx;
    BuildFlags flags;
    bool all = false, json = false, no_rival = false;
  };
  auto options = std::make_shared<Options>();
  auto* command = app.add_subcommand("verify",
                                     "Hold an engine against the oracle: the graph as read, run by defining loops\n"
                                     "  lathe verify m.onnx --precision bf16 --all\n"
                                     "  lathe verify m.engine --onnx m.onnx");
  command->add_option("model", options->model, "Engine, or ONNX file (built in memory)")->required()->type_name("FILE");
  command->add_option("--onnx", options->onnx, "The model that an engine was built from")->type_name("M.onnx");
  command->add_flag("--all", options->all, "Print every region's output, not only the graph's");
  command->add_flag("--no-onnxruntime", options->no_rival, "Leave out the comparison with ONNX Runtime");
  options->flags.add_to(*command);
  command->add_flag("--json", options->json, "Print the report as JSON");
  command->callback([options, &action] {
    action = [options] {
      const bool is_engine = is_engine_file(options->model);
      const std::string onnx = is_engine ? options->onnx : options->model;
      if (onnx.empty())
        throw Error(Code::kInvalidArgument, "an engine is verified against the model that it was built from").with_remedy("Add --onnx M.onnx.");
      TerminalProgress progress(options->flags.quiet);
      const BuildConfig config = options->flags.config(&progress);
      builder::BuildOptions build_options;
      build_options.precision = builder::parse_precision(config.precision);
      for (const auto& [name, range] : config.shapes) build_options.shapes[name] = {range.min, range.opt, range.max};
      build_options.budget_seconds = config.budget_seconds;
      build_options.exact = config.exact;
      build_options.use_cache = config.use_cache;
      build_options.verify = false;
      build_options.progress = &progress;
      const auto model = onnx::read_model(onnx);
      const engine::EngineData data = is_engine ? engine::read_engine(options->model) : builder::build_engine(model, build_options).engine;
      const builder::VerifyReport report = builder::verify_engine(*model, data, build_options);
      builder::BuildReport whole;
      whole.verify = report;
      const auto json = nlohmann::json::parse(whole.to_json())["verify"];
      if (options->json) fmt::print("{}\n", json.dump(2));
      else fmt::print("{}\n{}", builder::verify_text(json), builder::verify_table(json, options->all));
      int code = report.passed ? 0 : 1;
      if (!options->no_rival) {
        std::vector<std::string> arguments{"-m", "lathe.compare", onnx, "--precision", options->flags.precision};
        if (is_engine) arguments.insert(arguments.end(), {"--engine", options->model});
        for (const std::string& shape : options->flags.shapes) arguments.insert(arguments.end(), {"--shape", shape});
        if (options->flags.exact) arguments.push_back("--exact");
        if (options->json) arguments.push_back("--quiet");
        // A missing ONNX Runtime is said by the Python side and is no failure (exit code 3).
        const int rival = run_python(arguments);
        if (rival != 0 && rival != 3) code = 1;
      }
      return code;
    };
  });
}

}  // namespace lathe::cli
