// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The table of operators: the generated list of our own at first use, custom ones as they come.
#include "ops/registry.h"

#include <algorithm>
#include <deque>
#include <map>
#include <mutex>
#include <shared_mutex>

#include "ops/registry_internal.h"
#include "ops/schema.h"

namespace lathe::ops {
namespace {

struct Table {
  std::shared_mutex mutex;
  std::map<std::pair<std::string, std::string>, const OpDef*> by_key;
  std::deque<OpDef> storage;      // stable addresses
  std::deque<std::string> texts;  // what the string_views of custom ops point to

  std::string_view keep(std::string_view text) { return texts.emplace_back(text); }

  /// Precondition: exclusive access. `op`'s texts outlive the table.
  void add(OpDef op) {
    const std::string domain(op.domain == "ai.onnx" ? "" : op.domain);
    const auto key = std::make_pair(domain, std::string(op.name));
    if (by_key.count(key)) throw Error(Code::kInvalidArgument, "operator " + domain + "::" + key.second + " is registered already");
    if (op.versions.empty()) throw Error(Code::kInvalidArgument, "operator " + domain + "::" + key.second + " has no version");
    const auto younger = [](const VersionDef& a, const VersionDef& b) { return a.since < b.since; };
    std::sort(op.versions.begin(), op.versions.end(), younger);
    storage.push_back(std::move(op));
    by_key.emplace(key, &storage.back());
  }
};

Table& table() {
  static Table* const instance = [] {
    static Table t;
    add_builtin_ops([](std::span<const OpDef> ops) {
      for (const auto& op : ops) t.add(op);
    });
    return &t;
  }();
  return *instance;
}

}  // namespace

std::string full_name(std::string_view domain, std::string_view name) {
  return domain.empty() ? std::string(name) : std::string(domain) + "::" + std::string(name);
}

const OpDef* find_op(std::string_view domain, std::string_view name) {
  auto& t = table();
  const std::shared_lock lock(t.mutex);
  const auto it = t.by_key.find({std::string(domain == "ai.onnx" ? "" : domain), std::string(name)});
  return it == t.by_key.end() ? nullptr : it->second;
}

const VersionDef* version_at(const OpDef& op, std::int64_t opset) {
  const VersionDef* best = nullptr;
  for (const auto& v : op.versions) {
    if (v.since <= opset) best = &v;
  }
  return best;
}

std::vector<const OpDef*> all_ops() {
  auto& t = table();
  const std::shared_lock lock(t.mutex);
  std::vector<const OpDef*> ops;
  for (const auto& [key, op] : t.by_key) ops.push_back(op);
  return ops;
}

bool is_deterministic(const ir::Node& node) {
  const OpDef* op = find_op(node.domain, node.op);
  return !op || op->deterministic;
}

void register_op(OpDef op) {
  auto& t = table();
  for (const auto& v : op.versions) parse_schema(op.name, v);  // a defective text fails here, not at the first model
  const std::unique_lock lock(t.mutex);
  op.domain = t.keep(op.domain);
  op.name = t.keep(op.name);
  op.doc = t.keep(op.doc);
  for (auto& v : op.versions) {
    v.signature = t.keep(v.signature);
    v.attributes = t.keep(v.attributes);
    v.types = t.keep(v.types);
  }
  t.add(std::move(op));
}

}  // namespace lathe::ops
