// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// `lathe bench`: latency and throughput of an engine; --against pairs it with rivals, alternating in one process (by the Python package, lathe.paired_bench,
// where the rivals live).

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/os.h"
#include "cli/bench_inputs.h"
#include "cli/bench_runs.h"
#include "cli/command.h"
#include "cli/temporary_folder.h"
#include "engine/engine.h"

namespace lathe::cli {
namespace {

struct Options {
  std::string model, against, onnx, torch;
  int runs = 0, warmup = 3;
  std::string time = "3s";
  BuildFlags flags;
  bool json = false;
};

int paired(const Options& options) {
  const bool is_engine = is_engine_file(options.model);
  if (is_engine) options.flags.refuse_for_engine(options.model);
  const std::string onnx = is_engine ? options.onnx : options.model;
  if (onnx.empty())
    throw Error(Code::kInvalidArgument, "rivals need the ONNX file, and this is an engine")
        .in_source(options.model)
        .with_remedy("Add --onnx M.onnx, or bench the ONNX file.");
  require_onnx(onnx, "bench --onnx", "Give the model that the engine was built from.");
  std::vector<std::string> arguments{
      onnx, "--against", options.against, "--time", fmt::format("{}", parse_seconds(options.time)), "--warmup", std::to_string(options.warmup)};
  const auto add = [&](const char* name, const std::string& value) { arguments.insert(arguments.end(), {name, value}); };
  if (is_engine) add("--engine", options.model), add("--precision", engine_precision(engine::read_engine(options.model)));
  else
    add("--precision", options.flags.precision), add("--device", options.flags.device), add("--budget", fmt::format("{}", parse_seconds(options.flags.budget)));
  if (options.runs > 0) add("--runs", std::to_string(options.runs));
  if (!options.torch.empty()) add("--torch", options.torch);
  for (const std::string& shape : options.flags.shapes) add("--shape", shape);
  if (options.flags.exact) arguments.push_back("--exact");
  if (options.flags.no_verify) arguments.push_back("--no-verify");
  if (options.flags.no_cache) arguments.push_back("--no-cache");
  if (options.json) arguments.push_back("--json");
  return run_python("lathe.paired_bench", arguments);
}

int alone(const Options& options) {
  const double budget = parse_seconds(options.time), start = os::now_seconds();
  std::filesystem::path file = options.model;
  std::string device = options.flags.device;  // of an engine that is built here: what it is built for
  double build_seconds = -1;
  std::unique_ptr<TemporaryFolder> folder;
  if (!is_engine_file(options.model)) {
    // Measured as it would be used: loaded from a file.
    const Engine built = open_engine(options.model, options.flags);
    build_seconds = os::now_seconds() - start;
    const InterruptScope interrupts;
    folder = std::make_unique<TemporaryFolder>();
    file = folder->path() / "bench.engine";
    built.save(file);
  } else {
    options.flags.refuse_for_engine(options.model, true);
    device = options.flags.engine_device();
  }
  const double load_start = os::now_seconds();
  const Engine engine = Engine::load(file, device);
  const double load_seconds = os::now_seconds() - load_start;
  folder.reset();  // the mapping keeps what it needs
  const BenchInputs inputs(engine, options.flags.shapes);
  Context context = engine.create_context();
  const InterruptScope interrupts;
  const auto once = [&] {
    const double from = os::now_seconds();
    if (const Status status = context.run(inputs.views()); !status) throw Error(status.code(), std::string(status.message()));
    return os::now_seconds() - from;
  };
  for (int i = 0; i < options.warmup && !interrupted(); ++i) once();
  std::vector<double> times;
  const double begin = os::now_seconds();
  while (!interrupted() && (options.runs > 0 ? static_cast<int>(times.size()) < options.runs : times.empty() || os::now_seconds() - begin < budget))
    times.push_back(once());
  if (interrupted()) return 130;  // figures of a part would not be comparable
  const Timings timings(times);
  const auto at = [&](double share) { return timings.at(share) * 1e3; };
  const double mean = timings.mean() * 1e3;
  const std::int64_t batch = inputs.batch();
  const double throughput = static_cast<double>(batch) * 1e3 / mean;
  if (options.json) {
    nlohmann::json report = {{"model", options.model},
                             {"device", engine.device()},
                             {"section", engine.section()},
                             {"runs", times.size()},
                             {"batch", batch},
                             {"latency_ms", {{"min", at(0)}, {"median", at(0.5)}, {"mean", mean}, {"p90", at(0.9)}, {"p99", at(0.99)}, {"max", at(1)}}},
                             {"throughput", throughput},
                             {"load_ms", load_seconds * 1e3},
                             {"weight_bytes", engine.weight_bytes()},
                             {"activation_bytes", context.activation_bytes()},
                             {"peak_memory_bytes", os::peak_rss_bytes()},
                             {"cpu", os::cpu_model()},
                             {"threads", os::available_cpus()}};
    if (build_seconds >= 0) report["build_seconds"] = build_seconds;
    fmt::print("{}\n", report.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
    return 0;
  }
  const std::string machine = engine.device().starts_with("cuda") ? engine.section() : fmt::format("{} ({} threads)", os::cpu_model(), os::available_cpus());
  fmt::print("{} on {}, {} runs\n", options.model, machine, times.size());
  fmt::print("section     {}\n", engine.section());
  fmt::print("latency     min {:.3f} ms   median {:.3f} ms   p90 {:.3f} ms   p99 {:.3f} ms   max {:.3f} ms\n", at(0), at(0.5), at(0.9), at(0.99), at(1));
  fmt::print("throughput  {:.1f} items/s\n", throughput);
  fmt::print("load        {}{}\n", human_time(load_seconds), build_seconds < 0 ? "" : fmt::format("   (built in {})", human_time(build_seconds)));
  fmt::print("memory      weights {}, activations {}, peak of the process {}\n", human_bytes(static_cast<double>(engine.weight_bytes())),
             human_bytes(static_cast<double>(context.activation_bytes())), human_bytes(static_cast<double>(os::peak_rss_bytes())));
  return 0;
}

}  // namespace

void add_bench(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  auto* command = add_command(app, "bench", "Measure latency and throughput",
                              {"lathe bench m.engine", "lathe bench m.engine --shape images:8x3x640x640 --json",
                               "lathe bench m.onnx --against onnxruntime,openvino   alternating in one run",
                               "lathe bench m.engine --onnx m.onnx --against torch --torch model.py:make"});
  command->add_option("model", options->model, "Engine, or ONNX file (built in memory)")->required()->type_name("M.engine|M.onnx");
  command->add_option("--against", options->against, "Rivals, separated by commas: onnxruntime, openvino, torch")
      ->type_name("onnxruntime|openvino|torch[,...]");
  command->add_option("--onnx", options->onnx, "The model for the rivals, when an engine is measured")->type_name("M.onnx");
  command->add_option("--torch", options->torch, "The PyTorch model, for the rival torch")->type_name("FILE.py:FUNCTION");
  command->add_option("--runs", options->runs, "Number of timed runs (default: as many as fit into --time)")->check(at_least(1))->type_name("N");
  command->add_option("--time", options->time, "Time to measure for")->capture_default_str()->type_name("TIME");
  command->add_option("--warmup", options->warmup, "Runs before timing")->check(at_least(0))->capture_default_str()->type_name("N");
  options->flags.add_to(*command);
  command->add_flag("--json", options->json, "Print the figures as JSON");
  command->callback([options, &action] {
    action = [options] {
      if (!options->against.empty()) return paired(*options);
      for (const auto& [given, name] : {std::pair(!options->onnx.empty(), "--onnx"), std::pair(!options->torch.empty(), "--torch")})
        if (given) throw Error(Code::kInvalidArgument, fmt::format("{} is for rivals, and none was named", name)).with_remedy("Add --against.");
      return alone(*options);
    };
  });
}

}  // namespace lathe::cli
