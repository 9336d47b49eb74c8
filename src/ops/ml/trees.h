// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// A tree ensemble read from any of the three operators' attributes: every list checked, nodes reachable from the roots only, parents before
// children (so that no walk can run in circles), leaves with their votes.

#include <cstdint>
#include <vector>

#include "ops/ml/ml_util.h"
#include "ops/ml/votes.h"

namespace lathe::ops {

/// The numbers are those of TreeEnsemble's nodes_modes.
enum class Branch : std::uint8_t { kLeq = 0, kLt = 1, kGte = 2, kGt = 3, kEq = 4, kNeq = 5, kMember = 6 };

struct TreeNode {
  double split = 0;
  std::int64_t feature = 0;
  Branch mode = Branch::kLeq;
  bool missing_true = false;           ///< NaN takes the true branch
  std::int32_t yes = 0, no = 0;        ///< a node, or ~leaf
  std::int32_t members = 0, many = 0;  ///< kMember: where its members are, and how many
};

struct Vote {
  std::int64_t target;
  double weight;
};

struct Leaf {
  std::int32_t first = 0, count = 0;  ///< of its votes
};

struct Trees {
  std::vector<std::int32_t> roots;  ///< a node, or ~leaf
  std::vector<TreeNode> nodes;
  std::vector<Leaf> leaves;
  std::vector<Vote> votes;
  std::vector<double> members;
  std::int64_t targets = 1;   ///< or classes
  std::int64_t features = 0;  ///< X must have at least so many
  std::vector<double> base;   ///< none, or one a target
  Aggregate aggregate = Aggregate::kSum;
  PostTransform transform = PostTransform::kNone;

  // Of a classifier:
  Labels labels;
  std::int64_t single = -1;  ///< of two classes the only one that is voted for: its score tells both
  bool all_positive = false;

  /// The branch that `x` takes.
  bool goes_true(const TreeNode& node, double x) const;
};

Trees trees_of_classifier(const Attrs& attrs);
Trees trees_of_regressor(const Attrs& attrs);
Trees trees_of_ensemble(const Attrs& attrs);

}  // namespace lathe::ops
