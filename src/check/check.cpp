// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The whole check, and the report's text and JSON.

#include "lathe/check.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/os.h"
#include "base/printable.h"
#include "check/codes.h"
#include "check/inference.h"
#include "check/structure.h"
#include "lathe/status.h"

namespace lathe {
namespace checker {

std::size_t count_nodes(const checker::GraphTree& graph) {
  std::size_t n = graph.nodes.size();
  for (const checker::NodeTree& node : graph.nodes)
    for (const checker::AttributeTree& attribute : node.attributes)
      for (const auto& inner : attribute.graphs) n += count_nodes(*inner);
  return n;
}

CheckReport run(std::span<const std::byte> bytes, const std::filesystem::path& base_dir, std::string source) {
  CheckReport report;
  report.source = std::move(source);
  checker::Findings findings;
  try {
    const auto model = checker::read_tree({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, findings);
    if (model) {
      report.ir_version = model->record.ir_version;
      for (const onnx::OpsetRecord& opset : model->record.opsets) report.opsets.emplace_back(printable(opset.domain), opset.version);
      report.nodes = count_nodes(model->graph);
      for (const auto& function : model->functions) report.nodes += count_nodes(function->body);
    }
    // What is behind damage would be reported as missing.
    if (model && !findings.any_error()) {
      checker::TensorChecks tensors(findings, base_dir);
      checker::StructureChecks(*model, findings, tensors).run();
      checker::Inference(*model, findings, base_dir).run();
    }
  } catch (const protozero::exception& error) {
    findings.add("broken-encoding", nullptr, nullptr, {}, fmt::format("a part of the file cannot be read: {}", onnx::reason(error)));
  } catch (const std::bad_alloc&) {
    throw Error(Code::kOutOfMemory, "there is not enough memory to check the file").in_source(report.source);
  }
  report.defects = findings.take();
  return report;
}

/// One line: where, what, what was expected.
std::string line(const Defect& d) {
  std::string text;
  if (!d.op.empty()) text += fmt::format("{} '{}'", d.op, d.node);
  else if (!d.tensor.empty() && d.what.find('\'' + d.tensor + '\'') == std::string::npos) text += fmt::format("tensor '{}'", d.tensor);
  if (!d.where.empty()) text += fmt::format("{}{}", text.empty() ? "in " : " in ", d.where);
  if (!d.op.empty() && !d.tensor.empty() && d.what.find('\'' + d.tensor + '\'') == std::string::npos) text += fmt::format(", tensor '{}'", d.tensor);
  text += (text.empty() ? "" : ": ") + d.what;
  if (!d.expected.empty()) text += d.expected.back() == '?' ? fmt::format(" (did you mean {})", d.expected) : fmt::format(" (expected: {})", d.expected);
  return text;
}

std::string plural(std::size_t n, const char* what) { return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s"); }

}  // namespace checker

CheckReport check(const std::filesystem::path& onnx_file) {
  const auto file = os::MappedFile::open(onnx_file);
  return checker::run(file->bytes(), onnx_file.parent_path(), onnx_file.string());
}

CheckReport check(std::span<const std::byte> onnx, const std::filesystem::path& base_dir) { return checker::run(onnx, base_dir, {}); }

std::string CheckReport::text(std::size_t per_group) const {
  using checker::plural;
  std::string head = source.empty() ? "model" : source;
  if (valid()) head += warnings() ? ": valid, " + plural(warnings(), "warning") : ": valid";
  else head += ": invalid, " + plural(errors(), "error") + (warnings() ? ", " + plural(warnings(), "warning") : "");
  std::string about = ir_version ? fmt::format("IR version {}", ir_version) : "";
  for (const auto& [domain, version] : opsets) about += fmt::format("{}{} {}", about.empty() ? "" : ", ", domain.empty() ? "ai.onnx" : domain, version);
  if (!about.empty()) head += fmt::format(" ({}, {})", about, plural(nodes, "node"));
  std::string result = head + "\n";
  for (std::size_t i = 0; i < defects.size();) {
    std::size_t end = i;
    while (end < defects.size() && defects[end].code == defects[i].code && defects[end].severity == defects[i].severity) ++end;
    const checker::CodeInfo& info = checker::code_info(defects[i].code);
    result += fmt::format("\n{} {}: {}{}\n", defects[i].severity == Severity::kError ? "error" : "warning", defects[i].code, info.meaning,
                          end - i > 1 ? fmt::format(" ({})", end - i) : "");
    const std::size_t shown = per_group ? std::min(end, i + per_group) : end;
    for (std::size_t k = i; k < shown; ++k) result += "  " + checker::line(defects[k]) + "\n";
    if (shown < end) result += fmt::format("  ... and {} more\n", end - shown);
    const Defect& first = defects[i];
    result += fmt::format("  -> {}{}\n", first.remedy, first.spec.empty() ? "" : " [" + first.spec + "]");
    i = end;
  }
  return result;
}

std::string CheckReport::json() const {
  nlohmann::ordered_json j;
  j["source"] = source;
  j["valid"] = valid();
  j["errors"] = errors();
  j["warnings"] = warnings();
  j["ir_version"] = ir_version;
  j["opsets"] = nlohmann::ordered_json::array();
  for (const auto& [domain, version] : opsets) j["opsets"].push_back({{"domain", domain}, {"version", version}});
  j["nodes"] = nodes;
  j["defects"] = nlohmann::ordered_json::array();
  for (const Defect& d : defects) {
    nlohmann::ordered_json one;
    one["code"] = d.code;
    one["severity"] = d.severity == Severity::kError ? "error" : "warning";
    for (const auto& [name, value] : std::initializer_list<std::pair<const char*, const std::string&>>{{"node", d.node},
                                                                                                       {"op", d.op},
                                                                                                       {"tensor", d.tensor},
                                                                                                       {"where", d.where},
                                                                                                       {"what", d.what},
                                                                                                       {"expected", d.expected},
                                                                                                       {"remedy", d.remedy},
                                                                                                       {"spec", d.spec}})
      one[name] = value;
    j["defects"].push_back(std::move(one));
  }
  return j.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace lathe
