// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Pooling on NHWC. Windows: a thread makes one output of 8 channels (or one). Over whole images: a block makes 64 channels (or 8) of one
// image, 32 threads along the pixels. Sums in float32; of a NaN and a number a maximum keeps the later tap, as the CPU's kernels do.
//! limits pool_vec_*: registers 168, shared 0, spill 0
//! limits pool_*: registers 64, shared 0, spill 8
//! limits global_pool_*: registers 64, shared 8448, spill 0

#include "backend/cuda/kernels/epilogue.cuh"
#include "backend/cuda/kernels/window_params.h"

namespace lathe::cuda {

template <int kChannels>
__device__ inline void pool_load(float (&v)[kChannels], const void* p, long long at, int type) {
  if constexpr (kChannels == 8) load8(v, p, at, type);
  else v[0] = load_element(p, at, type);
}
template <int kChannels>
__device__ inline void pool_store(void* p, long long at, int type, const float (&v)[kChannels]) {
  if constexpr (kChannels == 8) store8(p, at, type, v);
  else store_element(p, at, type, v[0]);
}
__device__ inline float later_maximum(float old, float now) { return old > now ? old : now; }

/// kKernel: of both axes, a row of taps is asked for before any of it is used; 0: as the parameters say, one tap after the other.
template <int kChannels, int kKernel>
__device__ inline void pool(const PoolParams& p) {
  const WindowParams& w = p.window;
  launch_dependents();
  const int index = blockIdx.x * blockDim.x + threadIdx.x;
  const int rest = divide(index, w.channel_groups), channel = (index - rest * w.channel_groups.divisor) * kChannels;
  const int line = divide(rest, w.x_groups), x = rest - line * w.x_groups.divisor;
  const int image = divide(line, w.rows), y = line - image * w.rows.divisor;
  wait_for_previous();
  if (index >= w.threads) return;
  float value[kChannels];
#pragma unroll
  for (int c = 0; c < kChannels; ++c) value[c] = p.maximum ? -__int_as_float(0x7f800000) : 0.0f;
  const long long src = image * w.src_image + channel;
  const int y0 = y * w.stride_h - w.pad_top, x0 = x * w.stride_w - w.pad_left;
  int count = 0;
  const auto is_inside = [&](int iy, int ix) {
    return static_cast<unsigned>(iy) < static_cast<unsigned>(w.height) && static_cast<unsigned>(ix) < static_cast<unsigned>(w.width);
  };
  const auto at = [&](int iy, int ix) { return src + static_cast<long long>(iy) * w.src_row + static_cast<long long>(ix) * w.src_pixel; };
  const auto add = [&](const float(&v)[kChannels], int iy, int ix) {
    const bool inside = is_inside(iy, ix);
    if (inside || (p.count_padding && iy < w.height + p.pad_bottom && ix < w.width + p.pad_right)) ++count;
    if (!inside) return;
#pragma unroll
    for (int c = 0; c < kChannels; ++c) value[c] = p.maximum ? later_maximum(value[c], v[c]) : value[c] + v[c];
  };
  if constexpr (kKernel > 0) {
#pragma unroll
    for (int ky = 0; ky < kKernel; ++ky) {
      const int iy = y0 + ky * w.dilation_h;
      Stored8 taps[kKernel];
#pragma unroll
      for (int kx = 0; kx < kKernel; ++kx)
        if (const int ix = x0 + kx * w.dilation_w; is_inside(iy, ix)) taps[kx].load(w.src, at(iy, ix), w.type);
#pragma unroll
      for (int kx = 0; kx < kKernel; ++kx) {
        float v[kChannels];
#pragma unroll
        for (int c = 0; c < kChannels; ++c) v[c] = taps[kx].get(c, w.type);
        add(v, iy, x0 + kx * w.dilation_w);
      }
    }
  } else {
    for (int ky = 0; ky < w.kernel_h; ++ky)
      for (int kx = 0; kx < w.kernel_w; ++kx) {
        const int iy = y0 + ky * w.dilation_h, ix = x0 + kx * w.dilation_w;
        float v[kChannels] = {};
        if (is_inside(iy, ix)) pool_load(v, w.src, at(iy, ix), w.type);
        add(v, iy, ix);
      }
  }
  if (!p.maximum) {
#pragma unroll
    for (int c = 0; c < kChannels; ++c) value[c] /= static_cast<float>(count);
  }
  pool_store(w.dst, image * w.dst_image + static_cast<long long>(y) * w.dst_row + static_cast<long long>(x) * w.dst_pixel + channel, w.type, value);
}

template <int kChannels>
__device__ inline void global_pool(const GlobalPoolParams& p) {
  __shared__ float values[32][8 * kChannels + 1];
  launch_dependents();
  const int lane = threadIdx.x & 7, part = threadIdx.x >> 3;
  const int channel = (blockIdx.x * 8 + lane) * kChannels, image = blockIdx.y;
  wait_for_previous();
  float value[kChannels];
#pragma unroll
  for (int c = 0; c < kChannels; ++c) value[c] = p.maximum ? -__int_as_float(0x7f800000) : 0.0f;
  if (channel < p.channels) {
    for (int pixel = part; pixel < p.pixels; pixel += 32) {
      float v[kChannels];
      pool_load(v, p.src, image * p.src_image + static_cast<long long>(pixel) * p.src_pixel + channel, p.type);
#pragma unroll
      for (int c = 0; c < kChannels; ++c) value[c] = p.maximum ? later_maximum(value[c], v[c]) : value[c] + v[c];
    }
  }
#pragma unroll
  for (int c = 0; c < kChannels; ++c) values[part][lane * kChannels + c] = value[c];
  __syncthreads();
  const int own = threadIdx.x;
  const int own_channel = blockIdx.x * 8 * kChannels + own;
  if (own >= 8 * kChannels || own_channel >= p.channels) return;
  float total = values[0][own];
  for (int i = 1; i < 32; ++i) total = p.maximum ? later_maximum(total, values[i][own]) : total + values[i][own];
  store_element(p.dst, image * p.dst_image + own_channel, p.type, p.maximum ? total : total / static_cast<float>(p.pixels));
}

}  // namespace lathe::cuda

#define LATHE_POOL(name, channels, kernel) \
  extern "C" __global__ void __launch_bounds__(128) name(const __grid_constant__ lathe::cuda::PoolParams p) { lathe::cuda::pool<channels, kernel>(p); }
LATHE_POOL(pool_vec, 8, 0)
LATHE_POOL(pool_vec_2, 8, 2)
LATHE_POOL(pool_vec_3, 8, 3)
LATHE_POOL(pool_vec_5, 8, 5)
LATHE_POOL(pool_elem, 1, 0)
extern "C" __global__ void __launch_bounds__(256) global_pool_vec(const __grid_constant__ lathe::cuda::GlobalPoolParams p) { lathe::cuda::global_pool<8>(p); }
extern "C" __global__ void __launch_bounds__(256) global_pool_elem(const __grid_constant__ lathe::cuda::GlobalPoolParams p) { lathe::cuda::global_pool<1>(p); }
