// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// TopK: a piece of a row is sorted in shared memory (a bitonic network), by a warp where it has up to 64 entries, else by a block. Longer rows
// are several pieces, whose best are sorted again together, or merged two by two where many are wanted. See topk_params.h for the order.
//! limits topk_merge_*: registers 64, shared 0, spill 8
//! limits topk_*: registers 64, shared 0, spill 0

#include "backend/cuda/kernels/ptx.cuh"
#include "ops/topk/topk_key.cuh"

namespace lathe::cuda {

template <bool kWide>
struct TopKEntry {
  u64 key;
  __device__ bool is_before(const TopKEntry& other) const { return key > other.key; }
  __device__ u32 where() const { return ~static_cast<u32>(key); }
};
template <>
struct TopKEntry<true> {
  u64 key;
  u32 place;
  __device__ bool is_before(const TopKEntry& other) const { return key != other.key ? key > other.key : place < other.place; }
  __device__ u32 where() const { return place; }
};

template <bool kWide>
__device__ inline TopKEntry<kWide> get(const TopKEntries& list, long long at) {
  if constexpr (kWide) return {list.keys[at], list.places[at]};
  else return {list.keys[at]};
}
template <bool kWide>
__device__ inline void put(const TopKEntries& list, long long at, const TopKEntry<kWide>& entry) {
  list.keys[at] = entry.key;
  if constexpr (kWide) list.places[at] = entry.place;
}

template <bool kWide>
__device__ inline TopKEntry<kWide> entry_of(const TopKParams& p, long long at, u32 place) {
  if constexpr (kWide) {
    const u64 key = wide_key(p.x, at, p.type);
    return {p.largest ? key : ~key, place};
  } else {
    const u32 key = narrow_key(p.x, at, p.type);
    return {static_cast<u64>(p.largest ? key : ~key) << 32 | static_cast<u32>(~place)};
  }
}
/// Below every entry: no place is that great.
template <bool kWide>
__device__ inline TopKEntry<kWide> no_entry() {
  if constexpr (kWide) return {0, 0xffffffffu};
  else return {0};
}

/// Where a row lies in each tensor.
struct TopKRow {
  long long x = 0, values = 0, indices = 0;
  __device__ TopKRow(const TopKParams& p, int row) {
    for (int i = p.axes - 1; i >= 0; --i) {
      const int rest = row / p.extent[i], at = row - rest * p.extent[i];
      x += at * p.x_step[i];
      values += at * p.value_step[i];
      indices += at * p.index_step[i];
      row = rest;
    }
  }
};

__device__ inline void copy_value(const TopKParams& p, long long from, long long to) {
  if (p.type != p.value_type) {
    store_element(p.values, to, p.value_type, load_element(p.x, from, p.type));
    return;
  }
  switch (p.type) {
    case kTopKFloat64:
    case kTopKInt64:
    case kTopKUint64: static_cast<u64*>(p.values)[to] = static_cast<const u64*>(p.x)[from]; break;
    case kTopKFloat16:
    case kTopKBFloat16:
    case kTopKInt16:
    case kTopKUint16: static_cast<u16*>(p.values)[to] = static_cast<const u16*>(p.x)[from]; break;
    case kTopKInt8:
    case kTopKUint8: static_cast<unsigned char*>(p.values)[to] = static_cast<const unsigned char*>(p.x)[from]; break;
    default: static_cast<u32*>(p.values)[to] = static_cast<const u32*>(p.x)[from]; break;
  }
}
/// The entry of rank `rank` goes to the results.
template <bool kWide>
__device__ inline void finish(const TopKParams& p, const TopKRow& row, int rank, const TopKEntry<kWide>& entry) {
  const u32 place = entry.where();
  if (p.values) copy_value(p, row.x + place * p.x_along, row.values + rank * p.value_along);
  if (p.indices) p.indices[row.indices + rank * p.index_along] = place;
}

extern __shared__ __align__(16) unsigned char topk_storage[];

/// kWarp: a warp a piece; else a block.
template <bool kWide, bool kWarp>
__device__ inline void topk_sort(const TopKParams& p) {
  launch_dependents();
  const int groups = kWarp ? blockDim.x / 32 : 1, group = kWarp ? threadIdx.x / 32 : 0;
  const int threads = kWarp ? 32 : blockDim.x, thread = kWarp ? threadIdx.x % 32 : threadIdx.x;
  TopKEntries sorted;
  sorted.keys = reinterpret_cast<u64*>(topk_storage) + group * p.size;
  sorted.places = reinterpret_cast<u32*>(reinterpret_cast<u64*>(topk_storage) + groups * p.size) + group * p.size;
  const long long item = static_cast<long long>(blockIdx.x) * groups + group;
  const int row = static_cast<int>(item / p.pieces), piece = static_cast<int>(item - static_cast<long long>(row) * p.pieces);
  wait_for_previous();
  if (row >= p.rows) return;
  const int begin = piece * p.piece, have = min(p.piece, p.count - begin);
  const TopKRow place(p, row);
  for (int i = thread; i < p.size; i += threads) {
    TopKEntry<kWide> entry = no_entry<kWide>();
    if (i < have) {
      if (p.first) entry = entry_of<kWide>(p, place.x + (begin + i) * p.x_along, static_cast<u32>(begin + i));
      else entry = get<kWide>(p.from, row * p.from_row + begin + i);
    }
    put<kWide>(sorted, i, entry);
  }
  if constexpr (kWarp) __syncwarp();
  else __syncthreads();
  for (int width = 2; width <= p.size; width *= 2)
    for (int apart = width / 2; apart > 0; apart /= 2) {
      for (int t = thread; t < p.size / 2; t += threads) {
        const int i = 2 * t - (t & (apart - 1)), j = i + apart;
        const TopKEntry<kWide> a = get<kWide>(sorted, i), b = get<kWide>(sorted, j);
        const bool falling = (i & width) == 0 || width == p.size;
        if (falling ? b.is_before(a) : a.is_before(b)) {
          put<kWide>(sorted, i, b);
          put<kWide>(sorted, j, a);
        }
      }
      // A warp's pairs stay among 64 entries of its own while they are at most 32 apart.
      const int next = apart > 1 ? apart / 2 : width;
      if (kWarp || (apart <= 32 && next <= 32)) __syncwarp();
      else __syncthreads();
    }
  const int kept = min(p.keep, have);
  for (int i = thread; i < kept; i += threads) {
    const TopKEntry<kWide> entry = get<kWide>(sorted, i);
    if (p.last) finish<kWide>(p, place, i, entry);
    else put<kWide>(p.to, row * p.to_row + static_cast<long long>(piece) * p.keep + i, entry);
  }
}

/// Two runs that stand one behind the other -> the best `keep` of both. A thread finds where its first entry comes from, then walks.
template <bool kWide>
__device__ inline void topk_merge(const TopKParams& p) {
  launch_dependents();
  const int of_row = p.pieces * p.tiles, row = static_cast<int>(blockIdx.x / of_row), rest = static_cast<int>(blockIdx.x - row * of_row);
  const int piece = rest / p.tiles, tile = rest - piece * p.tiles;
  const int begin = piece * 2 * p.piece, a_count = min(p.piece, p.count - begin), b_count = max(0, min(p.piece, p.count - begin - a_count));
  const int kept = min(p.keep, a_count + b_count), first = (tile * kTopKMergeThreads + static_cast<int>(threadIdx.x)) * kTopKMerged;
  wait_for_previous();
  if (first >= kept) return;
  const long long a = row * p.from_row + begin, b = a + a_count;
  // How many of the best `first` are a's: the least i such that a's i-th comes behind b's (first - i - 1)-th.
  int low = max(0, first - b_count), high = min(first, a_count);
  while (low < high) {
    const int i = (low + high) / 2;
    if (get<kWide>(p.from, a + i).is_before(get<kWide>(p.from, b + (first - i - 1)))) low = i + 1;
    else high = i;
  }
  const TopKRow place(p, row);
  int i = low, j = first - low;
  const int end = min(kept, first + kTopKMerged);
  for (int rank = first; rank < end; ++rank) {
    const bool takes_a = j >= b_count || (i < a_count && get<kWide>(p.from, a + i).is_before(get<kWide>(p.from, b + j)));
    const TopKEntry<kWide> entry = get<kWide>(p.from, takes_a ? a + i : b + j);
    if (takes_a) ++i;
    else ++j;
    if (p.last) finish<kWide>(p, place, rank, entry);
    else put<kWide>(p.to, row * p.to_row + static_cast<long long>(piece) * p.keep + rank, entry);
  }
}

}  // namespace lathe::cuda

#define LATHE_TOPK_SORT(name, wide, warp, most) \
  extern "C" __global__ void __launch_bounds__(most) name(const __grid_constant__ lathe::cuda::TopKParams p) { lathe::cuda::topk_sort<wide, warp>(p); }
LATHE_TOPK_SORT(topk_sort_narrow, false, false, 1024)
LATHE_TOPK_SORT(topk_sort_wide, true, false, 1024)
LATHE_TOPK_SORT(topk_rows_narrow, false, true, 128)
LATHE_TOPK_SORT(topk_rows_wide, true, true, 128)
extern "C" __global__ void __launch_bounds__(256) topk_merge_narrow(const __grid_constant__ lathe::cuda::TopKParams p) { lathe::cuda::topk_merge<false>(p); }
extern "C" __global__ void __launch_bounds__(256) topk_merge_wide(const __grid_constant__ lathe::cuda::TopKParams p) { lathe::cuda::topk_merge<true>(p); }
