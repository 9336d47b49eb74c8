// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// onnxsim: `lathe simplify` by that tool's flags, with a table in its style.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>

#include "cli/command.h"
#include "cli/shims/shims.h"
#include "cli/simplify.h"

namespace lathe::cli {
namespace {

constexpr const char* kTool = "onnxsim";
constexpr std::int64_t kLongest = 65536;  // a free extent in a shape that fixes others

const std::vector<Flag>& flags() {
  static const std::vector<Flag> kFlags{
      {{"--overwrite-input-shape", "--input-shape"}, Flag::kList, "NAME:1,3,640,640 (the name may be left out when there is one input): fix an input's shape"},
      {{"--test-input-shape"}, Flag::kList, "NAME:1,3,640,640: compare at this shape, without fixing it"},
      {{"--skip-fuse-bn"}, Flag::kSwitch, "leave BatchNormalization where it is"},
      {{"--skip-constant-folding"}, Flag::kSwitch, "fold no constants"},
      {{"--skip-optimization", "--skip-optimizer"}, Flag::kList, "leave out passes by name (`onnx2trt -p` lists them), or all but constant folding"},
      {{"--no-large-tensor"}, Flag::kOptional, "fold nothing that grows the model into tensors larger than =SIZE (1KB, 2.5MB; default 1KB)"},
      {{"-v", "--version"}, Flag::kSwitch, "print the version and stop"},
      {{"-h", "--help"}, Flag::kSwitch, "print this and stop"},
      {{"--enable-fuse-bn"}, Flag::kNote, "it folded BatchNormalization; that is always done here."},
      {{"--skip-shape-inference"}, Flag::kNote, "it left shape inference out; every rewrite here stands on it."},
      {{"--dynamic-input-shape"}, Flag::kNote, "it allowed free extents; they are always allowed here."},
      {{"--include-subgraph"}, Flag::kNote, "it went into the branches of If and Loop; that is always done here."},
      {{"--mutable-initializer"}, Flag::kNote, "initializers that are inputs too stay inputs here (from IR version 4 on)."},
      {{"--save-as-external-data"}, Flag::kNote, "weights go beside the file when it would exceed 2 GB, by themselves."},
      {{"--input-data-path"}, Flag::kNoteValue, "it compared on data from files; `lathe run` on both models with --input does that."},
      {{"--custom-lib"}, Flag::kNoteValue, "it loaded ONNX Runtime's custom operators; nodes whose operators Lathe lacks are left as they are."},
      {{"--unused-output"}, Flag::kList, "not done: an output that is not wanted is dropped at export."},
  };
  return kFlags;
}

/// Names of onnxoptimizer's passes that have a counterpart here.
const std::map<std::string, std::string>& passes_there() {
  static const std::map<std::string, std::string> kPasses{
      {"fuse_bn_into_conv", "fold-batch-norm"},
      {"fuse_pad_into_conv", "fold-pad"},
      {"fuse_consecutive_transposes", "transpose-chains"},
      {"fuse_transpose_into_gemm", "transpose-chains"},
      {"fuse_consecutive_squeezes", "reshape-chains"},
      {"fuse_consecutive_slices", "slice-chains"},
      {"fuse_consecutive_reduce_unsqueeze", "reshape-chains"},
      {"eliminate_identity", "canonicalise"},
      {"eliminate_nop_dropout", "canonicalise"},
      {"eliminate_nop_transpose", "no-op-moves"},
      {"eliminate_nop_pad", "no-op-moves"},
      {"eliminate_nop_reshape", "no-op-moves"},
      {"eliminate_nop_cast", "no-op-moves"},
      {"eliminate_nop_concat", "split-concat"},
      {"eliminate_nop_expand", "broadcasts"},
      {"eliminate_deadend", "dead-code"},
      {"eliminate_unused_initializer", "dead-code"},
      {"eliminate_common_subexpression", "common-subexpressions"},
      {"eliminate_duplicate_initializer", "common-subexpressions"},
      {"fuse_add_bias_into_conv", "fold-scale-bias"},
      {"eliminate_consecutive_idempotent_ops", "clip-chains"},
      {"extract_constant_to_initializer", "canonicalise"},
  };
  return kPasses;
}

std::string size_text(double bytes) {
  const char* units[] = {"B", "KiB", "MiB", "GiB"};
  int unit = 0;
  for (; bytes >= 1024 && unit < 3; ++unit) bytes /= 1024;
  return fmt::format("{:.1f}{}", bytes, units[unit]);
}

std::size_t parse_size(std::string text) {
  double scale = 1;
  for (const auto& [unit, factor] : {std::pair("GB", 1e9), std::pair("MB", 1e6), std::pair("KB", 1e3), std::pair("B", 1.0)})
    if (text.ends_with(unit)) {
      scale = factor;
      text.resize(text.size() - std::string_view(unit).size());
      break;
    }
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !(number >= 0 && number < 1e12))
    throw Error(Code::kInvalidArgument, fmt::format("--no-large-tensor={} is no size", text)).with_remedy("Write 1KB or 2.5MB.");
  return static_cast<std::size_t>(number * scale);
}

/// NAME:EXTENTS, or EXTENTS alone for a model of one input.
std::map<std::string, builder::ShapeRange> shapes_of(const std::vector<std::string>& texts, const std::vector<IoInfo>& inputs) {
  std::map<std::string, builder::ShapeRange> shapes;
  for (const std::string& text : texts) {
    const auto cut = text.rfind(':');
    std::string name = cut == std::string::npos ? "" : text.substr(0, cut);
    if (cut == std::string::npos) {
      if (inputs.size() != 1)
        throw Error(Code::kInvalidArgument, fmt::format("'{}' names no input, and the model has {}", text, inputs.size()))
            .with_remedy("Write NAME:1,3,640,640.");
      name = inputs[0].name;
    }
    builder::ShapeRange range;
    for (const std::int64_t extent : parse_extents(text.substr(cut == std::string::npos ? 0 : cut + 1), true)) {
      const std::size_t axis = range.opt.size();
      range.min.push_back(extent < 0 ? 1 : extent);
      range.opt.push_back(extent < 0 ? (axis == 0 ? 1 : 128) : extent);
      range.max.push_back(extent < 0 ? kLongest : extent);
    }
    if (!shapes.emplace(name, std::move(range)).second) throw Error(Code::kInvalidArgument, fmt::format("input '{}' was given two shapes", name));
  }
  return shapes;
}

void print_table(const std::map<std::string, std::pair<std::size_t, std::size_t>>& ops, const std::string& before, const std::string& after) {
  std::vector<std::array<std::string, 3>> rows;
  for (const auto& [op, counts] : ops) rows.push_back({op, std::to_string(counts.first), std::to_string(counts.second)});
  rows.push_back({"Model Size", before, after});
  const std::array<std::string, 3> head{"", "Original Model", "Simplified Model"};
  std::array<std::size_t, 3> widths{};
  for (std::size_t i = 0; i < 3; ++i) {
    widths[i] = head[i].size();
    for (const auto& row : rows) widths[i] = std::max(widths[i], row[i].size());
  }
  const auto rule = [&](const char* left, const char* line, const char* cross, const char* right) {
    std::string text = left;
    for (std::size_t i = 0; i < 3; ++i) {
      for (std::size_t k = 0; k < widths[i] + 2; ++k) text += line;
      text += i < 2 ? cross : right;
    }
    fmt::print("{}\n", text);
  };
  const auto line = [&](const std::array<std::string, 3>& row, const char* bar) {
    fmt::print("{} {:<{}} {} {:<{}} {} {:<{}} {}\n", bar, row[0], widths[0], bar, row[1], widths[1], bar, row[2], widths[2], bar);
  };
  rule("┏", "━", "┳", "┓");
  line(head, "┃");
  rule("┡", "━", "╇", "┩");
  for (const auto& row : rows) line(row, "│");
  rule("└", "─", "┴", "┘");
}

int help(int code) {
  std::fprintf(code == 0 ? stdout : stderr,
               "onnxsim: simplify an ONNX file, by Lathe (`lathe simplify` says more). Nothing is written unless the outputs equal the original's.\n\n"
               "Usage: onnxsim IN.onnx OUT.onnx [CHECK_N] [FLAGS]\n\n  CHECK_N                      compare on that many random inputs (at least 2)\n%s",
               flags_text(flags()).c_str());
  return code;
}

}  // namespace

int onnxsim(const std::vector<std::string>& words) {
  if (words.empty()) return help(2);
  const Arguments arguments(kTool, flags(), words);
  if (arguments.has("-h")) return help(0);
  if (arguments.has("-v")) {
    fmt::print("onnxsim of lathe {}\n", version());
    return 0;
  }
  const std::vector<std::string>& given = arguments.words();
  if (given.size() < 2 || given.size() > 3)
    throw Error(Code::kInvalidArgument, fmt::format("{} words were given in front of or between the flags; two or three are expected", given.size()))
        .with_remedy("Write: onnxsim IN.onnx OUT.onnx [CHECK_N], the flags behind them.");
  if (!arguments.all("--unused-output").empty())
    throw Error(Code::kUnsupported, "--unused-output: outputs are not dropped here").with_remedy("Leave the output out when the model is exported.");
  SimplifyJob job;
  job.input = given[0];
  job.output = given[1];
  if (given.size() == 3) {
    char* end = nullptr;
    const long sets = std::strtol(given[2].c_str(), &end, 10);
    if (*end != '\0' || sets < 0 || sets > 10000) throw Error(Code::kInvalidArgument, fmt::format("check_n is a number of comparisons, not '{}'", given[2]));
    job.input_sets = std::max(2, static_cast<int>(sets));
  }
  require_onnx(job.input, kTool, "It is built already.");
  const std::vector<IoInfo> inputs = Network::parse(job.input).inputs();
  job.shapes = shapes_of(arguments.all("--overwrite-input-shape"), inputs);
  job.check_shapes = shapes_of(arguments.all("--test-input-shape"), inputs);
  std::vector<std::string>& disabled = job.options.disabled;
  const std::vector<std::string> folding{"known-contents", "fold", "symbolic-targets", "inline-branches"};
  if (arguments.has("--skip-fuse-bn")) disabled.push_back("fold-batch-norm");
  if (arguments.has("--skip-constant-folding")) disabled.insert(disabled.end(), folding.begin(), folding.end());
  if (arguments.has("--skip-optimization")) {
    const std::vector<std::string> named = arguments.all("--skip-optimization");
    for (const passes::PassInfo& pass : passes::pass_list())
      if (std::find(named.begin(), named.end(), pass.name) != named.end() ||
          (named.empty() && std::find(folding.begin(), folding.end(), pass.name) == folding.end() && pass.name != "canonicalise" && pass.name != "dead-code"))
        disabled.push_back(pass.name);
    for (const std::string& name : named) {
      const auto counterpart = passes_there().find(name);
      if (counterpart != passes_there().end()) disabled.push_back(counterpart->second);
      else if (std::find(disabled.begin(), disabled.end(), name) == disabled.end())
        note(kTool, fmt::format("--skip-optimization {}: no pass here does that; `onnx2trt -p` lists those that there are.", name));
    }
  }
  if (arguments.has("--no-large-tensor")) {
    const std::string size = arguments.value("--no-large-tensor");
    job.options.growth_limit = job.options.growth_budget = 0;
    job.options.always_fold_bytes = parse_size(size.empty() ? "1KB" : size);
  }
  fmt::print("Simplifying...\n");
  std::fflush(stdout);
  std::error_code ignored;
  const double before = static_cast<double>(std::filesystem::file_size(job.input, ignored));
  const auto [report, equality] = simplify_file(job);
  const double after = static_cast<double>(std::filesystem::file_size(job.output, ignored));
  fmt::print("Finish! Here is the difference:\n");
  print_table(report.ops, size_text(before), size_text(after));
  fmt::print("Check: outputs equal the original's on {} input sets (largest difference {:.1e} of the output's scale)\n", equality.input_sets,
             equality.max_relative_error);
  return 0;
}

}  // namespace lathe::cli
