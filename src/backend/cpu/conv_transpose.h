// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// 2-D transposed convolution on channels-last activations: each output phase (y mod stride, x mod stride) is an ordinary
// convolution with stride 1 of a sub-sampled kernel, run by the convolution tiles and written with strides into the output.

#include <cstddef>
#include <cstdint>
#include <string>

#include "backend/cpu/epilogue.h"
#include "backend/cpu/features.h"
#include "lathe/dtype.h"

namespace lathe {
class ThreadPool;
}

namespace lathe::cpu {

struct ConvTransposeProblem {
  std::int64_t n = 1, h = 1, w = 1;
  std::int64_t cin = 1, cout = 1;  ///< all groups together
  std::int64_t kh = 1, kw = 1;
  std::int64_t stride_h = 1, stride_w = 1;
  std::int64_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
  std::int64_t output_pad_h = 0, output_pad_w = 0;
  std::int64_t dilation_h = 1, dilation_w = 1;
  std::int64_t groups = 1;
  DType src = DType::kFloat32, weights = DType::kFloat32, dst = DType::kFloat32;

  std::int64_t oh() const noexcept { return stride_h * (h - 1) + output_pad_h + dilation_h * (kh - 1) + 1 - pad_top - pad_bottom; }
  std::int64_t ow() const noexcept { return stride_w * (w - 1) + output_pad_w + dilation_w * (kw - 1) + 1 - pad_left - pad_right; }
};

struct ConvTransposeArgs {
  const void* src = nullptr;
  std::int64_t src_pixel_stride = 0;
  const void* weights = nullptr;  ///< what pack_conv_transpose_weights wrote, 64-byte aligned
  const float* bias = nullptr;
  const void* residual = nullptr;  ///< same extent as dst, or nullptr. May be dst itself
  std::int64_t residual_pixel_stride = 0;
  DType residual_type = DType::kFloat32;
  void* dst = nullptr;
  std::int64_t dst_pixel_stride = 0;
  void* scratch = nullptr;
};

std::string conv_transpose_unsupported(const ConvTransposeProblem& problem);
/// Weights come in ONNX's order [cin][cout / groups][kh][kw].
std::size_t conv_transpose_weight_bytes(const ConvTransposeProblem& problem);
void pack_conv_transpose_weights(const ConvTransposeProblem& problem, const float* weights, void* packed);
std::size_t conv_transpose_scratch_bytes(const ConvTransposeProblem& problem, int threads);
void run_conv_transpose(const ConvTransposeProblem& problem, const Epilogue& epilogue, const ConvTransposeArgs& args, ThreadPool& pool) noexcept;

}  // namespace lathe::cpu
