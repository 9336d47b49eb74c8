// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See shims.h.

#include "cli/shims/shims.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdio>

#include "backend/cuda/device.h"
#include "builder/builder.h"
#include "cli/command.h"

namespace lathe::cli {

const std::vector<Shim>& shims() {
  static const std::vector<Shim> kShims{
      {"onnx2trt", "ONNX to an engine file (lathe build)", onnx2trt},
      {"trtexec", "build, save, load and time engines (lathe build, bench, profile)", trtexec},
      {"onnxsim", "simplify an ONNX file (lathe simplify)", onnxsim},
  };
  return kShims;
}

const Shim* find_shim(std::string_view called) {
  const std::string_view name = called.substr(called.find_last_of('/') + 1);
  for (const Shim& shim : shims())
    if (name == shim.name) return &shim;
  return nullptr;
}

// Arguments --------------------------------------------------------------------------------------------------------

Arguments::Arguments(std::string_view tool, const std::vector<Flag>& flags, const std::vector<std::string>& words) {
  const auto find = [&](const std::string& name) {
    return std::find_if(flags.begin(), flags.end(),
                        [&](const Flag& flag) { return std::find(flag.names.begin(), flag.names.end(), name) != flag.names.end(); });
  };
  const auto is_flag = [&](const std::string& word) { return word.size() > 1 && word[0] == '-' && !(word[1] >= '0' && word[1] <= '9'); };
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (!is_flag(word)) {
      words_.push_back(word);
      continue;
    }
    const auto equals = word.find('=');
    std::string name = word.substr(0, equals);
    std::optional<std::string> value;
    if (equals != std::string::npos) value = word.substr(equals + 1);
    auto flag = find(name);
    if (flag == flags.end() && name.size() > 2 && name[1] != '-' && find(name.substr(0, 2)) != flags.end()) {
      // -b4; or several switches in one word, -vl.
      flag = find(name.substr(0, 2));
      if (flag->kind == Flag::kValue || flag->kind == Flag::kNoteValue) {
        value = word.substr(2);
      } else {
        for (std::size_t k = 1; k < name.size(); ++k) {
          const auto each = find("-" + name.substr(k, 1));
          if (each == flags.end() || (each->kind != Flag::kSwitch && each->kind != Flag::kNote)) {
            flag = flags.end();
            break;
          }
          if (each->kind == Flag::kNote) note(tool, fmt::format("{}: {}", each->names.front(), each->text));
          values_[each->names.front()].emplace_back();
        }
        if (flag != flags.end()) continue;
      }
    }
    if (flag == flags.end()) {
      std::vector<std::string> known;
      for (const Flag& each : flags) known.insert(known.end(), each.names.begin(), each.names.end());
      const std::string near = nearest(name, known);
      throw Error(Code::kInvalidArgument, fmt::format("there is no option '{}'{}", name, near.empty() ? "" : fmt::format("; did you mean '{}'?", near)))
          .with_remedy(fmt::format("`{} --help` lists the options, those without effect here too.", tool));
    }
    std::vector<std::string>& into = values_[flag->names.front()];
    switch (flag->kind) {
      case Flag::kSwitch: into.emplace_back(); break;
      case Flag::kOptional: into.push_back(value.value_or("")); break;
      case Flag::kNote: note(tool, fmt::format("{}: {}", name, flag->text)); break;
      case Flag::kList:
        if (value) into.push_back(*value);
        else
          while (i + 1 < words.size() && !is_flag(words[i + 1])) into.push_back(words[++i]);
        break;
      case Flag::kValue:
      case Flag::kNoteValue:
        if (!value) {
          if (i + 1 == words.size() || (is_flag(words[i + 1]) && flag->kind == Flag::kValue))
            throw Error(Code::kInvalidArgument, fmt::format("{} needs a value", name)).with_remedy(fmt::format("`{} --help` lists the options.", tool));
          if (!is_flag(words[i + 1])) value = words[++i];
        }
        if (flag->kind == Flag::kNoteValue) note(tool, fmt::format("{}: {}", name, flag->text));
        into.push_back(value.value_or(""));
        break;
    }
  }
}

std::string Arguments::value(std::string_view name, std::string fallback) const {
  const auto found = values_.find(std::string(name));
  return found == values_.end() || found->second.empty() ? std::move(fallback) : found->second.back();
}

std::vector<std::string> Arguments::all(std::string_view name) const {
  const auto found = values_.find(std::string(name));
  return found == values_.end() ? std::vector<std::string>() : found->second;
}

double Arguments::number(std::string_view name, double fallback, double least, double greatest) const {
  if (!has(name)) return fallback;
  const std::string text = value(name);
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || !(number >= least && number <= greatest))
    throw Error(Code::kInvalidArgument, fmt::format("{} takes a number{}, not '{}'", name, least > 0 ? fmt::format(" from {} on", least) : "", text));
  return number;
}

std::string flags_text(const std::vector<Flag>& flags) {
  std::string used, unused;
  for (const Flag& flag : flags) {
    std::string names;
    for (const std::string& name : flag.names) names += (names.empty() ? "" : ", ") + name;
    const bool is_note = flag.kind == Flag::kNote || flag.kind == Flag::kNoteValue;
    if (flag.kind == Flag::kValue || flag.kind == Flag::kNoteValue) names += names.starts_with("--") ? "=V" : " V";
    if (flag.kind == Flag::kList) names += " V...";
    (is_note ? unused : used) += fmt::format("  {:<28} {}\n", names, flag.text);
  }
  return used + (unused.empty() ? "" : "Taken without effect (each says so in one line):\n" + unused);
}

void note(std::string_view tool, const std::string& text) { std::fprintf(stderr, "%.*s: %s\n", static_cast<int>(tool.size()), tool.data(), text.c_str()); }

// Devices, types, shapes -------------------------------------------------------------------------------------------

std::string shim_device(std::string_view tool, const std::string& asked) {
  if (!asked.empty()) {
    builder::cuda_ordinal(asked);  // throws for other names
    return asked;
  }
  std::string why;
  if (!cuda::list_devices(&why).empty()) return "cuda";
  while (!why.empty() && why.back() == '.') why.pop_back();
  note(tool, fmt::format("no GPU is usable here ({}): the engine is built for and runs on the CPU.", why));
  return "cpu";
}

std::string shim_precision(std::string_view tool, std::string_view flag, const std::string& device) {
  if (device != "cpu") return "fp16";
  note(tool,
       fmt::format("{} allows float16, and the CPU computes in float32 here: the engine is float32. `lathe build --precision bf16` is the lower one.", flag));
  return "fp32";
}

std::map<std::string, InputRange> batch_ranges(std::string_view tool, const std::string& flag, const std::vector<IoInfo>& inputs, std::int64_t most) {
  std::map<std::string, InputRange> ranges;
  for (const IoInfo& info : inputs) {
    if (info.shape.empty()) continue;
    if (info.shape[0] >= 0) {
      if (info.shape[0] != most)
        note(tool,
             fmt::format("{} {}: the model fixes the batch of '{}' at {}; export it with a dynamic batch for another.", flag, most, info.name, info.shape[0]));
      return {};
    }
    InputRange range;
    for (std::size_t axis = 0; axis < info.shape.size(); ++axis) {
      if (axis > 0 && info.shape[axis] < 0) {
        note(tool, fmt::format("{} {}: '{}' has other free extents ({}) too, so the engine takes any size; give --shape {}:MIN:OPT:MAX for a range.", flag,
                               most, info.name, info.shape_text[axis], info.name));
        return {};
      }
      range.min.push_back(axis == 0 ? 1 : info.shape[axis]);
      range.opt.push_back(axis == 0 ? most : info.shape[axis]);
      range.max.push_back(axis == 0 ? most : info.shape[axis]);
    }
    ranges.emplace(info.name, std::move(range));
  }
  return ranges;
}

std::vector<std::int64_t> parse_extents(const std::string& text, bool free_allowed) {
  std::vector<std::int64_t> extents;
  std::size_t from = 0;
  while (from <= text.size() && !text.empty()) {
    const std::size_t to = std::min(text.find_first_of("x,", from), text.size());
    std::int64_t extent = 0;
    const auto [end, error] = std::from_chars(text.data() + from, text.data() + to, extent);
    if (error != std::errc() || end != text.data() + to || extent < (free_allowed ? -1 : 0))
      throw Error(Code::kInvalidArgument, fmt::format("'{}' is no shape", text)).with_remedy("Write extents as 1x3x640x640 or 1,3,640,640.");
    extents.push_back(extent);
    from = to + 1;
  }
  return extents;
}

}  // namespace lathe::cli
