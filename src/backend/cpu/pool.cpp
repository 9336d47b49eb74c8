// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Pooling: one task per output row, or per channel block for global pooling.
#include "backend/cpu/pool.h"

#include "backend/cpu/tile_grid.h"
#include "base/thread_pool.h"

namespace lathe::cpu {
namespace {

std::int64_t out_extent(std::int64_t in, std::int64_t k, std::int64_t stride, std::int64_t dilation, std::int64_t pad0, std::int64_t pad1, bool ceil_mode) {
  // Division rounds towards minus infinity here: in ceil mode a kernel that overhangs the padded input by less than a stride counts.
  const std::int64_t span = in + pad0 + pad1 - dilation * (k - 1) - 1;
  const std::int64_t below = span >= 0 ? span / stride : -ceil_div(-span, stride);
  std::int64_t out = below + 1 + (ceil_mode && below * stride != span ? 1 : 0);
  if (ceil_mode && (out - 1) * stride >= in + pad0) --out;
  if (out < 0) out = 0;
  return out;
}

}  // namespace

std::int64_t PoolProblem::oh() const noexcept { return out_extent(h, kh, stride_h, dilation_h, pad_top, pad_bottom, ceil_mode); }
std::int64_t PoolProblem::ow() const noexcept { return out_extent(w, kw, stride_w, dilation_w, pad_left, pad_right, ceil_mode); }

void run_pool(const PoolProblem& p, const void* src, void* dst, ThreadPool& pool) noexcept {
  const KernelTable& kernels = kernel_table();
  const std::int64_t oh = p.out_h ? p.out_h : p.oh(), ow = p.out_w ? p.out_w : p.ow();
  PoolArgs base{};
  base.h = p.h;
  base.w = p.w;
  base.c = p.c;
  base.kh = p.kh;
  base.kw = p.kw;
  base.stride_w = p.stride_w;
  base.dilation_h = p.dilation_h;
  base.dilation_w = p.dilation_w;
  base.ix0 = -p.pad_left;
  base.ow = ow;
  base.src_pixel = (p.src_pixel_stride ? p.src_pixel_stride : p.c) * element_bytes(p.src);
  base.src_row = base.src_pixel * p.w;
  base.dst_pixel = (p.dst_pixel_stride ? p.dst_pixel_stride : p.c) * element_bytes(p.dst);
  base.pad_h_end = p.h + p.pad_bottom;
  base.pad_w_end = p.w + p.pad_right;
  base.src_type = p.src;
  base.dst_type = p.dst;
  base.average = p.kind == PoolKind::kAverage;
  base.count_include_pad = p.count_include_pad;
  pool.parallel_for(p.n * oh, [&](std::int64_t task, int) {
    PoolArgs a = base;
    a.src = static_cast<const char*>(src) + task / oh * p.h * base.src_row;
    a.dst = static_cast<char*>(dst) + task * ow * base.dst_pixel;
    a.iy0 = task % oh * p.stride_h - p.pad_top;
    kernels.pool(a);
  });
}

void run_global_pool(const GlobalPoolProblem& p, const void* src, void* dst, ThreadPool& pool) noexcept {
  const KernelTable& kernels = kernel_table();
  constexpr std::int64_t kBlock = 128;
  const std::int64_t blocks = ceil_div(p.c, kBlock), dst_element = element_bytes(p.dst);
  const std::int64_t pixel = (p.src_pixel_stride ? p.src_pixel_stride : p.c) * element_bytes(p.src);
  const std::int64_t image_stride = p.dst_image_stride ? p.dst_image_stride : p.c;
  pool.parallel_for(p.n * blocks, [&](std::int64_t task, int) {
    const std::int64_t image = task / blocks, first = task % blocks * kBlock;
    GlobalPoolArgs a;
    a.src = static_cast<const char*>(src) + image * p.pixels * pixel + first * element_bytes(p.src);
    a.dst = static_cast<char*>(dst) + (image * image_stride + first) * dst_element;
    a.pixels = p.pixels;
    a.c = p.c - first < kBlock ? p.c - first : kBlock;
    a.src_pixel = pixel;
    a.src_type = p.src;
    a.dst_type = p.dst;
    a.average = p.kind == PoolKind::kAverage;
    kernels.global_pool(a);
  });
}

}  // namespace lathe::cpu
