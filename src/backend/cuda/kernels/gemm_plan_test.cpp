// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The host side of the product kernels, without a GPU: set-ups and packed weights are held against plain loops by walking the depth as
// the kernels do; every plan names a kernel that the library contains and a launch that the GPU's limits allow.

#include "backend/cuda/kernels/gemm_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <string_view>

#include "backend/cuda/module.h"
#include "base/half.h"

namespace lathe::cuda {
namespace {

std::uint32_t divide(std::uint32_t n, const FastDivisor& d) {
  return static_cast<std::uint32_t>(((static_cast<std::uint64_t>(n) * d.multiplier) >> 32) + n) >> d.shift;
}

TEST(GemmPlan, DivisorsAreExact) {
  std::mt19937 random(7);
  for (std::uint32_t d : {1u, 2u, 3u, 5u, 7u, 64u, 143u, 197u, 6400u, 25600u, 65537u, 1000003u, 2147483647u})
    for (int i = 0; i < 2000; ++i) {
      const std::uint32_t n = i == 0 ? 0 : i == 1 ? 2147483647u : i == 2 ? d - 1 : i == 3 ? std::min(d, 2147483647u) : random() >> (1 + random() % 31);
      ASSERT_EQ(divide(n, fast_divisor(d)), n / d) << n << " / " << d;
    }
}

float unpacked(const GemmSetup& setup, const std::vector<std::byte>& packed, int item, int chunk, int element, int column) {
  const int bytes = setup.product == kProductF16 || setup.product == kProductBF16 ? 2 : 4, at = element * bytes;
  const std::size_t row = ((static_cast<std::size_t>(item) * setup.params.chunks + chunk) * setup.params.packed_columns + column) * 128;
  const std::byte* p = packed.data() + row + static_cast<std::size_t>(((at / 16) ^ (column & 7)) * 16 + at % 16);
  if (bytes == 2) {
    std::uint16_t half;
    std::memcpy(&half, p, 2);
    return setup.product == kProductF16 ? half_to_float(half) : bfloat16_to_float(half);
  }
  float v;
  std::memcpy(&v, p, 4);
  return v;
}

/// What a kernel computes for one output, from the set-up and the packed weights alone.
double by_setup(const GemmSetup& setup, const std::vector<std::byte>& packed, const std::vector<float>& src, int item, int row, int column) {
  const GemmParams& p = setup.params;
  const int elements = setup.product == kProductF16 || setup.product == kProductBF16 ? 64 : 32, taps = p.kernel_h * p.kernel_w;
  const int image = static_cast<int>(divide(row, p.out_pixels)), pixel = row - image * static_cast<int>(p.out_pixels.divisor);
  const int oy = static_cast<int>(divide(pixel, p.out_width)), ox = pixel - oy * static_cast<int>(p.out_width.divisor);
  double sum = 0;
  for (int chunk = 0; chunk < p.chunks; ++chunk)
    for (int e = 0; e < elements; ++e) {
      const int depth = chunk * elements + e;
      const int tap = p.chunk_major ? chunk % taps : depth / p.channels, channel = p.chunk_major ? chunk / taps * elements + e : depth % p.channels;
      const int y = oy * p.stride_h - p.pad_top + tap / p.kernel_w * p.dilation_h, x = ox * p.stride_w - p.pad_left + tap % p.kernel_w * p.dilation_w;
      const float w = unpacked(setup, packed, item, chunk, e, column);
      if (tap >= taps || y < 0 || y >= p.height || x < 0 || x >= p.width) {
        if (tap >= taps) {
          EXPECT_EQ(w, 0) << "padding of the depth must be zero";
        }
        continue;
      }
      const long long at = item * p.a_inner + image * p.a_image + static_cast<long long>(y) * p.a_row + static_cast<long long>(x) * p.a_pixel +
                           static_cast<long long>(channel) * p.a_channel;
      sum += static_cast<double>(src[static_cast<std::size_t>(at)]) * w;
    }
  return sum;
}

struct ConvCase {
  ConvShape shape;
  ProductType product;
  bool planar = false;
  std::int64_t extra = 0;
};

TEST(GemmPlan, SetUpAndPackedWeightsMakeTheConvolution) {
  const std::vector<ConvCase> cases = {{{1, 5, 6, 64, 9, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1}, kProductF16},
                                       {{2, 7, 5, 3, 8, 6, 6, 2, 2, 2, 2, 2, 2, 1, 1, 1}, kProductF16, true},
                                       {{1, 6, 7, 24, 15, 3, 2, 2, 1, 1, 0, 0, 1, 1, 2, 3}, kProductBF16, false, 8},
                                       {{2, 4, 4, 40, 5, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1}, kProductTF32},
                                       {{1, 6, 6, 64, 12, 3, 3, 1, 1, 2, 2, 2, 2, 2, 2, 2}, kProductF32},
                                       {{1, 9, 8, 7, 3, 3, 3, 1, 1, 0, 0, 0, 0, 1, 1, 1}, kProductF32, false, 2}};
  std::mt19937 random(3);
  std::uniform_int_distribution<int> small(-8, 8);  // exact in every type
  for (const ConvCase& c : cases) {
    const ConvShape& s = c.shape;
    ConvOperands operands;
    operands.product = c.product;
    operands.src = operands.stored = c.product == kProductF16 ? kElementFloat16 : c.product == kProductBF16 ? kElementBFloat16 : kElementFloat32;
    operands.src_planar = c.planar;
    operands.src_pixel = s.cin + c.extra;
    ASSERT_EQ(conv_unsupported(s, operands), "");
    const GemmSetup setup = conv_setup(s, operands);
    const std::int64_t channels = s.cin / s.groups, pixel = s.cin + c.extra;
    std::vector<float> src(static_cast<std::size_t>(s.n * s.h * s.w * pixel)), weights(static_cast<std::size_t>(s.cout * channels * s.kh * s.kw));
    for (float& v : src) v = static_cast<float>(small(random));
    for (float& v : weights) v = static_cast<float>(small(random));
    std::vector<std::byte> packed(packed_bytes(setup));
    pack_weights(setup, weights.data(), oihw_strides(s), packed);
    for (std::int64_t row = 0; row < setup.params.rows; ++row)
      for (std::int64_t n = 0; n < s.cout; ++n) {
        double want = 0;
        const std::int64_t image = row / (s.oh() * s.ow()), oy = row / s.ow() % s.oh(), ox = row % s.ow(), group = n / (s.cout / s.groups);
        for (std::int64_t ky = 0; ky < s.kh; ++ky)
          for (std::int64_t kx = 0; kx < s.kw; ++kx)
            for (std::int64_t ch = 0; ch < channels; ++ch) {
              const std::int64_t y = oy * s.stride_h - s.pad_top + ky * s.dilation_h, x = ox * s.stride_w - s.pad_left + kx * s.dilation_w,
                                 full = group * channels + ch;
              if (y < 0 || y >= s.h || x < 0 || x >= s.w) continue;
              const std::int64_t at = c.planar ? ((image * s.cin + full) * s.h + y) * s.w + x : ((image * s.h + y) * s.w + x) * pixel + full;
              want += static_cast<double>(src[static_cast<std::size_t>(at)]) * weights[static_cast<std::size_t>(((n * channels + ch) * s.kh + ky) * s.kw + kx)];
            }
        const int per = static_cast<int>(s.cout / s.groups);
        ASSERT_EQ(by_setup(setup, packed, src, static_cast<int>(group), static_cast<int>(row), static_cast<int>(n) % per), want)
            << "row " << row << " channel " << n;
      }
  }
}

TEST(GemmPlan, PairsOfPixelsMakeTheSameConvolution) {
  std::mt19937 random(11);
  std::uniform_int_distribution<int> small(-8, 8);
  for (const ConvShape& s : {ConvShape{2, 9, 10, 3, 4, 6, 6, 2, 2, 2, 2, 2, 2, 1, 1, 1}, ConvShape{1, 11, 12, 3, 5, 7, 7, 2, 2, 3, 3, 3, 3, 1, 1, 1},
                             ConvShape{1, 8, 8, 1, 3, 3, 3, 4, 4, 0, 1, 0, 0, 1, 1, 1}, ConvShape{1, 16, 16, 4, 8, 16, 16, 16, 16, 0, 0, 0, 0, 1, 1, 1}}) {
    ASSERT_TRUE(pairs_pixels(s));
    const ConvShape paired = paired_shape(s);
    EXPECT_EQ(paired.oh(), s.oh());
    EXPECT_EQ(paired.ow(), s.ow());
    std::vector<float> weights(static_cast<std::size_t>(s.cout * s.cin * s.kh * s.kw)), src(static_cast<std::size_t>(s.n * s.h * s.w * 4));
    for (float& v : weights) v = static_cast<float>(small(random));
    for (float& v : src) v = static_cast<float>(small(random));  // the surplus channels too: their weights are zero
    const GemmSetup setup = conv_setup(paired, {});
    EXPECT_EQ(setup.a, kVectorA);
    std::vector<std::byte> packed(packed_bytes(setup));
    pack_weights(setup, paired_weights(s, weights.data()).data(), oihw_strides(paired), packed);
    for (std::int64_t row = 0; row < setup.params.rows; ++row)
      for (std::int64_t n = 0; n < s.cout; ++n) {
        double want = 0;
        const std::int64_t image = row / (s.oh() * s.ow()), oy = row / s.ow() % s.oh(), ox = row % s.ow();
        for (std::int64_t ky = 0; ky < s.kh; ++ky)
          for (std::int64_t kx = 0; kx < s.kw; ++kx)
            for (std::int64_t c = 0; c < s.cin; ++c) {
              const std::int64_t y = oy * s.stride_h - s.pad_top + ky, x = ox * s.stride_w - s.pad_left + kx;
              if (y < 0 || y >= s.h || x < 0 || x >= s.w) continue;
              want += static_cast<double>(src[static_cast<std::size_t>(((image * s.h + y) * s.w + x) * 4 + c)]) *
                      weights[static_cast<std::size_t>(((n * s.cin + c) * s.kh + ky) * s.kw + kx)];
            }
        ASSERT_EQ(by_setup(setup, packed, src, 0, static_cast<int>(row), static_cast<int>(n)), want) << "row " << row << " channel " << n;
      }
  }
  EXPECT_FALSE(pairs_pixels({.w = 9, .cin = 3, .stride_w = 2}));
  EXPECT_FALSE(pairs_pixels({.w = 8, .cin = 3, .stride_w = 1}));
  EXPECT_FALSE(pairs_pixels({.w = 8, .cin = 5, .stride_w = 2}));
}

TEST(GemmPlan, MatrixProductsPackEitherOrder) {
  MatMulOperands operands;
  const GemmSetup setup = matmul_setup({.rows = 3, .columns = 10, .depth = 70}, operands);
  std::vector<float> a(210), b(700), transposed(700);
  std::mt19937 random(5);
  std::uniform_int_distribution<int> small(-8, 8);
  for (float& v : a) v = static_cast<float>(small(random));
  for (std::size_t k = 0; k < 70; ++k)
    for (std::size_t n = 0; n < 10; ++n) b[k * 10 + n] = transposed[n * 70 + k] = static_cast<float>(small(random));
  std::vector<std::byte> one(packed_bytes(setup)), other(packed_bytes(setup));
  pack_weights(setup, b.data(), {.column = 1, .channel = 10}, one);
  pack_weights(setup, transposed.data(), {.column = 70, .channel = 1}, other);
  EXPECT_EQ(one, other);
  for (int m = 0; m < 3; ++m)
    for (int n = 0; n < 10; ++n) {
      double want = 0;
      for (int k = 0; k < 70; ++k) want += static_cast<double>(a[static_cast<std::size_t>(m * 70 + k)]) * b[static_cast<std::size_t>(k * 10 + n)];
      EXPECT_EQ(by_setup(setup, one, a, 0, m, n), want);
    }
}

TEST(GemmPlan, WideAccessesOnlyWhereTheyAreAligned) {
  const ConvShape s{.n = 1, .h = 8, .w = 8, .cin = 64, .cout = 64};
  EXPECT_EQ(conv_setup(s, {}).a, kVectorA);
  EXPECT_TRUE(conv_setup(s, {}).params.epilogue.vectors);
  EXPECT_EQ(conv_setup(s, {.src_pixel = 68}).a, kElementA);
  EXPECT_EQ(conv_setup(s, {.src_alignment = 8}).a, kElementA);
  EXPECT_EQ(conv_setup(s, {.src = kElementFloat32}).a, kElementA);
  EXPECT_FALSE(conv_setup(s, {.dst_pixel = 68}).params.epilogue.vectors);
  EXPECT_TRUE(conv_setup(s, {.residual_pixel = 68}).params.epilogue.vectors) << "no residual, so its stride does not matter";
  EXPECT_FALSE(conv_setup(s, {.residual_pixel = 68, .residual = true}).params.epilogue.vectors);
  EXPECT_FALSE(conv_setup(s, {.dst_alignment = 8}).params.epilogue.vectors);
  EXPECT_FALSE(conv_setup({.n = 1, .h = 8, .w = 8, .cin = 64, .cout = 255}, {}).params.epilogue.vectors);
  EXPECT_TRUE(conv_setup({.n = 1, .h = 8, .w = 8, .cin = 64, .cout = 255}, {.dst_pixel = 256}).params.epilogue.vectors);
  EXPECT_EQ(conv_setup({.n = 1, .h = 8, .w = 8, .cin = 60, .cout = 64}, {.src_pixel = 64}).a, kVectorA) << "a 1x1 convolution's rows may end within a piece";
  EXPECT_EQ(conv_setup({.n = 1, .h = 8, .w = 8, .cin = 60, .cout = 64, .kh = 3, .kw = 3}, {.src_pixel = 64}).a, kElementA);
  EXPECT_EQ(matmul_setup({.rows = 197, .columns = 197, .depth = 197}, {.a_row = 200, .packed_b = false, .b_across = true, .b_row = 200}).b, kAcrossB);
  EXPECT_EQ(matmul_setup({.rows = 50, .columns = 64, .depth = 64}, {.packed_b = false}).b, kRowsB);
  const GemmSetup odd = matmul_setup({.rows = 50, .columns = 63, .depth = 64}, {.packed_b = false, .b_across = true});
  EXPECT_EQ(odd.b, kAcrossElementB);
  EXPECT_EQ(odd.a, kElementA);
}

TEST(GemmPlan, DeclinesWithAReason) {
  EXPECT_NE(conv_unsupported({.cin = 5, .cout = 4, .groups = 2}, {}), "");
  EXPECT_NE(conv_unsupported({.h = 2, .w = 2, .kh = 3, .kw = 3}, {}), "");
  EXPECT_NE(conv_unsupported({.h = 4, .w = 4}, {.product = kProductF16, .src = kElementBFloat16}), "");
  EXPECT_NE(conv_unsupported({.n = 40000, .h = 512, .w = 512}, {}), "");
  EXPECT_NE(matmul_unsupported({.rows = 0}, {}), "");
  EXPECT_NE(matmul_unsupported({.rows = 4, .columns = 4, .depth = 4, .outer = 70000}, {}), "");
}

bool contained(const std::string& module, const std::string& kernel) {
  for (const EmbeddedModule& m : embedded_modules())
    if (m.name == module) {
      const std::string_view text(reinterpret_cast<const char*>(m.image.data()), m.image.size());
      if (text.find(kernel) != text.npos) return true;
    }
  return false;
}

TEST(GemmPlan, EveryPlanIsALegalLaunchOfAKernelThatExists) {
  std::vector<GemmSetup> setups;
  for (const ProductType product : {kProductF16, kProductBF16, kProductTF32, kProductF32}) {
    ConvOperands o;
    o.product = product;
    o.src = o.stored = product == kProductF16 ? kElementFloat16 : product == kProductBF16 ? kElementBFloat16 : kElementFloat32;
    setups.push_back(
        conv_setup({.n = 1, .h = 11, .w = 13, .cin = 512, .cout = 512, .kh = 3, .kw = 3, .pad_top = 1, .pad_left = 1, .pad_bottom = 1, .pad_right = 1}, o));
    setups.push_back(conv_setup({.n = 2, .h = 64, .w = 64, .cin = 3, .cout = 255}, o));
    MatMulOperands m;
    m.product = product;
    m.a_type = o.src;
    m.packed_b = false;
    setups.push_back(matmul_setup({.rows = 197, .columns = 200, .depth = 64, .outer = 2, .inner = 12}, m));
    m.b_across = true;
    setups.push_back(matmul_setup({.rows = 197, .columns = 64, .depth = 197, .outer = 2, .inner = 12}, m));
  }
  for (const GemmSetup& setup : setups)
    for (const int arch : {80, 90, 120}) {
      GpuLimits gpu;
      gpu.arch = arch;
      if (arch != 90) gpu.shared_per_block = 101376, gpu.shared_per_multiprocessor = 102400;
      const std::vector<GemmPlan> plans = all_gemm_plans(setup, gpu);
      ASSERT_FALSE(plans.empty());
      for (const GemmPlan& plan : plans) {
        ASSERT_TRUE(plan.core == GemmCore::kMma || arch == 90);
        const GemmLaunch launch = gemm_launch(setup, plan, gpu);
        if (!embedded_modules().empty()) {
          ASSERT_TRUE(contained(launch.module, launch.kernel)) << launch.kernel;
        }
        EXPECT_LE(launch.shared_bytes + 1024, gpu.shared_per_block);
        EXPECT_LE(launch.cluster_y, arch >= 90 ? 8u : 1u);
        EXPECT_EQ(launch.grid[1] % launch.cluster_y, 0u);
        const GemmParams& p = launch.params;
        if (plan.core != GemmCore::kPipe) {
          EXPECT_GT(p.chunks - (p.splits - 1) * p.chunks_per_split, 0) << "a split without work";
        }
        EXPECT_LE(p.chunks, p.splits * p.chunks_per_split);
        EXPECT_EQ(launch.partial_bytes > 0, plan.splits > 1 && (!plan.cluster || plan.core == GemmCore::kPipe));
        EXPECT_GE(static_cast<std::int64_t>(p.tiles_n.divisor) * plan.columns, p.columns);
        if (plan.core == GemmCore::kPipe) {  // its blocks stay: no more than run at once
          EXPECT_LE(launch.grid[0] * launch.grid[1], 2u * static_cast<unsigned>(gpu.multiprocessors));
          const unsigned pair = plan.cluster ? 2 : 1, row_tiles = (static_cast<unsigned>(p.rows) - 1) / (static_cast<unsigned>(plan.rows) * pair) + 1;
          EXPECT_EQ(launch.grid[1], pair);
          EXPECT_LE(launch.grid[0], row_tiles * p.tiles_n.divisor);
          EXPECT_EQ(launch.map_rows, plan.rows);
          continue;
        }
        const std::int64_t tiles_m = launch.grid[0] / p.tiles_n.divisor;
        EXPECT_GE(tiles_m * plan.rows, p.rows);
      }
      const std::vector<GemmPlan> best = gemm_plans(setup, gpu, 6);
      EXPECT_EQ(best.size(), std::min<std::size_t>(6, plans.size()));
      EXPECT_LE(modelled_time(setup, best.front(), gpu), modelled_time(setup, best.back(), gpu));
    }
}

TEST(GemmPlan, LargeProblemsGetBlocksThatStay) {
  const GpuLimits gpu;
  const ConvShape large{.n = 32, .h = 40, .w = 40, .cin = 256, .cout = 256, .kh = 3, .kw = 3, .pad_top = 1, .pad_left = 1, .pad_bottom = 1, .pad_right = 1};
  const GemmPlan plan = best_gemm_plan(conv_setup(large, {}), gpu);
  EXPECT_EQ(plan.core, GemmCore::kPipe);
  EXPECT_EQ(plan.splits, 2) << "400 tiles are three rounds of 132 multiprocessors and 4 tiles";
  EXPECT_EQ(best_gemm_plan(matmul_setup({.rows = 4096, .columns = 3072, .depth = 768}, {}), gpu).core, GemmCore::kPipe);
  ConvShape small = large;
  small.n = 1, small.h = 22, small.w = 26;
  const GemmPlan other = best_gemm_plan(conv_setup(small, {}), gpu);
  EXPECT_NE(other.core, GemmCore::kPipe);
  // One engine serves both: a plan of one extent finds a legal one for the other.
  EXPECT_TRUE(plan_fits(conv_setup(small, {}), refit_gemm_plan(conv_setup(small, {}), plan, gpu), gpu));
  EXPECT_TRUE(plan_fits(conv_setup(large, {}), refit_gemm_plan(conv_setup(large, {}), other, gpu), gpu));
  ConvShape wide = large;
  wide.kh = wide.kw = 17;
  for (const GemmPlan& each : all_gemm_plans(conv_setup(wide, {}), gpu)) EXPECT_NE(each.core, GemmCore::kPipe) << "its gather has 16 bits for a window";
}

TEST(GemmPlan, RefitsToOtherExtents) {
  const GpuLimits gpu;
  const ConvShape small{.n = 1, .h = 11, .w = 13, .cin = 512, .cout = 512, .kh = 3, .kw = 3, .pad_top = 1, .pad_left = 1, .pad_bottom = 1, .pad_right = 1};
  const GemmSetup setup = conv_setup(small, {});
  const GemmPlan plan = gemm_plans(setup, gpu, 1).front();
  EXPECT_GT(plan.splits, 1) << "24 tiles of 64 x 64 do not fill 132 multiprocessors";
  ConvShape shallow = small;
  shallow.cin = 64;
  shallow.kh = shallow.kw = 1;
  shallow.pad_top = shallow.pad_left = shallow.pad_bottom = shallow.pad_right = 0;
  const GemmPlan refitted = refit_gemm_plan(conv_setup(shallow, {}), plan, gpu);
  EXPECT_TRUE(plan_fits(conv_setup(shallow, {}), refitted, gpu));
  EXPECT_EQ(refitted.rows, plan.rows);
  GpuLimits ampere;
  ampere.arch = 80;
  ampere.shared_per_block = 166912;
  EXPECT_TRUE(plan_fits(setup, refit_gemm_plan(setup, {GemmCore::kWgmma, 128, 256, 1, 0}, ampere), ampere)) << "an engine from another GPU still runs";
}

}  // namespace
}  // namespace lathe::cuda
