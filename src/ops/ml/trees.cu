// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Tree ensembles: a block walks many trees for a few rows at once and leaves what it came to in shared memory; then a thread for each row and target
// adds up the votes in the order of the trees, as the definition does. Transforms and labels need all sums of a row: a second kernel makes them.
//! limits trees_walk_*: registers 48, shared 16384, spill 32
//! limits trees_finish_*: registers 64, shared 0, spill 0

#include "ops/ml/ml_device.cuh"
#include "ops/ml/trees_params.h"

namespace lathe::cuda {

/// Where the walks of a block ended: of a single vote its target and weight, else the leaf's votes.
template <class T>
struct TreesShared {
  int first[kTreesItems], count[kTreesItems];
  T weight[kTreesItems];
};

template <class T>
__device__ inline bool goes_true(const TreesParams& p, const TreesNode& node, int at, T x) {
  const unsigned outcomes = node.test / kTreesFeatures;
  if (outcomes & kTreesMember) {
    const TreesSpan set = p.sets[node.split];
    const T* members = static_cast<const T*>(p.members) + set.first;
    bool found = (outcomes & kTreesUnordered) && x != x;
    for (int i = 0; i < set.count && !found; ++i) found = members[i] == x;
    return found;
  }
  T split;
  if constexpr (sizeof(T) == 8) split = p.splits[at];
  else split = __uint_as_float(node.split);
  const unsigned is = x < split ? kTreesLess : x == split ? kTreesEqual : x > split ? kTreesGreater : kTreesUnordered;
  return outcomes & is;
}

/// As ops::count_vote, for what is no number too.
template <class T>
__device__ inline void count_vote(int aggregate, T weight, bool& voted, T& sum) {
  if (aggregate == kTreesMin) sum = !voted || weight < sum ? weight : sum;
  else if (aggregate == kTreesMax) sum = !voted || sum < weight ? weight : sum;
  else sum += weight;
  voted = true;
}

template <class T>
__device__ inline T with_base(const TreesParams& p, T sum, int target) {
  return p.base_count == 0 ? sum : sum + static_cast<T>(p.base[target]);
}

template <class T>
__device__ inline void trees_walk(const TreesParams& p, TreesShared<T>& shared) {
  launch_dependents();
  const int thread = static_cast<int>(threadIdx.x), own = thread & (p.tile - 1), column = thread / p.tile, each = kTreesThreads / p.tile;
  const int tile = static_cast<int>(blockIdx.x / p.groups), target = static_cast<int>(blockIdx.x - static_cast<unsigned>(tile) * p.groups) * p.columns + column;
  const long long row = static_cast<long long>(tile) * p.tile + own, from = min(row, p.rows.count - 1) * p.rows.x_row;
  const bool adds = column < p.columns && target < p.targets && row < p.rows.count;
  const T* weights = static_cast<const T*>(p.vote_weights);
  T sum = 0;
  bool voted = false;
  wait_for_previous();
  for (int begin = 0; begin < p.trees; begin += kTreesWalks * each) {
    int at[kTreesWalks];
#pragma unroll
    for (int w = 0; w < kTreesWalks; ++w) {
      const int tree = begin + w * each + column;
      at[w] = tree < p.trees ? p.roots[tree] : -1;
    }
    // A walk that has ended reads some node all the same, so that the others' loads need not wait for a branch.
    for (bool moves = p.node_count > 0; moves;) {
      moves = false;
#pragma unroll
      for (int w = 0; w < kTreesWalks; ++w) {
        const int place = max(at[w], 0);
        const TreesNode node = p.nodes[place];
        const T x = load_feature<T>(p.rows, from + static_cast<long long>(node.test % kTreesFeatures) * p.rows.x_column);
        const int next = goes_true(p, node, place, x) ? node.yes : node.no;
        at[w] = at[w] < 0 ? at[w] : next;
        moves |= at[w] >= 0;
      }
    }
#pragma unroll
    for (int w = 0; w < kTreesWalks; ++w) {
      const TreesSpan leaf = p.leaves[~at[w]];
      const int i = w * kTreesThreads + thread;
      const bool alone = leaf.count == 1;
      shared.first[i] = alone ? p.vote_targets[leaf.first] : leaf.first;
      shared.count[i] = leaf.count;
      if (alone) shared.weight[i] = weights[leaf.first];
    }
    __syncthreads();
    if (adds) {
      const int many = min(kTreesWalks * each, p.trees - begin);
      for (int tree = 0; tree < many; ++tree) {
        const int i = tree * p.tile + own, first = shared.first[i], count = shared.count[i];
        if (count == 1) {
          if (first == target) count_vote(p.aggregate, shared.weight[i], voted, sum);
        } else if (count < 0) {
          count_vote(p.aggregate, weights[first + target], voted, sum);
        } else {
          for (int v = first; v < first + count; ++v)
            if (p.vote_targets[v] == target) count_vote(p.aggregate, weights[v], voted, sum);
        }
      }
    }
    __syncthreads();
  }
  if (!adds) return;
  if (p.aggregate == kTreesAverage) sum /= static_cast<T>(p.trees);
  if (p.direct) {
    store_score(p.rows, row, target, with_base(p, sum, target));
    return;
  }
  const long long place = row * p.targets + target;
  static_cast<T*>(p.sums)[place] = sum;
  p.voted[place] = voted;
}

/// A thread a row.
template <class T>
__device__ inline void trees_finish(const TreesParams& p) {
  launch_dependents();
  const long long row = static_cast<long long>(blockIdx.x) * kTreesFinishThreads + threadIdx.x;
  wait_for_previous();
  if (row >= p.rows.count) return;
  const T* sums = static_cast<const T*>(p.sums) + row * p.targets;
  const unsigned char* voted = p.voted + row * p.targets;
  int best = -1;
  if (p.classifies && p.single >= 0) {
    T score = sums[p.single];
    if (p.base_count > 0) score += static_cast<T>(p.base[p.base_count == 1 ? 0 : p.single]);
    if (p.single == 0) {
      write_two_classes(p.rows, row, score, p.all_positive);
    } else {
      const T first = p.base_count == 2 ? static_cast<T>(p.base[0]) : T(0);
      write_scores(p.rows, row, 2, [&](int i) { return static_cast<double>(i == 0 ? first : score); });
    }
    best = score > (p.all_positive ? T(0.5) : T(0));
  } else {
    write_scores(p.rows, row, p.targets, [&](int i) { return static_cast<double>(with_base(p, sums[i], i)); });
    if (!p.rows.labels) return;
    T most = 0;
    for (int i = 0; i < p.targets; ++i) {
      const T score = with_base(p, sums[i], i);
      if ((voted[i] || p.base_count > 0) && (best < 0 || score > most)) best = i, most = score;
    }
    best = p.targets == 1 ? most > 0 : max(best, 0);
  }
  if (p.rows.labels) p.rows.labels[row * p.rows.label_step] = p.targets == 1 ? best : p.label_values[best];
}

}  // namespace lathe::cuda

#define LATHE_TREES(type)                                                                                                     \
  extern "C" __global__ void __launch_bounds__(256) trees_walk_##type(const __grid_constant__ lathe::cuda::TreesParams p) {   \
    __shared__ lathe::cuda::TreesShared<type> shared;                                                                         \
    lathe::cuda::trees_walk<type>(p, shared);                                                                                 \
  }                                                                                                                           \
  extern "C" __global__ void __launch_bounds__(128) trees_finish_##type(const __grid_constant__ lathe::cuda::TreesParams p) { \
    lathe::cuda::trees_finish<type>(p);                                                                                       \
  }
LATHE_TREES(float)
LATHE_TREES(double)
