// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The build report as JSON, which the engine stores. Its text forms: build_text.h.

#include <algorithm>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "builder/builder.h"

namespace lathe::builder {

std::string_view precision_name(Precision precision) noexcept {
  switch (precision) {
    case Precision::kFloat32: return "fp32";
    case Precision::kTensorFloat32: return "tf32";
    case Precision::kBFloat16: return "bf16";
    case Precision::kFloat16: return "fp16";
  }
  return "?";
}

Precision parse_precision(std::string_view text) {
  for (const Precision precision : {Precision::kFloat32, Precision::kTensorFloat32, Precision::kBFloat16, Precision::kFloat16})
    if (text == precision_name(precision)) return precision;
  throw Error(Code::kInvalidArgument, fmt::format("'{}' is not a precision", text)).with_remedy("Use fp32, bf16 or fp16.");
}

std::string remedy_of(const VerifyReport& report, Precision precision) {
  constexpr double kLargestFloat16 = 65504;
  const auto beyond = std::find_if(report.tensors.begin(), report.tensors.end(),
                                   [](const VerifyReport::Tensor& tensor) { return !tensor.passed && tensor.scale > kLargestFloat16; });
  if (precision == Precision::kFloat16 && beyond != report.tensors.end())
    return fmt::format("'{}' reaches {:.2g}, and float16 ends at {:.0f}: build with --precision bf16 or fp32.", beyond->name, beyond->scale, kLargestFloat16);
  return "This is a defect of Lathe: please report it with the model. --no-verify writes the engine all the same.";
}

std::string BuildReport::to_json() const {
  using nlohmann::json;
  json out;
  out["nodes_read"] = nodes_read;
  out["nodes_simplified"] = nodes_simplified;
  out["steps"] = steps;
  if (!host_steps.empty()) out["host_steps"] = host_steps;
  out["seconds"] = {{"simplify", simplify_seconds}, {"tune", tune_seconds}, {"total", total_seconds}, {"verify", verify.seconds}};
  out["tuning"] = {{"timed", timed}, {"cache_hits", cache_hits}, {"budget_exhausted", budget_exhausted}};
  if (in_run.tried > 0) out["in_run"] = {{"tried", in_run.tried}, {"taken", in_run.taken}, {"steps", in_run.steps}, {"seconds", in_run.seconds}};
  out["weight_bytes"] = weight_bytes;
  out["arena_bytes"] = arena_bytes;
  for (const RegionReport& region : regions) {
    json entry = {{"label", region.label}, {"pattern", region.pattern}, {"sources", region.sources}, {"flops", region.flops}, {"bytes", region.bytes}};
    for (const Choice& choice : region.choices) {
      json c = {{"candidate", choice.candidate}, {"variant", choice.variant}, {"accepted", choice.accepted}, {"chosen", choice.chosen}};
      if (!choice.reason.empty()) c["reason"] = choice.reason;
      if (choice.seconds >= 0) c[choice.modelled ? "modelled_ms" : "measured_ms"] = choice.seconds * 1e3;
      if (choice.in_run_gain) c["in_run_gain"] = *choice.in_run_gain;
      entry["choices"].push_back(std::move(c));
    }
    out["regions"].push_back(std::move(entry));
  }
  json check = {{"ran", verify.ran}, {"passed", verify.passed}, {"summary", verify.summary}, {"pinned", verify.pinned}};
  for (const VerifyReport::Tensor& tensor : verify.tensors)
    check["tensors"].push_back({{"name", tensor.name},
                                {"region", tensor.region},
                                {"max_error", tensor.max_error},
                                {"rms_error", tensor.rms_error},
                                {"scale", tensor.scale},
                                {"max_allowed", tensor.max_allowed},
                                {"rms_allowed", tensor.rms_allowed},
                                {"passed", tensor.passed}});
  out["verify"] = std::move(check);
  return out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);  // names of nodes may be any bytes
}

}  // namespace lathe::builder
