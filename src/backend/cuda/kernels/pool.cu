// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Pooling on NHWC. Windows: a thread makes one output of 8 channels (or one). Over whole images: a block makes 64 channels (or 8) of one
// image, 32 threads along the pixels. Sums in float32; of a NaN and a number a maximum keeps the later tap, as the CPU's kernels do.
//! limits pool_*: registers 64, shared 0, spill 8
//! limits global_pool_*: registers 64, shared 8448, spill 0

#include "backend/cuda/kernels/ptx.cuh"
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

template <int kChannels>
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
  for (int ky = 0; ky < w.kernel_h; ++ky) {
    const int iy = y0 + ky * w.dilation_h;
    for (int kx = 0; kx < w.kernel_w; ++kx) {
      const int ix = x0 + kx * w.dilation_w;
      const bool inside = static_cast<unsigned>(iy) < static_cast<unsigned>(w.height) && static_cast<unsigned>(ix) < static_cast<unsigned>(w.width);
      if (inside || (p.count_padding && iy < w.height + p.pad_bottom && ix < w.width + p.pad_right)) ++count;
      if (!inside) continue;
      float v[kChannels];
      pool_load(v, w.src, src + static_cast<long long>(iy) * w.src_row + static_cast<long long>(ix) * w.src_pixel, w.type);
#pragma unroll
      for (int c = 0; c < kChannels; ++c) value[c] = p.maximum ? later_maximum(value[c], v[c]) : value[c] + v[c];
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

extern "C" __global__ void __launch_bounds__(128) pool_vec(const __grid_constant__ lathe::cuda::PoolParams p) { lathe::cuda::pool<8>(p); }
extern "C" __global__ void __launch_bounds__(128) pool_elem(const __grid_constant__ lathe::cuda::PoolParams p) { lathe::cuda::pool<1>(p); }
extern "C" __global__ void __launch_bounds__(256) global_pool_vec(const __grid_constant__ lathe::cuda::GlobalPoolParams p) { lathe::cuda::global_pool<8>(p); }
extern "C" __global__ void __launch_bounds__(256) global_pool_elem(const __grid_constant__ lathe::cuda::GlobalPoolParams p) { lathe::cuda::global_pool<1>(p); }
