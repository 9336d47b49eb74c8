// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See build_text.h.

#include "builder/build_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace lathe::builder {

namespace {

std::string in_run_text(double gain) {
  if (gain == 0) return "; the run is as long with it";
  return fmt::format("; the run is {:.2f} % {} with it", 100 * std::abs(gain), gain > 0 ? "shorter" : "longer");
}

}  // namespace

std::string explain_text(const nlohmann::json& report) {
  const auto& tuning = report.at("tuning");
  std::string text = fmt::format("{} nodes read, {} after simplification, {} steps; {} candidates timed, {} times from the cache{}\n",
                                 report.at("nodes_read").get<std::int64_t>(), report.at("nodes_simplified").get<std::int64_t>(),
                                 report.at("steps").get<std::int64_t>(), tuning.at("timed").get<std::int64_t>(), tuning.at("cache_hits").get<std::int64_t>(),
                                 tuning.at("budget_exhausted").get<bool>() ? "; the budget ran out: some times are modelled" : "");
  if (report.contains("in_run")) {
    const auto& in_run = report.at("in_run");
    text += fmt::format("{} options tried in the whole run, {} taken, for {} steps\n", in_run.at("tried").get<std::int64_t>(),
                        in_run.at("taken").get<std::int64_t>(), in_run.at("steps").get<std::int64_t>());
  }
  for (const auto& region : report.value("regions", nlohmann::json::array())) {
    const double flops = region.at("flops").get<double>();
    text += fmt::format("\n{}  [{:.2f} MFLOP, {:.2f} MB]\n", region.at("label").get<std::string>(), flops * 1e-6, region.at("bytes").get<double>() * 1e-6);
    for (const auto& choice : region.value("choices", nlohmann::json::array())) {
      const std::string variant = choice.at("variant").get<std::string>();
      const std::string name = choice.at("candidate").get<std::string>() + (variant.empty() ? "" : " (" + variant + ")");
      if (!choice.at("accepted").get<bool>()) {
        text += fmt::format("    no  {}: {}\n", name, choice.value("reason", ""));
        continue;
      }
      const bool measured = choice.contains("measured_ms");
      const double ms = choice.value(measured ? "measured_ms" : "modelled_ms", 0.0);
      text += fmt::format("    {} {}: {:.4f} ms{}{}{}\n", choice.at("chosen").get<bool>() ? ">>>" : " ok", name, ms, measured ? "" : " (modelled)",
                          flops > 0 && ms > 0 ? fmt::format(", {:.1f} GFLOP/s", flops / ms * 1e-6) : "",
                          choice.contains("in_run_gain") ? in_run_text(choice.at("in_run_gain").get<double>()) : "");
    }
  }
  return text;
}

std::string verify_text(const nlohmann::json& verify) {
  if (!verify.value("ran", false)) return "not verified (--no-verify)";
  std::string text = fmt::format("{}: {}", verify.value("passed", false) ? "verified" : "NOT verified", verify.value("summary", ""));
  const auto pinned = verify.value("pinned", nlohmann::json::array());
  if (!pinned.empty()) {
    text += fmt::format("; pinned to float32: {} nodes (", pinned.size());
    for (std::size_t i = 0; i < std::min<std::size_t>(pinned.size(), 3); ++i) text += (i ? ", " : "") + pinned[i].get<std::string>();
    text += pinned.size() > 3 ? ", ...)" : ")";
  }
  return text;
}

std::string verify_table(const nlohmann::json& verify, bool all) {
  std::string text;
  std::size_t width = 6;
  const auto tensors = verify.value("tensors", nlohmann::json::array());
  for (const auto& tensor : tensors) width = std::max(width, std::min<std::size_t>(60, tensor.at("name").get<std::string>().size()));
  std::size_t shown = 0;
  for (const auto& tensor : tensors) {
    const bool passed = tensor.at("passed").get<bool>();
    if (!all && passed && shown >= 8) continue;
    if (shown++ == 0) text += fmt::format("{:<{}}  {:>10}  {:>10}  {:>10}  {:>10}  {}\n", "tensor", width, "max error", "allowed", "rms error", "scale", "");
    text += fmt::format("{:<{}}  {:>10.3e}  {:>10.3e}  {:>10.3e}  {:>10.3e}  {}\n", tensor.at("name").get<std::string>(), width,
                        tensor.at("max_error").get<double>(), tensor.at("max_allowed").get<double>(), tensor.at("rms_error").get<double>(),
                        tensor.at("scale").get<double>(), passed ? "ok" : "DIFFERS");
  }
  if (shown < tensors.size()) text += fmt::format("... and {} more (--all)\n", tensors.size() - shown);
  return text;
}

}  // namespace lathe::builder
