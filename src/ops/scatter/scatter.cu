// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// ScatterElements and ScatterND. Without a reduction every update writes its number to its target, where the greatest stays, and each element of the
// result then takes that update or the datum. With one the updates are sorted by target (topk.cu), and one thread combines all of an element, in their
// order: no result hangs on which thread was first. An index out of bounds reaches nothing.
//! limits scatter_*: registers 64, shared 0, spill 8

#include "backend/cuda/kernels/ptx.cuh"
#include "ops/scatter/scatter_params.h"

namespace lathe::cuda {

__device__ inline long long offset_in(const ScatterTensor& t, long long place) {
  if (t.dense) return place;
  long long at = 0;
  for (int axis = t.axes - 1; axis >= 0; --axis) {
    const long long rest = place / t.extent[axis];
    at += (place - rest * t.extent[axis]) * t.step[axis];
    place = rest;
  }
  return at;
}

__device__ inline long long index_at(const ScatterParams& p, long long place) {
  const long long at = offset_in(p.at, place);
  return p.wide ? static_cast<const long long*>(p.indices)[at] : static_cast<const int*>(p.indices)[at];
}

/// Where an update goes, or -1.
__device__ inline int target_of(const ScatterParams& p, long long tuple) {
  long long target = 0;
  if (p.axis < 0) {
    for (int k = 0; k < p.depth; ++k) {
      long long index = index_at(p, tuple * p.depth + k);
      if (index < 0) index += p.from.extent[k];
      if (index < 0 || index >= p.from.extent[k]) return -1;
      target = target * p.from.extent[k] + index;
    }
    return static_cast<int>(target);
  }
  long long index = index_at(p, tuple), weight = 1;
  if (index < 0) index += p.from.extent[p.axis];
  if (index < 0 || index >= p.from.extent[p.axis]) return -1;
  for (int axis = p.from.axes - 1; axis >= 0; --axis) {
    const long long rest = tuple / p.at.extent[axis];
    target += (axis == p.axis ? index : tuple - rest * p.at.extent[axis]) * weight;
    weight *= p.from.extent[axis];
    tuple = rest;
  }
  return static_cast<int>(target);
}

__device__ inline void copy_element(const ScatterParams& p, const void* from, long long at, int type, long long to) {
  if (type != p.out_type) {
    store_element(p.out, to, p.out_type, load_element(from, at, type));
    return;
  }
  switch (p.bytes) {
    case 1: static_cast<unsigned char*>(p.out)[to] = static_cast<const unsigned char*>(from)[at]; break;
    case 2: static_cast<u16*>(p.out)[to] = static_cast<const u16*>(from)[at]; break;
    case 4: static_cast<u32*>(p.out)[to] = static_cast<const u32*>(from)[at]; break;
    default: static_cast<u64*>(p.out)[to] = static_cast<const u64*>(from)[at]; break;
  }
}

template <class T>
__device__ inline T combined(int reduction, T old, T update) {
  switch (reduction) {
    case kScatterAdd: return static_cast<T>(old + update);
    case kScatterMul:
      // Two of 16 bits are multiplied as int, which may not hold the product.
      if constexpr (sizeof(T) == 2) return static_cast<T>(static_cast<u32>(old) * static_cast<u32>(update));
      else return static_cast<T>(old * update);
    case kScatterMax: return old != old || old > update ? old : update;
    default: return old != old || old < update ? old : update;
  }
}

/// The updates from place `j` of the order on that have one target, into the datum.
template <class T>
__device__ inline void combine_run(const ScatterParams& p, long long j, int target, long long off, T value) {
  for (; j < p.tuples; ++j) {
    const long long tuple = p.order[j];
    if (p.targets[tuple] != target) break;
    value = combined<T>(p.reduction, value, static_cast<const T*>(p.updates)[offset_in(p.brought, tuple * p.inner + off)]);
  }
  static_cast<T*>(p.out)[offset_in(p.to, target * p.inner + off)] = value;
}
/// Narrow floating-point numbers, and those of several types: computed in float32, rounded after each.
__device__ inline float rounded(float value, int type) {
  return type == kElementFloat32 ? value : type == kElementFloat16 ? half_to_float(float_to_half(value)) : bfloat_to_float(float_to_bfloat(value));
}
__device__ inline void combine_floats(const ScatterParams& p, long long j, int target, long long off, float value) {
  for (; j < p.tuples; ++j) {
    const long long tuple = p.order[j];
    if (p.targets[tuple] != target) break;
    value = rounded(combined<float>(p.reduction, value, load_element(p.updates, offset_in(p.brought, tuple * p.inner + off), p.type)), p.out_type);
  }
  store_element(p.out, offset_in(p.to, target * p.inner + off), p.out_type, value);
}
/// Sums and greatest of truth values are or, the others and.
__device__ inline void combine_bools(const ScatterParams& p, long long j, int target, long long off, unsigned char value) {
  const bool any = p.reduction == kScatterAdd || p.reduction == kScatterMax;
  for (; j < p.tuples; ++j) {
    const long long tuple = p.order[j];
    if (p.targets[tuple] != target) break;
    const unsigned char update = static_cast<const unsigned char*>(p.updates)[offset_in(p.brought, tuple * p.inner + off)];
    value = any ? value | update : value & update;
  }
  static_cast<unsigned char*>(p.out)[offset_in(p.to, target * p.inner + off)] = value;
}

__device__ inline long long first_of_thread() { return static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ inline long long threads_in_all() { return static_cast<long long>(gridDim.x) * blockDim.x; }

__device__ inline void scatter_clear(const ScatterParams& p) {
  launch_dependents();
  wait_for_previous();
  for (long long i = first_of_thread(); i < p.slices; i += threads_in_all()) p.owner[i] = -1;
}

__device__ inline void scatter_mark(const ScatterParams& p) {
  launch_dependents();
  wait_for_previous();
  for (long long i = first_of_thread(); i < p.tuples; i += threads_in_all()) {
    const int target = target_of(p, i);
    if (p.targets) p.targets[i] = target;
    else if (target >= 0) atomicMax(p.owner + target, static_cast<int>(i));
  }
}

__device__ inline void scatter_fill(const ScatterParams& p) {
  launch_dependents();
  wait_for_previous();
  const long long elements = p.slices * p.inner;
  for (long long i = first_of_thread(); i < elements; i += threads_in_all()) {
    const long long slice = i / p.inner, to = offset_in(p.to, i);
    const int owner = p.owner ? p.owner[slice] : -1;
    if (owner < 0) copy_element(p, p.data, offset_in(p.from, i), p.data_type, to);
    else copy_element(p, p.updates, offset_in(p.brought, owner * p.inner + (i - slice * p.inner)), p.type, to);
  }
}

__device__ inline void scatter_combine(const ScatterParams& p) {
  launch_dependents();
  wait_for_previous();
  const long long items = p.tuples * p.inner;
  for (long long i = first_of_thread(); i < items; i += threads_in_all()) {
    const long long j = i / p.inner, off = i - j * p.inner;
    const int target = p.targets[p.order[j]];
    if (target < 0 || (j > 0 && p.targets[p.order[j - 1]] == target)) continue;
    const long long at = offset_in(p.from, target * p.inner + off);
    if (p.out_type <= kScatterBFloat16) {
      combine_floats(p, j, target, off, load_element(p.data, at, p.data_type));
      continue;
    }
    switch (p.type) {
      case kScatterFloat64: combine_run<double>(p, j, target, off, static_cast<const double*>(p.data)[at]); break;
      case kScatterInt8: combine_run<signed char>(p, j, target, off, static_cast<const signed char*>(p.data)[at]); break;
      case kScatterInt16: combine_run<short>(p, j, target, off, static_cast<const short*>(p.data)[at]); break;
      case kScatterInt32:
      case kScatterInt64:
        // Sums and products wrap, which only unsigned numbers may.
        if (p.reduction <= kScatterMul) {
          if (p.type == kScatterInt32) combine_run<u32>(p, j, target, off, static_cast<const u32*>(p.data)[at]);
          else combine_run<u64>(p, j, target, off, static_cast<const u64*>(p.data)[at]);
        } else if (p.type == kScatterInt32) {
          combine_run<int>(p, j, target, off, static_cast<const int*>(p.data)[at]);
        } else {
          combine_run<long long>(p, j, target, off, static_cast<const long long*>(p.data)[at]);
        }
        break;
      case kScatterUint8: combine_run<unsigned char>(p, j, target, off, static_cast<const unsigned char*>(p.data)[at]); break;
      case kScatterUint16: combine_run<u16>(p, j, target, off, static_cast<const u16*>(p.data)[at]); break;
      case kScatterUint32: combine_run<u32>(p, j, target, off, static_cast<const u32*>(p.data)[at]); break;
      case kScatterUint64: combine_run<u64>(p, j, target, off, static_cast<const u64*>(p.data)[at]); break;
      default: combine_bools(p, j, target, off, static_cast<const unsigned char*>(p.data)[at]); break;
    }
  }
}

}  // namespace lathe::cuda

#define LATHE_SCATTER(name) \
  extern "C" __global__ void __launch_bounds__(256) name(const __grid_constant__ lathe::cuda::ScatterParams p) { lathe::cuda::name(p); }
LATHE_SCATTER(scatter_clear)
LATHE_SCATTER(scatter_mark)
LATHE_SCATTER(scatter_fill)
LATHE_SCATTER(scatter_combine)
