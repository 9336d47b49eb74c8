// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// CumProd of floating-point numbers. The definition multiplies one element after the other in double precision, where a product that was infinite or zero
// once is no number again, while one of a part may leave the range where the whole does not. So parts are mantissas with exponents of their own. The first
// kernel makes a piece's product, and the largest and the smallest of its running ones; the second goes through a row's pieces: what a piece begins with, and
// whether its products stay in range from there; the third goes through the elements. A piece in which they leave the range is one thread's, in order.
//! limits cumulative_product_*: registers 80, shared 12800, spill 8

#include "ops/reduce/cumulative_device.cuh"

namespace lathe::cuda {

/// m * 2^e, m from 1/2 to below 1 or its negative; or 0, an infinity or NaN, with an exponent beyond all others.
struct CumulativeScaled {
  double m;
  int e, padding;
};
constexpr int kCumulativeFar = 1 << 24;  ///< beyond the exponent of any product of a piece

__device__ inline CumulativeScaled cumulative_scaled(double m, int e) {
  const double size = fabs(m);
  if (size == 0) return {m, -kCumulativeFar, 0};
  if (!(size <= 1)) return {m, kCumulativeFar, 0};
  return {m, e, 0};
}
__device__ inline CumulativeScaled cumulative_scaled(double x) {
  int e = 0;
  const double m = frexp(x, &e);
  return cumulative_scaled(m, e);
}
__device__ inline CumulativeScaled cumulative_times(const CumulativeScaled& a, const CumulativeScaled& b) {
  const double m = a.m * b.m;
  const bool small = fabs(m) < 0.5;
  return cumulative_scaled(small ? m * 2 : m, a.e + b.e - small);
}
__device__ inline CumulativeScaled cumulative_size(const CumulativeScaled& a) { return {fabs(a.m), a.e, 0}; }
/// Of two that are not negative.
__device__ inline bool cumulative_less(const CumulativeScaled& a, const CumulativeScaled& b) { return a.e < b.e || (a.e == b.e && a.m < b.m); }
__device__ inline double cumulative_value(const CumulativeScaled& a) { return a.e == kCumulativeFar || a.e == -kCumulativeFar ? a.m : ldexp(a.m, a.e); }

/// Of some elements in a row.
struct CumulativePart {
  CumulativeScaled all, high, low;  ///< the product; the largest and the smallest of those that run up to one of them, without signs
};
__device__ inline CumulativePart cumulative_nothing() {
  return {cumulative_scaled(1.0), {0.0, -kCumulativeFar, 0}, {__uint_as_float(0x7f800000u), kCumulativeFar, 0}};
}
__device__ inline CumulativePart cumulative_behind(const CumulativePart& a, const CumulativePart& b) {
  const CumulativeScaled size = cumulative_size(a.all), high = cumulative_times(size, b.high), low = cumulative_times(size, b.low);
  return {cumulative_times(a.all, b.all), cumulative_less(a.high, high) ? high : a.high, cumulative_less(low, a.low) ? low : a.low};
}

/// What a piece begins with.
struct CumulativeBase {
  double value;
  int leaves, padding;  ///< leaves: its products leave the range of normal numbers
};
static_assert(sizeof(CumulativePart) == kCumulativePartBytes && sizeof(CumulativeBase) == kCumulativeBaseBytes);
__device__ inline CumulativeBase* cumulative_bases(const CumulativeParams& p, long long rows) {
  return reinterpret_cast<CumulativeBase*>(static_cast<CumulativePart*>(p.totals) + rows * p.pieces);
}

__device__ inline void cumulative_product_parts(const CumulativeParams& p, CumulativePart* shared) {
  launch_dependents();
  const CumulativePlace at(p);
  wait_for_previous();
  CumulativePart own = cumulative_nothing(), all;
  for (int e = 0; e < kCumulativeEach && at.first + e < p.count; ++e) {
    const CumulativeScaled x = cumulative_scaled(cumulative_element<double>(p, at, at.first + e));
    own = cumulative_behind(own, {x, cumulative_size(x), cumulative_size(x)});
  }
  before_thread(own, cumulative_nothing(), shared, all, [](const CumulativePart& a, const CumulativePart& b) { return cumulative_behind(a, b); });
  if (threadIdx.x == 0) static_cast<CumulativePart*>(p.totals)[blockIdx.x] = all;
}

/// A block a row: its threads bring parts, of which the first thread makes the bases.
__device__ inline void cumulative_product_bases(const CumulativeParams& p, CumulativePart* shared) {
  launch_dependents();
  const long long row = blockIdx.x;
  const int thread = static_cast<int>(threadIdx.x);
  CumulativeBase* const bases = cumulative_bases(p, gridDim.x) + row * p.pieces;
  wait_for_previous();
  double value = 1;
  for (int begin = 0; begin < p.pieces; begin += kCumulativeThreads) {
    const int many = min(kCumulativeThreads, p.pieces - begin);
    if (thread < many) shared[thread] = static_cast<const CumulativePart*>(p.totals)[row * p.pieces + begin + thread];
    __syncthreads();
    for (int i = 0; i < many && thread == 0; ++i) {
      const CumulativePart& part = shared[i];
      const CumulativeScaled from = cumulative_scaled(value), size = cumulative_size(from);
      const bool ended = from.e == kCumulativeFar || from.e == -kCumulativeFar;  // zero, infinite or no number: as it stays
      const bool leaves = !ended && (cumulative_times(size, part.high).e > 1023 || cumulative_times(size, part.low).e < -1020);
      bases[begin + i] = {value, leaves, 0};
      if (!leaves) {
        value = cumulative_value(cumulative_times(from, part.all));
        continue;
      }
      const CumulativePlace at(p, row, begin + i, 0);
      for (int e = 0; e < kCumulativePiece && at.first + e < p.count; ++e) value *= cumulative_element<double>(p, at, at.first + e);
    }
    __syncthreads();
  }
}

__device__ inline void cumulative_product_elements(const CumulativeParams& p, CumulativeScaled* shared) {
  launch_dependents();
  const CumulativePlace at(p);
  wait_for_previous();
  const CumulativeBase base = cumulative_bases(p, gridDim.x / static_cast<unsigned>(p.pieces))[blockIdx.x];
  if (base.leaves) {
    double value = base.value;
    for (int e = 0; e < kCumulativePiece && at.first + e < p.count && threadIdx.x == 0; ++e) {
      const double before = value;
      value *= cumulative_element<double>(p, at, at.first + e);
      cumulative_result(p, at, at.first + e, p.exclusive ? before : value);
    }
    return;
  }
  CumulativeScaled own = cumulative_scaled(1.0), all;
  for (int e = 0; e < kCumulativeEach && at.first + e < p.count; ++e)
    own = cumulative_times(own, cumulative_scaled(cumulative_element<double>(p, at, at.first + e)));
  const auto run = [](const CumulativeScaled& a, const CumulativeScaled& b) { return cumulative_times(a, b); };
  CumulativeScaled value = cumulative_times(cumulative_scaled(base.value), before_thread(own, cumulative_scaled(1.0), shared, all, run));
  for (int e = 0; e < kCumulativeEach && at.first + e < p.count; ++e) {
    const CumulativeScaled before = value;
    value = cumulative_times(value, cumulative_scaled(cumulative_element<double>(p, at, at.first + e)));
    cumulative_result(p, at, at.first + e, cumulative_value(p.exclusive ? before : value));
  }
}

}  // namespace lathe::cuda

#define LATHE_CUMULATIVE_PRODUCT(name, type)                                                                                             \
  extern "C" __global__ void __launch_bounds__(256) cumulative_product_##name(const __grid_constant__ lathe::cuda::CumulativeParams p) { \
    __shared__ lathe::cuda::type shared[lathe::cuda::kCumulativeThreads];                                                                \
    lathe::cuda::cumulative_product_##name(p, shared);                                                                                   \
  }
LATHE_CUMULATIVE_PRODUCT(parts, CumulativePart)
LATHE_CUMULATIVE_PRODUCT(bases, CumulativePart)
LATHE_CUMULATIVE_PRODUCT(elements, CumulativeScaled)
