// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See edit.h.

#include "engine/edit.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <tuple>

#include "engine/portable_graph.h"
#include "lathe/status.h"

namespace lathe::engine {
namespace {

constexpr const char* kGeneric = "cpu-generic";

const plan::Blob& blob_of(const EngineData& data, plan::BlobId id) {
  if (static_cast<std::size_t>(id) >= data.blobs.size())
    throw Error(Code::kCorruptFile, fmt::format("the portable graph refers to weight {}, which does not exist", id));
  return data.blobs[static_cast<std::size_t>(id)];
}

void mark(const plan::Program& program, std::vector<bool>& used) {
  const auto note = [&](plan::BlobId id) {
    if (id >= 0) used[static_cast<std::size_t>(id)] = true;
  };
  for (const plan::Slot& slot : program.slots) note(slot.blob);
  for (const plan::Step& step : program.steps)
    for (const plan::BlobId id : step.weights) note(id);
  for (const plan::Program& sub : program.subprograms) mark(sub, used);
}

/// Blobs that no program, no other blob and not the graph asks for go.
void drop_unused_blobs(EngineData& data) {
  std::vector<bool> used(data.blobs.size(), false);
  for (const DeviceSection& section : data.sections) mark(section.program, used);
  with_locations(data.portable_graph, [&](plan::BlobId id) {
    blob_of(data, id);
    used[static_cast<std::size_t>(id)] = true;
    return std::string();
  });
  for (std::size_t i = used.size(); i-- > 0;)
    if (used[i])
      for (const plan::BlobId source : data.blobs[i].sources)
        if (source >= 0) used[static_cast<std::size_t>(source)] = true;
  std::vector<plan::BlobId> ids(used.size(), -1);
  std::size_t kept = 0;
  for (std::size_t i = 0; i < used.size(); ++i) {
    if (!used[i]) continue;
    ids[i] = static_cast<plan::BlobId>(kept);
    plan::Blob blob = std::move(data.blobs[i]);
    for (plan::BlobId& source : blob.sources)
      if (source >= 0) source = ids[static_cast<std::size_t>(source)];
    data.blobs[kept] = std::move(blob);
    data.blob_bytes[kept++] = data.blob_bytes[i];
  }
  data.blobs.resize(kept);
  data.blob_bytes.resize(kept);
  for (DeviceSection& section : data.sections) renumber(section.program, ids);
  data.portable_graph = with_locations(data.portable_graph, [&](plan::BlobId id) { return fmt::format("blob:{}", ids[static_cast<std::size_t>(id)]); });
}

/// The graph with its weights named by what they hold, or, for messages, not at all.
std::string graph_text(const EngineData& data, bool weights) {
  return with_locations(data.portable_graph, [&](plan::BlobId id) {
    const plan::Blob& blob = blob_of(data, id);
    return weights ? fmt::format("{}:{}", blob.hash.hex(), blob.bytes) : std::string();
  });
}

/// Adds the blobs of one engine to another's, those of equal content and kind once. Returns the new ids by old ones.
class BlobMerger {
 public:
  explicit BlobMerger(EngineData& into) : into_(into) {
    for (std::size_t i = 0; i < into.blobs.size(); ++i) known_.emplace(key(into.blobs[i], into.blobs[i].sources), static_cast<plan::BlobId>(i));
  }

  std::vector<plan::BlobId> add(const EngineData& from) {
    std::vector<plan::BlobId> ids;
    for (std::size_t i = 0; i < from.blobs.size(); ++i) {
      plan::Blob blob = from.blobs[i];
      for (plan::BlobId& source : blob.sources)
        if (source >= 0) source = ids[static_cast<std::size_t>(source)];
      const std::span<const std::byte> bytes = from.blob_bytes[i];
      const auto [first, last] = known_.equal_range(key(blob, blob.sources));
      const auto same = std::find_if(first, last, [&](const auto& entry) {  // hashes are no proof against malice
        const std::span<const std::byte> other = into_.blob_bytes[static_cast<std::size_t>(entry.second)];
        return other.size() == bytes.size() && (bytes.empty() || std::memcmp(other.data(), bytes.data(), bytes.size()) == 0);
      });
      if (same != last) {
        ids.push_back(same->second);
        continue;
      }
      ids.push_back(static_cast<plan::BlobId>(into_.blobs.size()));
      known_.emplace(key(blob, blob.sources), ids.back());
      into_.blobs.push_back(std::move(blob));
      into_.blob_bytes.push_back(bytes);
    }
    return ids;
  }

 private:
  using Key = std::tuple<std::uint64_t, std::uint64_t, std::uint64_t, int, Dims, std::string, std::vector<plan::BlobId>>;
  static Key key(const plan::Blob& blob, const std::vector<plan::BlobId>& sources) {
    return {blob.hash.low, blob.hash.high, blob.bytes, static_cast<int>(blob.dtype), blob.dims, blob.pack, sources};
  }
  EngineData& into_;
  std::multimap<Key, plan::BlobId> known_;
};

void check_same_model(const EngineData& a, const EngineData& b, const std::string& name_a, const std::string& name_b) {
  if (graph_text(a, true) == graph_text(b, true)) return;
  const bool weights_alone = graph_text(a, false) == graph_text(b, false);
  throw Error(Code::kInvalidArgument, weights_alone ? fmt::format("the engines '{}' and '{}' are of the same graph with different weights", name_a, name_b)
                                                    : fmt::format("the engines '{}' and '{}' are of different graphs", name_a, name_b))
      .with_remedy("Build both from the same file, with the same --shape.");
}

}  // namespace

void renumber(plan::Program& program, const std::vector<plan::BlobId>& ids) {
  const auto moved = [&](plan::BlobId id) { return id < 0 ? id : ids[static_cast<std::size_t>(id)]; };
  for (plan::Slot& slot : program.slots) slot.blob = moved(slot.blob);
  for (plan::Step& step : program.steps)
    for (plan::BlobId& blob : step.weights) blob = moved(blob);
  for (plan::Program& sub : program.subprograms) renumber(sub, ids);
}

void strip_engine(EngineData& data, const Strip& what) {
  const auto has = [&](const std::string& device) {
    return std::any_of(data.sections.begin(), data.sections.end(), [&](const DeviceSection& section) { return section.device == device; });
  };
  for (const std::string& device : what.devices)
    if (!has(device)) {
      std::vector<std::string> names;
      for (const DeviceSection& section : data.sections) names.push_back(section.device);
      throw Error(Code::kInvalidArgument, fmt::format("the engine has no program for '{}'; it has {}", device, fmt::join(names, ", ")));
    }
  if (!what.devices.empty()) {
    std::erase_if(data.sections, [&](const DeviceSection& section) {
      return section.device != kGeneric && std::find(what.devices.begin(), what.devices.end(), section.device) == what.devices.end();
    });
    drop_unused_blobs(data);
  }
  if (what.native)
    for (DeviceSection& section : data.sections) section.native = {};
  if (what.report) data.report_json.clear();
}

EngineData merge_engines(std::vector<EngineData> parts, const std::vector<std::string>& names) {
  EngineData merged = std::move(parts.at(0));
  std::vector<DeviceSection> sections, generic;
  std::map<std::pair<std::string, std::string>, std::string> from;
  const auto take = [&](std::vector<DeviceSection>& list, const std::string& name) {
    for (DeviceSection& section : list) {
      const auto [known, added] = from.try_emplace({section.device, section.needs}, name);
      if (added) (section.device == kGeneric ? generic : sections).push_back(std::move(section));
      else if (section.device != kGeneric)
        throw Error(Code::kInvalidArgument, fmt::format("'{}' and '{}' both have a program for {}{}", known->second, name, section.device,
                                                        section.needs.empty() ? "" : " (" + section.needs + ")"))
            .with_remedy("Leave one out: lathe engine strip FILE --device ...");
    }
  };
  take(merged.sections, names.at(0));
  BlobMerger blobs(merged);
  for (std::size_t i = 1; i < parts.size(); ++i) {
    check_same_model(merged, parts[i], names[0], names.at(i));
    const std::vector<plan::BlobId> ids = blobs.add(parts[i]);
    for (DeviceSection& section : parts[i].sections) renumber(section.program, ids);
    take(parts[i].sections, names[i]);
    for (std::string& op : parts[i].custom_ops)
      if (std::find(merged.custom_ops.begin(), merged.custom_ops.end(), op) == merged.custom_ops.end()) merged.custom_ops.push_back(std::move(op));
    for (auto& owner : parts[i].owners) merged.owners.push_back(std::move(owner));
  }
  merged.sections = std::move(sections);
  for (DeviceSection& section : generic) merged.sections.push_back(std::move(section));
  drop_unused_blobs(merged);
  return merged;
}

}  // namespace lathe::engine
