// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Parameters of depthwise convolution and pooling on NHWC tensors, shared by host and device code.

#include "backend/cuda/kernels/gemm_params.h"

namespace lathe::cuda {

/// A window that slides over an image; strides in elements.
struct WindowParams {
  const void* src = nullptr;
  void* dst = nullptr;
  int images = 1, height = 1, width = 1, channels = 1, out_height = 1, out_width = 1;
  int kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1, pad_top = 0, pad_left = 0, dilation_h = 1, dilation_w = 1;
  long long src_image = 0, dst_image = 0;
  int src_row = 0, src_pixel = 0, dst_row = 0, dst_pixel = 0;
  int type = kElementFloat32;  ///< stored type of src and dst
  // Thread -> (image, y, group of outputs along x, channels); channels fastest.
  int threads = 0;
  FastDivisor channel_groups, x_groups, rows;
};

struct DepthwiseParams {
  WindowParams window;
  const float* weights = nullptr;  ///< [tap][channel], 16-byte aligned
  const float* bias = nullptr;
  const void* residual = nullptr;  ///< rows, pixels as dst's strides say, but its own pixel stride
  int residual_pixel = 0;
  EpilogueParams epilogue;
};

struct PoolParams {
  WindowParams window;
  int maximum = 1;  ///< else the mean
  int count_padding = 0;
  int pad_bottom = 0, pad_right = 0;  ///< taps in the padding count where count_padding; beyond it never
};

/// [images][pixels][channels] -> [images][channels].
struct GlobalPoolParams {
  const void* src = nullptr;
  void* dst = nullptr;
  long long src_image = 0, dst_image = 0;
  int images = 1, pixels = 1, channels = 1;
  int src_pixel = 0;
  int maximum = 0;
  int type = kElementFloat32;
};

}  // namespace lathe::cuda
