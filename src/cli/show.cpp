// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// `lathe show`: the readable graph of a model, or steps, candidates, memory and devices of an engine.

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "api/impl.h"
#include "cli/command.h"
#include "engine/engine.h"
#include "ir/text.h"
#include "onnx/reader.h"
#include "ops/registry.h"

namespace lathe::cli {
namespace {

using nlohmann::json;

json io_json(const std::vector<IoInfo>& list) {
  json out = json::array();
  for (const IoInfo& info : list) {
    out.push_back({{"name", info.name}, {"dtype", dtype_name(info.dtype)}, {"shape", info.shape_text}});
    if (!info.tuned_shape.empty()) out.back()["tuned_shape"] = info.tuned_shape;
  }
  return out;
}

json values_json(const std::vector<ir::Value*>& values) {
  json out = json::array();
  for (const ir::Value* value : values) {
    json shape;
    if (value->has_shape()) {
      shape = json::array();
      for (const ir::Dim& dim : value->shape()) shape.push_back(dim.to_string());
    }
    out.push_back({{"name", value->name}, {"dtype", dtype_name(value->dtype())}, {"shape", std::move(shape)}});
  }
  return out;
}

int show_engine(const std::string& file, bool as_json) {
  const Engine engine = api::look_at(file);
  if (!as_json) {
    fmt::print("{}", engine.to_text());
    return 0;
  }
  const engine::EngineData data = engine::read_engine(file);
  json devices = json::array();
  for (const engine::DeviceSection& section : data.sections) {
    json steps = json::array();
    for (const plan::Step& step : section.program.steps) {
      steps.push_back({{"label", step.label}, {"kernel", step.kernel}, {"onnx_nodes", step.sources}, {"flops", step.flops}, {"bytes", step.bytes}});
      if (step.measured_seconds >= 0) steps.back()["measured_ms"] = step.measured_seconds * 1e3;
    }
    devices.push_back({{"device", section.device}, {"needs", section.needs}, {"description", section.description}, {"steps", std::move(steps)}});
  }
  json out = {{"kind", "engine"},
              {"model", data.model_name},
              {"producer", data.producer},
              {"device", engine.device()},
              {"section", engine.section()},
              {"native_code", engine.native_code()},
              {"custom_ops", data.custom_ops},
              {"weight_bytes", engine.weight_bytes()},
              {"inputs", io_json(engine.inputs())},
              {"outputs", io_json(engine.outputs())},
              {"devices", std::move(devices)}};
  if (!engine.report_json().empty()) out["report"] = json::parse(engine.report_json());
  fmt::print("{}\n", out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
  return 0;
}

int show_model(const std::string& file, bool as_json) {
  // The structure is worth showing where the weights' own file is not at hand.
  const auto model = onnx::read_model(file, {.allow_missing_weights = true});
  onnx::inline_functions(*model);
  const std::string text = ir::print(*model->graph);
  if (!as_json) {
    fmt::print("{}", text);
    return 0;
  }
  json opsets;
  for (const auto& [domain, version] : model->opset_imports) opsets[domain.empty() ? "ai.onnx" : domain] = version;
  std::map<std::string, std::size_t> ops;
  std::size_t nodes = 0;
  ir::for_each_node_deep(*model->graph, [&](ir::Node& node) {
    ++ops[ops::full_name(node.domain, node.op)];
    ++nodes;
  });
  const json out = {{"kind", "onnx"},
                    {"ir_version", model->ir_version},
                    {"producer", model->producer_name},
                    {"opsets", opsets},
                    {"nodes", nodes},
                    {"ops", ops},
                    {"inputs", values_json(model->graph->inputs())},
                    {"outputs", values_json(model->graph->outputs())},
                    {"text", text}};
  fmt::print("{}\n", out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
  return 0;
}

}  // namespace

void add_show(CLI::App& app, Action& action) {
  struct Options {
    std::string file;
    bool json = false;
  };
  auto options = std::make_shared<Options>();
  auto* command = add_command(app, "show", "Readable graph of a model; steps, candidates, memory and devices of an engine",
                              {"lathe show m.onnx", "lathe show m.engine", "lathe show m.engine --json"});
  command->add_option("file", options->file, "ONNX file or engine")->required()->type_name("M.engine|M.onnx");
  command->add_flag("--json", options->json, "Print as JSON");
  command->callback([options, &action] {
    action = [options] { return is_engine_file(options->file) ? show_engine(options->file, options->json) : show_model(options->file, options->json); };
  });
}

}  // namespace lathe::cli
