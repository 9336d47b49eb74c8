// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The program's command line; see ops_tool.h.
//
//   lathe_ops_tool schemas
//   lathe_ops_tool infer MODEL.onnx [--as-read]
//   lathe_ops_tool run MODEL.onnx --out DIR [--oracle] [NAME=]FILE.npy|FILE.pb ...
//   lathe_ops_tool run-cases DIR [--oracle]      every DIR/*/model.onnx with its input_<i>.pb; outputs land beside them

#include "ops_tool.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <set>

#include "lathe/status.h"
#include "onnx/reader.h"
#include "ops/import.h"
#include "ops/infer.h"

namespace lathe::tool {
namespace {

void print_line(const Json& json) { std::printf("%s\n", json.dump(-1, ' ', false, Json::error_handler_t::replace).c_str()); }

int infer(const std::string& path) {
  const auto model = onnx::read_model(path, {.allow_missing_weights = true});
  onnx::inline_functions(*model);
  ops::canonicalise_opsets(*model);
  const auto report = ops::infer_graph(*model);
  Json values = Json::object();
  for (const ir::Value* value : model->graph->values()) values[value->name] = describe_value(*value);
  print_line({{"nodes", report.nodes},
              {"unknown_shapes", report.unknown_shapes},
              {"fresh_symbols", report.fresh_symbols},
              {"without_rule", report.without_rule},
              {"values", values}});
  return 0;
}

std::vector<std::string> case_inputs(const std::filesystem::path& folder) {
  std::vector<std::string> files;
  for (int i = 0;; ++i) {
    const auto file = folder / ("input_" + std::to_string(i) + ".pb");
    if (!std::filesystem::exists(file)) return files;
    files.push_back(file.string());
  }
}

int run_cases(const std::string& root, bool oracle) {
  std::set<std::filesystem::path> folders;
  for (const auto& entry : std::filesystem::directory_iterator(root))
    if (std::filesystem::exists(entry.path() / "model.onnx")) folders.insert(entry.path());
  for (const auto& folder : folders) {
    Json line = run_model({(folder / "model.onnx").string(), case_inputs(folder), folder.string(), oracle});
    line["case"] = folder.filename().string();
    print_line(line);
  }
  return folders.empty() ? 2 : 0;
}

int main_of(std::vector<std::string> args) {
  const auto take_flag = [&](const char* flag) { return std::erase(args, flag) > 0; };
  const bool oracle = take_flag("--oracle");
  std::string out;
  if (const auto at = std::find(args.begin(), args.end(), "--out"); at != args.end() && at + 1 != args.end()) {
    out = at[1];
    args.erase(at, at + 2);
  }
  if (args.size() == 1 && args[0] == "schemas") {
    print_line(all_schemas());
    return 0;
  }
  if (args.size() == 2 && args[0] == "infer") return infer(args[1]);
  if (args.size() == 2 && args[0] == "run-cases") return run_cases(args[1], oracle);
  if (args.size() >= 2 && args[0] == "run") {
    const Json result = run_model({args[1], {args.begin() + 2, args.end()}, out.empty() ? "." : out, oracle});
    print_line(result);
    return result["status"] == "ok" ? 0 : 1;
  }
  std::fprintf(stderr, "usage: lathe_ops_tool schemas | infer MODEL | run MODEL [--out DIR] [--oracle] FILE... | run-cases DIR [--oracle]\n");
  return 2;
}

}  // namespace
}  // namespace lathe::tool

int main(int argc, char** argv) {
  try {
    return lathe::tool::main_of({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
