// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Host side of depthwise convolution and pooling on NHWC: from shapes and strides to kernel, launch shape and parameters.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "backend/cuda/kernels/gemm_plan.h"
#include "backend/cuda/kernels/window_params.h"

namespace lathe::cuda {

/// Making one allocates nothing.
template <class Params>
struct WindowLaunch {
  std::string_view module, kernel;
  std::uint32_t grid[2] = {1, 1}, block = 128;
  Params params;  ///< pointers and epilogue are the caller's to fill in
};

/// "" for convolutions with one input and one output channel a group, else why not.
std::string depthwise_unsupported(const ConvShape& shape, const ConvOperands& operands);
WindowLaunch<DepthwiseParams> depthwise_launch(const ConvShape& shape, const ConvOperands& operands);
/// OIHW -> [tap][channel], float32.
void pack_depthwise(const ConvShape& shape, const float* weights, std::span<float> packed);

struct PoolShape {
  bool maximum = true, count_padding = false;
  std::int64_t n = 1, h = 1, w = 1, c = 1, out_h = 1, out_w = 1, kh = 1, kw = 1, stride_h = 1, stride_w = 1;
  std::int64_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0, dilation_h = 1, dilation_w = 1;
};
struct PoolOperands {
  ElementType type = kElementFloat16;
  std::int64_t src_pixel = 0, dst_pixel = 0;  ///< elements; 0 = dense
  int alignment = 16;
};
std::string pool_unsupported(const PoolShape& shape, const PoolOperands& operands);
WindowLaunch<PoolParams> pool_launch(const PoolShape& shape, const PoolOperands& operands);
/// Over all pixels; dst is [n][c] with `dst_pixel` elements between images.
WindowLaunch<GlobalPoolParams> global_pool_launch(bool maximum, std::int64_t n, std::int64_t pixels, std::int64_t c, const PoolOperands& operands);

}  // namespace lathe::cuda
