// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Layout changes in blocks that several workers share.
#include "backend/cpu/reorder.h"

#include "backend/cpu/tile_grid.h"
#include "base/thread_pool.h"

namespace lathe::cpu {

void run_transpose(const Transpose& t, const void* src, void* dst, ThreadPool& pool) noexcept {
  if (t.batch <= 0 || t.rows <= 0 || t.cols <= 0) return;
  const KernelTable& kernels = kernel_table();
  const std::int64_t src_row = t.src_row_stride ? t.src_row_stride : t.cols, dst_row = t.dst_row_stride ? t.dst_row_stride : t.rows;
  const std::int64_t src_batch = t.src_batch_stride ? t.src_batch_stride : t.rows * src_row;
  const std::int64_t dst_batch = t.dst_batch_stride ? t.dst_batch_stride : t.cols * dst_row;
  const std::int64_t src_element = element_bytes(t.src), dst_element = element_bytes(t.dst);
  // Blocks of 64 columns x up to 256 rows: 64 KiB of fp32 on each side.
  constexpr std::int64_t kCols = 64, kRows = 256;
  const std::int64_t col_blocks = ceil_div(t.cols, kCols), row_blocks = ceil_div(t.rows, kRows);
  pool.parallel_for(t.batch * col_blocks * row_blocks, [&](std::int64_t task, int) {
    const std::int64_t r0 = task % row_blocks * kRows, c0 = task / row_blocks % col_blocks * kCols, b = task / row_blocks / col_blocks;
    TransposeArgs a;
    a.src = static_cast<const char*>(src) + (b * src_batch + r0 * src_row + c0) * src_element;
    a.dst = static_cast<char*>(dst) + (b * dst_batch + c0 * dst_row + r0) * dst_element;
    a.rows = t.rows - r0 < kRows ? t.rows - r0 : kRows;
    a.cols = t.cols - c0 < kCols ? t.cols - c0 : kCols;
    a.src_stride = src_row * src_element;
    a.dst_stride = dst_row * dst_element;
    a.src_type = t.src;
    a.dst_type = t.dst;
    kernels.transpose(a);
  });
}

void nchw_to_nhwc(std::int64_t n, std::int64_t c, std::int64_t pixels, DType from, const void* src, DType to, void* dst, std::int64_t pixel_stride,
                  ThreadPool& pool) noexcept {
  Transpose t;
  t.batch = n;
  t.rows = c;
  t.cols = pixels;
  t.dst_row_stride = pixel_stride ? pixel_stride : c;
  t.src = from;
  t.dst = to;
  run_transpose(t, src, dst, pool);
}

void nhwc_to_nchw(std::int64_t n, std::int64_t c, std::int64_t pixels, DType from, const void* src, std::int64_t pixel_stride, DType to, void* dst,
                  ThreadPool& pool) noexcept {
  Transpose t;
  t.batch = n;
  t.rows = pixels;
  t.cols = c;
  t.src_row_stride = pixel_stride ? pixel_stride : c;
  t.src = from;
  t.dst = to;
  run_transpose(t, src, dst, pool);
}

void copy_rows(std::int64_t rows, std::int64_t cols, DType from, const void* src, std::int64_t src_stride, DType to, void* dst, std::int64_t dst_stride,
               ThreadPool& pool) noexcept {
  if (rows <= 0 || cols <= 0) return;
  const KernelTable& kernels = kernel_table();
  CopyArgs a;
  a.src_stride = (src_stride ? src_stride : cols) * element_bytes(from);
  a.dst_stride = (dst_stride ? dst_stride : cols) * element_bytes(to);
  a.src_type = from;
  a.dst_type = to;
  // One long row is cut instead.
  constexpr std::int64_t kElements = 16384;
  const std::int64_t row_step = cols >= kElements ? 1 : kElements / cols;
  const std::int64_t col_blocks = ceil_div(cols, kElements), row_blocks = ceil_div(rows, row_step);
  pool.parallel_for(row_blocks * col_blocks, [&](std::int64_t task, int) {
    const std::int64_t r0 = task / col_blocks * row_step, c0 = task % col_blocks * kElements;
    CopyArgs now = a;
    now.src = static_cast<const char*>(src) + r0 * a.src_stride + c0 * element_bytes(from);
    now.dst = static_cast<char*>(dst) + r0 * a.dst_stride + c0 * element_bytes(to);
    now.rows = rows - r0 < row_step ? rows - r0 : row_step;
    now.cols = cols - c0 < kElements ? cols - c0 : kElements;
    kernels.copy(now);
  });
}

}  // namespace lathe::cpu
