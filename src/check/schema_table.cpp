// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See schema_table.h.

#include "check/schema_table.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <mutex>
#include <unordered_map>

#include "base/nearest.h"
#include "ops/import.h"

namespace lathe::checker {
namespace {

constexpr std::string_view kText =
#include "check/schemas.inc"
    ;

std::string_view take(std::string_view& rest, char separator) {
  const std::size_t end = std::min(rest.find(separator), rest.size());
  const std::string_view part = rest.substr(0, end);
  rest.remove_prefix(std::min(end + 1, rest.size()));
  return part;
}

}  // namespace

struct SchemaTable {
  std::map<std::pair<std::string_view, std::string_view>, std::vector<SchemaVersion>> ops;
  std::map<std::string_view, int> newest;

  SchemaTable() {
    std::string_view rest = kText;
    std::vector<SchemaVersion>* op = nullptr;
    std::string_view domain, name;
    while (!rest.empty()) {
      std::string_view line = take(rest, '\n');
      if (line.empty()) continue;
      if (line.front() == '=') {
        line.remove_prefix(1);
        domain = take(line, ' ');
        name = line;
        op = &ops[{domain, name}];
        continue;
      }
      SchemaVersion version;
      const std::string_view since = take(line, '|');
      std::from_chars(since.data(), since.data() + since.size(), version.text.since);
      version.text.signature = take(line, '|');
      version.text.attributes = take(line, '|');
      version.text.types = take(line, '|');
      version.op_ = name;
      while (!line.empty()) {
        std::string_view flag = take(line, ' ');
        if (flag == "deprecated") version.text.deprecated = true;
        if (flag == "experimental") version.experimental = true;
        if (flag == "unchecked") version.unchecked = true;
        if (flag.starts_with("outputs=")) {
          flag.remove_prefix(8);
          while (!flag.empty()) {
            const std::string_view count = take(flag, ',');
            std::from_chars(count.data(), count.data() + count.size(), version.output_counts.emplace_back());
          }
        }
      }
      int& newest_here = newest[domain];
      newest_here = std::max(newest_here, version.text.since);
      op->push_back(std::move(version));
    }
  }
};

namespace {

const SchemaTable& table() {
  static const SchemaTable instance;
  return instance;
}

}  // namespace

const ops::Schema& SchemaVersion::schema() const {
  static std::mutex mutex;
  static std::unordered_map<const SchemaVersion*, std::unique_ptr<const ops::Schema>> parsed;
  const std::lock_guard lock(mutex);
  auto& slot = parsed[this];
  if (!slot) slot = std::make_unique<const ops::Schema>(ops::parse_schema(op_, text));
  return *slot;
}

const SchemaVersion* find_schema(std::string_view domain, std::string_view op, std::int64_t opset) {
  const auto at = table().ops.find({domain, op});
  if (at == table().ops.end()) return nullptr;
  const SchemaVersion* best = nullptr;
  for (const SchemaVersion& version : at->second)
    if (version.text.since <= opset) best = &version;
  return best;
}

int first_version(std::string_view domain, std::string_view op) {
  const auto at = table().ops.find({domain, op});
  return at == table().ops.end() ? 0 : at->second.front().text.since;
}

int newest_opset(std::string_view domain) {
  if (domain.empty()) return static_cast<int>(ops::kCanonicalOpset);
  const auto at = table().newest.find(domain);
  return at == table().newest.end() ? 0 : at->second;
}

std::string nearest(std::string_view word, const std::vector<std::string>& candidates) { return nearest_word(word, candidates); }

std::string nearest_op(std::string_view domain, std::string_view op) {
  std::vector<std::string> names;
  for (const auto& [key, versions] : table().ops)
    if (key.first == domain && !versions.back().text.deprecated) names.emplace_back(key.second);
  return nearest(op, names);
}

}  // namespace lathe::checker
