// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// `lathe ops`: what is supported, by which candidates. docs/ops.md is made from its JSON.

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "builder/pattern_ops.h"
#include "cli/command.h"
#include "ops/candidate.h"
#include "ops/registry.h"

namespace lathe::cli {

void add_ops(CLI::App& app, Action& action) {
  struct Options {
    bool json = false;
  };
  auto options = std::make_shared<Options>();
  auto* command = add_command(app, "ops", "Operators, their versions, and the candidates that execute them", {"lathe ops", "lathe ops --json"});
  command->add_flag("--json", options->json, "Print as JSON");
  command->callback([options, &action] {
    action = [options] {
      nlohmann::json out = nlohmann::json::array();
      std::vector<std::vector<std::string>> rows{{"op", "versions", "executed by"}};
      for (const ops::OpDef* op : ops::all_ops()) {
        std::vector<int> versions;
        for (const ops::VersionDef& version : op->versions) versions.push_back(version.since);
        const std::vector<std::string> candidates = builder::candidates_of(*op);
        out.push_back({{"domain", op->domain},
                       {"name", op->name},
                       {"versions", versions},
                       {"candidates", candidates},
                       {"doc", op->doc},
                       {"lowers", op->lower != nullptr},
                       {"expands", op->expand != nullptr},
                       {"upgrade", op->upgrade != nullptr}});
        std::string text, by = op->expand ? "its parts" : "";
        for (const int version : versions) text += fmt::format("{}{}", text.empty() ? "" : ",", version);
        for (const std::string& candidate : candidates) by += (by.empty() ? "" : ", ") + candidate;
        rows.push_back({op->domain.empty() ? std::string(op->name) : fmt::format("{}::{}", op->domain, op->name), text, by});
      }
      if (options->json) fmt::print("{}\n", out.dump(2));
      else fmt::print("{}\n{} operators; a program registers custom ones of its own (docs/custom_ops.md)\n", table(rows), out.size());
      return 0;
    };
  });
}

}  // namespace lathe::cli
