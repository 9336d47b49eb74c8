// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// A stage under concrete extents: its loops, and each buffer access as affine functions of the loop counters where possible. Axes
// whose quotient or remainder appears in an index (nearest upsampling, reshapes, depth-to-space) are split into two loops, which
// makes those indices affine; what stays (data-dependent gathers) is left to the tile program to compute.

#include <array>
#include <cstdint>
#include <limits>
#include <memory_resource>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "ir/dim.h"
#include "loops/region.h"

namespace lathe::loops::cpu {

inline constexpr int kMaxLoops = 16;

/// c + sum of k[l] * counter of loop l.
struct Affine {
  std::int64_t c = 0;
  std::array<std::int64_t, kMaxLoops> k{};
  bool is_constant() const { return k == decltype(k){}; }
};

struct LoopAxis {
  std::int64_t extent = 1;
  bool reduction = false;
};

/// The index of one dimension of an access.
struct DimIndex {
  ExprId expr = -1;
  std::int64_t extent = 0;
  bool affine = false;
  bool in_bounds = false;  ///< proven
  Affine value;            ///< when affine
};

struct Access {
  BufferId buffer = -1;
  ExprId fallback = -1;  ///< guarded load: value where out of bounds
  std::span<DimIndex> dims;
  Affine offset;  ///< elements, over the affine dims; set by linearize() once the buffer's strides are known
};

/// All of it lies in the memory that it was given, and is not to be copied: accesses share their dims.
struct StageAnalysis {
  explicit StageAnalysis(std::pmr::memory_resource* memory) : loops(memory), loads(memory), affine_values(memory), alias(memory), truths(memory) {}
  StageAnalysis(StageAnalysis&&) = default;

  const Stage* stage = nullptr;
  std::pmr::vector<LoopAxis> loops;
  Access store;
  std::pmr::unordered_map<ExprId, Access> loads;
  std::pmr::unordered_map<ExprId, Affine> affine_values;  ///< index arithmetic that is needed as a value
  std::pmr::unordered_map<ExprId, ExprId> alias;          ///< selects whose condition is known
  std::pmr::unordered_map<ExprId, bool> truths;           ///< conditions that are known
  Affine position;                                        ///< row-major position in the reduction space
  bool empty = false;                                     ///< no point to store

  ExprId resolve(ExprId e) const {
    for (auto it = alias.find(e); it != alias.end(); it = alias.find(e)) e = it->second;
    return e;
  }
  template <class F>
  void for_each_affine(F visit) {
    visit(store.offset);
    visit(position);
    for (DimIndex& d : store.dims) visit(d.value);
    for (auto& [id, a] : affine_values) visit(a);
    for (auto& [id, access] : loads) {
      visit(access.offset);
      for (DimIndex& d : access.dims) visit(d.value);
    }
  }
  std::int64_t points() const;
  /// New loop i is old loop order[i].
  void permute(std::span<const int> order);
  /// Folds loop `outer` into loop `outer + 1`.
  void merge_with_next(int outer);
};

/// Throws Error(kInternal) when a store or an unguarded affine load leaves its buffer, kUnsupported beyond kMaxLoops loops. `memory` need
/// not take back what it gives (Arena); nothing else is allocated.
StageAnalysis analyze(const LoopRegion& region, const Stage& stage, const ir::Bindings& symbols, std::pmr::memory_resource* memory);

/// The loop that an index is, counter by counter, or -1.
int plain_loop(const StageAnalysis& stage, const DimIndex& index);

}  // namespace lathe::loops::cpu
