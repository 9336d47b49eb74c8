// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Elements of any type that the plain kernels read, as what they compute in: float, double, or whole numbers that wrap, in 32 or in 64 bits.

#include "backend/cuda/kernels/plain_params.h"
#include "backend/cuda/kernels/ptx.cuh"

namespace lathe::cuda {

__device__ inline void plain_read(const void* p, long long at, int type, float& value) { value = load_element(p, at, type); }
__device__ inline void plain_read(const void* p, long long at, int type, double& value) {
  value = type == kPlainFloat64 ? static_cast<const double*>(p)[at] : static_cast<double>(load_element(p, at, type));
}
__device__ inline void plain_read(const void* p, long long at, int, u32& value) { value = static_cast<const u32*>(p)[at]; }
__device__ inline void plain_read(const void* p, long long at, int type, u64& value) {
  switch (type) {
    case kPlainInt32: value = static_cast<u64>(static_cast<long long>(static_cast<const int*>(p)[at])); break;
    case kPlainUint32: value = static_cast<const u32*>(p)[at]; break;
    default: value = static_cast<const u64*>(p)[at]; break;
  }
}

__device__ inline void plain_write(void* p, long long at, int type, float value) { store_element(p, at, type, value); }
__device__ inline void plain_write(void* p, long long at, int type, double value) {
  if (type == kPlainFloat64) static_cast<double*>(p)[at] = value;
  else store_element(p, at, type, static_cast<float>(value));
}
__device__ inline void plain_write(void* p, long long at, int, u32 value) { static_cast<u32*>(p)[at] = value; }
__device__ inline void plain_write(void* p, long long at, int type, u64 value) {
  if (type == kPlainInt32 || type == kPlainUint32) static_cast<u32*>(p)[at] = static_cast<u32>(value);
  else static_cast<u64*>(p)[at] = value;
}

}  // namespace lathe::cuda
