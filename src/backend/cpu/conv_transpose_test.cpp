// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Transposed convolution against the scattering definition: each input pixel adds its weighted kernel to the output.
#include "backend/cpu/conv_transpose.h"

#include "backend/cpu/test_util.h"

namespace lathe::cpu {
namespace {

using namespace testing;

float rounded(float x, DType type) { return type == kBF16 ? bfloat16_to_float(float_to_bfloat16(x)) : x; }

void check(const ConvTransposeProblem& p, const Epilogue& epilogue, bool bias, bool residual, std::int64_t extra) {
  ASSERT_EQ(conv_transpose_unsupported(p), "");
  const std::int64_t oh = p.oh(), ow = p.ow(), gi = p.cin / p.groups, go = p.cout / p.groups;
  Random random(static_cast<std::uint64_t>(p.cin * 7 + p.cout + p.kh * 3 + p.stride_h));
  Buffer src(p.n * p.h * p.w, p.cin, p.cin + extra, p.src), added(p.n * oh * ow, p.cout, p.cout + extra, kF32);
  src.fill(random);
  added.fill(random);
  std::vector<float> weights(static_cast<std::size_t>(p.cin * go * p.kh * p.kw)), biases(static_cast<std::size_t>(p.cout));
  for (float& w : weights) w = random.uniform();
  for (float& b : biases) b = random.uniform();

  std::vector<double> sum(static_cast<std::size_t>(p.n * oh * ow * p.cout)), mass(sum.size());
  for (std::int64_t n = 0; n < p.n; ++n) {
    for (std::int64_t iy = 0; iy < p.h; ++iy) {
      for (std::int64_t ix = 0; ix < p.w; ++ix) {
        for (std::int64_t c = 0; c < p.cin; ++c) {
          const double x = rounded(src.at((n * p.h + iy) * p.w + ix, c), p.weights);
          for (std::int64_t o = 0; o < go; ++o) {
            for (std::int64_t ky = 0; ky < p.kh; ++ky) {
              for (std::int64_t kx = 0; kx < p.kw; ++kx) {
                const std::int64_t oy = iy * p.stride_h - p.pad_top + ky * p.dilation_h, ox = ix * p.stride_w - p.pad_left + kx * p.dilation_w;
                if (oy < 0 || oy >= oh || ox < 0 || ox >= ow) continue;
                const double w = rounded(weights[static_cast<std::size_t>(((c * go + o) * p.kh + ky) * p.kw + kx)], p.weights);
                const std::size_t at = static_cast<std::size_t>(((n * oh + oy) * ow + ox) * p.cout + c / gi * go + o);
                sum[at] += x * w;
                mass[at] += std::fabs(x * w);
              }
            }
          }
        }
      }
    }
  }

  for_each_isa([&](Isa isa) {
    for (const int threads : {1, 2}) {
      Scratch packed(conv_transpose_weight_bytes(p)), scratch(conv_transpose_scratch_bytes(p, threads));
      pack_conv_transpose_weights(p, weights.data(), packed.data());
      ASSERT_TRUE(packed.intact());
      Buffer dst(p.n * oh * ow, p.cout, p.cout + extra, p.dst);
      ThreadPool pool(threads);
      ConvTransposeArgs args;
      args.src = src.data();
      args.src_pixel_stride = src.stride();
      args.weights = packed.data();
      args.bias = bias ? biases.data() : nullptr;
      args.residual = residual ? added.data() : nullptr;
      args.residual_pixel_stride = added.stride();
      args.dst = dst.data();
      args.dst_pixel_stride = dst.stride();
      args.scratch = scratch.data();
      run_conv_transpose(p, epilogue, args, pool);
      ASSERT_TRUE(dst.intact());
      ASSERT_TRUE(scratch.intact());
      for (std::int64_t i = 0; i < p.n * oh * ow; ++i) {
        for (std::int64_t o = 0; o < p.cout; ++o) {
          const std::size_t at = static_cast<std::size_t>(i * p.cout + o);
          const double r = residual ? added.at(i, o) : 0, x = sum[at] + (bias ? biases[static_cast<std::size_t>(o)] : 0) + r;
          const double want = activate(epilogue, x), error = std::fabs(dst.at(i, o) - want);
          ASSERT_LE(error, tolerance(2, gi * p.kh * p.kw, mass[at] + 1, want, p.dst))
              << isa_name(isa) << " pixel " << i << " channel " << o << ": " << dst.at(i, o) << " instead of " << want << "; kernel " << p.kh << "x" << p.kw
              << " stride " << p.stride_h << "x" << p.stride_w << " dilation " << p.dilation_h << " pads " << p.pad_top << "," << p.pad_left;
        }
      }
    }
  });
}

TEST(ConvTranspose, KernelsStridesDilationsAndPads) {
  for (const std::int64_t k : {1, 2, 3, 4, 5}) {
    for (const std::int64_t s : {1, 2, 3}) {
      for (const std::int64_t d : {1, 2, 3}) {
        for (const std::int64_t pad : {0, 1, 3}) {
          for (const std::int64_t output_pad : {0, 1}) {
            ConvTransposeProblem p;
            p.n = 2;
            p.h = 4;
            p.w = 5;
            p.cin = 6;
            p.cout = 5;
            p.kh = k;
            p.kw = k > 1 ? k - 1 : 1;
            p.stride_h = s;
            p.stride_w = s == 2 ? 3 : s;
            p.dilation_h = d;
            p.dilation_w = d == 3 ? 1 : d;
            p.pad_top = pad;
            p.pad_left = pad ? 1 : 0;
            p.pad_bottom = pad ? 1 : 0;
            p.pad_right = pad / 2;
            p.output_pad_h = output_pad;
            p.output_pad_w = output_pad * 2;
            if (!conv_transpose_unsupported(p).empty()) continue;
            check(p, {}, true, false, 0);
            if (HasFatalFailure()) return;
          }
        }
      }
    }
  }
}

TEST(ConvTranspose, TypesGroupsStridesAndEpilogues) {
  for (const DType type : {kF32, kBF16}) {
    for (const std::int64_t groups : {1, 2, 4}) {
      for (const std::int64_t c : {4, 36}) {
        ConvTransposeProblem p;
        p.h = 3;
        p.w = 7;
        p.cin = c;
        p.cout = c + groups * 4;
        p.groups = groups;
        p.kh = p.kw = 4;
        p.stride_h = p.stride_w = 2;
        p.pad_top = p.pad_left = p.pad_bottom = p.pad_right = 1;
        p.src = p.weights = p.dst = type;
        check(p, make_epilogue(Activation::kLeakyRelu), true, true, 3);
        p.dst = kF32;
        check(p, make_epilogue(Activation::kTanh), false, false, 0);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(ConvTranspose, ManyChannelsAreSummedInChunks) {
  ConvTransposeProblem p;
  p.h = p.w = 4;
  p.cin = 520;
  p.cout = 40;
  p.kh = p.kw = 4;
  p.stride_h = p.stride_w = 2;
  p.pad_top = p.pad_left = p.pad_bottom = p.pad_right = 1;
  check(p, make_epilogue(Activation::kRelu), true, false, 1);
  p.h = p.w = 1;
  p.stride_h = p.stride_w = 1;
  p.pad_top = p.pad_left = p.pad_bottom = p.pad_right = 0;
  check(p, make_epilogue(Activation::kRelu), true, false, 0);
}

TEST(ConvTranspose, UnsupportedSaysWhy) {
  ConvTransposeProblem p;
  p.kh = p.kw = 1;
  p.pad_top = p.pad_bottom = 1;
  EXPECT_EQ(conv_transpose_unsupported(p), "the pads leave no output");
  p = {};
  p.groups = 2;
  EXPECT_NE(conv_transpose_unsupported(p), "");
  p = {};
  p.src = DType::kInt8;
  EXPECT_NE(conv_transpose_unsupported(p), "");
}

}  // namespace
}  // namespace lathe::cpu
