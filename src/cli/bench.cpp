// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// `lathe bench`: latency and throughput of an engine; --against pairs it with rivals, alternating in one process (by the Python package, lathe.paired_bench,
// where the rivals live).

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/os.h"
#include "cli/bench_inputs.h"
#include "cli/command.h"

namespace lathe::cli {

void add_bench(CLI::App& app, Action& action) {
  struct Options {
    std::string model, against;
    std::vector<std::string> shapes;
    int runs = 0, warmup = 3;
    std::string time = "3s";
    BuildFlags flags;
    bool json = false;
  };
  auto options = std::make_shared<Options>();
  auto* command = app.add_subcommand("bench",
                                     "Measure latency and throughput\n"
                                     "  lathe bench m.engine\n"
                                     "  lathe bench m.onnx --against onnxruntime,openvino,torch   alternating in one run");
  command->add_option("model", options->model, "Engine, or ONNX file (built in memory)")->required()->type_name("FILE");
  command->add_option("--against", options->against, "Rivals, separated by commas: onnxruntime, openvino, torch (needs the ONNX file)")->type_name("LIST");
  command->add_option("--runs", options->runs, "Number of timed runs (default: as many as fit into --time)");
  command->add_option("--time", options->time, "Time to measure for")->capture_default_str();
  command->add_option("--warmup", options->warmup, "Runs before timing")->capture_default_str();
  options->flags.add_to(*command);
  command->add_flag("--json", options->json, "Print the figures as JSON");
  command->callback([options, &action] {
    action = [options] {
      if (!options->against.empty()) {
        std::vector<std::string> arguments{"-m", "lathe.paired_bench", options->model, "--against", options->against, "--time", options->time,
                                           "--precision", options->flags.precision, "--budget", options->flags.budget};
        if (options->runs > 0) arguments.insert(arguments.end(), {"--runs", std::to_string(options->runs)});
        for (const std::string& shape : options->flags.shapes) arguments.insert(arguments.end(), {"--shape", shape});
        if (options->flags.exact) arguments.push_back("--exact");
        if (options->flags.no_verify) arguments.push_back("--no-verify");
        if (options->json) arguments.push_back("--json");
        return run_python(arguments);
      }
      const double start = os::now_seconds();
      const Engine engine = open_engine(options->model, options->flags);
      const double load_ms = (os::now_seconds() - start) * 1e3;
      const BenchInputs inputs(engine, options->flags.shapes);
      Context context = engine.create_context();
      const auto once = [&] {
        const double from = os::now_seconds();
        if (const Status status = context.run(inputs.views()); !status) throw Error(status.code(), std::string(status.message()));
        return os::now_seconds() - from;
      };
      for (int i = 0; i < options->warmup; ++i) once();
      std::vector<double> times;
      const double budget = parse_seconds(options->time), begin = os::now_seconds();
      while (!interrupted() && (options->runs > 0 ? static_cast<int>(times.size()) < options->runs : times.empty() || os::now_seconds() - begin < budget))
        times.push_back(once());
      std::sort(times.begin(), times.end());
      const auto at = [&](double share) { return times[static_cast<std::size_t>(share * static_cast<double>(times.size() - 1) + 0.5)] * 1e3; };
      const double mean = std::accumulate(times.begin(), times.end(), 0.0) / static_cast<double>(times.size()) * 1e3;
      const std::int64_t batch = inputs.batch();
      nlohmann::json report = {{"model", options->model},
                               {"device", engine.device()},
                               {"section", engine.section()},
                               {"runs", times.size()},
                               {"batch", batch},
                               {"latency_ms", {{"min", at(0)}, {"median", at(0.5)}, {"mean", mean}, {"p90", at(0.9)}, {"p99", at(0.99)}, {"max", at(1)}}},
                               {"throughput", static_cast<double>(batch) * 1e3 / mean},
                               {"load_ms", load_ms},
                               {"weight_bytes", engine.weight_bytes()},
                               {"activation_bytes", context.activation_bytes()},
                               {"peak_memory_bytes", os::peak_rss_bytes()},
                               {"cpu", os::cpu_model()},
                               {"threads", os::available_cpus()}};
      if (options->json) {
        fmt::print("{}\n", report.dump(2));
        return 0;
      }
      fmt::print("{} on {} ({} threads), {} runs\n", options->model, os::cpu_model(), os::available_cpus(), times.size());
      fmt::print("latency     min {:.3f} ms   median {:.3f} ms   p90 {:.3f} ms   p99 {:.3f} ms   max {:.3f} ms\n", at(0), at(0.5), at(0.9), at(0.99), at(1));
      fmt::print("throughput  {:.1f} items/s   load {:.1f} ms   memory: weights {}, activations {}, peak {}\n", static_cast<double>(batch) * 1e3 / mean, load_ms,
                 human_bytes(static_cast<double>(engine.weight_bytes())), human_bytes(static_cast<double>(context.activation_bytes())),
                 human_bytes(static_cast<double>(os::peak_rss_bytes())));
      return 0;
    };
  });
}

}  // namespace lathe::cli
