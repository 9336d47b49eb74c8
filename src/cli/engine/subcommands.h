// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the subcommands of `lathe engine` share: one file each, listed in engine.cpp.

#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "engine/native_code.h"

namespace lathe::cli {

void add_engine_list(CLI::App& app, Action& action);
void add_engine_verify(CLI::App& app, Action& action);
void add_engine_sign(CLI::App& app, Action& action);
void add_engine_keygen(CLI::App& app, Action& action);
void add_engine_trust(CLI::App& app, Action& action);
void add_engine_strip(CLI::App& app, Action& action);
void add_engine_merge(CLI::App& app, Action& action);

/// Reads an engine that is to be written again: everything in it is held against its hash, so that damage is not given new ones.
engine::EngineData read_whole_engine(const std::string& path);
/// Where an edited engine goes: `output`, or the file itself when that is empty; tried before long work.
std::string edited_path(const std::string& file, const std::string& output);

/// "trusted", "unsigned", "unknown key", "broken", "none".
std::string trust_word(engine::NativeTrust trust);
/// Trust and signatures of one device's native code.
nlohmann::json native_json(const engine::NativeCode& native, const engine::NativeJudgement& judgement, const trust::KeyRing& keys);

}  // namespace lathe::cli
