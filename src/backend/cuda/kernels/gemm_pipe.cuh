// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The product for large problems on sm_90a. A block stays on its multiprocessor and walks over tiles; its warp groups have roles. The
// producer has the copy engine bring A (through a map of the tensor, else its threads copy) and packed B into a ring of stages; consumers
// multiply by wgmma and end their tile from registers, while the producer already fills the ring for the next one. Blocks may come in pairs (clusters of two
// along y) that take neighbouring row tiles: each brings half of B for both, because the second-level cache is what limits such products.
//
// Barriers of a stage: `full` counts the announcement of the copy engine's bytes and, where they copy, the producer's threads as that lands; `empty` one
// arrival per consumer warp of every block of the pair, since B is written into both. Phases alternate, counted from 0; a wait for the phase before the first
// succeeds at once, so the producer needs no special first round.

#include "backend/cuda/kernels/gemm_pipe_epilogue.cuh"
#include "backend/cuda/kernels/gemm_wgmma.cuh"

namespace lathe::cuda {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

__device__ inline bool ring_ready(u32 barrier, u32 parity) {
  u32 done;
  asm volatile("{\n.reg .pred p;\n mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n selp.u32 %0, 1, 0, p;\n}"
               : "=r"(done)
               : "r"(barrier), "r"(parity)
               : "memory");
  return done;
}
/// Waits for the phase of `parity` to end. A ring that has lost its phase becomes an error of the launch after some seconds, not a device
/// that hangs.
__device__ inline void ring_wait(u32 barrier, u32 parity) {
  constexpr u64 kMostNanoseconds = 4'000'000'000ull;
  u64 begin = 0;
#pragma unroll 1
  for (u32 tries = 1; !ring_ready(barrier, parity); ++tries) {
    if (tries % 256 != 0) continue;
    u64 now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    if (begin == 0) begin = now;
    if (now - begin > kMostNanoseconds) asm volatile("trap;");
  }
}
/// Arrives when this thread's copies so far have landed; the barrier counts it.
__device__ inline void copies_arrive(u32 barrier) { asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory"); }
__device__ inline void arrive_at(u32 barrier, u32 rank) {
  u32 remote;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(barrier), "r"(rank));
  asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(remote) : "memory");
}
__device__ inline void arrive(u32 barrier) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory"); }
__device__ inline void expect_bytes(u32 barrier, u32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
__device__ inline void bulk_copy_own(u32 to, const void* from, u32 bytes, u32 barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to), "l"(from), "r"(bytes), "r"(barrier)
               : "memory");
}
/// To the same place in both blocks of the pair, and to both blocks' barriers.
__device__ inline void bulk_copy_pair(u32 to, const void* from, u32 bytes, u32 barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], %2, [%3], %4;" ::"r"(to), "l"(from),
               "r"(bytes), "r"(barrier), "h"(static_cast<u16>(3))
               : "memory");
}
template <int kRegisters>
__device__ inline void keep_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kThreads>
__device__ inline void group_barrier(int which) {
  asm volatile("bar.sync %0, %1;" ::"r"(which), "n"(kThreads) : "memory");
}

/// A by 16-byte copies with few registers, for 128 threads: a row is an offset in pieces and a mask of the window's rows and columns that
/// lie inside the image. The eight threads of a row share the arithmetic.
template <int kRows, bool kEven>
struct PipeGather {
  static constexpr int kPerThread = kRows / 16, kOwn = (kPerThread + 7) / 8;
  int base[kPerThread];
  u32 inside[kPerThread];
  DepthWalk first, walk;
  u32 to;

  __device__ void prepare(const PipeParams& p) {
    const int piece = threadIdx.x & 7, row = (threadIdx.x & 127) >> 3;
    to = row * 128 + ((piece ^ (row & 7)) << 4);
    first.start(p, 0, 64, piece * 8);
  }
  /// Bits k with 0 <= at + k dilation < extent.
  __device__ static u32 taps_inside(int at, int extent, int taps, int dilation) {
    if (dilation == 1) {
      const int begin = min(max(-at, 0), taps), end = min(max(extent - at, begin), taps);
      return (1u << end) - (1u << begin);
    }
    u32 bits = 0;
#pragma unroll 1
    for (int k = 0; k < taps; ++k) bits |= (static_cast<u32>(at + k * dilation) < static_cast<u32>(extent) ? 1u : 0u) << k;
    return bits;
  }
  __device__ void start(const PipeParams& p, int first_row, int chunk) {
    walk = first;
    if (kEven && chunk > 0) walk.start(p, chunk, 64, (threadIdx.x & 7) * 8);
    const int lane = threadIdx.x & 31, row = first_row + ((threadIdx.x & 127) >> 3);
    int own_base[kOwn];
    u32 own_inside[kOwn];
#pragma unroll
    for (int o = 0; o < kOwn; ++o) {
      const int m = row + (o * 8 + (lane & 7)) * 16;
      const int image = divide(m, p.out_pixels), pixel = m - image * p.out_pixels.divisor;
      const int oy = divide(pixel, p.out_width), ox = pixel - oy * p.out_width.divisor;
      const int y = oy * p.stride_h - p.pad_top, x = ox * p.stride_w - p.pad_left;
      own_base[o] = image * static_cast<int>(p.a_image >> 3) + y * (p.a_row >> 3) + x * (p.a_pixel >> 3);
      own_inside[o] = m < p.rows ? taps_inside(x, p.width, p.kernel_w, p.dilation_w) | taps_inside(y, p.height, p.kernel_h, p.dilation_h) << 16 : 0;
    }
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      base[i] = __shfl_sync(~0u, own_base[i / 8], (lane & 24) | (i & 7));
      inside[i] = __shfl_sync(~0u, own_inside[i / 8], (lane & 24) | (i & 7));
    }
  }
  __device__ void load(const PipeParams& p, const char* a, u32 tile) {
    const int offset = walk.ky * p.dilation_h * (p.a_row >> 3) + walk.kx * p.dilation_w * (p.a_pixel >> 3) + (walk.channel >> 3);
    // A row's end may lie within a piece where the window is one pixel; past the last tap there is only padding.
    const int bytes = walk.ky < p.kernel_h ? min(16, (p.channels - walk.channel) * 2) : 0;
    const u32 need = (1u << walk.kx) | (0x10000u << min(walk.ky, 15));
#pragma unroll
    for (int i = 0; i < kPerThread; ++i)
      copy16(tile + to + i * 2048, a + static_cast<long long>(base[i] + offset) * 16, (inside[i] & need) == need ? bytes : 0);
    walk.next_chunk(p, 64);
  }
};

template <int kTileM, int kTileN, int kConsumers, int kStages>
struct PipeMemory {
  static constexpr int kStageBytes = (kTileM + kTileN) * 128, kBuffers = kStages * kStageBytes;
  static constexpr int kBias = kBuffers + kConsumers * 4 * kRowBuffer;  ///< behind a buffer for every consumer warp: two of each consumer
  static constexpr int kBarriers = kBias + kConsumers * 2 * kTileN * 4;
};

/// The parts of tiles that a block takes, in order. Even plans (splits 2): of the tiles that fill no whole round of the grid, and those of one
/// round more, every block takes the same share of the depth; a tile then has at most two blocks, which merge. The rest is taken whole.
template <bool kEven>
struct PipeWork {
  int whole, tile;         ///< [0, whole): tiles taken whole; the next of them
  int shared, from, left;  ///< of the others: the next tile, its first chunk, the chunks that are the block's
  int now, first, last;    ///< the part: its tile and chunks

  __device__ PipeWork(const PipeParams& p, int tiles) : whole(tiles), tile(blockIdx.x), shared(0), from(0), left(0), now(0), first(0), last(p.chunks) {
    if (!kEven || p.splits == 1) return;
    const int blocks = gridDim.x;
    whole = max(tiles / blocks - 1, 0) * blocks;
    const u64 all = static_cast<u64>(tiles - whole) * p.chunks;
    const int at = static_cast<int>(all * blockIdx.x / blocks);
    left = static_cast<int>(all * (blockIdx.x + 1) / blocks) - at;
    shared = whole + at / p.chunks;
    from = at - (shared - whole) * p.chunks;
  }
  __device__ bool next(const PipeParams& p) {
    if constexpr (!kEven) {
      now = tile;
      tile += gridDim.x;
      return now < whole;
    }
    const bool even = left > 0;
    if (!even && tile >= whole) return false;
    now = even ? shared : tile;
    first = from;
    last = even ? min(p.chunks, first + left) : p.chunks;
    left = even ? left - (last - first) : 0;
    shared += 1;
    from = 0;
    tile += even ? 0 : gridDim.x;
    return true;
  }
  __device__ bool part(const PipeParams& p) const { return kEven && last - first < p.chunks; }
  /// Blocks share a tile with the next one or the one before.
  __device__ int border() const { return first > 0 ? blockIdx.x - 1 : blockIdx.x; }
};

/// The producing warp group's view of the work.
template <int kTileM, int kTileN, int kConsumers, int kStages, bool kEven>
struct PipeProducer {
  using Memory = PipeMemory<kTileM, kTileN, kConsumers, kStages>;
  const PipeParams& p;
  u32 shared, full, empty;
  int tiles, pair, rank;

  __device__ PipeProducer(const PipeParams& params, u32 memory, int count)
      : p(params), shared(memory), full(memory + Memory::kBarriers), empty(full + kStages * 8), tiles(count), pair(gridDim.y), rank(blockIdx.y) {}

  __device__ ItemPointers item_of(int tile) const {
    ItemPointers item = item_pointers<2, true>(p, 2, tile, kTileM * pair, kTileN);
    item.target.row += rank * kTileM;
    return item;
  }
  /// One thread: announces the stage's bytes (B's and `more`) and starts this block's share of B.
  __device__ void load_b(const ItemPointers& item, int chunk, u32 stage, u32 more) const {
    const int share = kTileN / pair, columns = min(kTileN, p.packed_columns - item.target.column), mine = min(columns - rank * share, share);
    expect_bytes(full + stage * 8, columns * 128 + more);
    if (mine <= 0) return;
    const char* from = item.b + (static_cast<long long>(chunk) * p.packed_columns + item.target.column + rank * share) * 128;
    const u32 to = shared + stage * Memory::kStageBytes + (kTileM + rank * share) * 128;
    if (pair > 1) bulk_copy_pair(to, from, mine * 128, full + stage * 8);
    else bulk_copy_own(to, from, mine * 128, full + stage * 8);
  }
  /// Weights do not depend on the kernel before: the first ones start ahead of it. How many stages that were.
  __device__ int begin(u32 more) const {
    int ahead = 0;
    if (PipeWork<kEven> work(p, tiles); work.next(p)) {
      ahead = min(kStages, work.last - work.first);
      if (threadIdx.x == 0) {
        const ItemPointers item = item_of(work.now);
        for (int s = 0; s < ahead; ++s) load_b(item, work.first + s, s, more);
      }
    }
    wait_for_previous();
    return ahead;
  }

  /// All threads copy A.
  __device__ void gather() const {
    PipeGather<kTileM, kEven> a;
    a.prepare(p);
    int ahead = begin(0);
    u32 stage = 0, parity = 1;
#pragma unroll 1
    for (PipeWork<kEven> work(p, tiles); work.next(p);) {
      const ItemPointers item = item_of(work.now);
      a.start(p, item.target.row, work.first);
#pragma unroll 1
      for (int chunk = work.first; chunk < work.last; ++chunk) {
        ring_wait(empty + stage * 8, parity);
        if (--ahead < 0 && threadIdx.x == 0) load_b(item, chunk, stage, 0);
        a.load(p, item.a, shared + stage * Memory::kStageBytes);
        copies_arrive(full + stage * 8);
        if (++stage == kStages) stage = 0, parity ^= 1;
      }
    }
  }

  /// One thread asks the copy engine for A too. An image's tile starts at an output pixel; the engine walks on over rows and images.
  __device__ void by_map() const {
    constexpr u32 kBytes = kTileM * 128;
    const u64 map = reinterpret_cast<u64>(&p.map);
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
    int ahead = begin(kBytes);
    const int outer = divide(blockIdx.z, p.batch_inner), inner = blockIdx.z - outer * p.batch_inner.divisor;
    u32 stage = 0, parity = 1;
#pragma unroll 1
    for (PipeWork<kEven> work(p, tiles); work.next(p);) {
      const ItemPointers item = item_of(work.now);
      const int row = item.target.row, image = divide(row, p.out_pixels), pixel = row - image * p.out_pixels.divisor;
      const int oy = divide(pixel, p.out_width), ox = pixel - oy * p.out_width.divisor;
      const int y = oy * p.stride_h - p.pad_top, x = ox * p.stride_w - p.pad_left;
      int channel = p.map_kind == kMapRows ? 0 : inner * p.channels, ky = 0, kx = 0;
      if (kEven && work.first > 0) {
        const int taps = p.kernel_h * p.kernel_w, block = work.first / taps, tap = work.first - block * taps;
        channel += block * 64;
        ky = divide(tap, p.kernel_w_div);
        kx = tap - ky * p.kernel_w;
      }
#pragma unroll 1
      for (int chunk = work.first; chunk < work.last; ++chunk) {
        ring_wait(empty + stage * 8, parity);
        if (--ahead < 0) load_b(item, chunk, stage, kBytes);
        const u32 to = shared + stage * Memory::kStageBytes, barrier = full + stage * 8;
        if (p.map_kind == kMapRows) {
          asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(to),
                       "l"(map), "r"(channel), "r"(row), "r"(inner), "r"(outer), "r"(barrier)
                       : "memory");
          channel += 64;
        } else {
          asm volatile(
              "cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5}], [%6], {%7, %8};" ::"r"(to),
              "l"(map), "r"(channel), "r"(x), "r"(y), "r"(image), "r"(barrier), "h"(static_cast<u16>(kx * p.dilation_w)),
              "h"(static_cast<u16>(ky * p.dilation_h))
              : "memory");
          if (++kx == p.kernel_w) {
            kx = 0;
            if (++ky == p.kernel_h) ky = 0, channel += 64;
          }
        }
        if (++stage == kStages) stage = 0, parity ^= 1;
      }
    }
  }
};

template <int kType, int kTileM, int kTileN, int kConsumers, int kStages, bool kEven>
__device__ inline void pipe_consumer(const PipeParams& p, char* memory, u32 shared, int tiles) {
  using Memory = PipeMemory<kTileM, kTileN, kConsumers, kStages>;
  constexpr int kM = kTileM / kConsumers / 64, kBiases = (kTileN + 127) / 128;
  const u32 full = shared + Memory::kBarriers, empty = full + kStages * 8;
  const int pair = gridDim.y, group = (threadIdx.x >> 7) - 1, warp = (threadIdx.x >> 5) & 3, lane = threadIdx.x & 31;
  float* bias = reinterpret_cast<float*>(memory + Memory::kBias) + group * 2 * kTileN;
  const auto release = [&](u32 stage) {
    if (pair > 1) {
      if (lane < 2) arrive_at(empty + stage * 8, lane);
    } else if (lane == 0) {
      arrive(empty + stage * 8);
    }
  };
  wait_for_previous();
  RegisterTile<kType, kM, kTileN> result;
  u32 stage = 0, parity = 0, last = 0;
  int turn = 0, biased = -1;
  float* place = bias;
#pragma unroll 1
  for (PipeWork<kEven> work(p, tiles); work.next(p);) {
    TileTarget target = item_pointers<2, true>(p, 2, work.now, kTileM * pair, kTileN).target;
    target.row += blockIdx.y * kTileM;
    // The bias stays where it is while the column does. Else it has two places: when a warp writes one again, all have passed the barrier of
    // the tile between.
    const bool other = target.column != biased;
    float own_bias[kBiases];
#pragma unroll
    for (int i = 0; i < kBiases; ++i) {
      const int n = (threadIdx.x & 127) + i * 128;
      own_bias[i] = other && p.bias && n < kTileN && target.column + n < p.columns ? p.bias[target.bias + target.column + n] : 0.0f;
    }
    result.clear();
#pragma unroll 1
    for (int chunk = work.first; chunk < work.last; ++chunk) {
      ring_wait(full + stage * 8, parity);
      if (p.map_kind == kGathered) proxy_fence();  // A came by copies of threads, the tensor cores read past them
      const u32 from_a = shared + stage * Memory::kStageBytes + group * (kM * 64 * 128), from_b = shared + stage * Memory::kStageBytes + kTileM * 128;
      wgmma_begin();
#pragma unroll
      for (int step = 0; step < 4; ++step)
#pragma unroll
        for (int i = 0; i < kM; ++i)
          Wgmma<kType, kTileN>::run(result.sum[i], operand_descriptor(from_a + i * 64 * 128 + step * 32), operand_descriptor(from_b + step * 32));
      wgmma_commit();
      wgmma_wait<1>();
      if (chunk > work.first) release(last);
      last = stage;
      if (++stage == kStages) stage = 0, parity ^= 1;
    }
    const int row = target.row + group * (kM * 64) + warp * 16;
    result.prefetch(p, target, row);
    wgmma_wait<0>();
    release(last);
    if (other) {
      place = bias + (turn & 1) * kTileN;
#pragma unroll
      for (int i = 0; i < kBiases; ++i)
        if (const int n = (threadIdx.x & 127) + i * 128; n < kTileN) place[n] = own_bias[i];
      group_barrier<128>(1 + group);
      biased = target.column;
      ++turn;
    }
    bool ends = true;
    if (work.part(p)) {
      const int index = ((work.border() * pair + blockIdx.y) * kConsumers + group) * 4 + warp;
      ends = result.merge(reinterpret_cast<float4*>(p.partials) + index * (kM * kTileN * 4), p.counters + index);
    }
    if (ends) result.store(p, target, row, place, shared + Memory::kBuffers + (group * 4 + warp) * kRowBuffer);
  }
}

template <int kType, int kTileM, int kTileN, int kConsumers, int kStages, int kBlocks, bool kEven>
__device__ inline void gemm_pipe(const PipeParams& p) {
  using Memory = PipeMemory<kTileM, kTileN, kConsumers, kStages>;
  extern __shared__ __align__(1024) char memory[];
  launch_dependents();
  if (threadIdx.x == 32) fetch_ahead(p.next, p.next_bytes, blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z), gridDim.x * gridDim.y * gridDim.z);
  const u32 shared = shared_address(memory), barriers = shared + Memory::kBarriers;
  const bool pair = gridDim.y > 1;
  if (threadIdx.x == 0) {
    for (int s = 0; s < kStages; ++s) {
      barrier_init(barriers + s * 8, p.map_kind == kGathered ? 128 + 1 : 1);
      barrier_init(barriers + (kStages + s) * 8, kConsumers * 4 * gridDim.y);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  if (pair) cluster_barrier();
  const int row_tiles = (p.rows - 1) / (kTileM * static_cast<int>(gridDim.y)) + 1, tiles = row_tiles * p.tiles_n.divisor;
  // Registers of a multiprocessor: 65536.
  constexpr int kEach = 65536 / 128 / kBlocks, kProducer = kTileM > 128 ? 72 : 56, kConsumer = (kEach - kProducer) / kConsumers / 8 * 8;
  if (threadIdx.x < 128) {
    keep_registers<kProducer>();
    const PipeProducer<kTileM, kTileN, kConsumers, kStages, kEven> producer(p, shared, tiles);
    if (p.map_kind == kGathered) producer.gather();
    else if (threadIdx.x == 0) producer.by_map();
  } else {
    take_registers<(kConsumer > 240 ? 240 : kConsumer)>();
    pipe_consumer<kType, kTileM, kTileN, kConsumers, kStages, kEven>(p, memory, shared, tiles);
  }
  if (pair) {  // nobody leaves while the other still writes or arrives here
    __syncwarp();
    cluster_barrier();
  }
}

#define LATHE_GEMM_PIPE(type_name, type, m, n, consumers, stages, blocks, even)                           \
  extern "C" __global__ void __launch_bounds__((consumers + 1) * 128, blocks)                             \
      gemm_pipe_##type_name##_##m##x##n##_vec_packed(const __grid_constant__ lathe::cuda::PipeParams p) { \
    lathe::cuda::gemm_pipe<lathe::cuda::type, m, n, consumers, stages, blocks, even>(p);                  \
  }

#endif

}  // namespace lathe::cuda
