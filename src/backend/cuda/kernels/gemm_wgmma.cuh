// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The product on wgmma (sm_90a): both operands are read from shared memory by the tensor cores. A is gathered by cp.async as in the other
// core; a tile of packed B is one bulk copy that reports to a barrier in shared memory, so no thread computes addresses for it.

#include "backend/cuda/kernels/gemm_mma.cuh"

namespace lathe::cuda {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

__device__ inline void barrier_init(u32 barrier, u32 arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
__device__ inline void barrier_wait(u32 barrier, u32 parity) {
  asm volatile(
      "{\n.reg .pred done;\n"
      "again:\n mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n @done bra.uni over;\n bra.uni again;\n"
      "over:\n}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}
/// One thread: `bytes` (a multiple of 16) from device memory; the barrier's phase ends when they have arrived.
__device__ inline void bulk_copy(u32 to, const void* from, u32 bytes, u32 barrier) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to), "l"(from), "r"(bytes), "r"(barrier)
               : "memory");
}
/// What this thread wrote to shared memory is visible to the tensor cores and the copy engine (after a barrier, to all of the block's).
__device__ inline void proxy_fence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

/// Rows of 128 bytes, swizzled in groups of 8 rows (1024 bytes), depth along the row.
__device__ inline u64 operand_descriptor(u32 address) {
  return static_cast<u64>((address & 0x3ffff) >> 4) | (1ull << 16) | (static_cast<u64>(1024 >> 4) << 32) | (1ull << 62);
}

__device__ inline void wgmma_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kPending>
__device__ inline void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

#define LATHE_D8(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define LATHE_D32(i) LATHE_D8(i), LATHE_D8(i + 8), LATHE_D8(i + 16), LATHE_D8(i + 24)
#define LATHE_R0 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define LATHE_R32 "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define LATHE_R64 "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95"
#define LATHE_R96                                                                                                                       \
  "%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122," \
  "%123,%124,%125,%126,%127"

/// d[64 x kN] += a[64 x 32 bytes] b[32 bytes x kN]; asynchronous.
template <int kType, int kN>
struct Wgmma;
#define LATHE_WGMMA(type, text, more)                                                                                                                    \
  template <>                                                                                                                                            \
  struct Wgmma<type, 64> {                                                                                                                               \
    __device__ static void run(float (&d)[32], u64 a, u64 b) {                                                                                           \
      asm volatile("wgmma.mma_async.sync.aligned.m64n64" text " {" LATHE_R0 "}, %32, %33, 1, 1, 1" more ";" : LATHE_D32(0) : "l"(a), "l"(b));            \
    }                                                                                                                                                    \
  };                                                                                                                                                     \
  template <>                                                                                                                                            \
  struct Wgmma<type, 128> {                                                                                                                              \
    __device__ static void run(float (&d)[64], u64 a, u64 b) {                                                                                           \
      asm volatile("wgmma.mma_async.sync.aligned.m64n128" text " {" LATHE_R0 "," LATHE_R32 "}, %64, %65, 1, 1, 1" more ";"                               \
                   : LATHE_D32(0), LATHE_D32(32)                                                                                                         \
                   : "l"(a), "l"(b));                                                                                                                    \
    }                                                                                                                                                    \
  };                                                                                                                                                     \
  template <>                                                                                                                                            \
  struct Wgmma<type, 256> {                                                                                                                              \
    __device__ static void run(float (&d)[128], u64 a, u64 b) {                                                                                          \
      asm volatile("wgmma.mma_async.sync.aligned.m64n256" text " {" LATHE_R0 "," LATHE_R32 "," LATHE_R64 "," LATHE_R96 "}, %128, %129, 1, 1, 1" more ";" \
                   : LATHE_D32(0), LATHE_D32(32), LATHE_D32(64), LATHE_D32(96)                                                                           \
                   : "l"(a), "l"(b));                                                                                                                    \
    }                                                                                                                                                    \
  };
LATHE_WGMMA(kProductF16, "k16.f32.f16.f16", ", 0, 0")
LATHE_WGMMA(kProductBF16, "k16.f32.bf16.bf16", ", 0, 0")
LATHE_WGMMA(kProductTF32, "k8.f32.tf32.tf32", "")

template <int kType, int kTileM, int kTileN, int kGroups, int kStages, int kInFlight>
__device__ inline void gemm_wgmma(const GemmParams& p) {
  constexpr int kThreads = kGroups * 128, kBytes = ProductBytes<kType>::value, kM = kTileM / kGroups / 64;
  constexpr int kAhead = kStages - 1 - kInFlight;  ///< chunks on their way while one is multiplied
  using Memory = TileMemory<kTileM, kTileN, kStages>;
  extern __shared__ __align__(1024) char shared[];
  __shared__ __align__(8) u64 barriers[kStages];
  __shared__ __align__(16) float bias[kTileN];
  launch_dependents();
  if (threadIdx.x == 32) fetch_ahead(p.next, p.next_bytes, blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z), gridDim.x * gridDim.y * gridDim.z);

  const ItemPointers item = item_pointers<kBytes, true>(p, kBytes, blockIdx.x, kTileM, kTileN);
  const int first_chunk = blockIdx.y * p.chunks_per_split, chunks = min(p.chunks_per_split, p.chunks - first_chunk);
  const u32 tiles = shared_address(shared), barrier = shared_address(barriers);
  const u32 b_bytes = min(kTileN, p.packed_columns - item.target.column) * 128;
  const char* b = item.b + (static_cast<long long>(first_chunk) * p.packed_columns + item.target.column) * 128;
  const auto load_b = [&](int stage) {
    bulk_copy(tiles + stage * Memory::kStageBytes + kTileM * 128, b, b_bytes, barrier + stage * 8);
    b += static_cast<long long>(p.packed_columns) * 128;
  };
  if (threadIdx.x == 0) {
    for (int s = 0; s < kStages; ++s) barrier_init(barrier + s * 8, 1);
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    for (int s = 0; s < kAhead; ++s)
      if (s < chunks) load_b(s);
  }
  VectorGather<kTileM, kThreads, kBytes> a;
  a.start(p, item.a, item.target.row, first_chunk);
  static_assert(kTileN <= kThreads);
  const float own_bias = load_bias<kTileN>(p, item.target);
  wait_for_previous();
#pragma unroll 1
  for (int s = 0; s < kAhead; ++s) {
    if (s < chunks) a.load(p, tiles + s * Memory::kStageBytes);
    copies_commit();
  }

  float sum[kM][kTileN / 2];
#pragma unroll
  for (int i = 0; i < kM; ++i)
#pragma unroll
    for (int j = 0; j < kTileN / 2; ++j) sum[i][j] = 0;
  const int group_row = (threadIdx.x >> 7) * (kTileM / kGroups);
  int read = 0, write = kAhead % kStages, phase = 0;
  for (int chunk = 0; chunk < chunks; ++chunk) {
    copies_wait<kAhead - 1>();
    proxy_fence();
    wgmma_wait<kInFlight>();
    __syncthreads();  // A has arrived for all, and the stage that is filled next has been multiplied
    barrier_wait(barrier + read * 8, phase);
    const u32 from_a = tiles + read * Memory::kStageBytes + group_row * 128, from_b = tiles + read * Memory::kStageBytes + kTileM * 128;
    wgmma_begin();
#pragma unroll
    for (int step = 0; step < 4; ++step)
#pragma unroll
      for (int i = 0; i < kM; ++i)
        Wgmma<kType, kTileN>::run(sum[i], operand_descriptor(from_a + i * 64 * 128 + step * 32), operand_descriptor(from_b + step * 32));
    wgmma_commit();
    if (chunk + kAhead < chunks) {
      if (threadIdx.x == 0) load_b(write);
      a.load(p, tiles + write * Memory::kStageBytes);
    }
    copies_commit();
    if (++read == kStages) read = 0, phase ^= 1;
    if (++write == kStages) write = 0;
  }
  wgmma_wait<0>();
  copies_wait<0>();
  __syncthreads();
  float* sums = reinterpret_cast<float*>(shared);
  if (threadIdx.x < kTileN) bias[threadIdx.x] = own_bias;
  constexpr int kPitch = kTileN + 8;
  const int lane = threadIdx.x & 31, row = group_row + ((threadIdx.x >> 5) & 3) * 16 + (lane >> 2);
#pragma unroll
  for (int i = 0; i < kM; ++i)
#pragma unroll
    for (int j = 0; j < kTileN / 8; ++j) {
      float* to = sums + (row + i * 64) * kPitch + j * 8 + (lane & 3) * 2;
      *reinterpret_cast<float2*>(to) = make_float2(sum[i][j * 4], sum[i][j * 4 + 1]);
      *reinterpret_cast<float2*>(to + 8 * kPitch) = make_float2(sum[i][j * 4 + 2], sum[i][j * 4 + 3]);
    }
  __syncthreads();
  finish_tile<kTileM, kTileN, kThreads>(p, item.target, sums, bias, blockIdx.x);
}

#define LATHE_GEMM_WGMMA(type_name, type, m, n, groups, stages, blocks, in_flight)                         \
  extern "C" __global__ void __launch_bounds__(groups * 128, blocks)                                       \
      gemm_wgmma_##type_name##_##m##x##n##_vec_packed(const __grid_constant__ lathe::cuda::GemmParams p) { \
    lathe::cuda::gemm_wgmma<lathe::cuda::type, m, n, groups, stages, in_flight>(p);                        \
  }

#endif

}  // namespace lathe::cuda
