// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// `lathe engine`: what can be done with engine files beside running them. See subcommands.h.

#include "cli/engine/subcommands.h"

#include "base/os.h"
#include "engine/engine.h"
#include "trust/digest.h"

namespace lathe::cli {

engine::EngineData read_whole_engine(const std::string& path) {
  if (!is_engine_file(path))
    throw Error(Code::kInvalidArgument, "this is no engine file").in_source(path).with_remedy("`lathe build` makes one from an ONNX file.");
  engine::EngineData data = engine::read_engine(path);
  try {
    engine::check_weights(data);
  } catch (Error& error) {
    error.in_source(path);
    throw;
  }
  return data;
}

std::string edited_path(const std::string& file, const std::string& output) {
  const std::string path = output.empty() ? file : output;
  const os::AtomicFile trial(path);
  return path;
}

std::string trust_word(engine::NativeTrust trust) {
  switch (trust) {
    case engine::NativeTrust::kNone: return "none";
    case engine::NativeTrust::kTrusted: return "trusted";
    case engine::NativeTrust::kUnsigned: return "unsigned";
    case engine::NativeTrust::kUnknown: return "unknown key";
    case engine::NativeTrust::kBroken: break;
  }
  return "broken";
}

nlohmann::json native_json(const engine::NativeCode& native, const engine::NativeJudgement& judgement, const trust::KeyRing& keys) {
  nlohmann::json signatures = nlohmann::json::array();
  const std::vector<std::byte> message = engine::signed_message(native.bytes);
  for (const trust::Signature& signature : native.signatures)
    signatures.push_back({{"key", trust::hex(signature.key.bytes)}, {"by", keys.who(signature.key)}, {"fits", signature.fits(message)}});
  return {{"trust", trust_word(judgement.trust)}, {"why", judgement.why}, {"signatures", std::move(signatures)}};
}

void add_engine(CLI::App& app, Action& action) {
  auto* command = add_command(app, "engine", "Engine files: sign and trust native code, strip, merge, list, verify",
                              {"lathe engine list m.engine", "lathe engine merge cpu.engine gpu.engine -o m.engine", "lathe engine trust alice.pub"});
  command->require_subcommand(1);
  for (auto* add : {add_engine_list, add_engine_verify, add_engine_sign, add_engine_keygen, add_engine_trust, add_engine_strip, add_engine_merge})
    add(*command, action);
}

}  // namespace lathe::cli
