// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Loaders of a product's operands: a tile of kRows rows and 128 bytes of depth in shared memory, the 16-byte pieces of a row at
// piece ^ (row & 7), so that neither these stores nor the fragments' loads meet bank conflicts.

#include "backend/cuda/kernels/ptx.cuh"

namespace lathe::cuda {

constexpr int kOutside = -(1 << 29);  ///< a coordinate that no tap brings inside

/// Position in the depth: which tap and channel the thread's piece starts at. Advances chunk by chunk.
struct DepthWalk {
  int channel, ky, kx;

  __device__ void start(const GemmParams& p, int chunk, int elements, int offset) {
    if (p.chunk_major) {
      const int taps = p.kernel_h * p.kernel_w, block = chunk / taps, tap = chunk - block * taps;
      channel = block * elements + offset;
      ky = divide(tap, p.kernel_w_div);
      kx = tap - ky * p.kernel_w;
    } else {
      const int depth = chunk * elements + offset, tap = divide(depth, p.channels_div);
      channel = depth - tap * p.channels;
      ky = divide(tap, p.kernel_w_div);
      kx = tap - ky * p.kernel_w;
    }
  }
  __device__ void next_tap(const GemmParams& p) {
    if (++kx == p.kernel_w) {
      kx = 0;
      ++ky;
    }
  }
  __device__ void next_chunk(const GemmParams& p, int elements) {
    if (p.chunk_major) {
      next_tap(p);
      if (ky == p.kernel_h) {
        ky = 0;
        channel += elements;
      }
    } else {
      channel += elements;
      while (channel >= p.channels) {
        channel -= p.channels;
        next_tap(p);
      }
    }
  }
  __device__ void next_element(const GemmParams& p) {
    if (++channel == p.channels) {
      channel = 0;
      next_tap(p);
    }
  }
};

/// A by 16-byte copies: strides and, but for plain rows, channels are multiples of a piece.
template <int kRows, int kThreads, int kBytes>
struct VectorGather {
  static constexpr int kPerThread = kRows * 8 / kThreads, kElements = 128 / kBytes;
  static_assert(kThreads % 64 == 0 && kPerThread * kThreads == kRows * 8);
  const char* base[kPerThread];
  int y[kPerThread], x[kPerThread];
  DepthWalk walk;
  u32 to;

  __device__ void start(const GemmParams& p, const char* a, int first_row, int chunk) {
    const int piece = threadIdx.x & 7, row = threadIdx.x >> 3;
    to = row * 128 + ((piece ^ (row & 7)) << 4);
    if (p.plain) {
      walk.channel = chunk * kElements + piece * (16 / kBytes);
#pragma unroll
      for (int i = 0; i < kPerThread; ++i) {
        const int m = first_row + row + i * (kThreads / 8);
        y[i] = m < p.rows;
        base[i] = a + static_cast<long long>(m) * p.a_pixel * kBytes;
      }
      return;
    }
    walk.start(p, chunk, kElements, piece * (16 / kBytes));
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      const int m = first_row + row + i * (kThreads / 8);
      const int image = divide(m, p.out_pixels), pixel = m - image * p.out_pixels.divisor;
      const int oy = divide(pixel, p.out_width), ox = pixel - oy * p.out_width.divisor;
      y[i] = m < p.rows ? oy * p.stride_h - p.pad_top : kOutside;
      x[i] = ox * p.stride_w - p.pad_left;
      base[i] = a + (image * p.a_image + static_cast<long long>(y[i]) * p.a_row + static_cast<long long>(x[i]) * p.a_pixel) * kBytes;
    }
  }
  /// Starts the copies of the current chunk into the tile at `tile` and steps to the next.
  __device__ void load(const GemmParams& p, u32 tile) {
    if (p.plain) {
      const int bytes = max(0, min(16, (p.channels - walk.channel) * kBytes));
#pragma unroll
      for (int i = 0; i < kPerThread; ++i) copy16(tile + to + i * (kThreads / 8) * 128, base[i] + walk.channel * kBytes, y[i] ? bytes : 0);
      walk.channel += kElements;
      return;
    }
    const int dy = walk.ky * p.dilation_h, dx = walk.kx * p.dilation_w;
    const long long offset = (static_cast<long long>(dy * p.a_row + dx * p.a_pixel) + walk.channel) * kBytes;
    const bool tap = walk.ky < p.kernel_h;
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      const bool valid = tap && static_cast<u32>(y[i] + dy) < static_cast<u32>(p.height) && static_cast<u32>(x[i] + dx) < static_cast<u32>(p.width);
      copy16(tile + to + i * (kThreads / 8) * 128, base[i] + offset, valid ? 16 : 0);
    }
    walk.next_chunk(p, kElements);
  }
};

/// A element by element: any channel count, any strides (planar images too), float32 sources converted. A warp's threads hold
/// neighbouring rows of the same piece, so their loads fall together.
template <int kRows, int kThreads, int kType>
struct ElementGather {
  static constexpr int kBytes = kType == kProductF16 || kType == kProductBF16 ? 2 : 4;
  static constexpr int kElements = 128 / kBytes, kPiece = 16 / kBytes;
  static constexpr int kGroups = kThreads / kRows, kPerThread = 8 / kGroups;  ///< groups of threads over the 8 pieces of a row
  static_assert(kThreads % kRows == 0 && kRows % 32 == 0);
  const char* base;
  long long image;  // elements
  int y, x, row, group, chunk;

  __device__ void start(const GemmParams& p, const char* a, int first_row, int first_chunk) {
    row = threadIdx.x % kRows;
    group = threadIdx.x / kRows;
    chunk = first_chunk;
    base = a;
    const int m = first_row + row;
    const int n = divide(m, p.out_pixels), pixel = m - n * p.out_pixels.divisor;
    const int oy = divide(pixel, p.out_width), ox = pixel - oy * p.out_width.divisor;
    y = m < p.rows ? oy * p.stride_h - p.pad_top : kOutside;
    x = ox * p.stride_w - p.pad_left;
    image = n * p.a_image + static_cast<long long>(y) * p.a_row + static_cast<long long>(x) * p.a_pixel;
  }
  __device__ u32 element(const GemmParams& p, const DepthWalk& at) const {
    const int dy = at.ky * p.dilation_h, dx = at.kx * p.dilation_w;
    const bool valid = at.ky < p.kernel_h && static_cast<u32>(y + dy) < static_cast<u32>(p.height) && static_cast<u32>(x + dx) < static_cast<u32>(p.width);
    if (!valid) return 0;
    const long long i =
        image + static_cast<long long>(dy) * p.a_row + static_cast<long long>(dx) * p.a_pixel + static_cast<long long>(at.channel) * p.a_channel;
    if constexpr (kBytes == 4) return __float_as_uint(load_element(base, i, p.a_type));
    if (p.a_type == kElementFloat32) {
      const float v = reinterpret_cast<const float*>(base)[i];
      return kType == kProductF16 ? float_to_half(v) : float_to_bfloat(v);
    }
    return reinterpret_cast<const u16*>(base)[i];
  }
  __device__ void load(const GemmParams& p, u32 tile) {
#pragma unroll 1
    for (int i = 0; i < kPerThread; ++i) {
      const int piece = group + i * kGroups;
      DepthWalk at;
      at.start(p, chunk, kElements, piece * kPiece);
      u32 values[kPiece];
#pragma unroll
      for (int e = 0; e < kPiece; ++e) {
        values[e] = element(p, at);
        at.next_element(p);
      }
      uint4 packed;
      if constexpr (kBytes == 4) packed = make_uint4(values[0], values[1], values[2], values[3]);
      else
        packed = make_uint4(values[0] | values[1] << 16, values[2] | values[3] << 16, values[kPiece - 4] | values[kPiece - 3] << 16,
                            values[kPiece - 2] | values[kPiece - 1] << 16);
      store_shared16(tile + row * 128 + ((piece ^ (row & 7)) << 4), packed);
    }
    ++chunk;
  }
};

/// Packed B: the tile is one run of bytes.
template <int kColumns, int kThreads>
struct PackedColumns {
  static constexpr int kPerThread = kColumns * 8 / kThreads;
  const char* from;
  long long step;
  int limit;  ///< pieces of the tile that exist

  __device__ void start(const GemmParams& p, const char* b, int first_column, int chunk) {
    step = static_cast<long long>(p.packed_columns) * 128;
    from = b + chunk * step + static_cast<long long>(first_column) * 128 + threadIdx.x * 16;
    limit = (p.packed_columns - first_column) * 8;
  }
  __device__ void load(u32 tile) {
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      const int piece = threadIdx.x + i * kThreads;
      copy16(tile + piece * 16, from + i * kThreads * 16, piece < limit ? 16 : 0);
    }
    from += step;
  }
};

/// B as it comes at run time. kAcross: stored [depth][columns], the tile keeps it so, in blocks of 128 bytes of columns;
/// else [columns][depth]. kVector: 16-byte copies, else element by element.
template <int kColumns, int kThreads, int kBytes, bool kAcross, bool kVector>
struct StridedColumns {
  static constexpr int kElements = 128 / kBytes, kPiece = 16 / kBytes;
  static constexpr int kPerThread = kColumns * 8 / kThreads;
  const char* base;
  int row, columns, depth, first_column, chunk;

  __device__ void start(const GemmParams& p, const char* b, int column, int first_chunk) {
    base = b;
    row = p.b_row;
    columns = p.columns;
    depth = p.channels;
    first_column = column;
    chunk = first_chunk;
  }
  __device__ void load(u32 tile) {
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      const int index = threadIdx.x + i * kThreads, piece = index & 7;
      int n, k;
      u32 to;
      if constexpr (kAcross) {  // index = (block of columns, depth, piece)
        const int d = (index >> 3) % kElements, block = (index >> 3) / kElements;
        k = chunk * kElements + d;
        n = first_column + block * kElements + piece * kPiece;
        to = tile + block * (kElements * 128) + d * 128 + ((piece ^ (d & 7)) << 4);
      } else {
        const int line = index >> 3;
        n = first_column + line;
        k = chunk * kElements + piece * kPiece;
        to = tile + line * 128 + ((piece ^ (line & 7)) << 4);
      }
      const long long at = kAcross ? static_cast<long long>(k) * row + n : static_cast<long long>(n) * row + k;
      if constexpr (kVector) {
        const int along = kAcross ? columns - n : depth - k;  // what is left of the line
        const bool line = kAcross ? k < depth : n < columns;
        copy16(to, base + at * kBytes, line ? max(0, min(16, along * kBytes)) : 0);
      } else {
        u32 packed[4] = {};
#pragma unroll
        for (int e = 0; e < kPiece; ++e) {
          const bool valid = kAcross ? k < depth && n + e < columns : n < columns && k + e < depth;
          if constexpr (kBytes == 4) {
            if (valid) packed[e] = reinterpret_cast<const u32*>(base)[at + e];
          } else {
            if (valid) packed[e / 2] |= static_cast<u32>(reinterpret_cast<const u16*>(base)[at + e]) << (16 * (e & 1));
          }
        }
        store_shared16(to, make_uint4(packed[0], packed[1], packed[2], packed[3]));
      }
    }
    ++chunk;
  }
};

}  // namespace lathe::cuda
