// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// onnx2trt: `lathe build` by that tool's flags.

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/os.h"
#include "builder/build_text.h"
#include "builder/builder.h"
#include "cli/command.h"
#include "cli/shims/shims.h"
#include "ir/text.h"
#include "onnx/reader.h"
#include "onnx/writer.h"
#include "ops/import.h"
#include "passes/simplify.h"

namespace lathe::cli {
namespace {

constexpr const char* kTool = "onnx2trt";

const std::vector<Flag>& flags() {
  static const std::vector<Flag> kFlags{
      {{"-o"}, Flag::kValue, "engine file to write"},
      {{"-t"}, Flag::kValue, "write the model as text, without weights"},
      {{"-T"}, Flag::kValue, "write the model as text; weights are only named (-m keeps them)"},
      {{"-m"}, Flag::kValue, "write the ONNX model, simplified when -O or -F is given"},
      {{"-b"}, Flag::kValue, "largest batch, where the model leaves it free"},
      {{"-d"}, Flag::kValue, "32: float32, 16: float16 allowed (on GPUs)"},
      {{"-O"}, Flag::kValue, "simplify what -m and -t write; a build always does, whatever passes are named"},
      {{"-F"}, Flag::kSwitch, "the same as -O, to a fixed point, which is always so"},
      {{"-p"}, Flag::kSwitch, "list the simplifier's passes and stop"},
      {{"-l"}, Flag::kSwitch, "list the layers and their shapes"},
      {{"-v"}, Flag::kSwitch, "say more: candidates taken and refused, as `lathe build --explain` does"},
      {{"-q"}, Flag::kSwitch, "say less"},
      {{"-V", "--version"}, Flag::kSwitch, "print the version and stop"},
      {{"-h", "--help"}, Flag::kSwitch, "print this and stop"},
      {{"--device"}, Flag::kValue, "of Lathe: cpu, cuda, cuda:N (default: the first GPU, else the CPU)"},
      {{"--shape"}, Flag::kValue, "of Lathe: NAME:1x3x640x640 or NAME:MIN:OPT:MAX; repeatable"},
      {{"--budget"}, Flag::kValue, "of Lathe: time for tuning, 30s, 2m; 0 takes modelled costs"},
      {{"--no-verify"}, Flag::kSwitch, "of Lathe: leave out the comparison with the oracle"},
      {{"-w"}, Flag::kNoteValue, "it bounded the workspace of TensorRT's kernels; memory is planned here, and `lathe show` tells how much."},
      {{"-g"}, Flag::kNote, "it had TensorRT synchronise after each layer; `lathe profile` times steps, `lathe verify --all` finds wrong ones."},
      {{"-i"}, Flag::kNote, "it ignored what the importer did not know; every operator is built or named here."},
  };
  return kFlags;
}

void write_text(const std::string& path, const std::string& text) {
  os::AtomicFile file(path);
  file.write(text);
  file.commit();
}

int help(int code) {
  std::fprintf(code == 0 ? stdout : stderr,
               "onnx2trt: ONNX to an engine, by Lathe (`lathe build` says more).\n\nUsage: onnx2trt MODEL.onnx -o MODEL.trt [FLAGS]\n\n%s",
               flags_text(flags()).c_str());
  return code;
}

}  // namespace

int onnx2trt(const std::vector<std::string>& words) {
  if (words.empty()) return help(2);
  const Arguments arguments(kTool, flags(), words);
  if (arguments.has("-h")) return help(0);
  if (arguments.has("-V")) {
    fmt::print("onnx2trt of lathe {}\n", version());
    return 0;
  }
  if (arguments.has("-p")) {
    for (const passes::PassInfo& pass : passes::pass_list()) fmt::print("{:<24} {}\n", pass.name, pass.doc);
    return 0;
  }
  if (arguments.words().size() != 1)
    throw Error(Code::kInvalidArgument, arguments.words().empty()
                                            ? std::string("no ONNX file was named")
                                            : fmt::format("'{}' is one word too many: one ONNX file is built at a time", arguments.words()[1]))
        .with_remedy("Write: onnx2trt MODEL.onnx -o MODEL.trt.");
  const std::string model = arguments.words()[0], output = arguments.value("-o");
  require_onnx(model, kTool, "It is built already: trtexec --loadEngine and `lathe run` take it as it is.");

  // What is written of the model itself.
  const bool quiet = arguments.has("-q"), simplified = arguments.has("-O") || arguments.has("-F");
  const bool writes = arguments.has("-m") || arguments.has("-t") || arguments.has("-T") || arguments.has("-l");
  if (writes) {
    const auto read = onnx::read_model(model);
    onnx::inline_functions(*read);
    if (simplified) {
      ops::canonicalise_opsets(*read);
      passes::simplify(*read);
    }
    const std::string text = ir::print(*read->graph);
    if (arguments.has("-m")) onnx::write_model(*read, arguments.value("-m"));
    for (const char* flag : {"-t", "-T"})
      if (arguments.has(flag)) write_text(arguments.value(flag), text);
    if (arguments.has("-l")) fmt::print("{}", text);
  }
  if (output.empty()) {
    if (!writes) throw Error(Code::kInvalidArgument, "nothing is to be written").with_remedy("Add -o MODEL.trt.");
    return 0;
  }

  BuildConfig config;
  config.device = shim_device(kTool, arguments.value("--device"));
  const std::string bits = arguments.value("-d", "32");
  if (bits != "32" && bits != "16")
    throw Error(Code::kInvalidArgument, fmt::format("-d {} is no type that engines are built in", bits)).with_remedy("-d 32 is float32, -d 16 allows float16.");
  if (bits == "16") config.precision = shim_precision(kTool, "-d 16", config.device);
  if (arguments.has("--budget")) config.budget_seconds = parse_seconds(arguments.value("--budget"));
  config.verify = !arguments.has("--no-verify");
  for (const std::string& text : arguments.all("--shape")) {
    const auto [name, range] = builder::parse_shape_option(text);
    config.shapes[name] = {range.min, range.opt, range.max};
  }
  if (arguments.has("-b") && !config.shapes.empty()) note(kTool, "-b: --shape says which batches the engine takes.");
  if (arguments.has("-b") && config.shapes.empty())
    config.shapes = batch_ranges(kTool, "-b", Network::parse(model).inputs(), static_cast<std::int64_t>(arguments.number("-b", 1, 1)));

  const double started = os::now_seconds();
  if (!quiet) {
    fmt::print("Building the engine of {} for {}, {}\n", model, config.device, config.precision);
    std::fflush(stdout);
  }
  const Engine engine = build_file(model, output, config, quiet);
  if (arguments.has("-v")) std::fputs(builder::explain_text(nlohmann::json::parse(engine.report_json())).c_str(), stdout);
  if (!quiet) fmt::print("{}All done\n", built_text(engine, output, os::now_seconds() - started));
  return 0;
}

}  // namespace lathe::cli
