// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Parameters and tables of the tree kernels, shared by host and device code: read by NVRTC too, so it includes nothing of the host's.

#include "ops/ml/ml_params.h"

namespace lathe::cuda {

/// Threads of a block that walks, walks of each at once, and what a block so has under way.
constexpr int kTreesThreads = 256, kTreesWalks = 4, kTreesItems = kTreesThreads * kTreesWalks;
constexpr int kTreesMostRows = 32;  ///< of a block
constexpr int kTreesFinishThreads = 128;

/// How x lies to a split; kTreesMember: what counts is whether x is in a set.
enum TreesOutcome : unsigned { kTreesLess = 1, kTreesEqual = 2, kTreesGreater = 4, kTreesUnordered = 8, kTreesMember = 16 };
/// Features are below it; above it in a node's `test` are the outcomes that take the true branch.
constexpr unsigned kTreesFeatures = 1u << 24;

struct alignas(16) TreesNode {
  unsigned test = 0;
  unsigned split = 0;   ///< bits of a float32; of kTreesMember which set
  int yes = 0, no = 0;  ///< a node behind this one, or ~leaf
};

struct alignas(8) TreesSpan {
  int first = 0, count = 0;  ///< of a leaf's votes: negative where there is one for each target, in order
};

/// The numbers are those of ops::Aggregate.
enum TreesAggregate : int { kTreesAverage, kTreesSum, kTreesMin, kTreesMax };

/// Tables of float64 where that is the features' type, else of float32.
struct TreesParams {
  MlRows rows;
  const int* roots = nullptr;  ///< nodes, or ~leaf
  const TreesNode* nodes = nullptr;
  const double* splits = nullptr;  ///< of float64
  const TreesSpan* sets = nullptr;
  const void* members = nullptr;
  const TreesSpan* leaves = nullptr;
  const int* vote_targets = nullptr;
  const void* vote_weights = nullptr;
  const double* base = nullptr;
  const long long* label_values = nullptr;
  int trees = 0, node_count = 0, targets = 1, base_count = 0;
  int aggregate = kTreesSum;
  int classifies = 0, single = -1, all_positive = 0;
  int tile = 1;                    ///< rows of a block, a power of two
  int columns = 1;                 ///< targets of a block
  int groups = 1;                  ///< blocks that share rows
  int direct = 0;                  ///< sums are scores: there is nothing to finish
  void* sums = nullptr;            ///< [rows, targets], of the tables' type
  unsigned char* voted = nullptr;  ///< [rows, targets]
};

}  // namespace lathe::cuda
