// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// `lathe engine list`: sections, devices, sizes, hashes, signatures.

#include <fmt/format.h>

#include "cli/engine/subcommands.h"
#include "engine/engine.h"
#include "trust/digest.h"

namespace lathe::cli {
namespace {

int list(const std::string& file, bool as_json) {
  if (!is_engine_file(file)) throw Error(Code::kInvalidArgument, "this is no engine file").in_source(file).with_remedy("`lathe show` reads ONNX files.");
  const engine::FileInfo info = engine::describe_engine(file);
  const engine::EngineData data = engine::read_engine(file);
  const trust::KeyRing keys = trust::read_keys();

  nlohmann::json sections = nlohmann::json::array(), devices = nlohmann::json::array();
  std::vector<std::vector<std::string>> rows{{"section", "device", "at", "bytes", "hash"}};
  for (const engine::SectionInfo& section : info.sections) {
    const bool hashed = section.kind != "weights";
    rows.push_back({section.kind, section.device, std::to_string(section.at), std::to_string(section.bytes), hashed ? section.hash.hex() : "one per weight"});
    sections.push_back({{"kind", section.kind}, {"at", section.at}, {"bytes", section.bytes}});
    if (hashed) sections.back()["hash"] = section.hash.hex();
    if (!section.device.empty()) sections.back()["device"] = section.device;
  }
  std::string text;
  for (const engine::DeviceSection& device : data.sections) {
    text += fmt::format("{}: {} steps, needs {}; {}\n", device.device, device.program.steps.size(), device.needs.empty() ? "nothing special" : device.needs,
                        device.description);
    devices.push_back({{"device", device.device}, {"needs", device.needs}, {"description", device.description}, {"steps", device.program.steps.size()}});
    if (device.native.bytes.empty()) continue;
    const engine::NativeJudgement judgement = engine::judge_native(device.native, keys);
    nlohmann::json native = native_json(device.native, judgement, keys);
    native["bytes"] = device.native.bytes.size();
    text += fmt::format("  native code: {}, {}\n", human_bytes(static_cast<double>(device.native.bytes.size())),
                        judgement.why.empty() ? "signed by " + judgement.by : "would be ignored: " + judgement.why);
    for (const nlohmann::json& signature : native["signatures"]) {
      const std::string by = signature["by"].get<std::string>();
      text += fmt::format("    {} {} ({})\n", signature["key"].get<std::string>(), by.empty() ? "unknown" : by,
                          signature["fits"].get<bool>() ? "fits" : "does not fit");
    }
    devices.back()["native"] = std::move(native);
  }
  if (as_json) {
    const nlohmann::json out = {{"file", file},
                                {"format", fmt::format("{}.{}", info.major, info.minor)},
                                {"bytes", info.bytes},
                                {"metadata_bytes", info.metadata_bytes},
                                {"metadata_hash", info.metadata_hash.hex()},
                                {"producer", data.producer},
                                {"model", data.model_name},
                                {"weights", data.blobs.size()},
                                {"sections", std::move(sections)},
                                {"devices", std::move(devices)}};
    fmt::print("{}\n", out.dump(2));
    return 0;
  }
  fmt::print("{}: format {}.{}, {}, model '{}' by {}, {} weights\n\n{}\n{}", file, info.major, info.minor, human_bytes(static_cast<double>(info.bytes)),
             data.model_name, data.producer, data.blobs.size(), table(rows), text);
  return 0;
}

}  // namespace

void add_engine_list(CLI::App& app, Action& action) {
  struct Options {
    std::string file;
    bool json = false;
  };
  auto options = std::make_shared<Options>();
  auto* command = add_command(app, "list", "Sections, devices, sizes, hashes and signatures of an engine",
                              {"lathe engine list m.engine", "lathe engine list m.engine --json"});
  command->add_option("file", options->file, "Engine file")->required()->type_name("M.engine");
  command->add_flag("--json", options->json, "Print as JSON");
  command->callback([options, &action] { action = [options] { return list(options->file, options->json); }; });
}

}  // namespace lathe::cli
