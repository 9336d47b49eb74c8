// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Launches of depthwise convolution and pooling, without a GPU: which kernel serves what, and that the threads cover every output once.

#include "backend/cuda/kernels/window_plan.h"

#include <gtest/gtest.h>

#include <set>
#include <tuple>

namespace lathe::cuda {
namespace {

std::uint32_t divide(std::uint32_t n, const FastDivisor& d) {
  return static_cast<std::uint32_t>(((static_cast<std::uint64_t>(n) * d.multiplier) >> 32) + n) >> d.shift;
}

/// The outputs (image, y, x, channel) that the launch's threads write.
void expect_cover(const WindowParams& w, std::uint32_t blocks, int outputs, int channels) {
  EXPECT_GE(static_cast<std::int64_t>(blocks) * 128, w.threads);
  std::set<std::tuple<int, int, int, int>> seen;
  for (int index = 0; index < w.threads; ++index) {
    const std::uint32_t rest = divide(static_cast<std::uint32_t>(index), w.channel_groups),
                        channel = (static_cast<std::uint32_t>(index) - rest * w.channel_groups.divisor) * static_cast<std::uint32_t>(channels);
    const std::uint32_t line = divide(rest, w.x_groups), x = (rest - line * w.x_groups.divisor) * static_cast<std::uint32_t>(outputs);
    const std::uint32_t image = divide(line, w.rows), y = line - image * w.rows.divisor;
    for (int o = 0; o < outputs && static_cast<int>(x) + o < w.out_width; ++o)
      for (int c = 0; c < channels; ++c) EXPECT_TRUE(seen.emplace(image, y, static_cast<int>(x) + o, static_cast<int>(channel) + c).second);
  }
  EXPECT_EQ(seen.size(), static_cast<std::size_t>(w.images) * static_cast<std::size_t>(w.out_height) * static_cast<std::size_t>(w.out_width) *
                             static_cast<std::size_t>(w.channels));
}

TEST(WindowPlan, DepthwiseChoosesByKernelAndAlignment) {
  ConvShape s{2, 7, 9, 24, 24, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 24};
  ASSERT_EQ(depthwise_unsupported(s, {}), "");
  const auto three = depthwise_launch(s, {});
  EXPECT_EQ(three.kernel, "depthwise_k3s1_vec");
  expect_cover(three.params.window, three.grid[0], 4, 8);
  s.stride_h = s.stride_w = 2;
  EXPECT_EQ(depthwise_launch(s, {}).kernel, "depthwise_k3s2_vec");
  s.dilation_h = 2;
  const auto any = depthwise_launch(s, {});
  EXPECT_EQ(any.kernel, "depthwise_any_vec");
  expect_cover(any.params.window, any.grid[0], 1, 8);
  EXPECT_EQ(depthwise_launch(s, {.src_pixel = 25}).kernel, "depthwise_any_elem");
  EXPECT_EQ(depthwise_launch(s, {.residual_pixel = 25, .residual = true}).kernel, "depthwise_any_elem");
  EXPECT_NE(depthwise_unsupported({.cin = 8, .cout = 16, .groups = 8}, {}), "");
  EXPECT_NE(depthwise_unsupported(s, {.src = kElementFloat32}), "") << "source and result differ in type";
}

TEST(WindowPlan, DepthwiseWeightsAreTapMajor) {
  const ConvShape s{.h = 4, .w = 4, .cin = 2, .cout = 2, .kh = 2, .kw = 2, .groups = 2};
  const float oihw[] = {1, 2, 3, 4, 5, 6, 7, 8};
  std::vector<float> packed(8);
  pack_depthwise(s, oihw, packed);
  EXPECT_EQ(packed, (std::vector<float>{1, 5, 2, 6, 3, 7, 4, 8}));
}

TEST(WindowPlan, PoolsCoverTheirOutputs) {
  PoolShape s{.n = 2, .h = 9, .w = 9, .c = 16, .out_h = 5, .out_w = 4, .kh = 3, .kw = 3, .stride_h = 2, .stride_w = 2};
  const auto wide = pool_launch(s, {});
  EXPECT_EQ(wide.kernel, "pool_vec_3");
  expect_cover(wide.params.window, wide.grid[0], 1, 8);
  for (const auto& [h, w, kernel] : {std::tuple{5, 5, "pool_vec_5"}, {2, 2, "pool_vec_2"}, {3, 5, "pool_vec"}, {7, 7, "pool_vec"}}) {
    s.kh = h, s.kw = w;
    EXPECT_EQ(pool_launch(s, {}).kernel, kernel);
  }
  s.c = 5;
  const auto narrow = pool_launch(s, {kElementFloat32, 7, 5, 16});
  EXPECT_EQ(narrow.kernel, "pool_elem");
  EXPECT_EQ(narrow.params.window.src_row, 63);
  expect_cover(narrow.params.window, narrow.grid[0], 1, 1);
  const auto all = global_pool_launch(false, 3, 49, 1280, {});
  EXPECT_EQ(all.kernel, "global_pool_vec");
  EXPECT_EQ(all.grid[0] * 64, 1280u);
  EXPECT_EQ(all.grid[1], 3u);
  EXPECT_EQ(global_pool_launch(false, 3, 49, 1281, {}).kernel, "global_pool_elem");
  EXPECT_NE(pool_unsupported({.out_h = 0}, {}), "");
}

}  // namespace
}  // namespace lathe::cuda
