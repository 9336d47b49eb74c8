// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// CumSum and CumProd: a block for each piece of a row. Of a row with several pieces their totals come first; then each block takes those before its own, and
// goes through its elements. Floating-point numbers are added in double precision, as by the definition; integers wrap.
// Products are of integers: those of floating-point numbers are cumulative_product.cu's.
//! limits cumulative_*: registers 64, shared 4096, spill 8

#include "ops/reduce/cumulative_device.cuh"

namespace lathe::cuda {

template <class V>
__device__ inline V running(const CumulativeParams& p, V a, V b) {
  return p.product ? a * b : a + b;
}

template <class V>
__device__ inline void cumulative_totals(const CumulativeParams& p, V* shared) {
  launch_dependents();
  const CumulativePlace at(p);
  const auto run = [&](V a, V b) { return running(p, a, b); };
  wait_for_previous();
  V own = static_cast<V>(p.product), all;
  for (int e = 0; e < kCumulativeEach && at.first + e < p.count; ++e) own = running(p, own, cumulative_element<V>(p, at, at.first + e));
  before_thread(own, static_cast<V>(p.product), shared, all, run);
  if (threadIdx.x == 0) static_cast<V*>(p.totals)[blockIdx.x] = all;
}

template <class V>
__device__ inline void cumulative_elements(const CumulativeParams& p, V* shared) {
  launch_dependents();
  const CumulativePlace at(p);
  const auto run = [&](V a, V b) { return running(p, a, b); };
  wait_for_previous();
  V base = static_cast<V>(p.product);
  if (at.piece > 0) {
    // A thread takes neighbours, so that the order is that of the pieces.
    const int length = (at.piece + kCumulativeThreads - 1) / kCumulativeThreads, begin = static_cast<int>(threadIdx.x) * length,
              end = min(begin + length, at.piece);
    const V* totals = static_cast<const V*>(p.totals) + at.row * p.pieces;
    V part = static_cast<V>(p.product);
    for (int i = begin; i < end; ++i) part = running(p, part, totals[i]);
    before_thread(part, static_cast<V>(p.product), shared, base, run);
  }
  V own = static_cast<V>(p.product), all;
  for (int e = 0; e < kCumulativeEach && at.first + e < p.count; ++e) own = running(p, own, cumulative_element<V>(p, at, at.first + e));
  V value = running(p, base, before_thread(own, static_cast<V>(p.product), shared, all, run));
  for (int e = 0; e < kCumulativeEach && at.first + e < p.count; ++e) {
    const long long k = at.first + e;
    const V before = value;
    value = running(p, value, cumulative_element<V>(p, at, k));
    cumulative_result(p, at, k, p.exclusive ? before : value);
  }
}

}  // namespace lathe::cuda

#define LATHE_CUMULATIVE(name, work, type)                                                                          \
  extern "C" __global__ void __launch_bounds__(256) name(const __grid_constant__ lathe::cuda::CumulativeParams p) { \
    __shared__ type shared[lathe::cuda::kCumulativeThreads];                                                        \
    lathe::cuda::work<type>(p, shared);                                                                             \
  }
LATHE_CUMULATIVE(cumulative_totals_float, cumulative_totals, double)
LATHE_CUMULATIVE(cumulative_totals_whole, cumulative_totals, lathe::cuda::u64)
LATHE_CUMULATIVE(cumulative_elements_float, cumulative_elements, double)
LATHE_CUMULATIVE(cumulative_elements_whole, cumulative_elements, lathe::cuda::u64)
