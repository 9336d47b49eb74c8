// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Turns the rows of table.inc into op definitions.
#include <algorithm>
#include <cassert>
#include <deque>
#include <span>
#include <unordered_map>

#include "ops/pointwise/row.h"

namespace lathe::ops {
namespace pointwise {
namespace {

struct RawRow {
  std::string_view name, signature, attributes, versions, expression, result;
  double relative, absolute;
};

constexpr RawRow kRows[] = {
#define LATHE_POINTWISE(name, signature, attributes, versions, expression, result, relative, absolute) \
  {#name, signature, attributes, versions, expression, result, relative, absolute},
#include "ops/pointwise/table.inc"
#undef LATHE_POINTWISE
};

std::string_view trim(std::string_view s) {
  while (!s.empty() && s.front() == ' ') s.remove_prefix(1);
  while (!s.empty() && s.back() == ' ') s.remove_suffix(1);
  return s;
}

bool take(std::string_view& s, std::string_view prefix) {
  if (!s.starts_with(prefix)) return false;
  s = trim(s.substr(prefix.size()));
  return true;
}

/// Text between the brackets that `s` begins with, or nullopt.
std::optional<std::string_view> take_bracketed(std::string_view& s, char open, char close) {
  if (s.empty() || s.front() != open) return std::nullopt;
  const std::size_t end = s.find(close);
  const std::string_view inner = s.substr(1, end - 1);
  s = trim(s.substr(end + 1));
  return inner;
}

struct Table {
  std::vector<Row> rows;
  std::unordered_map<std::string_view, std::size_t> by_name;
  std::deque<std::string> texts;  ///< what the string_views of `defs` point to
  std::vector<OpDef> defs;

  std::string_view keep(std::string text) { return texts.emplace_back(std::move(text)); }

  Table() {
    for (const RawRow& raw : kRows) {
      add_row(raw);
      add_def(raw);
    }
    for (std::size_t i = 0; i < rows.size(); ++i) by_name.emplace(rows[i].name, i);
  }

  void add_row(const RawRow& raw) {
    Row row;
    row.name = raw.name;
    row.expression = raw.expression;
    row.gives_bool = raw.result == "bool";
    row.tolerance = {raw.relative, raw.absolute, false};
    row.ast = parse_expression(raw.expression);
    std::string_view formals = raw.signature.substr(0, raw.signature.find(" ->"));
    while (!(formals = trim(formals)).empty()) {
      const std::string_view formal = formals.substr(0, formals.find(' '));
      std::string_view name = formal.substr(0, formal.find(':'));
      formals.remove_prefix(formal.size());
      if (name.back() == '+') row.variadic = true;
      if (name.back() == '+' || name.back() == '?') name.remove_suffix(1);
      row.inputs.emplace_back(name);
    }
    std::string_view attributes = raw.attributes;
    while (!(attributes = trim(attributes)).empty()) {
      const std::string_view one = attributes.substr(0, attributes.find(' '));
      attributes.remove_prefix(one.size());
      if (const std::size_t equals = one.find('='); equals != std::string_view::npos) {
        row.defaults.emplace_back(one.substr(0, one.find(':')), one.substr(equals + 1));
      }
    }
    rows.push_back(std::move(row));
  }

  void add_def(const RawRow& raw) {
    OpDef def;
    def.name = raw.name;
    std::string_view rest = raw.versions;
    while (!rest.empty()) {
      const std::size_t bar = std::min(rest.find('|'), rest.size());
      std::string_view version = trim(rest.substr(0, bar));
      rest = bar < rest.size() ? rest.substr(bar + 1) : std::string_view();
      VersionDef v{};
      while (!version.empty() && version.front() >= '0' && version.front() <= '9') {
        v.since = v.since * 10 + (version.front() - '0');
        version.remove_prefix(1);
      }
      version = trim(version);
      v.signature = raw.signature;
      std::string attributes(raw.attributes);
      for (bool more = true; more;) {
        more = false;
        if (const auto signature = take_bracketed(version, '(', ')')) v.signature = *signature, more = true;
        if (const auto other = take_bracketed(version, '{', '}')) attributes = std::string(*other), more = true;
        if (take(version, "+consumed")) attributes += " consumed_inputs:ints?", more = true;
        if (take(version, "+legacy")) attributes += " axis:int? broadcast:int=0", more = true;
      }
      v.attributes = keep(std::move(attributes));
      v.types = version;
      def.versions.push_back(v);
    }
    def.upgrade = upgrade_row;
    def.infer = infer_row;
    def.reference = reference_row;
    def.lower = lower_row;
    def.tolerance = rows.back().tolerance;
    def.doc = raw.expression;
    defs.push_back(std::move(def));
  }
};

const Table& table() {
  static const Table t;
  return t;
}

}  // namespace

const std::string& Row::attribute_default(std::string_view attribute) const {
  for (const auto& [name_, text] : defaults) {
    if (name_ == attribute) return text;
  }
  throw Error(Code::kInternal, "pointwise row " + std::string(name) + ": no input, attribute or constant '" + std::string(attribute) + "'");
}

const Row& row_of(std::string_view op) {
  const auto it = table().by_name.find(op);
  assert(it != table().by_name.end() && "the op comes from this table");
  return table().rows[it->second];
}
std::span<const Row> all_rows() { return table().rows; }

}  // namespace pointwise

std::span<const OpDef> ops_pointwise() { return pointwise::table().defs; }

}  // namespace lathe::ops
