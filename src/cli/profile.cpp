// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// `lathe profile`: time per step beside its floor, what lies between the steps, and the ONNX nodes inside fused steps.

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "api/impl.h"
#include "base/os.h"
#include "cli/bench_inputs.h"
#include "cli/bench_runs.h"
#include "cli/command.h"
#include "cli/machine_rates.h"

namespace lathe::cli {
namespace {

struct Options {
  std::string model, time = "2s", by = "time";
  int top = 25;
  BuildFlags flags;
  bool json = false, nodes = false;
};

/// What FLOPs and bytes alone would take, and what is told of the rates.
struct Rates {
  double flops = 0, bytes = 0;
  bool gpu = false, bytes_measured = true;

  /// Of products over what a step reads: a GPU's tensor cores take float32 as TF32, at half the rate of fp16.
  double flops_of(DType dtype) const { return gpu && dtype != DType::kFloat16 && dtype != DType::kBFloat16 ? flops / 2 : flops; }
  double floor(const StepProfile& step) const {
    const double rate = flops_of(step.dtype);
    return step.calls * std::max(rate > 0 ? step.flops / rate : 0.0, bytes > 0 ? step.bytes / bytes : 0.0);
  }
};

Rates rates_of(const Engine& engine) {
  Rates rates;
  const runtime::CudaEngine* cuda = engine.impl()->engine->cuda();
  if (!cuda) {
    const MachineRates measured = measure_machine_rates();
    rates.flops = measured.flops;
    rates.bytes = measured.bytes;
    return rates;
  }
  const GpuRates measured = measure_gpu_rates(cuda->device());
  rates.gpu = true;
  rates.flops = measured.half_flops;
  rates.bytes = measured.bytes;
  rates.bytes_measured = measured.measured;
  return rates;
}

/// What the report of the build says was chosen for each step of the tuned section, by label; several of one label in their order.
std::multimap<std::string, std::string> chosen_variants(const Engine& engine) {
  std::multimap<std::string, std::string> variants;
  const runtime::Engine& running = *engine.impl()->engine;
  if (&running.section() != &running.data().sections.front()) return variants;
  const auto report = nlohmann::json::parse(running.data().report_json, nullptr, false);
  if (!report.is_object()) return variants;
  for (const auto& region : report.value("regions", nlohmann::json::array()))
    for (const auto& choice : region.value("choices", nlohmann::json::array()))
      if (choice.value("chosen", false)) variants.emplace(region.value("label", ""), choice.value("variant", ""));
  return variants;
}

int profile(const Options& options) {
  const double budget = parse_seconds(options.time);
  const Engine engine = open_engine(options.model, options.flags);
  const BenchInputs host_inputs(engine, options.flags.shapes);
  // Copies from and to the host are no part of what is measured.
  SplitRun split(engine, host_inputs.views(), false);
  Context& context = split.context();
  const InterruptScope interrupts;
  const auto once = [&] { split.once(); };
  for (int i = 0; i < 3 && !interrupted(); ++i) once();
  context.start_profile();
  const double begin = os::now_seconds();
  for (int runs = 0; !interrupted() && (runs < 3 || os::now_seconds() - begin < budget); ++runs) once();
  if (interrupted()) return 130;

  const Rates rates = rates_of(engine);
  const RunProfile run = context.run_profile();
  auto steps = context.profile();
  double in_steps = 0, floors = 0;
  const auto lost = [&](const StepProfile& step) { return step.seconds - rates.floor(step); };
  nlohmann::json listed = nlohmann::json::array();
  auto variants = chosen_variants(engine);
  for (const StepProfile& step : steps) {
    in_steps += step.seconds;
    floors += rates.floor(step);
    const double floor = rates.floor(step);
    listed.push_back({{"label", step.label},
                      {"kernel", step.kernel},
                      {"ms", step.seconds * 1e3},
                      {"floor_ms", floor * 1e3},
                      {"lost_ms", lost(step) * 1e3},
                      {"flops", step.flops},
                      {"bytes", step.bytes},
                      {"onnx_nodes", step.sources}});
    listed.back()["time_over_floor"] = floor > 0 ? nlohmann::json(step.seconds / floor) : nlohmann::json();
    if (const auto found = variants.lower_bound(step.label); found != variants.end() && found->first == step.label) {
      if (!found->second.empty()) listed.back()["variant"] = found->second;
      variants.erase(found);
    }
    if (step.on_host) listed.back()["on_host"] = true;
    if (step.calls != 1) listed.back()["calls"] = step.calls;
  }
  const double between = run.seconds - in_steps;
  const char* how = !rates.gpu ? "fp32, measured" : "fp16, listed for the architecture; float32 by half of it";
  const char* copied = rates.bytes_measured ? "copying, measured" : "by the driver's figures";
  if (options.json) {
    const nlohmann::json report = {{"model", options.model},      {"device", engine.device()},
                                   {"section", engine.section()}, {"runs", run.runs},
                                   {"replayed", run.replayed},    {"run_ms", run.seconds * 1e3},
                                   {"steps_ms", in_steps * 1e3},  {"outside_steps_ms", between * 1e3},
                                   {"floor_ms", floors * 1e3},    {"gflops_peak", rates.flops * 1e-9},
                                   {"gflops_peak_is", how},       {"gbytes_per_s", rates.bytes * 1e-9},
                                   {"gbytes_per_s_is", copied},   {"steps", listed}};
    fmt::print("{}\n", report.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
    return 0;
  }
  fmt::print("{:.3f} ms a run{} ({} runs), {} steps: {:.3f} ms, their floors {:.3f} ms, {:.3f} ms between steps{}\n", run.seconds * 1e3,
             run.replayed ? " as one CUDA graph" : "", run.runs, steps.size(), in_steps * 1e3, floors * 1e3, between * 1e3,
             between < 0 ? " (they overlap)" : "");
  fmt::print("floors: {:.0f} GFLOP/s ({}), {:.1f} GB/s ({})\n\n", rates.flops * 1e-9, how, rates.bytes * 1e-9, copied);
  if (options.top > 0) {
    std::stable_sort(steps.begin(), steps.end(),
                     [&](const auto& a, const auto& b) { return options.by == "lost" ? lost(a) > lost(b) : a.seconds > b.seconds; });
    if (steps.size() > static_cast<std::size_t>(options.top)) steps.resize(static_cast<std::size_t>(options.top));
  }
  std::vector<std::vector<std::string>> rows{{"step", "kernel", "time", "share", "floor", "time/floor", "lost"}};
  for (const StepProfile& step : steps) {
    const double floor = rates.floor(step);
    const std::string times = step.calls == 1 ? "" : fmt::format(" ({:.4g} times)", step.calls);
    rows.push_back({step.label + times, step.kernel, human_time(step.seconds), fmt::format("{:.1f} %", 100 * step.seconds / std::max(in_steps, 1e-12)),
                    floor > 0 ? human_time(floor) : "-", floor > 0 ? fmt::format("{:.2f}", step.seconds / floor) : "-",
                    lost(step) > 0 ? human_time(lost(step)) : "-"});
    if (options.nodes)
      for (const std::string& source : step.sources) rows.push_back({"    " + source});
  }
  fmt::print("{}", table(rows));
  return 0;
}

}  // namespace

void add_profile(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  auto* command =
      add_command(app, "profile", "Time per step, its floor (what FLOPs and bytes alone would take here), what lies between the steps, and ONNX nodes",
                  {"lathe profile m.engine --top 10", "lathe profile m.engine --by lost      what is furthest above its floor first",
                   "lathe profile m.engine --top 0 --nodes   every step in order, with its ONNX nodes"});
  command->add_option("model", options->model, "Engine, or ONNX file (built in memory)")->required()->type_name("M.engine|M.onnx");
  command->add_option("--time", options->time, "Time to measure for")->capture_default_str()->type_name("TIME");
  command->add_option("--top", options->top, "Steps to show, worst first; 0 = all in order")->check(at_least(0))->capture_default_str()->type_name("N");
  command->add_option("--by", options->by, "What is worst: time, or lost (time above the floor)")
      ->check(CLI::IsMember({"time", "lost"}))
      ->capture_default_str()
      ->type_name("WHAT");
  command->add_flag("--nodes", options->nodes, "List the ONNX nodes of each step");
  options->flags.add_to(*command);
  command->add_flag("--json", options->json, "Print everything as JSON");
  command->callback([options, &action] { action = [options] { return profile(*options); }; });
}

}  // namespace lathe::cli
