// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// `lathe show`: the readable graph of a model, or steps, candidates, memory and devices of an engine.

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/command.h"

namespace lathe::cli {
namespace {

nlohmann::json io_json(const std::vector<IoInfo>& list) {
  nlohmann::json out = nlohmann::json::array();
  for (const IoInfo& info : list) out.push_back({{"name", info.name}, {"dtype", dtype_name(info.dtype)}, {"shape", info.shape_text}});
  return out;
}

}  // namespace

void add_show(CLI::App& app, Action& action) {
  struct Options {
    std::string file;
    bool json = false;
  };
  auto options = std::make_shared<Options>();
  auto* command = app.add_subcommand("show", "Readable graph of a model; steps, candidates, memory and devices of an engine\n  lathe show m.onnx");
  command->add_option("file", options->file, "ONNX file or engine")->required()->type_name("FILE");
  command->add_flag("--json", options->json, "Print as JSON");
  command->callback([options, &action] {
    action = [options] {
      if (is_engine_file(options->file)) {
        const Engine engine = Engine::load(options->file);
        if (!options->json) {
          fmt::print("{}", engine.to_text());
          return 0;
        }
        nlohmann::json out = {{"kind", "engine"}, {"device", engine.device()}, {"section", engine.section()}, {"weight_bytes", engine.weight_bytes()},
                              {"inputs", io_json(engine.inputs())}, {"outputs", io_json(engine.outputs())}};
        if (!engine.report_json().empty()) out["report"] = nlohmann::json::parse(engine.report_json());
        fmt::print("{}\n", out.dump(2));
        return 0;
      }
      const Network network = Network::parse(options->file);
      if (options->json) {
        const nlohmann::json out = {{"kind", "onnx"}, {"nodes", network.node_count()}, {"inputs", io_json(network.inputs())}, {"outputs", io_json(network.outputs())},
                                    {"text", network.to_text()}};
        fmt::print("{}\n", out.dump(2));
      } else {
        fmt::print("{}", network.to_text());
      }
      return 0;
    };
  });
}

}  // namespace lathe::cli
