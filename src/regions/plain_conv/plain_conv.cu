// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Convolutions and transposed ones by their definition, of any type, window, groups and strides: a thread makes one element. Numbers narrower than double are
// added up in float32, a tap's channels by themselves, so that long sums lose few bits.
//! limits plain_conv_*: registers 128, shared 0, spill 8

#include "backend/cuda/kernels/plain_element.cuh"
#include "regions/plain_conv/plain_conv_params.h"

namespace lathe::cuda {

/// Where the input lies that this tap of an element's window reads; negative where there is none.
__device__ inline int plain_conv_place(const PlainConvParams& p, int axis, int out, int tap) {
  int in;
  if (!p.transposed) {
    in = out * p.stride[axis] - p.pad[axis] + tap * p.dilation[axis];
  } else {
    const int from = out + p.pad[axis] - tap * p.dilation[axis];
    in = from / p.stride[axis];
    if (from < 0 || in * p.stride[axis] != from) return -1;
  }
  return in < p.in[axis] ? in : -1;
}

template <class V>
__device__ inline void plain_conv(const PlainConvParams& p) {
  launch_dependents();
  const u32 image = blockIdx.x / static_cast<u32>(p.blocks);
  const int at = static_cast<int>((blockIdx.x - image * static_cast<u32>(p.blocks)) * kPlainConvThreads + threadIdx.x);
  wait_for_previous();
  if (at >= p.count) return;
  int out[kPlainConvAxes], o = at;
  long long y_from = image * p.y_n;
#pragma unroll
  for (int axis = kPlainConvAxes - 1; axis >= 0; --axis) {
    const int next = o / p.out[axis];
    out[axis] = o - next * p.out[axis];
    y_from += out[axis] * p.y_step[axis];
    o = next;
  }
  const int group = o / p.out_per_group;
  y_from += o * p.y_c;
  const long long x_from = image * p.x_n + group * (p.in_per_group * p.x_c), w_from = group * p.w_group + (o - group * p.out_per_group) * p.w_out;
  V sum = 0;
  for (int k0 = 0; k0 < p.kernel[0]; ++k0) {
    const int i0 = plain_conv_place(p, 0, out[0], k0);
    for (int k1 = 0; i0 >= 0 && k1 < p.kernel[1]; ++k1) {
      const int i1 = plain_conv_place(p, 1, out[1], k1);
      for (int k2 = 0; i1 >= 0 && k2 < p.kernel[2]; ++k2) {
        const int i2 = plain_conv_place(p, 2, out[2], k2);
        if (i2 < 0) continue;
        const long long x_at = x_from + i0 * p.x_step[0] + i1 * p.x_step[1] + i2 * p.x_step[2];
        const long long w_at = w_from + k0 * p.w_step[0] + k1 * p.w_step[1] + k2 * p.w_step[2];
        V part = 0;
#pragma unroll 4
        for (int c = 0; c < p.in_per_group; ++c) {
          V x, w;
          plain_read(p.x, x_at + c * p.x_c, p.x_type, x);
          plain_read(p.w, w_at + c * p.w_in, p.w_type, w);
          part += x * w;
        }
        sum += part;
      }
    }
  }
  if (p.has_b) {
    V b;
    plain_read(p.b, o * p.b_step, p.b_type, b);
    sum += b;
  }
  plain_write(p.y, y_from, p.y_type, sum);
}

}  // namespace lathe::cuda

extern "C" __global__ void __launch_bounds__(256, 2) plain_conv_float(const __grid_constant__ lathe::cuda::PlainConvParams p) {
  lathe::cuda::plain_conv<float>(p);
}
extern "C" __global__ void __launch_bounds__(256, 2) plain_conv_double(const __grid_constant__ lathe::cuda::PlainConvParams p) {
  lathe::cuda::plain_conv<double>(p);
}
