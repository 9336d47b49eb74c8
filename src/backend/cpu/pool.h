// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Pooling on channels-last activations (NHWC with pixel strides), fp32 and bf16, sums in fp32.

#include <cstdint>

#include "lathe/dtype.h"

namespace lathe {
class ThreadPool;
}

namespace lathe::cpu {

enum class PoolKind : std::uint8_t { kMax, kAverage };

struct PoolProblem {
  PoolKind kind = PoolKind::kMax;
  std::int64_t n = 1, h = 1, w = 1, c = 1;
  std::int64_t kh = 1, kw = 1, stride_h = 1, stride_w = 1;
  std::int64_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
  std::int64_t dilation_h = 1, dilation_w = 1;
  bool ceil_mode = false;
  bool count_include_pad = false;
  DType src = DType::kFloat32, dst = DType::kFloat32;
  std::int64_t out_h = 0, out_w = 0;                        ///< set where another rule gave the extents (SAME_*); 0 = oh(), ow()
  std::int64_t src_pixel_stride = 0, dst_pixel_stride = 0;  ///< elements; 0 = c

  /// ONNX's rule: with ceil_mode a last window that would start in the right padding is dropped.
  std::int64_t oh() const noexcept;
  std::int64_t ow() const noexcept;
};

/// Max: taps in row-major order, of a NaN and a number the later one stays (so NaN results only from a NaN in last place); a window
/// without any input element gives -inf. src and dst must not overlap.
void run_pool(const PoolProblem& problem, const void* src, void* dst, ThreadPool& pool) noexcept;

/// Mean (or maximum) over all pixels: src [n][pixels][c] -> dst [n][c]; strides in elements, 0 = c.
struct GlobalPoolProblem {
  PoolKind kind = PoolKind::kAverage;
  std::int64_t n = 1, pixels = 1, c = 1;
  DType src = DType::kFloat32, dst = DType::kFloat32;
  std::int64_t src_pixel_stride = 0, dst_image_stride = 0;
};
void run_global_pool(const GlobalPoolProblem& problem, const void* src, void* dst, ThreadPool& pool) noexcept;

}  // namespace lathe::cpu
