// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Elements as unsigned numbers that order as they do, for kernels that sort.

#include "backend/cuda/kernels/ptx.cuh"
#include "ops/topk/topk_params.h"

namespace lathe::cuda {

/// Bits of a float of `kBits`, `infinity` of its kind -> a number that orders as the floats do: -0 like +0, NaN above all.
__device__ inline u32 ordered(u32 bits, u32 sign, u32 infinity) {
  const u32 magnitude = bits & (sign - 1);
  if (magnitude > infinity) return 0xffffffffu;
  return (bits & sign ? 0u - magnitude : magnitude) ^ 0x80000000u;
}
__device__ inline u32 narrow_key(const void* x, long long at, int type) {
  switch (type) {
    case kTopKFloat32: return ordered(static_cast<const u32*>(x)[at], 0x80000000u, 0x7f800000u);
    case kTopKFloat16: return ordered(static_cast<const u16*>(x)[at], 0x8000u, 0x7c00u);
    case kTopKBFloat16: return ordered(static_cast<u32>(static_cast<const u16*>(x)[at]) << 16, 0x80000000u, 0x7f800000u);
    case kTopKInt8: return static_cast<u32>(static_cast<int>(static_cast<const signed char*>(x)[at])) ^ 0x80000000u;
    case kTopKInt16: return static_cast<u32>(static_cast<int>(static_cast<const short*>(x)[at])) ^ 0x80000000u;
    case kTopKInt32: return static_cast<const u32*>(x)[at] ^ 0x80000000u;
    case kTopKUint8: return static_cast<const unsigned char*>(x)[at];
    case kTopKUint16: return static_cast<const u16*>(x)[at];
    default: return static_cast<const u32*>(x)[at];
  }
}
__device__ inline u64 wide_key(const void* x, long long at, int type) {
  constexpr u64 kSign = 1ull << 63;
  const u64 bits = static_cast<const u64*>(x)[at];
  if (type == kTopKUint64) return bits;
  if (type == kTopKInt64) return bits ^ kSign;
  const u64 magnitude = bits & (kSign - 1);
  if (magnitude > 0x7ff0000000000000ull) return ~0ull;
  return (bits & kSign ? 0ull - magnitude : magnitude) ^ kSign;
}

}  // namespace lathe::cuda
