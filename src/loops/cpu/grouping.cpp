// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#include "loops/cpu/grouping.h"

#include <algorithm>
#include <cstdlib>

namespace lathe::loops::cpu {
namespace {

constexpr std::int64_t kFewestSlices = 16;  // below it fusing would leave threads without work

/// The dimension whose index is just the counter of `loop`, or -1.
int plain_dim(const StageAnalysis& stage, const Access& access, int loop) {
  for (std::size_t d = 0; d < access.dims.size(); ++d)
    if (plain_loop(stage, access.dims[d]) == loop) return static_cast<int>(d);
  return -1;
}

std::int64_t stride_along(const Access& access, const plan::TensorDesc& desc, int loop) {
  std::int64_t stride = 0;
  for (std::size_t d = 0; d < access.dims.size(); ++d)
    if (access.dims[d].affine) stride += access.dims[d].value.k[static_cast<std::size_t>(loop)] * desc.strides[d];
  return stride;
}

std::int64_t inner_points(const StageAnalysis& stage, int from) {
  std::int64_t points = 1;
  for (std::size_t l = static_cast<std::size_t>(from); l < stage.loops.size(); ++l) points *= std::max<std::int64_t>(stage.loops[l].extent, 1);
  return points;
}

class Grouper {
 public:
  Grouper(const LoopRegion& region, std::span<const StageAnalysis> stages, std::span<plan::TensorDesc> buffers, std::span<std::int64_t> elements,
          std::pmr::memory_resource* memory)
      : region_(region), stages_(stages), buffers_(buffers), elements_(elements), memory_(memory), dim_of_(memory), written_(memory), extents_(memory) {}

  std::pmr::vector<StageGroup> run() {
    std::pmr::vector<StageGroup> groups(memory_);
    groups.reserve(stages_.size());
    for (std::size_t first = 0; first < stages_.size();) {
      StageGroup group(memory_);
      group.first = first;
      group.last = first + 1;
      while (group.last < stages_.size() && reads_back(first, group.last)) {
        const int shared = shared_loops(first, group.last + 1);
        if (shared == 0 || slices(first, shared) < kFewestSlices) break;
        group.fusion.loops = shared;
        ++group.last;
      }
      if (group.fusion.loops > 0) cut(group);
      first = group.last;
      groups.push_back(std::move(group));
    }
    return groups;
  }

 private:
  std::int64_t extent(std::size_t stage, int loop) const { return stages_[stage].loops[static_cast<std::size_t>(loop)].extent; }
  std::int64_t slices(std::size_t stage, int shared) const {
    std::int64_t count = 1;
    for (int l = 0; l < shared; ++l) count *= extent(stage, l);
    return count;
  }

  /// Does stage `next` read what the stages from `first` on write?
  bool reads_back(std::size_t first, std::size_t next) const {
    for (const auto& [id, access] : stages_[next].loads)
      for (std::size_t s = first; s < next; ++s)
        if (access.buffer == stages_[s].store.buffer) return true;
    return false;
  }

  /// How many leading loops the stages [first, last) can share: not reduced, of one extent in all, every buffer written in the group
  /// written and read at that loop's own index, and no tensor contiguous along it while its inner loops stride.
  int shared_loops(std::size_t first, std::size_t last) {
    for (int shared = 0;; ++shared) {
      dim_of_.assign(buffers_.size(), -1);
      written_.assign(buffers_.size(), false);
      for (std::size_t s = first; s < last; ++s) {
        const StageAnalysis& stage = stages_[s];
        if (stage.empty || shared >= static_cast<int>(stage.loops.size()) || stage.loops[static_cast<std::size_t>(shared)].reduction ||
            extent(s, shared) != extent(first, shared))
          return shared;
        const int d = plain_dim(stage, stage.store, shared);
        const auto target = static_cast<std::size_t>(stage.store.buffer);
        if (d < 0 || (written_[target] && dim_of_[target] != d)) return shared;
        written_[target] = true;
        dim_of_[target] = d;
      }
      for (std::size_t s = first; s < last; ++s) {
        const StageAnalysis& stage = stages_[s];
        if (strides_inside(stage, stage.store, shared)) return shared;
        for (const auto& [id, access] : stage.loads) {
          const auto buffer = static_cast<std::size_t>(access.buffer);
          if (written_[buffer] && (plain_dim(stage, access, shared) != dim_of_[buffer] || access.fallback >= 0)) return shared;
          if (strides_inside(stage, access, shared)) return shared;
        }
      }
    }
  }

  bool strides_inside(const StageAnalysis& stage, const Access& access, int loop) const {
    const auto buffer = static_cast<std::size_t>(access.buffer);
    if (region_.buffers[buffer].role == Role::kTemporary || std::abs(stride_along(access, buffers_[buffer], loop)) != 1) return false;
    std::int64_t strided = 1;
    for (int l = loop + 1; l < static_cast<int>(stage.loops.size()); ++l)
      if (std::abs(stride_along(access, buffers_[buffer], l)) > 1) strided *= extent_of(stage, l);
    return strided >= 8;
  }
  static std::int64_t extent_of(const StageAnalysis& stage, int loop) { return stage.loops[static_cast<std::size_t>(loop)].extent; }

  /// Chooses the block and which temporaries live inside one.
  void cut(StageGroup& group) {
    Fusion& f = group.fusion;
    std::int64_t inner = 1;
    for (std::size_t s = group.first; s < group.last; ++s) inner = std::max(inner, inner_points(stages_[s], f.loops));
    const std::int64_t rows = extent(group.first, f.loops - 1), all = slices(group.first, f.loops);
    f.block = std::clamp<std::int64_t>(std::min(kTilePoints / inner, all / kFewestSlices), 1, rows);
    const std::int64_t blocks = (rows + f.block - 1) / f.block;
    f.block = (rows + blocks - 1) / blocks;
    group.slices = all / rows * ((rows + f.block - 1) / f.block);

    f.local.assign(buffers_.size(), false);
    for (std::size_t s = group.first; s < group.last; ++s) f.local[static_cast<std::size_t>(stages_[s].store.buffer)] = true;
    for (std::size_t b = 0; b < buffers_.size(); ++b) f.local[b] = f.local[b] && region_.buffers[b].role == Role::kTemporary;
    for (std::size_t s = 0; s < stages_.size(); ++s) {
      if (s >= group.first && s < group.last) continue;
      f.local[static_cast<std::size_t>(stages_[s].store.buffer)] = false;
      for (const auto& [id, access] : stages_[s].loads) f.local[static_cast<std::size_t>(access.buffer)] = false;
    }
    for (std::size_t s = group.first; s < group.last; ++s) {
      const Access& store = stages_[s].store;
      const auto b = static_cast<std::size_t>(store.buffer);
      if (!f.local[b]) continue;
      plan::TensorDesc& desc = buffers_[b];
      std::pmr::vector<std::int64_t>& extents = extents_;
      extents.assign(desc.dims.begin(), desc.dims.end());
      for (int l = 0; l < f.loops; ++l) extents[static_cast<std::size_t>(plain_dim(stages_[s], store, l))] = l + 1 == f.loops ? f.block : 0;
      std::int64_t stride = 1;
      for (std::size_t d = extents.size(); d-- > 0;) {
        desc.strides[d] = extents[d] == 0 ? 0 : stride;
        stride *= std::max<std::int64_t>(extents[d], 1);
      }
      elements_[b] = stride;
    }
  }

  const LoopRegion& region_;
  std::span<const StageAnalysis> stages_;
  std::span<plan::TensorDesc> buffers_;
  std::span<std::int64_t> elements_;
  std::pmr::memory_resource* memory_;
  std::pmr::vector<int> dim_of_;
  std::pmr::vector<bool> written_;
  std::pmr::vector<std::int64_t> extents_;
};

}  // namespace

std::pmr::vector<StageGroup> plan_groups(const LoopRegion& region, std::span<const StageAnalysis> stages, std::span<plan::TensorDesc> buffers,
                                         std::span<std::int64_t> elements, std::pmr::memory_resource* memory) {
  for (std::size_t b = 0; b < buffers.size(); ++b) elements[b] = buffers[b].elements();
  return Grouper(region, stages, buffers, elements, memory).run();
}

}  // namespace lathe::loops::cpu
