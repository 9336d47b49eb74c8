// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See schedule.h.

#include "loops/cuda/schedule.h"

#include <algorithm>
#include <bit>
#include <numeric>

namespace lathe::loops::cuda {
namespace {

using cpu::Access;
using cpu::Affine;
using cpu::DimIndex;
using cpu::StageAnalysis;

constexpr std::int64_t kMaxBlocks = 1 << 20;  // blocks beyond walk on in a loop

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

int plain_dim(const StageAnalysis& stage, const Access& access, int loop) {
  for (std::size_t d = 0; d < access.dims.size(); ++d)
    if (cpu::plain_loop(stage, access.dims[d]) == loop) return static_cast<int>(d);
  return -1;
}

/// Per stage, the loops that it shares with the others, in one order.
using Shared = std::vector<std::vector<int>>;

/// Loops along which the stages can be cut into slices that never meet: each buffer written here is written and read at the loop's own index.
Shared shared_loops(const std::vector<StageAnalysis>& stages, std::size_t first, std::size_t last) {
  Shared shared(last - first);
  for (int l = 0; l < static_cast<int>(stages[first].loops.size()); ++l) {
    if (stages[first].loops[static_cast<std::size_t>(l)].reduction) continue;
    std::unordered_map<BufferId, int> dim_of;
    std::vector<int> chosen;
    for (std::size_t s = first; s < last; ++s) {
      const StageAnalysis& stage = stages[s];
      int mine = s == first ? l : -1;
      bool fits = true;
      for (const auto& [id, access] : stage.loads) {
        const auto written = dim_of.find(access.buffer);
        if (written == dim_of.end()) continue;
        const DimIndex& index = access.dims[static_cast<std::size_t>(written->second)];
        const int loop = access.fallback >= 0 ? -1 : cpu::plain_loop(stage, index);
        fits = fits && loop >= 0 && (mine < 0 || mine == loop) && !stage.loops[static_cast<std::size_t>(loop)].reduction;
        mine = loop;
      }
      const int d = fits && mine >= 0 ? plain_dim(stage, stage.store, mine) : -1;
      const auto [at, fresh] = dim_of.emplace(stage.store.buffer, d);
      if (d < 0 || at->second != d) break;
      chosen.push_back(mine);
    }
    if (chosen.size() != last - first) continue;
    for (std::size_t s = 0; s < chosen.size(); ++s) shared[s].push_back(chosen[s]);
  }
  return shared;
}

std::int64_t product(const StageAnalysis& stage, const std::vector<int>& loops) {
  std::int64_t n = 1;
  for (const int l : loops) n *= stage.loops[static_cast<std::size_t>(l)].extent;
  return n;
}

class Scheduler {
 public:
  Scheduler(const LoopRegion& region, std::span<const plan::TensorDesc> buffers, const EmitOptions& options)
      : region_(region), buffers_(buffers), options_(options) {}

  std::vector<Wave> run(const ir::Bindings& symbols, std::pmr::memory_resource* memory) {
    std::vector<StageAnalysis> stages;
    for (const Stage& stage : region_.stages)
      if (StageAnalysis a = cpu::analyze(region_, stage, symbols, memory); !a.empty) stages.push_back(std::move(a));
    std::vector<Wave> waves;
    std::vector<bool> written(buffers_.size(), false);  // by the wave in the making
    for (std::size_t first = 0; first < stages.size();) {
      std::size_t last = first + 1;
      Shared shared;
      while (last < stages.size() && reads(stages, last, first)) {
        Shared wider = shared_loops(stages, first, last + 1);
        if (!worth_fusing(stages, first, wider)) break;
        shared = std::move(wider);
        ++last;
      }
      bool waits = waves.empty();
      for (std::size_t s = first; s < last; ++s)
        for (const auto& [id, access] : stages[s].loads) waits |= written[static_cast<std::size_t>(access.buffer)];
      if (waits) {
        waves.emplace_back();
        written.assign(buffers_.size(), false);
      }
      Part part;
      for (std::size_t s = first; s < last; ++s) {
        written[static_cast<std::size_t>(stages[s].store.buffer)] = true;
        part.stages.push_back(arrange(std::move(stages[s]), last - first > 1 ? shared[s - first] : std::vector<int>{}));
      }
      part.slices = last - first > 1 ? slices_of(part.stages.front()) : 0;
      spread(part, options_);
      waves.back().push_back(std::move(part));
      first = last;
    }
    return waves;
  }

  /// Threads and blocks of a part.
  static void spread(Part& part, const EmitOptions& options) {
    if (part.slices > 0) {
      part.group = part.slices / (kThreads / 32) >= options.multiprocessors / 2 && widest(part) <= 1024 ? 32 : kThreads;
      part.blocks = static_cast<std::uint32_t>(std::min(kMaxBlocks, ceil_div(part.slices, kThreads / part.group)));
      for (ScheduledStage& stage : part.stages) {
        if (stage.reduced == 0) continue;
        const std::int64_t points = std::max<std::int64_t>(stage.points, 1);
        stage.lanes = points >= part.group ? 1 : part.group / static_cast<int>(std::bit_ceil(static_cast<std::uint64_t>(points)));
        if (stage.reduction_fastest && stage.reduction >= 32) stage.lanes = std::max(stage.lanes, 32);
        if (points > 1)
          stage.lanes = std::min(stage.lanes, static_cast<int>(std::bit_ceil(static_cast<std::uint64_t>(std::max<std::int64_t>(stage.reduction, 1)))));
      }
      return;
    }
    ScheduledStage& stage = part.stages.front();
    const std::int64_t enough = static_cast<std::int64_t>(options.multiprocessors) * 512;
    std::int64_t per_block = static_cast<std::int64_t>(kThreads) * stage.vector;
    if (stage.reduced > 0) {
      const auto most = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(std::clamp<std::int64_t>(stage.reduction, 1, kThreads))));
      std::int64_t lanes = stage.reduction_fastest ? std::min<std::int64_t>(32, most) : 1;
      while (lanes < most && stage.points * lanes < enough) lanes *= 2;
      // Neighbouring threads on neighbouring points: at least 8 of them side by side.
      if (!stage.reduction_fastest && stage.points > 1) lanes = std::min<std::int64_t>(lanes, kThreads / 8);
      stage.lanes = static_cast<int>(lanes);
      per_block = kThreads / lanes;
    }
    part.blocks = static_cast<std::uint32_t>(std::clamp<std::int64_t>(ceil_div(stage.points, per_block), 1, kMaxBlocks));
  }

 private:
  static std::int64_t widest(const Part& part) {
    std::int64_t inner = 1;
    for (const ScheduledStage& stage : part.stages) inner = std::max(inner, stage.points * std::max<std::int64_t>(stage.reduction, 1));
    return inner;
  }
  static std::int64_t slices_of(const ScheduledStage& stage) {
    std::int64_t n = 1;
    for (int l = 0; l < stage.shared; ++l) n *= stage.nest->loops[static_cast<std::size_t>(l)].extent;
    return n;
  }

  static bool reads(const std::vector<StageAnalysis>& stages, std::size_t reader, std::size_t first) {
    for (const auto& [id, access] : stages[reader].loads)
      for (std::size_t s = first; s < reader; ++s)
        if (access.buffer == stages[s].store.buffer) return true;
    return false;
  }

  bool worth_fusing(const std::vector<StageAnalysis>& stages, std::size_t first, const Shared& shared) const {
    if (shared.front().empty()) return false;
    const std::int64_t slices = product(stages[first], shared.front());
    std::int64_t inner = 1;
    for (std::size_t s = 0; s < shared.size(); ++s) {
      const std::int64_t points = stages[first + s].points();
      inner = std::max(inner, slices > 0 ? points / slices : 0);
    }
    if (slices < 8) return inner <= 1024;
    return inner <= 8192 || slices >= 2 * options_.multiprocessors;
  }

  ScheduledStage arrange(StageAnalysis analysis, const std::vector<int>& shared) const {
    ScheduledStage stage;
    stage.nest = std::make_shared<StageAnalysis>(std::move(analysis));
    StageAnalysis& nest = *stage.nest;
    const auto linear = [&](Access& access) {
      const plan::TensorDesc& desc = buffers_[static_cast<std::size_t>(access.buffer)];
      access.offset = Affine{};
      for (std::size_t d = 0; d < access.dims.size(); ++d) {
        if (!access.dims[d].affine) continue;
        access.offset.c += access.dims[d].value.c * desc.strides[d];
        for (std::size_t l = 0; l < cpu::kMaxLoops; ++l) access.offset.k[l] += access.dims[d].value.k[l] * desc.strides[d];
      }
      for (DimIndex& d : access.dims)
        if (d.affine && (d.in_bounds || access.fallback < 0)) d.value = Affine{};
    };
    linear(nest.store);
    for (auto& [id, access] : nest.loads) linear(access);
    if (!is_arg_reduce(nest.stage->reduce)) nest.position = Affine{};

    std::vector<int> order(nest.loops.size()), place(nest.loops.size(), 1);  // 0 shared, 1 kept, 2 reduced
    std::iota(order.begin(), order.end(), 0);
    for (std::size_t l = 0; l < nest.loops.size(); ++l)
      if (nest.loops[l].reduction) place[l] = 2;
    std::vector<int> rank(nest.loops.size(), 0);
    for (std::size_t i = 0; i < shared.size(); ++i) {
      place[static_cast<std::size_t>(shared[i])] = 0;
      rank[static_cast<std::size_t>(shared[i])] = static_cast<int>(i);
    }
    const auto distance = [&](int l) {
      const auto at = static_cast<std::size_t>(l);
      std::int64_t best = nest.loops[at].reduction ? 0 : std::abs(nest.store.offset.k[at]);
      if (best == 0)
        for (const auto& [id, access] : nest.loads) best = std::max(best, std::abs(access.offset.k[at]));
      return best;
    };
    std::stable_sort(order.begin(), order.end(), [&](int x, int y) {
      const int px = place[static_cast<std::size_t>(x)], py = place[static_cast<std::size_t>(y)];
      if (px != py) return px < py;
      return px == 0 ? rank[static_cast<std::size_t>(x)] < rank[static_cast<std::size_t>(y)] : distance(x) > distance(y);
    });
    nest.permute(order);
    stage.shared = static_cast<int>(shared.size());
    for (int l = static_cast<int>(nest.loops.size()) - 2; l >= stage.shared; --l) {
      const auto x = static_cast<std::size_t>(l), y = x + 1;
      if (nest.loops[x].reduction != nest.loops[y].reduction) continue;
      bool joins = true;
      nest.for_each_affine([&](Affine& f) { joins &= f.k[x] == f.k[y] * nest.loops[y].extent; });
      if (joins) nest.merge_with_next(l);
    }
    for (std::size_t l = static_cast<std::size_t>(stage.shared); l < nest.loops.size(); ++l) {
      (nest.loops[l].reduction ? stage.reduced : stage.kept) += 1;
      (nest.loops[l].reduction ? stage.reduction : stage.points) *= nest.loops[l].extent;
    }
    stage.reduction_fastest = stage.reduced > 0 && walks_by_ones(nest, nest.loops.size() - 1) &&
                              (stage.kept == 0 || !walks_by_ones(nest, static_cast<std::size_t>(stage.shared + stage.kept - 1)));
    if (stage.reduced == 0 && stage.nest->stage->reduce == Reduce::kNone && shared.empty()) stage.vector = vector_of(stage);
    return stage;
  }

  static bool walks_by_ones(const StageAnalysis& nest, std::size_t loop) {
    return std::any_of(nest.loads.begin(), nest.loads.end(), [&](const auto& load) { return std::abs(load.second.offset.k[loop]) == 1; });
  }

  /// Elements a thread can make at once: the target is contiguous along the last loop and everything else moves in multiples.
  int vector_of(const ScheduledStage& stage) const {
    if (stage.kept == 0) return 1;
    const auto last = static_cast<std::size_t>(stage.kept - 1);
    const Affine& store = stage.nest->store.offset;
    if (store.k[last] != 1) return 1;
    const auto size = static_cast<int>(dtype_bytes(buffers_[static_cast<std::size_t>(stage.nest->store.buffer)].dtype, 1));
    for (int v = std::min(8, 16 / size); v > 1; v /= 2) {
      bool fits = stage.nest->loops[last].extent % v == 0 && store.c % v == 0 && stage.points / v >= options_.enough_threads;
      for (std::size_t l = 0; l < last; ++l) fits = fits && store.k[l] % v == 0;
      if (fits) return v;
    }
    return 1;
  }

  const LoopRegion& region_;
  std::span<const plan::TensorDesc> buffers_;
  const EmitOptions& options_;
};

}  // namespace

std::vector<Wave> schedule(const LoopRegion& region, std::span<const plan::TensorDesc> buffers, const ir::Bindings& symbols, const EmitOptions& options,
                           std::pmr::memory_resource* memory) {
  return Scheduler(region, buffers, options).run(symbols, memory);
}

Wave without_vectors(Wave wave, const EmitOptions& options) {
  for (Part& part : wave) {
    for (ScheduledStage& stage : part.stages) stage.vector = 1;
    Scheduler::spread(part, options);
  }
  return wave;
}

}  // namespace lathe::loops::cuda
