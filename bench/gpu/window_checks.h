// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Depthwise convolution and pooling on the GPU, held against plain loops and timed.

#include "backend/cuda/kernels/window_plan.h"
#include "harness.h"

namespace lathe::bench {

template <class Params>
Status launch_window(Gpu& gpu, const cuda::WindowLaunch<Params>& launch) {
  cuda::LaunchShape shape;
  shape.grid_x = launch.grid[0];
  shape.grid_y = launch.grid[1];
  shape.block = launch.block;
  shape.overlaps = gpu.limits.arch >= 90;
  return gpu.function(std::string(launch.module), std::string(launch.kernel), 0).launch_with(gpu.stream.handle(), shape, launch.params);
}

struct WindowResult {
  bool right = false;
  double us = 0;
};

inline double window_tolerance(cuda::ElementType type) { return type == cuda::kElementFloat32 ? 1e-6 : type == cuda::kElementFloat16 ? 4e-4 : 3e-3; }

inline WindowResult run_depthwise(Gpu& gpu, const cuda::ConvShape& s, cuda::ElementType type, int activation, int residual, std::int64_t extra, bool timed) {
  using namespace cuda;
  ConvOperands o;
  o.src = o.stored = type;
  o.src_pixel = s.cin + extra;
  o.dst_pixel = o.residual_pixel = s.cout + extra;
  o.residual = residual != 0;
  const std::size_t rows = static_cast<std::size_t>(s.n * s.oh() * s.ow()), taps = static_cast<std::size_t>(s.kh * s.kw);
  std::vector<float> weights;
  const Block src = random_block(gpu, static_cast<std::size_t>(s.n * s.h * s.w * o.src_pixel), type, 1),
              w = random_block(gpu, static_cast<std::size_t>(s.cout) * taps, kElementFloat32, 0.5f, &weights);
  const Block bias = random_block(gpu, static_cast<std::size_t>(s.cout), kElementFloat32, 0.5f),
              add = random_block(gpu, rows * static_cast<std::size_t>(o.residual_pixel), type, 1);
  std::vector<float> packed(weights.size());
  pack_depthwise(s, weights.data(), packed);
  Block packed_block(gpu.device, packed.size() * 4), out(gpu.device, rows * static_cast<std::size_t>(o.dst_pixel) * bytes_of(type)),
      expected(gpu.device, rows * static_cast<std::size_t>(s.cout) * 4);
  gpu.upload(packed_block, packed.data(), packed.size() * 4);
  gpu.fill(out, 0xff);
  WindowLaunch<DepthwiseParams> launch = depthwise_launch(s, o);
  DepthwiseParams& p = launch.params;
  p.window.src = src.data();
  p.window.dst = out.data();
  p.weights = static_cast<const float*>(packed_block.data());
  p.bias = static_cast<const float*>(bias.data());
  p.residual = residual ? add.data() : nullptr;
  p.epilogue.activation = activation;
  p.epilogue.alpha = 0.25f;
  p.epilogue.beta = 0.5f;
  p.epilogue.residual_after = residual == 2;
  require(launch_window(gpu, launch));
  const auto i = [](std::int64_t v) { return static_cast<int>(v); };
  ReferenceConv r{src.data(),
                  static_cast<const float*>(w.data()),
                  p.bias,
                  add.data(),
                  static_cast<float*>(expected.data()),
                  i(s.h),
                  i(s.w),
                  i(s.cin),
                  i(s.cout),
                  i(s.kh),
                  i(s.kw),
                  i(s.stride_h),
                  i(s.stride_w),
                  i(s.pad_top),
                  i(s.pad_left),
                  i(s.dilation_h),
                  i(s.dilation_w),
                  i(s.groups),
                  i(s.oh()),
                  i(s.ow()),
                  s.h * s.w * o.src_pixel,
                  s.w * o.src_pixel,
                  o.src_pixel,
                  1,
                  i(o.residual_pixel),
                  type,
                  3,
                  0,
                  static_cast<long long>(rows),
                  {activation, residual, 0.25f, 0.5f, 1, type}};
  gpu.reference("reference_conv", r, rows * static_cast<std::size_t>(s.cout));
  const Verdict v = compare(gpu, out.data(), static_cast<const float*>(expected.data()), type, static_cast<long long>(rows), s.cout, o.dst_pixel, extra);
  WindowResult result;
  result.right = !v.bad && !v.guards && v.relative < window_tolerance(type);
  if (!result.right)
    fmt::print("WRONG {} {}x{} c{} k{} s{} d{} type {}: error {:.2e}, {} bad, {} outside\n", launch.kernel, s.h, s.w, s.cin, s.kh, s.stride_h, s.dilation_h,
               static_cast<int>(type), v.relative, v.bad, v.guards);
  if (timed) result.us = gpu.time([&](int) { return launch_window(gpu, launch); }, 20, 11);
  return result;
}

inline bool check_pool(Gpu& gpu, const cuda::PoolShape& s, cuda::ElementType type, std::int64_t extra) {
  using namespace cuda;
  const PoolOperands o{type, s.c + extra, s.c + extra, 16};
  const bool global = s.out_h == 1 && s.out_w == 1 && s.kh == s.h && s.kw == s.w;
  const std::size_t rows = static_cast<std::size_t>(s.n * s.out_h * s.out_w);
  const Block src = random_block(gpu, static_cast<std::size_t>(s.n * s.h * s.w * o.src_pixel), type, 1);
  Block out(gpu.device, rows * static_cast<std::size_t>(o.dst_pixel) * bytes_of(type)), expected(gpu.device, rows * static_cast<std::size_t>(s.c) * 4);
  gpu.fill(out, 0xff);
  std::string kernel;
  if (global) {
    WindowLaunch<GlobalPoolParams> launch = global_pool_launch(s.maximum, s.n, s.h * s.w, s.c, o);
    launch.params.src = src.data();
    launch.params.dst = out.data();
    kernel = launch.kernel;
    require(launch_window(gpu, launch));
  } else {
    WindowLaunch<PoolParams> launch = pool_launch(s, o);
    launch.params.window.src = src.data();
    launch.params.window.dst = out.data();
    kernel = launch.kernel;
    require(launch_window(gpu, launch));
  }
  const auto i = [](std::int64_t v) { return static_cast<int>(v); };
  ReferencePool r{src.data(),
                  static_cast<float*>(expected.data()),
                  type,
                  s.maximum,
                  s.count_padding,
                  i(s.n),
                  i(s.h),
                  i(s.w),
                  i(s.c),
                  i(s.out_h),
                  i(s.out_w),
                  i(s.kh),
                  i(s.kw),
                  i(s.stride_h),
                  i(s.stride_w),
                  i(s.pad_top),
                  i(s.pad_left),
                  i(s.pad_bottom),
                  i(s.pad_right),
                  i(s.dilation_h),
                  i(s.dilation_w),
                  i(o.src_pixel)};
  gpu.reference("reference_pool", r, rows * static_cast<std::size_t>(s.c));
  const Verdict v = compare(gpu, out.data(), static_cast<const float*>(expected.data()), type, static_cast<long long>(rows), s.c, o.dst_pixel, extra);
  const bool right = !v.bad && !v.guards && v.relative < window_tolerance(type);
  if (!right)
    fmt::print("WRONG {} {}x{} c{} k{} s{} type {}: error {:.2e}, {} bad, {} outside\n", kernel, s.h, s.w, s.c, s.kh, s.stride_h, static_cast<int>(type),
               v.relative, v.bad, v.guards);
  return right;
}

inline int check_windows(Gpu& gpu) {
  using namespace cuda;
  int failed = 0, ran = 0, turn = 0;
  for (const ElementType type : {kElementFloat32, kElementFloat16, kElementBFloat16}) {
    for (const std::int64_t c : {8, 72, 37})
      for (const std::int64_t k : {1, 2, 3, 5, 7})
        for (const std::int64_t stride : {1, 2}) {
          const std::int64_t dilation = turn % 5 == 4 ? 2 : 1, pad = k / 2 * dilation;
          ConvShape s{2, 13, 18, c, c, k, k, stride, stride, pad, pad, pad, pad, dilation, dilation, c};
          failed += !run_depthwise(gpu, s, type, turn % kActCount, turn % 3, turn % 4 == 1 ? 8 : 0, false).right;
          PoolShape pool{turn % 2 == 0, turn % 4 == 1, 2, 13, 18, c, s.oh(), s.ow(), k, k, stride, stride, pad, pad, pad, pad, dilation, dilation};
          failed += !check_pool(gpu, pool, type, turn % 3 == 1 ? 8 : 0);
          ran += 2;
          ++turn;
        }
    for (const std::int64_t c : {64, 1280, 37})
      for (const bool maximum : {false, true}) {
        failed += !check_pool(gpu, {maximum, false, 3, 7, 9, c, 1, 1, 7, 9, 1, 1, 0, 0, 0, 0, 1, 1}, type, maximum ? 0 : 8);
        ++ran;
      }
  }
  fmt::print("checked {} depthwise convolutions and pools, {} wrong\n", ran, failed);
  return failed;
}

}  // namespace lathe::bench
