// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The flat tables of an ensemble, as its candidates write them and its kernels read them, with types and lengths that fit each other. What stands
// in them is the kernels' to check.

#include <array>
#include <cstdint>
#include <span>

#include "ir/attribute.h"
#include "lathe/status.h"
#include "ops/ml/trees_params.h"

namespace lathe::ops {

/// By Branch: how x may lie to the split where the true branch is taken; NaN beside it where missing values take that.
inline constexpr std::array<std::uint8_t, 7> kBranchOutcomes{cuda::kTreesLess | cuda::kTreesEqual,
                                                             cuda::kTreesLess,
                                                             cuda::kTreesGreater | cuda::kTreesEqual,
                                                             cuda::kTreesGreater,
                                                             cuda::kTreesEqual,
                                                             cuda::kTreesLess | cuda::kTreesGreater | cuda::kTreesUnordered,
                                                             cuda::kTreesMember};

inline void require_of_trees(bool holds, const char* what) {
  if (!holds) throw Error(Code::kCorruptFile, std::string("a tree ensemble's step with ") + what);
}

class TreeTables {
 public:
  std::span<const std::int32_t> roots, features, modes, yes, no, member_starts, member_counts, leaf_starts, leaf_counts, vote_targets;
  std::span<const double> splits, members, vote_weights, base;

  explicit TreeTables(const ir::Attrs& params) {
    roots = indices(params, "roots", "no roots");
    splits = numbers(params, "splits", "no splits");
    features = indices(params, "features", "no features");
    modes = indices(params, "modes", "no modes");
    yes = indices(params, "yes", "no branches");
    no = indices(params, "no", "no branches");
    member_starts = indices(params, "member_starts", "no members");
    member_counts = indices(params, "member_counts", "no members");
    members = numbers(params, "members", "no members");
    leaf_starts = indices(params, "leaf_starts", "no leaves");
    leaf_counts = indices(params, "leaf_counts", "no leaves");
    vote_targets = indices(params, "vote_targets", "no votes");
    vote_weights = numbers(params, "vote_weights", "no votes");
    base = numbers(params, "base", "no base values");
    for (const std::size_t n : {features.size(), modes.size(), yes.size(), no.size(), member_starts.size(), member_counts.size()})
      require_of_trees(n == splits.size(), "lists of differing lengths");
    require_of_trees(leaf_counts.size() == leaf_starts.size() && vote_targets.size() == vote_weights.size(), "lists of differing lengths");
    for (const std::int32_t mode : modes) require_of_trees(mode >= 0 && mode < 16 && (mode & 7) < 7, "an unknown mode");
  }
  TreeTables(const TreeTables&) = delete;
  TreeTables& operator=(const TreeTables&) = delete;

  std::uint8_t outcomes(std::size_t node) const {
    const std::int32_t mode = modes[node];
    return static_cast<std::uint8_t>(kBranchOutcomes[static_cast<std::size_t>(mode & 7)] | (mode & 8 ? unsigned{cuda::kTreesUnordered} : 0u));
  }

 private:
  template <class T>
  std::span<const T> list(const ir::Attrs& params, const char* name, DType dtype, const char* what) {
    Tensor& held = held_[count_++];
    held = params.get_tensor(name);
    require_of_trees(held.dtype() == dtype && held.rank() == 1, what);
    return held.data<T>();
  }
  std::span<const std::int32_t> indices(const ir::Attrs& params, const char* name, const char* what) {
    return list<std::int32_t>(params, name, DType::kInt32, what);
  }
  std::span<const double> numbers(const ir::Attrs& params, const char* name, const char* what) { return list<double>(params, name, DType::kFloat64, what); }

  std::array<Tensor, 14> held_;  ///< what the lists are views of
  std::size_t count_ = 0;
};

}  // namespace lathe::ops
