// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See trtexec_report.h.

#include "cli/shims/trtexec_report.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <nlohmann/json.hpp>

#include "api/impl.h"
#include "cli/command.h"

namespace lathe::cli::trtexec_report {
namespace {

using nlohmann::json;
using Moments = SplitRun::Moments;

Timings parts(const Summary& summary, double (*part)(const Moments&)) {
  std::vector<double> seconds;
  for (const Moments& run : summary.runs) seconds.push_back(part(run));
  return Timings(std::move(seconds));
}

double latency(const Moments& run) { return run.copied_out - run.begin; }
double copy_in(const Moments& run) { return run.copied_in - run.begin; }
double enqueue(const Moments& run) { return run.enqueued - run.copied_in; }
double compute(const Moments& run) { return run.computed - run.copied_in; }
double copy_out(const Moments& run) { return run.copied_out - run.computed; }

std::string line(const char* what, const Timings& times, const std::vector<double>& percentiles) {
  std::string text = fmt::format("{}: min = {:g} ms, max = {:g} ms, mean = {:g} ms, median = {:g} ms", what, times.at(0) * 1e3, times.at(1) * 1e3,
                                 times.mean() * 1e3, times.at(0.5) * 1e3);
  for (const double percentile : percentiles) text += fmt::format(", percentile({:g}%) = {:g} ms", percentile, times.at(percentile / 100) * 1e3);
  return text;
}

/// A step's slot as "Name", "Dimensions" and a type.
json slot_json(const plan::Program& program, plan::SlotId id) {
  const plan::Slot& slot = program.slots[static_cast<std::size_t>(id)];
  json dims = json::array();
  for (const ir::Dim& dim : slot.shape) dims.push_back(dim.constant() ? json(*dim.constant()) : json(dim.to_string()));
  return {{"Name", slot.name.empty() ? fmt::format("%{}", id) : slot.name}, {"Dimensions", dims}, {"Format/Datatype", std::string(dtype_name(slot.dtype))}};
}

}  // namespace

void say(char severity, const std::string& text) {
  const std::time_t now = std::time(nullptr);
  fmt::print("[{:%m/%d/%Y-%H:%M:%S}] [{}] {}\n", fmt::localtime(now), severity, text);
}

void print_summary(const Summary& summary) {
  const auto average = [&](std::size_t from, std::size_t to, double (*part)(const Moments&)) {
    double sum = 0;
    for (std::size_t i = from; i < to; ++i) sum += part(summary.runs[i]);
    return sum / static_cast<double>(to - from) * 1e3;
  };
  if (summary.average_of > 0) {
    const auto group = static_cast<std::size_t>(summary.average_of);
    say('I', "=== Trace details ===");
    say('I', fmt::format("Trace averages of {} runs:", group));
    for (std::size_t from = 0; from + group <= summary.runs.size(); from += group)
      say('I', fmt::format("Average on {} runs - GPU latency: {:g} ms - Host latency: {:g} ms (enqueue {:g} ms)", group, average(from, from + group, compute),
                           average(from, from + group, latency), average(from, from + group, enqueue)));
    say('I', "");
  }
  const Timings computed = parts(summary, compute);
  say('I', "=== Performance summary ===");
  say('I', fmt::format("Throughput: {:g} qps", static_cast<double>(summary.runs.size()) / std::max(summary.wall_seconds, 1e-9)));
  say('I', line("Latency", parts(summary, latency), summary.percentiles));
  say('I', line("Enqueue Time", parts(summary, enqueue), summary.percentiles));
  say('I', line("H2D Latency", parts(summary, copy_in), summary.percentiles));
  say('I', line("GPU Compute Time", computed, summary.percentiles));
  say('I', line("D2H Latency", parts(summary, copy_out), summary.percentiles));
  say('I', fmt::format("Total Host Walltime: {:g} s", summary.wall_seconds));
  say('I', fmt::format("Total GPU Compute Time: {:g} s", computed.sum()));
}

std::string times_json(const Summary& summary) {
  json out = json::array();
  const double start = summary.runs.empty() ? 0 : summary.runs.front().begin;
  const auto at = [&](double moment) { return (moment - start) * 1e3; };
  for (const Moments& run : summary.runs) {
    json entry = {{"startEnqMs", at(run.copied_in)}, {"endEnqMs", at(run.enqueued)}, {"startComputeMs", at(run.copied_in)}, {"endComputeMs", at(run.computed)},
                  {"computeMs", compute(run) * 1e3}, {"enqMs", enqueue(run) * 1e3},  {"latencyMs", latency(run) * 1e3},     {"endToEndMs", latency(run) * 1e3}};
    // Both spellings: versions differ.
    for (const char* name : {"In", "H2d"}) entry[fmt::format("start{}Ms", name)] = at(run.begin), entry[fmt::format("end{}Ms", name)] = at(run.copied_in);
    for (const char* name : {"Out", "D2h"}) entry[fmt::format("start{}Ms", name)] = at(run.computed), entry[fmt::format("end{}Ms", name)] = at(run.copied_out);
    entry["inMs"] = entry["h2dMs"] = copy_in(run) * 1e3;
    entry["outMs"] = entry["d2hMs"] = copy_out(run) * 1e3;
    out.push_back(std::move(entry));
  }
  return out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

void print_profile(const std::vector<LayerTimes>& layers) {
  double total = 0;
  for (const LayerTimes& layer : layers) total += Timings(layer.seconds).sum();
  const std::size_t runs = layers.empty() ? 0 : layers[0].seconds.size();
  say('I', fmt::format("=== Profile ({} iterations ) ===", runs));
  say('I', fmt::format("{:>12} {:>12} {:>12} {:>9}   Layer", "Time(ms)", "Avg.(ms)", "Median(ms)", "Time(%)"));
  for (const LayerTimes& layer : layers) {
    const Timings times(layer.seconds);
    say('I', fmt::format("{:12.2f} {:12.4f} {:12.4f} {:9.1f}   {}", times.sum() * 1e3, times.mean() * 1e3, times.at(0.5) * 1e3,
                         total > 0 ? 100 * times.sum() / total : 0.0, layer.name));
  }
  say('I', fmt::format("{:12.2f} {:12.4f} {:>12} {:9.1f}   Total", total * 1e3, total * 1e3 / static_cast<double>(std::max<std::size_t>(runs, 1)), "", 100.0));
}

std::string profile_json(const std::vector<LayerTimes>& layers) {
  double total = 0;
  for (const LayerTimes& layer : layers) total += Timings(layer.seconds).sum();
  json out = json::array();
  out.push_back({{"count", layers.empty() ? 0 : layers[0].seconds.size()}});
  for (const LayerTimes& layer : layers) {
    const Timings times(layer.seconds);
    out.push_back({{"name", layer.name},
                   {"timeMs", times.sum() * 1e3},
                   {"averageMs", times.mean() * 1e3},
                   {"medianMs", times.at(0.5) * 1e3},
                   {"percentage", total > 0 ? 100 * times.sum() / total : 0.0}});
  }
  return out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

void print_layers(const Engine& engine) {
  const plan::Program& program = engine.impl()->engine->program();
  say('I', "Layer Information:");
  fmt::print("Layers:\n");
  for (const plan::Step& step : program.steps) fmt::print("{} [{}]\n", step.label, step.kernel);
  fmt::print("\nBindings:\n");
  for (const auto& list : {engine.inputs(), engine.outputs()})
    for (const IoInfo& info : list) fmt::print("{}\n", info.name);
}

std::string layers_json(const Engine& engine) {
  const plan::Program& program = engine.impl()->engine->program();
  json layers = json::array(), bindings = json::array();
  for (const plan::Step& step : program.steps) {
    json inputs = json::array(), outputs = json::array();
    for (const plan::SlotId id : step.inputs)
      if (id >= 0) inputs.push_back(slot_json(program, id));
    for (const plan::SlotId id : step.outputs)
      if (id >= 0) outputs.push_back(slot_json(program, id));
    layers.push_back(
        {{"Name", step.label}, {"LayerType", step.kernel}, {"Inputs", inputs}, {"Outputs", outputs}, {"TacticName", step.kernel}, {"OnnxNodes", step.sources}});
  }
  for (const auto& list : {engine.inputs(), engine.outputs()})
    for (const IoInfo& info : list) bindings.push_back(info.name);
  return json{{"Layers", layers}, {"Bindings", bindings}}.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

void print_outputs(const Engine& engine, const std::vector<Tensor>& outputs) {
  const std::vector<IoInfo> infos = engine.outputs();
  say('I', "Output Tensors:");
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    say('I', fmt::format("{}: ({})", infos[i].name, to_string(outputs[i].dims())));
    std::string values;
    for (std::int64_t k = 0; k < outputs[i].size(); ++k) values += fmt::format("{}{:g}", k == 0 ? "" : " ", outputs[i].as_double(k));
    fmt::print("{}\n", values);
  }
}

std::string outputs_json(const Engine& engine, const std::vector<Tensor>& outputs) {
  const std::vector<IoInfo> infos = engine.outputs();
  json out = json::array();
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    json values = json::array();
    for (std::int64_t k = 0; k < outputs[i].size(); ++k) {
      const double value = outputs[i].as_double(k);
      if (is_float(outputs[i].dtype())) values.push_back(std::isfinite(value) ? json(static_cast<float>(value)) : json(fmt::format("{}", value)));
      else values.push_back(outputs[i].as_int64(k));
    }
    out.push_back({{"name", infos[i].name}, {"dimensions", to_string(outputs[i].dims())}, {"values", values}});
  }
  return out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace lathe::cli::trtexec_report
