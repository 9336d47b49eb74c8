// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Launches of depthwise convolution and pooling.

#include "backend/cuda/kernels/window_plan.h"

#include <algorithm>

namespace lathe::cuda {
namespace {

constexpr std::int64_t kMost = (std::int64_t{1} << 31) - 1;

/// Threads of a launch over (image, y, group of outputs, group of channels).
std::int64_t spread(WindowParams& w, int outputs, int channels) {
  const std::uint32_t groups = static_cast<std::uint32_t>((w.channels + channels - 1) / channels),
                      columns = static_cast<std::uint32_t>((w.out_width + outputs - 1) / outputs);
  w.channel_groups = fast_divisor(groups);
  w.x_groups = fast_divisor(columns);
  w.rows = fast_divisor(static_cast<std::uint32_t>(w.out_height));
  return static_cast<std::int64_t>(w.images) * w.out_height * columns * groups;
}

bool wide(ElementType type, std::int64_t channels, std::int64_t src_pixel, std::int64_t dst_pixel, int alignment) {
  const int piece = type == kElementFloat32 ? 4 : 8;
  return channels % 8 == 0 && src_pixel % piece == 0 && dst_pixel % piece == 0 && alignment % 16 == 0;
}

}  // namespace

std::string depthwise_unsupported(const ConvShape& s, const ConvOperands& o) {
  if (s.groups != s.cin || s.groups != s.cout) return "not one input and one output channel a group";
  if (s.n < 1 || s.oh() < 1 || s.ow() < 1) return "the output is empty";
  if (o.src_planar) return "the source is not channels-last";
  if (o.src != o.stored) return "source and result differ in type";
  if (s.n * s.oh() * s.ow() * s.cout > kMost || s.w * std::max(s.cin, o.src_pixel) > kMost || s.ow() * std::max(s.cout, o.dst_pixel) > kMost)
    return "an extent does not fit 31 bits";
  return "";
}

WindowLaunch<DepthwiseParams> depthwise_launch(const ConvShape& s, const ConvOperands& o) {
  WindowLaunch<DepthwiseParams> launch;
  launch.module = "depthwise";
  WindowParams& w = launch.params.window;
  const std::int64_t src_pixel = o.src_pixel ? o.src_pixel : s.cin, dst_pixel = o.dst_pixel ? o.dst_pixel : s.cout,
                     residual_pixel = o.residual_pixel ? o.residual_pixel : s.cout;
  w.images = static_cast<int>(s.n);
  w.height = static_cast<int>(s.h);
  w.width = static_cast<int>(s.w);
  w.channels = static_cast<int>(s.cin);
  w.out_height = static_cast<int>(s.oh());
  w.out_width = static_cast<int>(s.ow());
  w.kernel_h = static_cast<int>(s.kh);
  w.kernel_w = static_cast<int>(s.kw);
  w.stride_h = static_cast<int>(s.stride_h);
  w.stride_w = static_cast<int>(s.stride_w);
  w.pad_top = static_cast<int>(s.pad_top);
  w.pad_left = static_cast<int>(s.pad_left);
  w.dilation_h = static_cast<int>(s.dilation_h);
  w.dilation_w = static_cast<int>(s.dilation_w);
  w.src_pixel = static_cast<int>(src_pixel);
  w.src_row = static_cast<int>(s.w * src_pixel);
  w.src_image = s.h * s.w * src_pixel;
  w.dst_pixel = static_cast<int>(dst_pixel);
  w.dst_row = static_cast<int>(s.ow() * dst_pixel);
  w.dst_image = s.oh() * s.ow() * dst_pixel;
  w.type = o.src;
  launch.params.residual_pixel = static_cast<int>(residual_pixel);
  launch.params.epilogue.stored_type = o.stored;
  const bool vectors = wide(o.src, s.cin, src_pixel, dst_pixel, std::min(o.src_alignment, o.dst_alignment)) &&
                       (!o.residual || wide(o.src, s.cin, residual_pixel, residual_pixel, o.dst_alignment));
  const bool square =
      s.kh == s.kw && s.stride_h == s.stride_w && s.dilation_h == 1 && s.dilation_w == 1 && (s.kh == 3 || s.kh == 5) && (s.stride_h == 1 || s.stride_h == 2);
  int outputs = 1;
  if (vectors && square) {
    outputs = s.stride_w == 1 ? 4 : 2;
    static constexpr std::string_view kSquare[2][2] = {{"depthwise_k3s1_vec", "depthwise_k3s2_vec"}, {"depthwise_k5s1_vec", "depthwise_k5s2_vec"}};
    launch.kernel = kSquare[s.kh == 5][s.stride_h == 2];
  } else {
    launch.kernel = vectors ? "depthwise_any_vec" : "depthwise_any_elem";
  }
  const std::int64_t threads = spread(w, outputs, vectors ? 8 : 1);
  w.threads = static_cast<int>(threads);
  launch.grid[0] = static_cast<std::uint32_t>((threads + 127) / 128);
  return launch;
}

void pack_depthwise(const ConvShape& s, const float* weights, std::span<float> packed) {
  const std::int64_t taps = s.kh * s.kw;
  for (std::int64_t c = 0; c < s.cout; ++c)
    for (std::int64_t t = 0; t < taps; ++t) packed[static_cast<std::size_t>(t * s.cout + c)] = weights[c * taps + t];
}

std::string pool_unsupported(const PoolShape& s, const PoolOperands& o) {
  if (s.n < 1 || s.c < 1 || s.out_h < 1 || s.out_w < 1) return "the output is empty";
  if (s.n * s.out_h * s.out_w * s.c > kMost || s.w * std::max(s.c, o.src_pixel) > kMost || s.out_w * std::max(s.c, o.dst_pixel) > kMost)
    return "an extent does not fit 31 bits";
  return "";
}

WindowLaunch<PoolParams> pool_launch(const PoolShape& s, const PoolOperands& o) {
  WindowLaunch<PoolParams> launch;
  launch.module = "pool";
  PoolParams& p = launch.params;
  WindowParams& w = p.window;
  const std::int64_t src_pixel = o.src_pixel ? o.src_pixel : s.c, dst_pixel = o.dst_pixel ? o.dst_pixel : s.c;
  w.images = static_cast<int>(s.n);
  w.height = static_cast<int>(s.h);
  w.width = static_cast<int>(s.w);
  w.channels = static_cast<int>(s.c);
  w.out_height = static_cast<int>(s.out_h);
  w.out_width = static_cast<int>(s.out_w);
  w.kernel_h = static_cast<int>(s.kh);
  w.kernel_w = static_cast<int>(s.kw);
  w.stride_h = static_cast<int>(s.stride_h);
  w.stride_w = static_cast<int>(s.stride_w);
  w.pad_top = static_cast<int>(s.pad_top);
  w.pad_left = static_cast<int>(s.pad_left);
  w.dilation_h = static_cast<int>(s.dilation_h);
  w.dilation_w = static_cast<int>(s.dilation_w);
  w.src_pixel = static_cast<int>(src_pixel);
  w.src_row = static_cast<int>(s.w * src_pixel);
  w.src_image = s.h * s.w * src_pixel;
  w.dst_pixel = static_cast<int>(dst_pixel);
  w.dst_row = static_cast<int>(s.out_w * dst_pixel);
  w.dst_image = s.out_h * s.out_w * dst_pixel;
  w.type = o.type;
  p.maximum = s.maximum;
  p.count_padding = s.count_padding;
  p.pad_bottom = static_cast<int>(s.pad_bottom);
  p.pad_right = static_cast<int>(s.pad_right);
  const bool vectors = wide(o.type, s.c, src_pixel, dst_pixel, o.alignment);
  launch.kernel = !vectors       ? "pool_elem"
                  : s.kh != s.kw ? "pool_vec"
                  : s.kh == 2    ? "pool_vec_2"
                  : s.kh == 3    ? "pool_vec_3"
                  : s.kh == 5    ? "pool_vec_5"
                                 : "pool_vec";
  const std::int64_t threads = spread(w, 1, vectors ? 8 : 1);
  w.threads = static_cast<int>(threads);
  launch.grid[0] = static_cast<std::uint32_t>((threads + 127) / 128);
  return launch;
}

WindowLaunch<GlobalPoolParams> global_pool_launch(bool maximum, std::int64_t n, std::int64_t pixels, std::int64_t c, const PoolOperands& o) {
  WindowLaunch<GlobalPoolParams> launch;
  launch.module = "pool";
  GlobalPoolParams& p = launch.params;
  const std::int64_t src_pixel = o.src_pixel ? o.src_pixel : c;
  p.images = static_cast<int>(n);
  p.pixels = static_cast<int>(pixels);
  p.channels = static_cast<int>(c);
  p.src_pixel = static_cast<int>(src_pixel);
  p.src_image = pixels * src_pixel;
  p.dst_image = o.dst_pixel ? o.dst_pixel : c;
  p.maximum = maximum;
  p.type = o.type;
  const bool vectors = wide(o.type, c, src_pixel, 0, o.alignment);
  launch.kernel = vectors ? "global_pool_vec" : "global_pool_elem";
  launch.block = 256;
  launch.grid[0] = static_cast<std::uint32_t>((c + (vectors ? 63 : 7)) / (vectors ? 64 : 8));
  launch.grid[1] = static_cast<std::uint32_t>(n);
  return launch;
}

}  // namespace lathe::cuda
