// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// From an ensemble's tables and tensors to the launches of trees.cu: what the candidate, the kernel and the tests without a GPU share.

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "ir/attribute.h"
#include "ops/ml/ml_rows.h"
#include "ops/ml/trees_params.h"

namespace lathe::ops {

/// The packed tables begin with it.
struct TreesHeader {
  std::int64_t wide = 0;  ///< numbers of float64
  std::int64_t trees = 0, nodes = 0, sets = 0, members = 0, leaves = 0, votes = 0, base = 0, labels = 0;
};

/// Where each table begins, bytes.
struct TreesLayout {
  std::size_t roots = 0, nodes = 0, splits = 0, sets = 0, members = 0, leaves = 0, targets = 0, weights = 0, base = 0, labels = 0, bytes = 0;
};

/// nullopt: counts beyond what the kernels count with.
inline std::optional<TreesLayout> trees_layout(const TreesHeader& h) noexcept {
  constexpr std::int64_t kMost = std::int64_t{1} << 30;
  for (const std::int64_t count : {h.trees, h.nodes, h.sets, h.members, h.leaves, h.votes, h.base, h.labels})
    if (count < 0 || count > kMost) return std::nullopt;
  if (h.wide != 0 && h.wide != 1) return std::nullopt;
  const std::size_t number = h.wide ? 8 : 4;
  std::size_t at = 128;
  static_assert(sizeof(TreesHeader) <= 128);
  const auto table = [&](std::int64_t count, std::size_t each) {
    const std::size_t begin = at;
    at += (static_cast<std::size_t>(count) * each + 63) / 64 * 64;
    return begin;
  };
  TreesLayout layout;
  layout.roots = table(h.trees, sizeof(int));
  layout.nodes = table(h.nodes, sizeof(cuda::TreesNode));
  layout.splits = table(h.wide ? h.nodes : 0, sizeof(double));
  layout.sets = table(h.sets, sizeof(cuda::TreesSpan));
  layout.members = table(h.members, number);
  layout.leaves = table(h.leaves, sizeof(cuda::TreesSpan));
  layout.targets = table(h.votes, sizeof(int));
  layout.weights = table(h.votes, number);
  layout.base = table(h.base, sizeof(double));
  layout.labels = table(h.labels, sizeof(std::int64_t));
  layout.bytes = at;
  return layout;
}

/// What a step says beside its tables.
struct TreesSpec {
  std::int64_t targets = 1;
  int aggregate = cuda::kTreesSum, transform = cuda::kMlNone, single = -1;
  bool all_positive = false, classifies = false;
};

/// A step at concrete extents.
struct TreesPlan {
  TreesSpec spec;
  TreesHeader header;
  TreesLayout layout;
  std::int64_t features = 0;                     ///< that the nodes ask for
  cuda::TreesParams params;                      ///< without addresses
  std::uint32_t walk_grid = 0, finish_grid = 0;  ///< 0: no launch

  std::size_t sum_bytes() const noexcept {
    const auto count = static_cast<std::size_t>(params.rows.count * spec.targets);
    return params.direct ? 0 : (count * (header.wide ? 8 : 4) + 255) / 256 * 256;
  }
  std::size_t scratch_bytes() const noexcept { return params.direct ? 0 : sum_bytes() + static_cast<std::size_t>(params.rows.count * spec.targets); }
  /// `tables`: where the packed ones lie.
  void set_addresses(cuda::TreesParams& p, const void* tables, void* scratch) const noexcept {
    const auto at = [&](std::size_t offset) { return static_cast<const void*>(static_cast<const std::byte*>(tables) + offset); };
    p.roots = static_cast<const int*>(at(layout.roots));
    p.nodes = static_cast<const cuda::TreesNode*>(at(layout.nodes));
    p.splits = static_cast<const double*>(at(layout.splits));
    p.sets = static_cast<const cuda::TreesSpan*>(at(layout.sets));
    p.members = at(layout.members);
    p.leaves = static_cast<const cuda::TreesSpan*>(at(layout.leaves));
    p.vote_targets = static_cast<const int*>(at(layout.targets));
    p.vote_weights = at(layout.weights);
    p.base = static_cast<const double*>(at(layout.base));
    p.label_values = static_cast<const long long*>(at(layout.labels));
    if (params.direct) return;
    p.sums = scratch;
    p.voted = static_cast<unsigned char*>(scratch) + sum_bytes();
  }
};

/// What a step's parameters say beside the tables. False: no step of this version's.
inline bool trees_spec(const ir::Attrs& params, TreesSpec& spec, std::string& why) {
  const std::int64_t aggregate = params.get_int("aggregate", 1), transform = params.get_int("transform", 0), single = params.get_int("single", -1);
  spec.targets = params.get_int("targets", 0);
  spec.classifies = params.get_int("classifies", 0) != 0;
  spec.all_positive = params.get_int("all_positive", 0) != 0;
  if (spec.targets < 1 || spec.targets > std::int64_t{1} << 24) why = "no targets";
  else if (aggregate < 0 || aggregate > 3 || transform < 0 || transform > 4) why = "an unknown aggregate or transform";
  else if (single >= 2 || (single >= 0 && (spec.targets != 2 || !spec.classifies))) why = "a single class that is none of two";
  if (!why.empty()) return false;
  spec.aggregate = static_cast<int>(aggregate);
  spec.transform = static_cast<int>(transform);
  spec.single = static_cast<int>(std::max<std::int64_t>(single, -1));
  return true;
}

/// Takes the packed tables of `into.spec` when nothing in them leads a kernel astray: indices in range, children behind their parents. False, and in
/// `why` the reason, where something does.
inline bool trees_read(std::span<const std::byte> tables, TreesPlan& into, std::string& why) {
  const auto refuse = [&](const char* reason) {
    why = reason;
    return false;
  };
  if (tables.size() < sizeof(TreesHeader)) return refuse("tables that end too soon");
  TreesHeader& h = into.header;
  std::memcpy(&h, tables.data(), sizeof h);
  const auto layout = trees_layout(h);
  if (!layout || layout->bytes != tables.size()) return refuse("tables of another size than they say");
  into.layout = *layout;
  const auto entry = [&]<class T>(std::size_t begin, std::int64_t i, T value) {
    std::memcpy(&value, tables.data() + begin + static_cast<std::size_t>(i) * sizeof(T), sizeof(T));
    return value;
  };
  const std::int64_t targets = into.spec.targets;
  if (h.labels != (into.spec.classifies ? targets : 0)) return refuse("labels that do not fit");
  if (h.base != 0 && h.base != targets && !(into.spec.single >= 0 && h.base == 1)) return refuse("base values that do not fit");
  const auto is_place = [&](std::int64_t child, std::int64_t after) { return child < 0 ? ~child < h.leaves : child > after && child < h.nodes; };
  for (std::int64_t i = 0; i < h.trees; ++i)
    if (!is_place(entry(layout->roots, i, int{}), -1)) return refuse("a root out of range");
  into.features = 0;
  for (std::int64_t i = 0; i < h.nodes; ++i) {
    const auto node = entry(layout->nodes, i, cuda::TreesNode{});
    if (!is_place(node.yes, i) || !is_place(node.no, i)) return refuse("a branch out of range");
    if ((node.test / cuda::kTreesFeatures & cuda::kTreesMember) && node.split >= static_cast<std::uint64_t>(h.sets)) return refuse("a set out of range");
    into.features = std::max<std::int64_t>(into.features, node.test % cuda::kTreesFeatures + 1);
  }
  for (std::int64_t i = 0; i < h.sets; ++i) {
    const auto set = entry(layout->sets, i, cuda::TreesSpan{});
    if (set.first < 0 || set.count < 0 || std::int64_t{set.first} + set.count > h.members) return refuse("members out of range");
  }
  std::int64_t all = 0;
  for (std::int64_t i = 0; i < h.leaves; ++i) {
    const auto leaf = entry(layout->leaves, i, cuda::TreesSpan{});
    const std::int64_t count = leaf.count < 0 ? -std::int64_t{leaf.count} : leaf.count;
    if (leaf.count < 0 && count != targets) return refuse("a leaf with votes for other targets");
    if (leaf.first < 0 || leaf.first + count > h.votes || (all += count) >> 31 != 0) return refuse("votes out of range");
  }
  for (std::int64_t i = 0; i < h.votes; ++i)
    if (const int target = entry(layout->targets, i, int{}); target < 0 || target >= targets) return refuse("a vote for no target");
  return true;
}

/// Spec and tables are set. False, and in `why` the reason, when the kernels cannot run it.
inline bool trees_plan(std::span<const plan::TensorDesc> inputs, std::span<const plan::TensorDesc> outputs, TreesPlan& into, std::string& why) {
  const TreesSpec& spec = into.spec;
  const TreesHeader& h = into.header;
  cuda::TreesParams& p = into.params;
  p = {};
  into.walk_grid = into.finish_grid = 0;
  std::int64_t width = 0;
  if (!ml_rows(inputs, outputs, spec.classifies, spec.targets, p.rows, width, why)) return false;
  if ((p.rows.x_type == cuda::kMlFloat64) != (h.wide != 0)) why = "tables for another type of features";
  else if (width < into.features) why = "a tree that tests a feature which X does not have";
  if (!why.empty()) return false;
  p.rows.transform = spec.transform;
  p.trees = static_cast<int>(h.trees);
  p.node_count = static_cast<int>(h.nodes);
  p.targets = static_cast<int>(spec.targets);
  p.base_count = static_cast<int>(h.base);
  p.aggregate = spec.aggregate;
  p.classifies = spec.classifies;
  p.single = spec.single;
  p.all_positive = spec.all_positive;
  const bool has_scores = outputs[1].dtype != DType::kUndefined;
  const bool is_score = spec.transform == cuda::kMlNone || (spec.targets == 1 && spec.transform != cuda::kMlProbit);
  p.direct = !spec.classifies && is_score && has_scores;
  // Few rows a block where there are few, so that all of a GPU's processors have some; a block's threads are one for each row and target at least.
  constexpr std::int64_t kBlocksWanted = 256, kMostBlocks = (std::int64_t{1} << 31) - 1, kMostSums = std::int64_t{1} << 36;
  const std::int64_t rows = p.rows.count, fit = std::min<std::int64_t>(cuda::kTreesMostRows, std::max<std::int64_t>(cuda::kTreesThreads / spec.targets, 1));
  p.tile = static_cast<int>(std::bit_floor(static_cast<std::uint64_t>(std::clamp<std::int64_t>(rows / kBlocksWanted, 1, fit))));
  p.columns = static_cast<int>(std::min<std::int64_t>(spec.targets, cuda::kTreesThreads / p.tile));
  p.groups = static_cast<int>((spec.targets + p.columns - 1) / p.columns);
  if (rows == 0) return true;
  const std::int64_t tiles = (rows + p.tile - 1) / p.tile, ends = (rows + cuda::kTreesFinishThreads - 1) / cuda::kTreesFinishThreads;
  if (rows > kMostSums / spec.targets || tiles > kMostBlocks / p.groups || ends > kMostBlocks) {
    why = "more rows than the kernels count";
    return false;
  }
  into.walk_grid = static_cast<std::uint32_t>(tiles * p.groups);
  into.finish_grid = p.direct ? 0 : static_cast<std::uint32_t>(ends);
  return true;
}

}  // namespace lathe::ops
