// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// `lathe profile`: time per step beside its floor, and per ONNX node inside fused steps.

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "backend/cuda/device.h"
#include "base/os.h"
#include "cli/bench_inputs.h"
#include "cli/command.h"
#include "cli/machine_rates.h"

namespace lathe::cli {

void add_profile(CLI::App& app, Action& action) {
  struct Options {
    std::string model, time = "2s";
    int top = 25;
    BuildFlags flags;
    bool json = false, nodes = false;
  };
  auto options = std::make_shared<Options>();
  auto* command = add_command(app, "profile", "Time per step, its floor (what FLOPs and bytes alone would take here), and ONNX nodes",
                              {"lathe profile m.engine --top 10", "lathe profile m.engine --top 0 --nodes   every step in order, with its ONNX nodes"});
  command->add_option("model", options->model, "Engine, or ONNX file (built in memory)")->required()->type_name("FILE");
  command->add_option("--time", options->time, "Time to measure for")->capture_default_str()->type_name("TIME");
  command->add_option("--top", options->top, "Steps to show, slowest first; 0 = all in order")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->type_name("N");
  command->add_flag("--nodes", options->nodes, "List the ONNX nodes of each step");
  options->flags.add_to(*command);
  command->add_flag("--json", options->json, "Print everything as JSON");
  command->callback([options, &action] {
    action = [options] {
      const double budget = parse_seconds(options->time);
      const Engine engine = open_engine(options->model, options->flags);
      const BenchInputs inputs(engine, options->flags.shapes);
      Context context = engine.create_context();
      const InterruptScope interrupts;
      const auto once = [&] {
        const double from = os::now_seconds();
        if (const Status status = context.run(inputs.views()); !status) throw Error(status.code(), std::string(status.message()));
        return os::now_seconds() - from;
      };
      for (int i = 0; i < 3 && !interrupted(); ++i) once();
      context.start_profile();
      double total = 0;
      int runs = 0;
      const double begin = os::now_seconds();
      while (!interrupted() && (runs < 3 || os::now_seconds() - begin < budget)) {
        total += once();
        ++runs;
      }
      if (interrupted()) return 130;
      MachineRates rates;
      const auto gpus = engine.device().starts_with("cuda") ? cuda::list_devices() : std::vector<cuda::DeviceInfo>();
      if (gpus.empty()) {
        rates = measure_machine_rates();
      } else {
        rates.flops = gpus.front().half_flops();
        rates.bytes = gpus.front().memory_bytes_per_second;
      }
      auto steps = context.profile();
      double in_steps = 0;
      nlohmann::json report = {{"runs", runs}, {"run_ms", total / runs * 1e3}, {"gflops_peak", rates.flops * 1e-9}, {"gbytes_per_s", rates.bytes * 1e-9}};
      const auto floor = [&](const StepProfile& step) { return std::max(rates.flops > 0 ? step.flops / rates.flops : 0.0, step.bytes / rates.bytes); };
      for (const StepProfile& step : steps) {
        in_steps += step.seconds;
        report["steps"].push_back({{"label", step.label},
                                   {"kernel", step.kernel},
                                   {"ms", step.seconds * 1e3},
                                   {"floor_ms", floor(step) * 1e3},
                                   {"flops", step.flops},
                                   {"bytes", step.bytes},
                                   {"onnx_nodes", step.sources}});
      }
      report["outside_steps_ms"] = (total / runs - in_steps) * 1e3;
      if (options->json) {
        fmt::print("{}\n", report.dump(2));
        return 0;
      }
      fmt::print("{:.3f} ms a run ({} runs), {} steps, {:.3f} ms outside steps; machine: {:.0f} GFLOP/s {}, {:.1f} GB/s\n\n", total / runs * 1e3, runs,
                 steps.size(), (total / runs - in_steps) * 1e3, rates.flops * 1e-9, gpus.empty() ? "fp32" : "fp16", rates.bytes * 1e-9);
      if (options->top > 0) {
        std::stable_sort(steps.begin(), steps.end(), [](const auto& a, const auto& b) { return a.seconds > b.seconds; });
        if (steps.size() > static_cast<std::size_t>(options->top)) steps.resize(static_cast<std::size_t>(options->top));
      }
      std::vector<std::vector<std::string>> rows{{"step", "kernel", "time", "share", "floor", "time/floor"}};
      for (const StepProfile& step : steps) {
        rows.push_back({step.label, step.kernel, human_time(step.seconds), fmt::format("{:.1f} %", 100 * step.seconds / (total / runs)),
                        floor(step) > 0 ? human_time(floor(step)) : "-", floor(step) > 0 ? fmt::format("{:.2f}", step.seconds / floor(step)) : "-"});
        if (options->nodes)
          for (const std::string& source : step.sources) rows.push_back({"    " + source});
      }
      fmt::print("{}", table(rows));
      return 0;
    };
  });
}

}  // namespace lathe::cli
