// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Depthwise convolution: one task per output row.
#include "backend/cpu/conv_internal.h"
#include "base/thread_pool.h"

namespace lathe::cpu {

std::size_t conv_depthwise_scratch(const ConvProblem& p) noexcept { return static_cast<std::size_t>(round_up(p.ow() * 2 * 16 * 4, 64)); }

void run_conv_depthwise(const ConvProblem& p, const ConvPlan&, const Epilogue& epilogue, const ConvArgs& args, ThreadPool& pool) noexcept {
  const KernelTable& kernels = kernel_table();
  const std::int64_t oh = p.oh(), ow = p.ow();
  DepthwiseArgs base{};
  base.weights = static_cast<const float*>(args.weights);
  base.h = p.h;
  base.w = p.w;
  base.c = p.cin;
  base.kh = p.kh;
  base.kw = p.kw;
  base.stride_w = p.stride_w;
  base.dilation_h = p.dilation_h;
  base.dilation_w = p.dilation_w;
  base.ix0 = -p.pad_left;
  base.ow = ow;
  base.src_pixel = (args.src_pixel_stride ? args.src_pixel_stride : p.cin) * element_bytes(p.src);
  base.src_row = base.src_pixel * p.w;
  base.src_type = p.src;
  base.epilogue.bias = args.bias;
  base.epilogue.dst_type = p.dst;
  base.epilogue.residual_type = args.residual_type;
  base.epilogue.op = epilogue;
  base.epilogue.dst_stride = (args.dst_pixel_stride ? args.dst_pixel_stride : p.cout) * element_bytes(p.dst);
  base.epilogue.residual_stride = (args.residual_pixel_stride ? args.residual_pixel_stride : p.cout) * element_bytes(args.residual_type);
  const std::size_t scratch = conv_depthwise_scratch(p);
  pool.parallel_for(p.n * oh, [&](std::int64_t task, int worker) {
    const std::int64_t image = task / oh, oy = task % oh;
    DepthwiseArgs d = base;
    d.src = static_cast<const char*>(args.src) + image * p.h * base.src_row;
    d.iy0 = oy * p.stride_h - p.pad_top;
    d.epilogue.acc = reinterpret_cast<float*>(static_cast<char*>(args.scratch) + static_cast<std::size_t>(worker) * scratch);
    d.epilogue.dst = static_cast<char*>(args.dst) + task * ow * base.epilogue.dst_stride;
    d.epilogue.residual = args.residual ? static_cast<const char*>(args.residual) + task * ow * base.epilogue.residual_stride : nullptr;
    kernels.depthwise(d);
  });
}

}  // namespace lathe::cpu
