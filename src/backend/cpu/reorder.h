// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Layout and type changes near memory speed: NCHW <-> NHWC with pixel strides, strided row copies, fp32 <-> bf16 (nearest even).

#include <cstdint>

#include "lathe/dtype.h"

namespace lathe {
class ThreadPool;
}

namespace lathe::cpu {

/// dst[b][c][r] = src[b][r][c] for kFloat32 / kBFloat16 in any mix; strides in elements.
struct Transpose {
  std::int64_t batch = 1, rows = 0, cols = 0;               ///< of the source
  std::int64_t src_row_stride = 0, dst_row_stride = 0;      ///< 0 = dense (cols, rows)
  std::int64_t src_batch_stride = 0, dst_batch_stride = 0;  ///< 0 = rows * src_row_stride, cols * dst_row_stride
  DType src = DType::kFloat32, dst = DType::kFloat32;
};
void run_transpose(const Transpose& t, const void* src, void* dst, ThreadPool& pool) noexcept;

/// Dense NCHW -> NHWC and back; `pixels` = H*W, `pixel_stride` of the NHWC side in elements (0 = c).
void nchw_to_nhwc(std::int64_t n, std::int64_t c, std::int64_t pixels, DType from, const void* src, DType to, void* dst, std::int64_t pixel_stride,
                  ThreadPool& pool) noexcept;
void nhwc_to_nchw(std::int64_t n, std::int64_t c, std::int64_t pixels, DType from, const void* src, std::int64_t pixel_stride, DType to, void* dst,
                  ThreadPool& pool) noexcept;

/// rows x cols elements with row strides (0 = cols), converting; copies channel slices of NHWC tensors. No overlap.
void copy_rows(std::int64_t rows, std::int64_t cols, DType from, const void* src, std::int64_t src_stride, DType to, void* dst, std::int64_t dst_stride,
               ThreadPool& pool) noexcept;

}  // namespace lathe::cpu
