// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Stands in for src/backend/cuda/kernels/ptx.cuh where a kernel is compiled for the CPU (host_cuda.h): what the kernels that are tested so use of it.

#include "backend/cuda/kernels/gemm_params.h"
#include "base/half.h"
#include "host_cuda.h"

namespace lathe::cuda {

using u32 = unsigned int;
using u16 = unsigned short;
using u64 = unsigned long long;

inline float half_to_float(u16 h) { return lathe::half_to_float(h); }
inline u16 float_to_half(float f) { return lathe::float_to_half(f); }
inline float bfloat_to_float(u16 h) { return lathe::bfloat16_to_float(h); }
inline u16 float_to_bfloat(float f) { return lathe::float_to_bfloat16(f); }
inline float load_element(const void* p, long long i, int type) {
  if (type == kElementFloat32) return static_cast<const float*>(p)[i];
  const u16 h = static_cast<const u16*>(p)[i];
  return type == kElementFloat16 ? half_to_float(h) : bfloat_to_float(h);
}
inline void store_element(void* p, long long i, int type, float value) {
  if (type == kElementFloat32) static_cast<float*>(p)[i] = value;
  else static_cast<u16*>(p)[i] = type == kElementFloat16 ? float_to_half(value) : float_to_bfloat(value);
}
inline void load8(float (&v)[8], const void* p, long long i, int type) {
  const auto at = reinterpret_cast<std::uintptr_t>(p) + static_cast<std::uintptr_t>(i) * (type == kElementFloat32 ? 4 : 2);
  if (at % 16 != 0) host_cuda::fail("16 bytes are read from an address that is no multiple of 16");
  for (int e = 0; e < 8; ++e) v[e] = load_element(p, i + e, type);
}
inline void launch_dependents() {}
inline void wait_for_previous() {}

}  // namespace lathe::cuda
