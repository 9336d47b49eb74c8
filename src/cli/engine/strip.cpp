// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// `lathe engine strip`: a smaller engine, without native code and what else is named.

#include <fmt/format.h>

#include <filesystem>

#include "cli/engine/subcommands.h"
#include "engine/edit.h"
#include "engine/engine.h"

namespace lathe::cli {
namespace {

struct Options {
  std::string file, output;
  engine::Strip what;
  bool keep_native = false;
};

int strip(Options options) {
  engine::EngineData data = read_whole_engine(options.file);
  const std::string path = edited_path(options.file, options.output);
  const auto before = static_cast<double>(std::filesystem::file_size(options.file));
  options.what.native = !options.keep_native;
  engine::strip_engine(data, options.what);
  engine::write_engine(data, path);
  fmt::print("{}: {}, was {}\n", path, human_bytes(static_cast<double>(std::filesystem::file_size(path))), human_bytes(before));
  return 0;
}

}  // namespace

void add_engine_strip(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  auto* command = add_command(app, "strip", "Leave out native code; on request the report, and programs of other devices with their weights",
                              {"lathe engine strip m.engine -o small.engine", "lathe engine strip m.engine --device cuda:sm_90 --keep-native --report"});
  command->add_option("file", options->file, "Engine file")->required()->type_name("M.engine");
  command->add_option("-o,--output", options->output, "Where to write; without it the file itself is replaced")->type_name("M.engine");
  command->add_option("--device", options->what.devices, "Keep only this device's program, and the generic one; repeatable")
      ->allow_extra_args(false)
      ->type_name("DEVICE");
  command->add_flag("--report", options->what.report, "Leave out the report of the build");
  command->add_flag("--keep-native", options->keep_native, "Keep native code");
  command->callback([options, &action] { action = [options] { return strip(*options); }; });
}

}  // namespace lathe::cli
