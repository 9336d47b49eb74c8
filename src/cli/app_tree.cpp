// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See app_tree.h.

#include "cli/app_tree.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <memory>
#include <sstream>

namespace lathe::cli {
namespace {

std::map<const CLI::App*, std::unique_ptr<CLI::App>>& shadows() {
  static std::map<const CLI::App*, std::unique_ptr<CLI::App>> all;
  return all;
}

std::vector<std::string> split(std::string_view text, char at) {
  std::vector<std::string> parts(1);
  for (const char c : text)
    if (c == at) parts.emplace_back();
    else parts.back() += c;
  return parts;
}

/// "onnx" of "M.onnx", "py" of "FILE.py:FUNCTION"; "" where the word is no name of a file.
std::string ending_of(const std::string& word) {
  const auto dot = word.find('.');
  if (dot == std::string::npos || dot == 0 || !std::isupper(static_cast<unsigned char>(word[0]))) return "";
  const std::string ending = word.substr(dot + 1, word.find(':') - dot - 1);
  return !ending.empty() && std::all_of(ending.begin(), ending.end(), [](unsigned char c) { return std::isalnum(c); }) ? ending : "";
}

/// The type name without what CLI11 adds for checks: ":{a,b}", ":POSITIVE".
std::string plain_type(const CLI::Option& option) {
  std::string type = option.get_type_name();
  if (const auto set = type.find(":{"); set != std::string::npos) {
    std::string words = type.substr(set + 2, type.find('}', set) - set - 2);
    std::replace(words.begin(), words.end(), ',', '|');
    return words;
  }
  for (const char* check : {":POSITIVE", ":NONNEGATIVE"})
    if (const auto at = type.find(check); at != std::string::npos) type.resize(at);
  return type;
}

nlohmann::json describe_option(const CLI::Option& option) {
  nlohmann::json out = {{"help", option.get_description()}, {"required", option.get_required()}};
  if (option.get_items_expected_max() == 0) return out;
  const std::string type = plain_type(option);
  const ValueKind kind = kind_of(type);
  constexpr const char* kNames[] = {"text", "words", "list", "files", "file", "folder"};
  out["value"] = type;
  out["kind"] = kNames[kind.is];
  out["named"] = kind.named;
  out["words"] = kind.words;
  out["repeatable"] = option.get_expected_max() > 1;
  if (const std::string text = option.get_default_str(); !text.empty()) out["default"] = text;
  return out;
}

void describe_options(const CLI::App& app, nlohmann::json& options, nlohmann::json& arguments) {
  for (const CLI::Option* option : app.get_options()) {
    nlohmann::json described = describe_option(*option);
    if (option->get_positional()) {
      described["name"] = option->get_name(true);
      arguments.push_back(described);
      continue;
    }
    for (const std::string& name : option->get_snames()) described["names"].push_back("-" + name);
    for (const std::string& name : option->get_lnames()) described["names"].push_back("--" + name);
    options.push_back(described);
  }
}

}  // namespace

ValueKind kind_of(std::string_view type_name) {
  ValueKind kind;
  std::string type(type_name.substr(0, type_name.find(' ')));  // "A.engine B.engine": several of the first
  if (type.starts_with("NAME=")) {
    kind.named = true;
    type.erase(0, 5);
  }
  if (type == "FILE" || type == "DIR") {
    kind.is = type == "FILE" ? ValueKind::kAnyFile : ValueKind::kFolder;
    return kind;
  }
  const auto list = type.find("[,...]");
  if (list != std::string::npos) type.resize(list);
  const std::vector<std::string> words = split(type, '|');
  if (std::all_of(words.begin(), words.end(), [](const std::string& word) { return !ending_of(word).empty(); })) {
    kind.is = ValueKind::kFiles;
    for (const std::string& word : words) kind.words.push_back(ending_of(word));
  } else if (list != std::string::npos || words.size() > 1) {
    kind.is = list != std::string::npos ? ValueKind::kList : ValueKind::kWords;
    for (const std::string& word : words) kind.words.push_back(word.ends_with(":N") ? word.substr(0, word.size() - 1) + "0" : word);
  }
  return kind;
}

CLI::App& shadow_of(const CLI::App& command) {
  std::unique_ptr<CLI::App>& shadow = shadows()[&command];
  if (!shadow) shadow = std::make_unique<CLI::App>();
  return *shadow;
}

const CLI::App* find_shadow(const CLI::App& command) {
  const auto found = shadows().find(&command);
  return found == shadows().end() ? nullptr : found->second.get();
}

std::vector<std::string> examples_of(const std::string& footer) {
  std::vector<std::string> examples;
  std::istringstream lines(footer);
  bool inside = false;
  for (std::string line; std::getline(lines, line);) {
    if (line == "Examples:") inside = true;
    else if (inside && line.starts_with("  ")) examples.push_back(line.substr(2));
  }
  return examples;
}

nlohmann::json describe_app(const CLI::App& app) {
  const CLI::App* shadow = find_shadow(app);
  nlohmann::json options = nlohmann::json::array(), arguments = options, commands = options;
  describe_options(shadow ? *shadow : app, options, arguments);
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    if (!command->get_group().empty()) commands.push_back(describe_app(*command));
  return {{"name", app.get_name()},
          {"description", app.get_description()},
          {"examples", examples_of(shadow ? shadow->get_footer() : app.get_footer())},
          {"passed_on", shadow != nullptr},
          {"options", options},
          {"arguments", arguments},
          {"commands", commands}};
}

}  // namespace lathe::cli
