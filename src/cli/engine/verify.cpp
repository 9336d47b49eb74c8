// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// `lathe engine verify`: is the file whole and sound, and would all of it be used here? (`lathe verify` is about the numbers that it computes.)

#include <fmt/format.h>

#include <functional>
#include <optional>

#include "cli/engine/subcommands.h"
#include "engine/engine.h"

namespace lathe::cli {
namespace {

int verify(const std::string& file, bool as_json) {
  if (!is_engine_file(file)) throw Error(Code::kInvalidArgument, "this is no engine file").in_source(file).with_remedy("`lathe check` reads ONNX files.");
  nlohmann::json checks = nlohmann::json::array();
  bool sound = true;
  const auto note = [&](const std::string& what, bool ok, const std::string& says) {
    checks.push_back({{"check", what}, {"ok", ok}, {"says", says}});
    sound = sound && ok;
  };
  const auto attempt = [&](const std::string& what, const std::string& says, const std::function<void()>& check) {
    try {
      check();
      note(what, true, says);
      return true;
    } catch (const Error& error) {
      if (error.code() == Code::kIo || error.code() == Code::kOutOfMemory) throw;
      note(what, false, error.what());
      return false;
    }
  };
  std::optional<engine::EngineData> data;
  if (attempt("structure", "header, metadata, hashes of programs, graph and report, and every number of the programs",
              [&] { data = engine::read_engine(file); })) {
    attempt("weights", fmt::format("hashes of {} weights and of native code", data->blobs.size()), [&] { engine::check_weights(*data); });
    const trust::KeyRing keys = trust::read_keys();
    for (const engine::DeviceSection& section : data->sections) {
      if (section.native.bytes.empty()) continue;
      const engine::NativeJudgement judgement = engine::judge_native(section.native, keys);
      const bool trusted = judgement.trust == engine::NativeTrust::kTrusted;
      std::string says = trusted ? "signed by " + judgement.by : "would be ignored: " + judgement.why;
      // Whoever signed it, a section that cannot be read is of no use.
      const engine::OpenedNative opened = engine::open_native(section.native);
      if (trusted && opened.ignored) says = opened.note;
      note("native code of " + section.device, trusted && !opened.ignored, says);
      checks.back()["native"] = native_json(section.native, judgement, keys);
    }
  }
  if (as_json) {
    fmt::print("{}\n", nlohmann::json{{"file", file}, {"ok", sound}, {"checks", std::move(checks)}}.dump(2));
  } else {
    for (const nlohmann::json& check : checks)
      fmt::print("{}  {}: {}\n", check["ok"].get<bool>() ? "ok " : "BAD", check["check"].get<std::string>(), check["says"].get<std::string>());
  }
  return sound ? 0 : 1;
}

}  // namespace

void add_engine_verify(CLI::App& app, Action& action) {
  struct Options {
    std::string file;
    bool json = false;
  };
  auto options = std::make_shared<Options>();
  auto* command = add_command(
      app, "verify",
      "Every hash, every number of the programs, and the signatures; exit code 1 when anything is damaged, unsound or native code that is not trusted here",
      {"lathe engine verify m.engine", "lathe engine verify m.engine --json"});
  command->add_option("file", options->file, "Engine file")->required()->type_name("M.engine");
  command->add_flag("--json", options->json, "Print as JSON");
  command->callback([options, &action] { action = [options] { return verify(options->file, options->json); }; });
}

}  // namespace lathe::cli
