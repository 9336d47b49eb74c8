// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The command's own subcommands and options as data: completion scripts, docs/cli.md and the tests of the examples are made from it.
//
// What may stand where a value is asked for is told by its type name, in one grammar:
//   a|b|c        one of these words (so do CLI::IsMember's); a[,...] and a|b[,...]: some of them, joined by commas; cuda:N stands for cuda:0
//   M.onnx       a file that ends so; M.engine|M.onnx: one of these; FILE.py:FUNCTION: what follows the file is not completed
//   NAME=X.npy   a name, then such a file
//   FILE, DIR    any file, a folder
//   other        free text: N, TIME, NAME:SHAPE

#include <CLI/CLI.hpp>

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace lathe::cli {

/// What a value may be, by its type name.
struct ValueKind {
  enum Is { kText, kWords, kList, kFiles, kAnyFile, kFolder } is = kText;
  bool named = false;              ///< NAME= stands before it
  std::vector<std::string> words;  ///< of kWords and kList; of kFiles the endings, without the dot
};
ValueKind kind_of(std::string_view type_name);

/// Options of a subcommand that another program reads (Python's): declared here for the tree alone, in an app that parses nothing.
CLI::App& shadow_of(const CLI::App& command);
/// nullptr where the subcommand reads its options itself.
const CLI::App* find_shadow(const CLI::App& command);

/// Lines below "Examples:" in a help text.
std::vector<std::string> examples_of(const std::string& footer);

/// {name, description, examples, passed_on, options: [{names, value, kind, words, named, help, default, required, repeatable}], arguments: [{name, ...}],
/// commands: [...]}. `value` is missing where an option takes none; `passed_on`: another program reads the words and prints the help.
nlohmann::json describe_app(const CLI::App& app);

/// Scripts for the shells from that tree. `command` is the name to complete for.
std::string bash_completion(const nlohmann::json& tree, const std::string& command);
std::string zsh_completion(const nlohmann::json& tree, const std::string& command);

}  // namespace lathe::cli
