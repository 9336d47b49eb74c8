// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// `lathe simplify`: writes only after the simplified model's numbers equalled the original's.

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "builder/hints.h"
#include "cli/command.h"
#include "cli/simplify.h"
#include "onnx/reader.h"
#include "onnx/writer.h"
#include "ops/import.h"

namespace lathe::cli {

Simplified simplify_file(const SimplifyJob& job) {
  if (is_engine_file(job.input)) throw Error(Code::kInvalidArgument, "this is an engine; simplify takes ONNX files").in_source(job.input);
  const auto original = onnx::read_model(job.input);
  const auto model = original->clone();
  ops::canonicalise_opsets(*model);
  builder::apply_fixed_shapes(*model, job.shapes);
  Simplified result;
  result.report = passes::simplify(*model, job.options);
  // Throws when they differ. Shapes to check at do not change the model.
  if (job.check) {
    std::map<std::string, builder::ShapeRange> shapes = job.shapes;
    for (const auto& [name, range] : job.check_shapes) shapes.try_emplace(name, range);
    result.equality = builder::check_equality(*original, *model, shapes, job.input_sets);
  }
  onnx::write_model(*model, job.output);
  return result;
}

void add_simplify(CLI::App& app, Action& action) {
  struct Options {
    std::string input, output;
    std::vector<std::string> shapes;
    bool json = false, no_check = false;
  };
  auto options = std::make_shared<Options>();
  auto* command =
      add_command(app, "simplify", "Fold, merge and remove what need not run; equality is checked before anything is written",
                  {"lathe simplify in.onnx out.onnx", "lathe simplify in.onnx out.onnx --shape images:1x3x640x640", "lathe simplify in.onnx out.onnx --json"});
  command->add_option("input", options->input, "ONNX file")->required()->type_name("IN.onnx");
  command->add_option("output", options->output, "ONNX file to write")->required()->type_name("OUT.onnx");
  command->add_option("--shape", options->shapes, "Fix an input's shape: NAME:1x3x640x640; repeatable")->allow_extra_args(false)->type_name("NAME:SHAPE");
  command->add_flag("--no-check", options->no_check, "Write without comparing the numbers");
  command->add_flag("--json", options->json, "Print the table as JSON");
  command->callback([options, &action] {
    action = [options] {
      SimplifyJob job;
      job.input = options->input;
      job.output = options->output;
      for (const std::string& text : options->shapes) job.shapes.insert(builder::parse_shape_option(text));
      job.check = !options->no_check;
      const auto [report, equality] = simplify_file(job);
      if (options->json) {
        nlohmann::json out = {{"nodes_before", report.nodes_before},
                              {"nodes_after", report.nodes_after},
                              {"seconds", report.seconds},
                              {"checked", !options->no_check},
                              {"max_relative_error", equality.max_relative_error}};
        for (const auto& [op, counts] : report.ops) out["ops"][op] = {counts.first, counts.second};
        fmt::print("{}\n", out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
        return 0;
      }
      std::vector<std::vector<std::string>> rows{{"op", "before", "after"}};
      for (const auto& [op, counts] : report.ops) rows.push_back({op, std::to_string(counts.first), std::to_string(counts.second)});
      rows.push_back({"all", std::to_string(report.nodes_before), std::to_string(report.nodes_after)});
      fmt::print("{}", table(rows));
      if (options->no_check) fmt::print("{} written; the numbers were not compared (--no-check)\n", options->output);
      else
        fmt::print("{} written; outputs equal to the original's (largest difference {:.1e} of the output's scale, {} input sets)\n", options->output,
                   equality.max_relative_error, equality.input_sets);
      return 0;
    };
  });
}

}  // namespace lathe::cli
