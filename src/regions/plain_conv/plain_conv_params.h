// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Parameters of the plain kernels of convolutions, shared by host and device code: read by NVRTC too, so it includes nothing.

namespace lathe::cuda {

constexpr int kPlainConvThreads = 256, kPlainConvAxes = 3;

/// Convolutions over fewer axes have axes of one element in front. Strides in elements.
struct PlainConvParams {
  const void *x = nullptr, *w = nullptr, *b = nullptr;  ///< b: null where there is no bias
  void* y = nullptr;
  int x_type = 0, w_type = 0, b_type = 0, y_type = 0;
  int transposed = 0, has_b = 0;
  int count = 0, blocks = 0;                ///< of an image of y: its elements, and what makes them
  int in_per_group = 0, out_per_group = 0;  ///< channels
  int in[kPlainConvAxes] = {1, 1, 1}, out[kPlainConvAxes] = {1, 1, 1}, kernel[kPlainConvAxes] = {1, 1, 1};
  int stride[kPlainConvAxes] = {1, 1, 1}, dilation[kPlainConvAxes] = {1, 1, 1}, pad[kPlainConvAxes] = {};
  long long x_n = 0, x_c = 0, y_n = 0, y_c = 0, b_step = 0;
  long long w_in = 0, w_out = 0;  ///< from channel to channel of the input, and of the result, within a group
  long long w_group = 0;
  long long x_step[kPlainConvAxes] = {}, y_step[kPlainConvAxes] = {}, w_step[kPlainConvAxes] = {};
};

}  // namespace lathe::cuda
