// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// trtexec: builds, saves, loads and times engines by that tool's flags, between its first and last line. The numbers come from trtexec_report.

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <thread>

#include "base/os.h"
#include "builder/builder.h"
#include "builder/hints.h"
#include "cli/bench_inputs.h"
#include "cli/command.h"
#include "cli/npz.h"
#include "cli/shims/shims.h"
#include "cli/shims/trtexec_report.h"

namespace lathe::cli {
namespace {

using trtexec_report::say;

constexpr const char* kTool = "trtexec";

const std::vector<Flag>& flags() {
  constexpr const char* kPlugins = "it loaded TensorRT plugins; operators are built in here (`lathe ops`).";
  constexpr const char* kDla = "it was for NVIDIA's DLA, which Lathe does not drive: the engine is for the GPU or the CPU.";
  constexpr const char* kCaffe = "it was for Caffe and UFF models; give --onnx.";
  constexpr const char* kFormats = "it asked for other layouts at the interface; tensors are dense and row-major in the model's types here.";
  constexpr const char* kLayers = "it set types by layer; verification keeps what needs it in float32 here.";
  constexpr const char* kSpin = "it chose how the host waits; nothing is to be chosen here.";
  constexpr const char* kVersions =
      "it made plans for other versions and GPUs; an engine of Lathe's runs on any CPU, and on the GPU generation that it has a section for.";
  static const std::vector<Flag> kFlags{
      {{"--onnx"}, Flag::kValue, "ONNX file to build from"},
      {{"--saveEngine"}, Flag::kValue, "write the engine"},
      {{"--loadEngine"}, Flag::kValue, "take an engine instead of a model"},
      {{"--fp16", "--half"}, Flag::kSwitch, "allow float16 (on GPUs)"},
      {{"--bf16"}, Flag::kSwitch, "allow bfloat16"},
      {{"--best"}, Flag::kSwitch, "allow float16 (on GPUs); there are no 8-bit kernels here"},
      {{"--noTF32"}, Flag::kSwitch, "products of float32 in float32 on GPUs, not in TF32"},
      {{"--shapes"}, Flag::kValue, "NAME:1x3x640x640,...: inputs' shapes of the runs, and of the build where no others are given"},
      {{"--minShapes"}, Flag::kValue, "least shapes that the engine takes"},
      {{"--optShapes"}, Flag::kValue, "shapes that it is tuned for"},
      {{"--maxShapes"}, Flag::kValue, "greatest shapes"},
      {{"--batch", "--maxBatch"}, Flag::kValue, "the batch, where the model leaves it free"},
      {{"--iterations"}, Flag::kValue, "run at least so often (10)"},
      {{"--duration"}, Flag::kValue, "and at least so many seconds (3)"},
      {{"--warmUp"}, Flag::kValue, "milliseconds of runs before timing (200)"},
      {{"--avgRuns"}, Flag::kValue, "print averages of so many runs"},
      {{"--percentile"}, Flag::kValue, "P1,P2,... (90,95,99)"},
      {{"--streams", "--infStreams"}, Flag::kValue, "so many contexts at once, a thread each (1)"},
      {{"--noDataTransfers"}, Flag::kSwitch, "on a GPU: inputs and outputs stay in its memory"},
      {{"--loadInputs"}, Flag::kValue, "NAME:FILE,...: raw bytes, or .npy"},
      {{"--device"}, Flag::kValue, "number of the GPU; of Lathe: cpu, cuda:N"},
      {{"--buildOnly", "--skipInference"}, Flag::kSwitch, "do not run"},
      {{"--exportTimes"}, Flag::kValue, "times of every run as JSON"},
      {{"--exportOutput"}, Flag::kValue, "outputs as JSON"},
      {{"--exportProfile"}, Flag::kValue, "times of every step as JSON"},
      {{"--exportLayerInfo"}, Flag::kValue, "steps and bindings as JSON"},
      {{"--dumpProfile", "--separateProfileRun"}, Flag::kSwitch, "print times of every step"},
      {{"--dumpOutput"}, Flag::kSwitch, "print the outputs"},
      {{"--dumpLayerInfo"}, Flag::kSwitch, "print steps and bindings"},
      {{"--verbose"}, Flag::kSwitch, "say more"},
      {{"--builderOptimizationLevel"}, Flag::kValue, "0: modelled costs instead of timing; 1..5: timing (--budget says how long)"},
      {{"--help", "-h"}, Flag::kSwitch, "print this and stop"},
      {{"--version"}, Flag::kSwitch, "print the version and stop"},
      {{"--budget"}, Flag::kValue, "of Lathe: time for tuning, 30s, 2m"},
      {{"--no-verify"}, Flag::kSwitch, "of Lathe: leave out the comparison with the oracle"},
      {{"--int8"},
       Flag::kNote,
       "it calibrated for 8 bits; Lathe builds no 8-bit engine from a float model and uses the wider type (a model that holds QuantizeLinear runs as it is)."},
      {{"--fp8", "--int4"}, Flag::kNote, "it allowed 8- and 4-bit types; Lathe uses the wider type."},
      {{"--calib"}, Flag::kNoteValue, "it read an INT8 calibration; there is none here."},
      {{"--workspace"}, Flag::kNoteValue, "it bounded the workspace of TensorRT's kernels; memory is planned here, and `lathe show` tells how much."},
      {{"--memPoolSize"}, Flag::kNoteValue, "it bounded TensorRT's memory pools; memory is planned here, and `lathe show` tells how much."},
      {{"--tf32"}, Flag::kNote, "TF32 is allowed by itself on GPUs; --noTF32 forbids it."},
      {{"--explicitBatch"}, Flag::kNote, "every batch is explicit here."},
      {{"--useCudaGraph"}, Flag::kNote, "every run on a GPU is one CUDA graph by itself."},
      {{"--useSpinWait", "--spin", "--threads", "--useManagedMemory", "--exposeDMA", "--persistentCacheRatio"}, Flag::kNote, kSpin},
      {{"--sleepTime", "--idleTime", "--maxAuxStreams"}, Flag::kNoteValue, kSpin},
      {{"--plugins", "--staticPlugins", "--dynamicPlugins", "--setPluginsToSerialize"}, Flag::kNoteValue, kPlugins},
      {{"--useDLACore"}, Flag::kNoteValue, kDla},
      {{"--allowGPUFallback"}, Flag::kNote, kDla},
      {{"--model", "--deploy", "--uff", "--uffInput", "--output"}, Flag::kNoteValue, kCaffe},
      {{"--uffNHWC"}, Flag::kNote, kCaffe},
      {{"--inputIOFormats", "--outputIOFormats"}, Flag::kNoteValue, kFormats},
      {{"--directIO"}, Flag::kNote, kFormats},
      {{"--layerPrecisions", "--layerOutputTypes", "--layerDeviceTypes", "--precisionConstraints"}, Flag::kNoteValue, kLayers},
      {{"--stronglyTyped", "--strictTypes"}, Flag::kNote, "it kept the model's types; without --fp16 and --bf16 that is so here."},
      {{"--tacticSources"}, Flag::kNoteValue, "it chose libraries; `lathe build --libraries` does."},
      {{"--timingCacheFile"}, Flag::kNoteValue, "it named a tuning cache; Lathe keeps one in LATHE_CACHE_DIR."},
      {{"--noBuilderCache"}, Flag::kNote, "it left the tuning cache out; `lathe build --no-cache` does."},
      {{"--sparsity", "--profilingVerbosity", "--nvtxMode", "--avgTiming", "--minTiming", "--preview", "--runtimePlatform", "--tilingOptimizationLevel"},
       Flag::kNoteValue,
       "it steered TensorRT's own tuning; `lathe build --budget` and --explain steer and tell Lathe's."},
      {{"--refit", "--weightless", "--stripWeights", "--stripAllWeights"},
       Flag::kNote,
       "it made engines to be refitted; build again, which takes seconds from the tuning cache."},
      {{"--dumpRefit", "--dumpRawBindingsToFile", "--consistency", "--safe", "--restricted", "--buildDLAStandalone"},
       Flag::kNote,
       "nothing is done for it here."},
      {{"--versionCompatible", "--vc", "--excludeLeanRuntime"}, Flag::kNote, kVersions},
      {{"--hardwareCompatibilityLevel", "--useRuntime", "--leanDLLPath", "--tempdir", "--tempfileControls"}, Flag::kNoteValue, kVersions},
  };
  return kFlags;
}

/// "name:1x3x2,other:4": by name. Names may hold colons and stand in quotes.
std::map<std::string, std::vector<std::int64_t>> shapes_of(const std::string& flag, const std::string& text) {
  std::map<std::string, std::vector<std::int64_t>> shapes;
  std::size_t from = 0;
  while (from < text.size()) {
    const std::size_t to = std::min(text.find(',', from), text.size());
    const std::string part = text.substr(from, to - from);
    const auto cut = part.rfind(':');
    if (cut == std::string::npos || cut == 0)
      throw Error(Code::kInvalidArgument, fmt::format("'{}' in {} is not NAME:SHAPE", part, flag))
          .with_remedy(fmt::format("For example {}=images:1x3x640x640.", flag));
    std::string name = part.substr(0, cut);
    if (name.size() > 1 && (name.front() == '\'' || name.front() == '"') && name.back() == name.front()) name = name.substr(1, name.size() - 2);
    shapes[name] = parse_extents(part.substr(cut + 1));
    from = to + 1;
  }
  return shapes;
}

struct Job {
  std::string onnx, load, save;
  BuildConfig config;
  std::vector<std::string> run_shapes;  ///< NAME:1x3x2
  int iterations = 10, streams = 1;
  double duration = 3, warm_up = 0.2;
  bool transfers = true;
};

/// Inputs from files: raw bytes of the input's type and shape, or .npy.
std::vector<ConstTensorView> load_inputs(const std::string& text, const Engine& engine, std::span<const ConstTensorView> views, std::vector<Tensor>& kept) {
  std::vector<ConstTensorView> out(views.begin(), views.end());
  const std::vector<IoInfo> infos = engine.inputs();
  kept.reserve(infos.size());
  std::size_t from = 0;
  while (from < text.size()) {
    const std::size_t to = std::min(text.find(',', from), text.size());
    const std::string part = text.substr(from, to - from);
    from = to + 1;
    std::size_t i = 0;
    std::string file;
    for (; i < infos.size() && file.empty(); ++i)
      for (const std::string& start : {infos[i].name + ":", "'" + infos[i].name + "':"})
        if (part.starts_with(start)) file = part.substr(start.size());
    if (file.empty()) throw Error(Code::kInvalidArgument, fmt::format("'{}' in --loadInputs is not NAME:FILE with one of the model's inputs", part));
    ConstTensorView& view = out[--i];
    if (file.ends_with(".npy")) {
      kept.push_back(read_npy(file));
      if (kept.back().dtype() != view.dtype || !std::equal(view.shape.begin(), view.shape.end(), kept.back().dims().begin(), kept.back().dims().end()))
        throw DataError(Code::kInvalidArgument,
                        fmt::format("the array for input '{}' in {} is {} {}, the run has {} {}", infos[i].name, file, dtype_name(kept.back().dtype()),
                                    to_string(kept.back().dims()), dtype_name(view.dtype), to_string(Dims(view.shape.begin(), view.shape.end()))));
    } else {
      const auto mapped = os::MappedFile::open(file);
      const Dims dims(view.shape.begin(), view.shape.end());
      if (mapped->bytes().size() != dtype_bytes(view.dtype, element_count(dims)))
        throw DataError(Code::kInvalidArgument, fmt::format("{} has {} bytes, input '{}' of {} {} takes {}", file, mapped->bytes().size(), infos[i].name,
                                                            dtype_name(view.dtype), to_string(dims), dtype_bytes(view.dtype, element_count(dims))));
      kept.push_back(Tensor::view(view.dtype, dims, mapped->bytes().data(), mapped->bytes().size(), mapped).make_aligned());
    }
    view.data = kept.back().raw();
  }
  return out;
}

std::map<std::string, InputRange> ranges_of(const Arguments& arguments) {
  std::map<std::string, InputRange> ranges;
  for (const auto& [name, shape] : shapes_of("--optShapes", arguments.value("--optShapes"))) ranges[name].opt = shape;
  for (const auto& [name, shape] : shapes_of("--minShapes", arguments.value("--minShapes"))) ranges[name].min = shape;
  for (const auto& [name, shape] : shapes_of("--maxShapes", arguments.value("--maxShapes"))) ranges[name].max = shape;
  // What is not given follows from the others, as there.
  for (auto& [name, range] : ranges) {
    if (range.opt.empty()) range.opt = range.min.empty() ? range.max : range.min;
    if (range.min.empty()) range.min = range.opt;
    if (range.max.empty()) range.max = range.opt;
  }
  if (ranges.empty())
    for (const auto& [name, shape] : shapes_of("--shapes", arguments.value("--shapes"))) ranges[name] = {shape, shape, shape};
  return ranges;
}

Engine open(const Job& job) {
  if (!job.load.empty()) {
    if (!has_engine_magic(job.load))
      throw Error(Code::kCorruptFile, "this is no engine of Lathe's")
          .in_source(job.load)
          .with_remedy("Plans of TensorRT hold code for its own runtime: build again, with --onnx.");
    const double started = os::now_seconds();
    Engine engine = Engine::load(job.load, job.config.device);
    say('I', fmt::format("Engine loaded in {:g} sec.", os::now_seconds() - started));
    return engine;
  }
  const double started = os::now_seconds();
  Engine engine = build_file(job.onnx, job.save, job.config, false);
  say('I', fmt::format("Engine built in {:g} sec.", os::now_seconds() - started));
  std::string text = built_text(engine, job.save.empty() ? "engine" : job.save, os::now_seconds() - started);
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    say('I', text.substr(0, end));
    text.erase(0, end == std::string::npos ? end : end + 1);
  }
  return engine;
}

trtexec_report::Summary measure(const Engine& engine, const Job& job, std::span<const ConstTensorView> views, std::vector<Tensor>& outputs) {
  trtexec_report::Summary summary;
  std::vector<std::unique_ptr<SplitRun>> runs;
  for (int i = 0; i < job.streams; ++i) runs.push_back(std::make_unique<SplitRun>(engine, views, job.transfers));
  const InterruptScope interrupts;
  const double warm_begin = os::now_seconds();
  do runs[0]->once();
  while (!interrupted() && os::now_seconds() - warm_begin < job.warm_up);
  for (std::size_t i = 1; i < runs.size(); ++i) runs[i]->once();
  std::mutex mutex;
  std::exception_ptr failure;
  const double begin = os::now_seconds();
  const auto work = [&](SplitRun& run) {
    std::vector<SplitRun::Moments> moments;
    try {
      while (!interrupted() && (static_cast<int>(moments.size()) < job.iterations || os::now_seconds() - begin < job.duration)) moments.push_back(run.once());
    } catch (...) {
      const std::lock_guard lock(mutex);
      failure = std::current_exception();
    }
    const std::lock_guard lock(mutex);
    summary.runs.insert(summary.runs.end(), moments.begin(), moments.end());
  };
  std::vector<std::thread> others;
  for (std::size_t i = 1; i < runs.size(); ++i) others.emplace_back(work, std::ref(*runs[i]));
  work(*runs[0]);
  for (std::thread& other : others) other.join();
  if (failure) std::rethrow_exception(failure);
  if (interrupted()) throw Error(Code::kCancelled, "stopped");
  summary.wall_seconds = os::now_seconds() - begin;
  std::sort(summary.runs.begin(), summary.runs.end(), [](const auto& a, const auto& b) { return a.begin < b.begin; });
  outputs = runs[0]->outputs();
  return summary;
}

/// Each run by itself, so that medians can be told.
std::vector<trtexec_report::LayerTimes> profile(const Engine& engine, const Job& job, std::span<const ConstTensorView> views) {
  SplitRun run(engine, views, false);
  run.once();
  std::vector<trtexec_report::LayerTimes> layers;
  const InterruptScope interrupts;
  const double begin = os::now_seconds();
  for (int i = 0; !interrupted() && i < 200 && (i < 3 || os::now_seconds() - begin < std::min(job.duration, 2.0)); ++i) {
    run.context().start_profile();
    run.once();
    const std::vector<StepProfile> steps = run.context().profile();
    layers.resize(steps.size());
    for (std::size_t k = 0; k < steps.size(); ++k) {
      layers[k].name = steps[k].label;
      layers[k].seconds.push_back(steps[k].seconds);
    }
  }
  return layers;
}

void export_text(const Arguments& arguments, const char* flag, const std::string& text) {
  os::AtomicFile file(arguments.value(flag));
  file.write(text);
  file.commit();
}

int work(const Arguments& arguments) {
  Job job;
  job.onnx = arguments.value("--onnx");
  job.load = arguments.value("--loadEngine");
  job.save = arguments.value("--saveEngine");
  if (job.onnx.empty() == job.load.empty())
    throw Error(Code::kInvalidArgument, job.onnx.empty() ? "neither a model nor an engine was named" : "both a model and an engine were named")
        .with_remedy("Give --onnx=M.onnx or --loadEngine=M.engine.");
  if (!job.load.empty() && !job.save.empty()) throw Error(Code::kInvalidArgument, "--saveEngine goes with --onnx: an engine is saved already");
  std::vector<double> percentiles;
  for (std::string rest = arguments.value("--percentile", "90,95,99"); !rest.empty();) {
    const auto cut = rest.find(',');
    char* end = nullptr;
    const std::string part = rest.substr(0, cut);
    percentiles.push_back(std::strtod(part.c_str(), &end));
    if (part.empty() || *end != '\0' || !(percentiles.back() >= 0 && percentiles.back() <= 100))
      throw Error(Code::kInvalidArgument, fmt::format("--percentile takes numbers from 0 to 100, not '{}'", part));
    rest = cut == std::string::npos ? "" : rest.substr(cut + 1);
  }
  job.iterations = static_cast<int>(arguments.number("--iterations", 10, 1, 1e9));
  job.streams = static_cast<int>(arguments.number("--streams", 1, 1, 256));
  job.duration = arguments.number("--duration", 3, 0);
  job.warm_up = arguments.number("--warmUp", 200, 0) * 1e-3;
  job.transfers = !arguments.has("--noDataTransfers");
  for (const char* flag : {"--exportTimes", "--exportOutput", "--exportProfile", "--exportLayerInfo"})
    if (arguments.has(flag)) check_output(arguments.value(flag), job.onnx.empty() ? job.load : job.onnx);

  std::string asked = arguments.value("--device");
  if (!asked.empty() && asked.find_first_not_of("0123456789") == std::string::npos) {
    // A number names a GPU; 0 is every script's default, which a machine without one need not have.
    if (asked != "0") asked = "cuda:" + asked;
    else asked.clear();
  }
  BuildConfig& config = job.config;
  if (job.load.empty()) {
    config.device = shim_device(kTool, asked);
    for (const char* flag : {"--fp16", "--best"})
      if (arguments.has(flag)) config.precision = shim_precision(kTool, flag, config.device);
    if (config.precision == "fp32" && arguments.has("--bf16")) config.precision = "bf16";
    if (config.precision == "fp32" && config.device != "cpu" && !arguments.has("--noTF32")) config.precision = "tf32";
    if (arguments.number("--builderOptimizationLevel", 3, 0, 5) == 0) config.budget_seconds = 0;
    if (arguments.has("--budget")) config.budget_seconds = parse_seconds(arguments.value("--budget"));
    config.verify = !arguments.has("--no-verify");
    require_onnx(job.onnx, kTool, "Give it by --loadEngine.");
    config.shapes = ranges_of(arguments);
    const std::vector<IoInfo> inputs = Network::parse(job.onnx).inputs();
    if (arguments.has("--batch") && !config.shapes.empty()) note(kTool, "--batch: the shapes that are given say it.");
    if (arguments.has("--batch") && config.shapes.empty())
      config.shapes = batch_ranges(kTool, "--batch", inputs, static_cast<std::int64_t>(arguments.number("--batch", 1, 1)));
    for (const IoInfo& info : inputs)
      if (config.shapes.count(info.name) == 0 && std::any_of(info.shape.begin(), info.shape.end(), [](std::int64_t extent) { return extent < 0; }))
        say('W',
            fmt::format("Dynamic dimensions required for input: {}, but no shapes were provided. The engine takes any, tuned for a small one; give --shapes.",
                        info.name));
  } else {
    config.device = asked;
  }
  say('I', "=== Model Options ===");
  say('I', fmt::format("Format: {}", job.load.empty() ? "ONNX" : "*"));
  say('I', fmt::format("Model: {}", job.load.empty() ? job.onnx : job.load));
  if (job.load.empty()) {
    say('I', "=== Build Options ===");
    say('I', fmt::format("Precision: {}", config.precision));
    say('I', fmt::format("Device: {}", config.device));
  }
  std::fflush(stdout);
  const Engine engine = open(job);
  say('I', fmt::format("Engine runs by its section {}", engine.section()));
  if (arguments.has("--dumpLayerInfo")) trtexec_report::print_layers(engine);
  if (arguments.has("--exportLayerInfo")) export_text(arguments, "--exportLayerInfo", trtexec_report::layers_json(engine));
  if (arguments.has("--buildOnly")) {
    say('I', "Skipped inference phase since --buildOnly is added.");
    return 0;
  }
  for (const auto& [name, shape] : shapes_of("--shapes", arguments.value("--shapes"))) job.run_shapes.push_back(name + ":" + to_string(shape));
  if (job.run_shapes.empty() && arguments.has("--batch") && !job.load.empty())
    for (const auto& [name, range] : batch_ranges(kTool, "--batch", engine.inputs(), static_cast<std::int64_t>(arguments.number("--batch", 1, 1))))
      job.run_shapes.push_back(name + ":" + to_string(range.opt));
  const BenchInputs seeded(engine, job.run_shapes);
  std::vector<Tensor> kept, outputs;
  const std::vector<ConstTensorView> views = load_inputs(arguments.value("--loadInputs"), engine, seeded.views(), kept);
  for (std::size_t i = 0; i < views.size(); ++i)
    say('I', fmt::format("Input binding for {} with dimensions {} is created.", engine.inputs()[i].name,
                         to_string(Dims(views[i].shape.begin(), views[i].shape.end()))));
  say('I', "Starting inference");
  std::fflush(stdout);
  trtexec_report::Summary summary = measure(engine, job, views, outputs);
  summary.percentiles = percentiles;
  if (arguments.has("--avgRuns") || arguments.has("--verbose")) summary.average_of = static_cast<int>(arguments.number("--avgRuns", 10, 1, 1e9));
  say('I', "");
  trtexec_report::print_summary(summary);
  if (engine.device() == "cpu") say('I', "No GPU was used: \"GPU Compute Time\" is the CPU's, and nothing was copied.");
  if (arguments.has("--exportTimes")) export_text(arguments, "--exportTimes", trtexec_report::times_json(summary));
  if (arguments.has("--dumpOutput")) trtexec_report::print_outputs(engine, outputs);
  if (arguments.has("--exportOutput")) export_text(arguments, "--exportOutput", trtexec_report::outputs_json(engine, outputs));
  if (arguments.has("--dumpProfile") || arguments.has("--exportProfile")) {
    const auto layers = profile(engine, job, views);
    if (arguments.has("--dumpProfile")) trtexec_report::print_profile(layers);
    if (arguments.has("--exportProfile")) export_text(arguments, "--exportProfile", trtexec_report::profile_json(layers));
  }
  return 0;
}

}  // namespace

int trtexec(const std::vector<std::string>& words) {
  if (words.empty() || std::find(words.begin(), words.end(), "--help") != words.end() || std::find(words.begin(), words.end(), "-h") != words.end()) {
    std::fprintf(words.empty() ? stderr : stdout,
                 "trtexec: build and time engines, by Lathe (`lathe build`, `lathe bench` and `lathe profile` say more).\n\n"
                 "Usage: trtexec --onnx=M.onnx [--saveEngine=M.engine] [FLAGS]\n       trtexec --loadEngine=M.engine [FLAGS]\n\n%s",
                 flags_text(flags()).c_str());
    return words.empty() ? 2 : 0;
  }
  std::string line = kTool;
  for (const std::string& word : words) line += " " + word;
  const auto banner = [&](const char* state) { fmt::print("&&&& {} TensorRT.trtexec [Lathe v{}] # {}\n", state, version(), line); };
  banner("RUNNING");
  std::fflush(stdout);
  const int code = guarded(kTool, [&] {
    const Arguments arguments(kTool, flags(), words);
    return arguments.has("--version") ? 0 : work(arguments);
  });
  banner(code == 0 ? "PASSED" : "FAILED");
  return code;
}

}  // namespace lathe::cli
