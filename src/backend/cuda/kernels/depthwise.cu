// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Depthwise convolution (one input and one output channel a group) on NHWC: a thread keeps kOutputs neighbours along x of 8 channels (or
// one), so a row of the window is read once for all of them. Sums and weights in float32.
//! limits depthwise_*: registers 144, shared 0, spill 0

#include "backend/cuda/kernels/epilogue.cuh"
#include "backend/cuda/kernels/window_params.h"

namespace lathe::cuda {

template <int kChannels>
__device__ inline void load_channels(float (&v)[kChannels], const void* p, long long at, int type) {
  if constexpr (kChannels == 8) load8(v, p, at, type);
  else v[0] = load_element(p, at, type);
}

/// kKernel, kStride: of both axes, undilated; kKernel 0: as the parameters say, one output a thread.
template <int kKernel, int kStride, int kOutputs, int kChannels>
__device__ inline void depthwise(const DepthwiseParams& p) {
  const WindowParams& w = p.window;
  launch_dependents();
  const int index = blockIdx.x * blockDim.x + threadIdx.x;
  const int rest = divide(index, w.channel_groups), channel = (index - rest * w.channel_groups.divisor) * kChannels;
  const int line = divide(rest, w.x_groups), x = (rest - line * w.x_groups.divisor) * kOutputs;
  const int image = divide(line, w.rows), y = line - image * w.rows.divisor;
  wait_for_previous();
  if (index >= w.threads) return;
  const long long src = image * w.src_image + channel;
  float sum[kOutputs][kChannels] = {};
  if constexpr (kKernel > 0) {
    const int y0 = y * kStride - w.pad_top, x0 = x * kStride - w.pad_left;
#pragma unroll 1
    for (int ky = 0; ky < kKernel; ++ky) {
      if (static_cast<unsigned>(y0 + ky) >= static_cast<unsigned>(w.height)) continue;
      float weights[kKernel][kChannels];
#pragma unroll
      for (int kx = 0; kx < kKernel; ++kx)
        load_channels(weights[kx], p.weights, static_cast<long long>(ky * kKernel + kx) * w.channels + channel, kElementFloat32);
      const long long row = src + static_cast<long long>(y0 + ky) * w.src_row;
#pragma unroll
      for (int j = 0; j < (kOutputs - 1) * kStride + kKernel; ++j) {
        float v[kChannels] = {};
        if (static_cast<unsigned>(x0 + j) < static_cast<unsigned>(w.width)) load_channels(v, w.src, row + static_cast<long long>(x0 + j) * w.src_pixel, w.type);
#pragma unroll
        for (int o = 0; o < kOutputs; ++o) {
          const int kx = j - o * kStride;
          if (kx < 0 || kx >= kKernel) continue;
#pragma unroll
          for (int c = 0; c < kChannels; ++c) sum[o][c] += v[c] * weights[kx < 0 || kx >= kKernel ? 0 : kx][c];
        }
      }
    }
  } else {
    for (int ky = 0; ky < w.kernel_h; ++ky) {
      const int iy = y * w.stride_h - w.pad_top + ky * w.dilation_h;
      if (static_cast<unsigned>(iy) >= static_cast<unsigned>(w.height)) continue;
      for (int kx = 0; kx < w.kernel_w; ++kx) {
        const int ix = x * w.stride_w - w.pad_left + kx * w.dilation_w;
        if (static_cast<unsigned>(ix) >= static_cast<unsigned>(w.width)) continue;
        float v[kChannels], weight[kChannels];
        load_channels(v, w.src, src + static_cast<long long>(iy) * w.src_row + static_cast<long long>(ix) * w.src_pixel, w.type);
        load_channels(weight, p.weights, static_cast<long long>(ky * w.kernel_w + kx) * w.channels + channel, kElementFloat32);
#pragma unroll
        for (int c = 0; c < kChannels; ++c) sum[0][c] += v[c] * weight[c];
      }
    }
  }
  float bias[kChannels] = {};
  if (p.bias) load_channels(bias, p.bias, channel, kElementFloat32);
  const long long pixel = static_cast<long long>(image * w.out_height + y) * w.out_width + x;
#pragma unroll
  for (int o = 0; o < kOutputs; ++o) {
    if (x + o >= w.out_width) break;
    float residual[kChannels] = {};
    if (p.residual) load_channels(residual, p.residual, (pixel + o) * p.residual_pixel + channel, p.epilogue.stored_type);
    finish(sum[o], bias, residual, p.epilogue);
    const long long at = (pixel + o) * w.dst_pixel + channel;
    if constexpr (kChannels == 8) store8(w.dst, at, p.epilogue.stored_type, sum[o]);
    else store_element(w.dst, at, p.epilogue.stored_type, sum[o][0]);
  }
}

#define LATHE_DEPTHWISE(name, kernel, stride, outputs, channels)                                                               \
  extern "C" __global__ void __launch_bounds__(128) depthwise_##name(const __grid_constant__ lathe::cuda::DepthwiseParams p) { \
    lathe::cuda::depthwise<kernel, stride, outputs, channels>(p);                                                              \
  }

}  // namespace lathe::cuda

LATHE_DEPTHWISE(k3s1_vec, 3, 1, 4, 8)
LATHE_DEPTHWISE(k3s2_vec, 3, 2, 2, 8)
LATHE_DEPTHWISE(k5s1_vec, 5, 1, 4, 8)
LATHE_DEPTHWISE(k5s2_vec, 5, 2, 2, 8)
LATHE_DEPTHWISE(any_vec, 0, 1, 1, 8)
LATHE_DEPTHWISE(any_elem, 0, 1, 1, 1)
