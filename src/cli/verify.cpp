// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// `lathe verify`: an engine (or a model built in memory) against the oracle and, where installed, ONNX Runtime.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/os.h"
#include "builder/build_text.h"
#include "builder/builder.h"
#include "builder/hints.h"
#include "cli/command.h"
#include "cli/temporary_folder.h"
#include "engine/engine.h"
#include "onnx/reader.h"

namespace lathe::cli {
namespace {

struct Options {
  std::string model, onnx;
  BuildFlags flags;
  bool all = false, json = false, no_rival = false;
};

builder::BuildOptions build_options(const BuildConfig& config) {
  builder::BuildOptions options;
  options.device = config.device;
  options.precision = builder::parse_precision(config.precision);
  for (const auto& [name, range] : config.shapes) options.shapes[name] = {range.min, range.opt, range.max};
  options.budget_seconds = config.budget_seconds;
  options.exact = config.exact;
  options.use_cache = config.use_cache;
  options.native = config.native;
  options.progress = config.progress;
  return options;
}

/// Builds as `lathe build` does, regions pinned where lower precision spoils them. An engine that fails all the same is kept, for the table.
builder::VerifyReport build_and_verify(const std::shared_ptr<ir::Model>& model, builder::BuildOptions options, engine::EngineData& engine) {
  try {
    builder::BuildResult result = builder::build_engine(model, options);
    engine = std::move(result.engine);
    return result.report.verify;
  } catch (const Error& error) {
    if (error.code() != Code::kVerification) throw;
  }
  options.verify = false;
  engine = builder::build_engine(model, options).engine;
  return builder::verify_engine(*model, engine, options);
}

/// ONNX Runtime's opinion, by the Python package. {"compared": false, "reason"} where it is not at hand or cannot run the model.
nlohmann::json ask_onnxruntime(const std::string& onnx, const std::string& engine_file, const Options& options, const engine::EngineData& engine) {
  const TemporaryFolder folder;
  std::string file = engine_file;
  if (file.empty()) {
    file = (folder.path() / "verified.engine").string();
    engine::write_engine(engine, file);
  }
  const std::string report = (folder.path() / "report.json").string();
  std::vector<std::string> arguments{onnx, "--engine", file, "--precision", engine_precision(engine), "--report", report};
  for (const std::string& shape : options.flags.shapes) arguments.insert(arguments.end(), {"--shape", shape});
  if (options.flags.exact) arguments.push_back("--exact");
  const int code = run_python("lathe.compare", arguments);
  if (code == 130) throw Error(Code::kCancelled, "the comparison with ONNX Runtime was stopped");
  std::error_code ignored;
  if (!std::filesystem::exists(report, ignored)) return {{"compared", false}, {"reason", fmt::format("Python ended with code {}", code)}};
  return nlohmann::json::parse(os::read_text(report));
}

int verify(const Options& options) {
  const bool is_engine = is_engine_file(options.model);
  if (is_engine) options.flags.refuse_for_engine(options.model);
  else if (!options.onnx.empty()) throw Error(Code::kInvalidArgument, "--onnx goes with an engine, and this is none").in_source(options.model);
  const std::string onnx = is_engine ? options.onnx : options.model;
  if (onnx.empty())
    throw Error(Code::kInvalidArgument, "an engine is verified against the model that it was built from")
        .in_source(options.model)
        .with_remedy("Add --onnx M.onnx.");
  require_onnx(onnx, "verify --onnx", "Give the model that the engine was built from.");

  engine::EngineData engine;
  nlohmann::json json;
  {
    TerminalProgress progress(options.flags.quiet);
    builder::BuildOptions build = build_options(options.flags.config(&progress));
    const auto model = onnx::read_model(onnx);
    onnx::inline_functions(*model);
    builder::BuildReport report;
    if (is_engine) {
      engine = engine::read_engine(options.model);
      try {
        engine::check_weights(engine);
        builder::take_ranges(*model->graph, engine.sections.front().program, build.shapes);
        report.verify = builder::verify_engine(*model, engine, build);
      } catch (Error& error) {
        if (error.source().empty()) error.in_source(options.model);
        throw;
      }
    } else {
      report.verify = build_and_verify(model, build, engine);
    }
    json = nlohmann::json::parse(report.to_json()).at("verify");
  }
  bool passed = json.at("passed").get<bool>();
  if (!options.json) fmt::print("{}\n{}", builder::verify_text(json), builder::verify_table(json, options.all));
  if (!options.no_rival) {
    const nlohmann::json rival = json["onnxruntime"] = ask_onnxruntime(onnx, is_engine ? options.model : "", options, engine);
    if (rival.at("compared").get<bool>()) {
      const bool agrees = rival.at("passed").get<bool>();
      passed &= agrees;
      if (!options.json)
        fmt::print("{}: largest difference {:.2e} of the output's scale at two seeds (allowed {:.0e}): {}\n", rival.at("name").get<std::string>(),
                   rival.at("max_relative_error").is_null() ? INFINITY : rival.at("max_relative_error").get<double>(), rival.at("allowed").get<double>(),
                   agrees ? "ok" : "DIFFERS");
    } else if (!options.json) {
      fmt::print("ONNX Runtime: not compared ({})\n", rival.at("reason").get<std::string>());
    }
  }
  if (options.json) fmt::print("{}\n", json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
  return passed ? 0 : 1;
}

}  // namespace

void add_verify(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  auto* command =
      add_command(app, "verify", "Hold an engine against the oracle: the graph as read, run by defining loops",
                  {"lathe verify m.onnx --precision bf16 --all", "lathe verify m.engine --onnx m.onnx", "lathe verify m.onnx --exact --no-onnxruntime --json"});
  command->add_option("model", options->model, "Engine, or ONNX file (built in memory)")->required()->type_name("M.engine|M.onnx");
  command->add_option("--onnx", options->onnx, "The model that an engine was built from")->type_name("M.onnx");
  command->add_flag("--all", options->all, "Print every region's output, not only the graph's and the worst");
  command->add_flag("--no-onnxruntime", options->no_rival, "Leave out the comparison with ONNX Runtime");
  options->flags.add_to(*command);
  command->add_flag("--json", options->json, "Print the report as JSON");
  command->callback([options, &action] { action = [options] { return verify(*options); }; });
}

}  // namespace lathe::cli
