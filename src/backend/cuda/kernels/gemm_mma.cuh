// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The product on mma.sync: a ring of kStages tiles filled by cp.async, fragments by ldmatrix, one barrier a chunk. The four product types
// differ only in the multiply: a fragment is 32 bytes of depth in all of them.

#include "backend/cuda/kernels/epilogue.cuh"
#include "backend/cuda/kernels/gather.cuh"

namespace lathe::cuda {

template <int kTileM, int kTileN, int kStages>
struct TileMemory {
  static constexpr int kStageBytes = (kTileM + kTileN) * 128;
  static constexpr int kSums = kTileM * (kTileN + 8) * 4;
};

template <int kType>
struct ProductBytes {
  static constexpr int value = kType == kProductF16 || kType == kProductBF16 ? 2 : 4;
};

/// Rows [.., +16 kM) of A and columns [.., +8 kN) of B, multiplied over one chunk.
template <int kType, int kM, int kN, bool kAcross>
struct WarpProduct {
  float sum[kM][kN][4];

  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < kM; ++i)
#pragma unroll
      for (int j = 0; j < kN; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) sum[i][j][e] = 0;
  }

  __device__ static void fragments_a(u32 (&a)[kM][4], u32 tile, int row, int step) {
    const int lane = threadIdx.x & 31;
#pragma unroll
    for (int i = 0; i < kM; ++i) {
      const int r = row + i * 16 + (lane & 15), piece = step * 2 + (lane >> 4);
      load_matrices(a[i], tile + r * 128 + ((piece ^ (r & 7)) << 4));
    }
  }
  __device__ static void fragments_b(u32 (&b)[kN][2], u32 tile, int column, int step) {
    const int lane = threadIdx.x & 31;
    if constexpr (!kAcross) {
#pragma unroll
      for (int j = 0; j < kN; j += 2) {
        const int n = column + j * 8 + (lane & 7) + ((lane >> 4) << 3), piece = step * 2 + ((lane >> 3) & 1);
        u32 r[4];
        load_matrices(r, tile + n * 128 + ((piece ^ (n & 7)) << 4));
        b[j][0] = r[0], b[j][1] = r[1], b[j + 1][0] = r[2], b[j + 1][1] = r[3];
      }
    } else if constexpr (ProductBytes<kType>::value == 2) {
#pragma unroll
      for (int j = 0; j < kN; j += 2) {
        const int k = step * 16 + (lane & 7) + (((lane >> 3) & 1) << 3), n = column + j * 8 + ((lane >> 4) << 3);
        u32 r[4];
        load_matrices_transposed(r, tile + (n >> 6) * 8192 + k * 128 + ((((n & 63) >> 3) ^ (k & 7)) << 4));
        b[j][0] = r[0], b[j][1] = r[1], b[j + 1][0] = r[2], b[j + 1][1] = r[3];
      }
    } else {
#pragma unroll
      for (int j = 0; j < kN; ++j)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int k = step * 8 + (lane & 3) + e * 4, n = column + j * 8 + (lane >> 2);
          b[j][e] = load_shared4(tile + (n >> 5) * 4096 + k * 128 + ((((n & 31) >> 2) ^ (k & 7)) << 4) + (n & 3) * 4);
        }
    }
  }

  __device__ void add(u32 tile_a, u32 tile_b, int row, int column) {
    constexpr int kUnroll = kType == kProductF32 ? 1 : 4;  // the float32 product keeps three sets of fragments
#pragma unroll kUnroll
    for (int step = 0; step < 4; ++step) {
      u32 a[kM][4], b[kN][2];
      fragments_a(a, tile_a, row, step);
      fragments_b(b, tile_b, column, step);
      if constexpr (kType == kProductF32) {
        u32 low[kM][4];
#pragma unroll
        for (int i = 0; i < kM; ++i)
#pragma unroll
          for (int e = 0; e < 4; ++e) split(a[i][e], low[i][e]);
#pragma unroll
        for (int j = 0; j < kN; ++j) {
          u32 b_low[2];
          split(b[j][0], b_low[0]);
          split(b[j][1], b_low[1]);
#pragma unroll
          for (int i = 0; i < kM; ++i) {
            // The tensor cores cut what does not fit the sum; a short sum of its own, added with rounding, keeps float32's precision.
            float part[4] = {};
            multiply<kType>(part, low[i], b[j][0], b[j][1]);
            multiply<kType>(part, a[i], b_low[0], b_low[1]);
            multiply<kType>(part, a[i], b[j][0], b[j][1]);
#pragma unroll
            for (int e = 0; e < 4; ++e) sum[i][j][e] += part[e];
          }
        }
      } else {
        if constexpr (kType == kProductTF32) {
#pragma unroll
          for (int i = 0; i < kM; ++i)
#pragma unroll
            for (int e = 0; e < 4; ++e) a[i][e] = round_tf32(a[i][e]);
#pragma unroll
          for (int j = 0; j < kN; ++j) b[j][0] = round_tf32(b[j][0]), b[j][1] = round_tf32(b[j][1]);
        }
#pragma unroll
        for (int i = 0; i < kM; ++i)
#pragma unroll
          for (int j = 0; j < kN; ++j) multiply<kType>(sum[i][j], a[i], b[j][0], b[j][1]);
      }
    }
  }
  /// bits = high + low, each of TF32's precision.
  __device__ static void split(u32& bits, u32& low) {
    const u32 high = round_tf32(bits);
    low = round_tf32(__float_as_uint(__uint_as_float(bits) - __uint_as_float(high)));
    bits = high;
  }

  __device__ void store(float* tile, int pitch, int row, int column) const {
    const int lane = threadIdx.x & 31;
#pragma unroll
    for (int i = 0; i < kM; ++i)
#pragma unroll
      for (int j = 0; j < kN; ++j) {
        float* to = tile + (row + i * 16 + (lane >> 2)) * pitch + column + j * 8 + (lane & 3) * 2;
        *reinterpret_cast<float2*>(to) = make_float2(sum[i][j][0], sum[i][j][1]);
        *reinterpret_cast<float2*>(to + 8 * pitch) = make_float2(sum[i][j][2], sum[i][j][3]);
      }
  }
};

template <int kType, int kRows, int kThreads, int kA>
struct SelectA {
  using type = VectorGather<kRows, kThreads, ProductBytes<kType>::value>;
};
template <int kType, int kRows, int kThreads>
struct SelectA<kType, kRows, kThreads, kElementA> {
  using type = ElementGather<kRows, kThreads, kType>;
};
template <int kType, int kColumns, int kThreads, int kB>
struct SelectB {
  using type = StridedColumns<kColumns, kThreads, ProductBytes<kType>::value, (kB == kAcrossB || kB == kAcrossElementB), (kB == kRowsB || kB == kAcrossB)>;
};
template <int kType, int kColumns, int kThreads>
struct SelectB<kType, kColumns, kThreads, kPackedB> {
  using type = PackedColumns<kColumns, kThreads>;
};

/// The batch item's operands.
struct ItemPointers {
  const char *a, *b;
  TileTarget target;
};
template <int kBytes, bool kPacked>
__device__ inline ItemPointers item_pointers(const GemmParams& p, int a_bytes, unsigned tile_index, int tile_m, int tile_n) {
  const unsigned outer = divide(blockIdx.z, p.batch_inner), inner = blockIdx.z - outer * p.batch_inner.divisor;
  const unsigned tile_row = divide(tile_index, p.tiles_n), tile_column = tile_index - tile_row * p.tiles_n.divisor;
  ItemPointers r;
  r.a = static_cast<const char*>(p.a) + (outer * p.a_outer + inner * p.a_inner) * a_bytes;
  r.b = static_cast<const char*>(p.b) + (outer * p.b_outer + inner * p.b_inner) * (kPacked ? 1 : kBytes);
  r.target.row = tile_row * tile_m;
  r.target.column = tile_column * tile_n;
  r.target.c = outer * p.c_outer + inner * p.c_inner;
  r.target.residual = outer * p.residual_outer + inner * p.residual_inner;
  r.target.bias = inner * p.bias_inner;
  return r;
}

template <int kType, int kTileM, int kTileN, int kWarpsM, int kWarpsN, int kStages, int kA, int kB>
__device__ inline void gemm_mma(const GemmParams& p) {
  constexpr int kThreads = kWarpsM * kWarpsN * 32, kBytes = ProductBytes<kType>::value;
  constexpr int kWarpRows = kTileM / kWarpsM, kWarpColumns = kTileN / kWarpsN;
  constexpr bool kPacked = kB == kPackedB, kAcross = kB == kAcrossB || kB == kAcrossElementB;
  using Memory = TileMemory<kTileM, kTileN, kStages>;
  extern __shared__ __align__(1024) char shared[];
  __shared__ __align__(16) float bias[kTileN];
  launch_dependents();
  if (threadIdx.x == 32) fetch_ahead(p.next, p.next_bytes, blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z), gridDim.x * gridDim.y * gridDim.z);

  const int a_bytes = kA == kElementA ? (p.a_type == kElementFloat32 ? 4 : 2) : kBytes;
  const ItemPointers item = item_pointers<kBytes, kPacked>(p, a_bytes, blockIdx.x, kTileM, kTileN);
  const int first_chunk = blockIdx.y * p.chunks_per_split, chunks = min(p.chunks_per_split, p.chunks - first_chunk);
  const u32 tiles = shared_address(shared);
  const auto stage_a = [&](int chunk) { return tiles + (chunk % kStages) * Memory::kStageBytes; };
  const auto stage_b = [&](int chunk) { return stage_a(chunk) + kTileM * 128; };

  typename SelectA<kType, kTileM, kThreads, kA>::type a;
  typename SelectB<kType, kTileN, kThreads, kB>::type b;
  b.start(p, item.b, item.target.column, first_chunk);
  a.start(p, item.a, item.target.row, first_chunk);

  // Packed weights do not depend on the kernel before: their first copies start ahead of it.
  if constexpr (kPacked) {
#pragma unroll 1
    for (int s = 0; s < kStages - 1; ++s)
      if (s < chunks) b.load(stage_b(s));
  }
  static_assert(kTileN <= kThreads);
  const float own_bias = load_bias<kTileN>(p, item.target);
  wait_for_previous();
#pragma unroll 1
  for (int s = 0; s < kStages - 1; ++s) {
    if (s < chunks) {
      if constexpr (!kPacked) b.load(stage_b(s));
      a.load(p, stage_a(s));
    }
    copies_commit();
  }

  const int warp = threadIdx.x >> 5, row = (warp / kWarpsN) * kWarpRows, column = (warp % kWarpsN) * kWarpColumns;
  WarpProduct<kType, kWarpRows / 16, kWarpColumns / 8, kAcross> product;
  product.clear();
  int read = 0, write = kStages - 1;
  for (int chunk = 0; chunk < chunks; ++chunk) {
    copies_wait<kStages - 2>();
    __syncthreads();
    if (chunk + kStages - 1 < chunks) {
      const u32 to = tiles + write * Memory::kStageBytes;
      b.load(to + kTileM * 128);
      a.load(p, to);
    }
    copies_commit();
    const u32 from = tiles + read * Memory::kStageBytes;
    product.add(from, from + kTileM * 128, row, column);
    read = read + 1 == kStages ? 0 : read + 1;
    write = write + 1 == kStages ? 0 : write + 1;
  }
  copies_wait<0>();
  __syncthreads();
  float* sums = reinterpret_cast<float*>(shared);
  if (threadIdx.x < kTileN) bias[threadIdx.x] = own_bias;
  product.store(sums, kTileN + 8, row, column);
  __syncthreads();
  finish_tile<kTileM, kTileN, kThreads>(p, item.target, sums, bias, blockIdx.x);
}

#define LATHE_GEMM_MMA(type_name, type, suffix, a, b, m, n, warps_m, warps_n, stages, blocks)                    \
  extern "C" __global__ void __launch_bounds__(warps_m* warps_n * 32, blocks)                                    \
      gemm_mma_##type_name##_##m##x##n##_##suffix(const __grid_constant__ lathe::cuda::GemmParams p) {           \
    lathe::cuda::gemm_mma<lathe::cuda::type, m, n, warps_m, warps_n, stages, lathe::cuda::a, lathe::cuda::b>(p); \
  }

}  // namespace lathe::cuda
