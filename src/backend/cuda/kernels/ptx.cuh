// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The few PTX instructions that the kernels are made of, one function each, and conversions between storage types and float32. No
// header of the CUDA toolkit is needed: NVRTC compiles this alone. Where an architecture lacks an instruction the function does the same
// with older ones, or nothing where it is a hint.

#include "backend/cuda/kernels/gemm_params.h"

namespace lathe::cuda {

using u32 = unsigned int;
using u16 = unsigned short;
using u64 = unsigned long long;

__device__ inline u32 divide(u32 n, const FastDivisor& d) { return (__umulhi(n, d.multiplier) + n) >> d.shift; }

__device__ inline u32 shared_address(const void* p) { return static_cast<u32>(__cvta_generic_to_shared(p)); }

// ---- conversions ----

__device__ inline float half_to_float(u16 h) {
  float f;
  asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
  return f;
}
__device__ inline u16 float_to_half(float f) {
  u16 h;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
  return h;
}
__device__ inline float bfloat_to_float(u16 h) { return __uint_as_float(static_cast<u32>(h) << 16); }
__device__ inline u16 float_to_bfloat(float f) {
#if __CUDA_ARCH__ >= 800
  u16 h;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(h) : "f"(f));
  return h;
#else
  const u32 bits = __float_as_uint(f);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<u16>((bits >> 16) | 0x40u);
  return static_cast<u16>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
#endif
}
/// Low half first.
__device__ inline u32 pack2(float low, float high, int type) {
#if __CUDA_ARCH__ >= 800
  u32 r;
  if (type == kElementFloat16) asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  else asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
#else
  if (type == kElementFloat16) return float_to_half(low) | static_cast<u32>(float_to_half(high)) << 16;
  return float_to_bfloat(low) | static_cast<u32>(float_to_bfloat(high)) << 16;
#endif
}
__device__ inline float load_element(const void* p, long long i, int type) {
  if (type == kElementFloat32) return static_cast<const float*>(p)[i];
  const u16 h = static_cast<const u16*>(p)[i];
  return type == kElementFloat16 ? half_to_float(h) : bfloat_to_float(h);
}
__device__ inline void store_element(void* p, long long i, int type, float value) {
  if (type == kElementFloat32) static_cast<float*>(p)[i] = value;
  else static_cast<u16*>(p)[i] = type == kElementFloat16 ? float_to_half(value) : float_to_bfloat(value);
}
/// Eight consecutive elements; 16-byte aligned.
__device__ inline void load8(float (&v)[8], const void* p, long long i, int type) {
  if (type == kElementFloat32) {
    const float4* q = reinterpret_cast<const float4*>(static_cast<const float*>(p) + i);
    const float4 a = q[0], b = q[1];
    v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w, v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
    return;
  }
  const uint4 q = *reinterpret_cast<const uint4*>(static_cast<const u16*>(p) + i);
  const u32 w[4] = {q.x, q.y, q.z, q.w};
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    if (type == kElementFloat16) {
      v[2 * j] = half_to_float(static_cast<u16>(w[j] & 0xffffu));
      v[2 * j + 1] = half_to_float(static_cast<u16>(w[j] >> 16));
    } else {
      v[2 * j] = __uint_as_float(w[j] << 16);
      v[2 * j + 1] = __uint_as_float(w[j] & 0xffff0000u);
    }
  }
}
__device__ inline void store8(void* p, long long i, int type, const float (&v)[8]) {
  if (type == kElementFloat32) {
    float4* q = reinterpret_cast<float4*>(static_cast<float*>(p) + i);
    q[0] = make_float4(v[0], v[1], v[2], v[3]);
    q[1] = make_float4(v[4], v[5], v[6], v[7]);
    return;
  }
  *reinterpret_cast<uint4*>(static_cast<u16*>(p) + i) =
      make_uint4(pack2(v[0], v[1], type), pack2(v[2], v[3], type), pack2(v[4], v[5], type), pack2(v[6], v[7], type));
}

// ---- asynchronous copies ----

/// 16 bytes global -> shared past the first-level cache (through it is slower, even for the overlapping windows of a convolution): `bytes`
/// from memory, zeros behind them. With 0 the address is not read.
__device__ inline void copy16(u32 to, const void* from, int bytes) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
#else
  u32 v[4] = {};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (bytes >= 4 * i + 4) v[i] = static_cast<const u32*>(from)[i];
    else if (bytes == 4 * i + 2) v[i] = static_cast<const u16*>(from)[2 * i];
  }
  asm volatile("st.shared.v4.b32 [%0], {%1,%2,%3,%4};" ::"r"(to), "r"(v[0]), "r"(v[1]), "r"(v[2]), "r"(v[3]) : "memory");
#endif
}
__device__ inline void copies_commit() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
template <int kPending>
__device__ inline void copies_wait() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
#endif
}
__device__ inline void store_shared16(u32 to, uint4 v) {
  asm volatile("st.shared.v4.b32 [%0], {%1,%2,%3,%4};" ::"r"(to), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}
__device__ inline u32 load_shared4(u32 from) {
  u32 v;
  asm volatile("ld.shared.b32 %0, [%1];" : "=r"(v) : "r"(from));
  return v;
}

/// Block `block` of `blocks` asks the second-level cache for its share of `bytes` (below 2^32) at `p`; null: for nothing. Any thread may call it, one does.
__device__ inline void fetch_ahead(const void* p, u32 bytes, u32 block, u32 blocks) {
  if (!p) return;
  const u32 share = ((bytes + 15) / 16 + blocks - 1) / blocks * 16, first = block * share;
  if (first >= bytes) return;
  const u32 own = min(share, bytes - first) & ~15u;
  const char* from = static_cast<const char*>(p) + first;
#if __CUDA_ARCH__ >= 900
  if (own > 0) asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(own) : "memory");
#else
  for (u32 at = 0; at < own; at += 128) asm volatile("prefetch.global.L2 [%0];" ::"l"(from + at) : "memory");
#endif
}

// ---- matrix fragments ----

__device__ inline void load_matrices(u32 (&r)[4], u32 from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(from) : "memory");
}
__device__ inline void load_matrices_transposed(u32 (&r)[4], u32 from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(from) : "memory");
}

/// d[16 x 8] += a[16 x 32 bytes] b[32 bytes x 8].
template <int kType>
__device__ inline void multiply(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  if constexpr (kType == kProductF16) {
#if __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(b0));
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[2]), "r"(a[3]), "r"(b1));
#endif
  }
#if __CUDA_ARCH__ >= 800
  if constexpr (kType == kProductBF16)
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  if constexpr (kType == kProductTF32 || kType == kProductF32)
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}
__device__ inline u32 round_tf32(u32 bits) {
#if __CUDA_ARCH__ >= 800
  u32 r;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(__uint_as_float(bits)));
  return r;
#else
  return bits;
#endif
}

// ---- dependent launches, clusters, barriers (compute capability 9.0 and later) ----

/// The next kernel of the stream may start its prologue.
__device__ inline void launch_dependents() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
/// What earlier kernels of the stream wrote is visible after this.
__device__ inline void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
/// All threads of the cluster; what they wrote to shared memory before is visible after.
__device__ inline void cluster_barrier() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release.aligned;\n barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}
/// The same in two halves, ordering no writes: "I have read", and "all have read".
__device__ inline void cluster_arrive() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
#endif
}
__device__ inline void cluster_wait() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.wait.aligned;" ::: "memory");
#endif
}
/// 16 bytes from the shared memory of the cluster's block `rank`, at the address that `local` has in this block.
__device__ inline float4 load_cluster16(u32 local, u32 rank) {
  float4 v = make_float4(0, 0, 0, 0);
#if __CUDA_ARCH__ >= 900
  u32 remote;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(local), "r"(rank));
  asm volatile("ld.shared::cluster.v4.f32 {%0,%1,%2,%3}, [%4];" : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "r"(remote) : "memory");
#endif
  return v;
}

}  // namespace lathe::cuda
