// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// From the votes of an ensemble to scores and a class: what the reference and the kernel do alike once the trees were walked. T is
// the type of the sums.

#include <algorithm>

#include "ops/ml/scores.h"

namespace lathe::ops {

/// The numbers are those of TreeEnsemble's aggregate_function.
enum class Aggregate : std::uint8_t { kAverage = 0, kSum = 1, kMin = 2, kMax = 3 };

/// One vote for a target; `voted`: it is not the target's first. An average is divided by the number of trees in the end.
template <class T>
void count_vote(Aggregate aggregate, T weight, bool voted, T& sum) noexcept {
  if (aggregate == Aggregate::kMin) sum = voted ? std::min(sum, weight) : weight;
  else if (aggregate == Aggregate::kMax) sum = voted ? std::max(sum, weight) : weight;
  else sum += weight;
}

struct Ballot {
  PostTransform transform = PostTransform::kNone;
  std::span<const double> base;  ///< none, or one a target; of `single` one may do
  std::int64_t single = -1;      ///< of two classes the only one that is voted for
  bool all_positive = false;     ///< no vote has a negative weight
};

template <class T>
void finish_regression(const Ballot& ballot, std::span<const T> sums, std::span<double> out) noexcept {
  for (std::size_t t = 0; t < sums.size(); ++t) out[t] = ballot.base.empty() ? sums[t] : static_cast<T>(sums[t] + static_cast<T>(ballot.base[t]));
  transform_scores(ballot.transform, out);
}

/// The class; of a single class whether its sum is positive. `voted` says who got votes: only those can win, unless all have base values.
template <class T, class Voted>
std::int64_t finish_classification(const Ballot& ballot, std::span<const T> sums, const Voted& voted, std::span<double> out) noexcept {
  if (ballot.single >= 0) {
    const auto only = static_cast<std::size_t>(ballot.single);
    T score = sums[only];
    if (!ballot.base.empty()) score += static_cast<T>(ballot.base[ballot.base.size() == 1 ? 0 : only]);
    if (only == 0) {
      two_classes(ballot.transform, score, ballot.all_positive, out);
    } else {
      out[0] = ballot.base.size() == 2 ? ballot.base[0] : 0;
      out[1] = score;
      transform_scores(ballot.transform, out);
    }
    return score > (ballot.all_positive ? T(0.5) : T(0));
  }
  std::int64_t best = -1;
  T most = 0;
  for (std::size_t t = 0; t < sums.size(); ++t) {
    const T score = ballot.base.empty() ? sums[t] : static_cast<T>(sums[t] + static_cast<T>(ballot.base[t]));
    out[t] = score;
    if ((voted[t] || !ballot.base.empty()) && (best < 0 || score > most)) {
      best = static_cast<std::int64_t>(t);
      most = score;
    }
  }
  transform_scores(ballot.transform, out);
  if (sums.size() == 1) return most > 0;
  return best < 0 ? 0 : best;
}

}  // namespace lathe::ops
