// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// `lathe engine merge`: programs for several devices of one model in one file.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <filesystem>

#include "cli/engine/subcommands.h"
#include "engine/edit.h"
#include "engine/engine.h"

namespace lathe::cli {
namespace {

int merge(const std::vector<std::string>& files, const std::string& output) {
  if (files.size() < 2) throw Error(Code::kInvalidArgument, "one engine alone cannot be merged").with_remedy("Name two or more.");
  for (const std::string& file : files)
    if (is_engine_file(file)) check_output(output, file);
  std::vector<engine::EngineData> parts;
  double bytes = 0;
  for (const std::string& file : files) {
    parts.push_back(read_whole_engine(file));
    bytes += static_cast<double>(std::filesystem::file_size(file));
  }
  const engine::EngineData merged = engine::merge_engines(std::move(parts), files);
  engine::write_engine(merged, output);
  std::vector<std::string> devices;
  for (const engine::DeviceSection& section : merged.sections) devices.push_back(section.device);
  fmt::print("{}: programs for {}; {}, the parts are {}\n", output, fmt::join(devices, ", "),
             human_bytes(static_cast<double>(std::filesystem::file_size(output))), human_bytes(bytes));
  return 0;
}

}  // namespace

void add_engine_merge(CLI::App& app, Action& action) {
  struct Options {
    std::vector<std::string> files;
    std::string output;
  };
  auto options = std::make_shared<Options>();
  auto* command = add_command(app, "merge", "Engines of one model for several devices as one file, weights shared; devices named first are preferred",
                              {"lathe engine merge gpu.engine cpu.engine -o m.engine", "lathe engine merge sm_80.engine sm_90.engine -o m.engine"});
  command->add_option("files", options->files, "Engine files, built from the same model")->required()->type_name("M.engine");
  command->add_option("-o,--output", options->output, "Engine file to write")->required()->type_name("M.engine");
  command->callback([options, &action] { action = [options] { return merge(options->files, options->output); }; });
}

}  // namespace lathe::cli
