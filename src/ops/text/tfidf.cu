// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// TfIdfVectorizer: a thread a token goes down the tree of n-grams and counts those that begin there, once for each distance that their members may have;
// then a thread for each coordinate adds up what its n-grams come to, in their order, as the definition does. Counts are whole: the same in any order.
//! limits tfidf_*: registers 48, shared 0, spill 0

#include "backend/cuda/kernels/ptx.cuh"
#include "ops/text/tfidf_params.h"

namespace lathe::cuda {

/// A block for some columns of a row.
__device__ inline void tfidf_clear(const TfIdfParams& p) {
  launch_dependents();
  const long long row = blockIdx.y, step = static_cast<long long>(gridDim.x) * kTfIdfThreads,
                  begin = static_cast<long long>(blockIdx.x) * kTfIdfThreads + threadIdx.x;
  wait_for_previous();
  for (long long i = begin; i < p.count; i += step) p.counts[row * p.count + i] = 0;
  for (long long i = begin; i < p.cleared; i += step) store_element(p.y, (p.first + row) * p.y_row + i * p.y_column, p.y_type, 0.0f);
}

/// Where `token` leads to from `node`; -1: nowhere.
__device__ inline int tfidf_next(const TfIdfParams& p, int node, long long token) {
  int low = p.edges[node], high = p.edges[node + 1];
  const int end = high;
  while (low < high) {
    const int middle = low + (high - low) / 2;
    if (p.tokens[middle] < token) low = middle + 1;
    else high = middle;
  }
  return low < end && p.tokens[low] == token ? low + 1 : -1;
}

__device__ inline void tfidf_count(const TfIdfParams& p) {
  launch_dependents();
  const long long start = static_cast<long long>(blockIdx.x) * kTfIdfThreads + threadIdx.x, row = blockIdx.y, from = (p.first + row) * p.x_row;
  wait_for_previous();
  if (start >= p.length) return;
  const auto token = [&](long long at) {
    const long long i = from + at * p.x_column;
    return p.wide ? static_cast<const long long*>(p.x)[i] : static_cast<long long>(static_cast<const int*>(p.x)[i]);
  };
  const int first = tfidf_next(p, 0, token(start));
  if (first < 0) return;
  unsigned long long* counts = p.counts + row * p.count;
  int shortest = p.shortest;
  for (long long step = 1; step - 1 <= p.skips && shortest <= p.longest; ++step) {
    if (shortest > 1 && step > (p.length - 1 - start) / (shortest - 1)) break;  // no n-gram of that reach fits
    int node = first, n = 1;
    for (long long at = start; node >= 0;) {
      if (n >= shortest && p.grams[node] >= 0) atomicAdd(&counts[p.grams[node]], 1ull);
      at += step;
      if (++n > p.longest || at >= p.length) break;
      node = tfidf_next(p, node, token(at));
    }
    if (shortest == 1) shortest = 2;  // single tokens are the same whatever the step
  }
}

__device__ inline void tfidf_weigh(const TfIdfParams& p) {
  launch_dependents();
  const int own = static_cast<int>(blockIdx.x) * kTfIdfThreads + static_cast<int>(threadIdx.x);
  const long long row = blockIdx.y;
  wait_for_previous();
  if (own >= p.used) return;
  const unsigned long long* counts = p.counts + row * p.count;
  float y = 0;
  for (int gram = p.starts[own]; gram < p.starts[own + 1]; ++gram) {
    if (counts[gram] == 0) continue;
    const float weight = p.weights[gram];
    if (p.mode == kTfIdfIdf) y = weight;
    else y += static_cast<float>(static_cast<double>(counts[gram]) * static_cast<double>(weight));
  }
  store_element(p.y, (p.first + row) * p.y_row + p.coordinates[own] * p.y_column, p.y_type, y);
}

}  // namespace lathe::cuda

#define LATHE_TFIDF(name) \
  extern "C" __global__ void __launch_bounds__(256) name(const __grid_constant__ lathe::cuda::TfIdfParams p) { lathe::cuda::name(p); }
LATHE_TFIDF(tfidf_clear)
LATHE_TFIDF(tfidf_count)
LATHE_TFIDF(tfidf_weigh)
