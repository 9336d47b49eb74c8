// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Pooling against plain loops: every level, both types, strides, pads, dilations, ceil mode, NaN and infinities.
#include "backend/cpu/pool.h"

#include "backend/cpu/test_util.h"

namespace lathe::cpu {
namespace {

using namespace testing;

// One output of the definition: only taps inside the image count; with count_include_pad those inside the padded extent do.
double window(const PoolProblem& p, const Buffer& src, std::int64_t n, std::int64_t oy, std::int64_t ox, std::int64_t c) {
  float best = -std::numeric_limits<float>::infinity();
  double sum = 0;
  std::int64_t inside = 0, padded = 0;
  for (std::int64_t ky = 0; ky < p.kh; ++ky) {
    for (std::int64_t kx = 0; kx < p.kw; ++kx) {
      const std::int64_t iy = oy * p.stride_h - p.pad_top + ky * p.dilation_h, ix = ox * p.stride_w - p.pad_left + kx * p.dilation_w;
      padded += iy < p.h + p.pad_bottom && ix < p.w + p.pad_right;
      if (iy < 0 || iy >= p.h || ix < 0 || ix >= p.w) continue;
      ++inside;
      const float v = src.at((n * p.h + iy) * p.w + ix, c);
      best = best > v ? best : v;  // the later one when either is NaN
      sum += v;
    }
  }
  if (p.kind == PoolKind::kMax) return best;
  const std::int64_t count = p.count_include_pad ? padded : inside;
  return count > 0 ? sum / static_cast<double>(count) : 0;
}

bool close(float got, double want, DType type, bool exact) {
  if (std::isnan(want)) return std::isnan(got);
  if (std::isinf(want) || exact) return got == (type == kBF16 ? bfloat16_to_float(float_to_bfloat16(static_cast<float>(want))) : static_cast<float>(want));
  return std::fabs(got - want) <= 2e-6 * (1 + std::fabs(want)) + (type == kBF16 ? std::fabs(want) / 256 : 0);
}

void check(PoolProblem p, std::int64_t src_extra, std::int64_t dst_extra, bool special) {
  const std::int64_t oh = p.oh(), ow = p.ow();
  ASSERT_GT(oh, 0);
  ASSERT_GT(ow, 0);
  Buffer src(p.n * p.h * p.w, p.c, p.c + src_extra, p.src);
  Random random(static_cast<std::uint64_t>(p.h * 31 + p.w * 7 + p.c + p.kh));
  src.fill(random);
  if (special) {
    for (std::int64_t i = 0; i < p.n * p.h * p.w; i += 5) src.set(i, i % p.c, std::numeric_limits<float>::quiet_NaN());
    for (std::int64_t i = 2; i < p.n * p.h * p.w; i += 7) src.set(i, i % p.c, i % 2 ? -INFINITY : INFINITY);
  }
  p.src_pixel_stride = src.stride();
  p.dst_pixel_stride = p.c + dst_extra;
  for_each_isa([&](Isa isa) {
    Buffer dst(p.n * oh * ow, p.c, p.c + dst_extra, p.dst);
    ThreadPool pool(2);
    run_pool(p, src.data(), dst.data(), pool);
    ASSERT_TRUE(dst.intact());
    for (std::int64_t i = 0; i < p.n * oh * ow; ++i) {
      for (std::int64_t c = 0; c < p.c; ++c) {
        const double want = window(p, src, i / (oh * ow), i / ow % oh, i % ow, c);
        ASSERT_TRUE(close(dst.at(i, c), want, p.dst, p.kind == PoolKind::kMax))
            << isa_name(isa) << " pixel " << i << " channel " << c << ": " << dst.at(i, c) << " instead of " << want << ", image " << p.h << "x" << p.w
            << " kernel " << p.kh << "x" << p.kw;
      }
    }
  });
}

TEST(Pool, WindowsOfEveryKind) {
  for (const PoolKind kind : {PoolKind::kMax, PoolKind::kAverage}) {
    for (const DType type : {kF32, kBF16}) {
      for (const bool ceil : {false, true}) {
        for (const bool include : {false, true}) {
          if (kind == PoolKind::kMax && include) continue;
          for (const std::int64_t c : {1, 7, 16, 33, 64, 100}) {
            for (const auto& [k, stride, pad, dilation] :
                 std::vector<std::array<std::int64_t, 4>>{{2, 2, 0, 1}, {3, 2, 1, 1}, {5, 1, 2, 1}, {3, 2, 0, 2}, {1, 1, 0, 1}, {3, 3, 1, 1}}) {
              PoolProblem p;
              p.kind = kind;
              p.src = type;
              p.dst = c == 100 ? kF32 : c == 64 ? kBF16 : type;
              p.n = 2;
              p.h = 8;
              p.w = 11;
              p.c = c;
              p.kh = k;
              p.kw = k > 1 ? k - (c == 7) : 1;
              p.stride_h = stride;
              p.stride_w = c == 33 ? 1 : stride;
              p.pad_top = p.pad_left = p.pad_bottom = p.pad_right = pad;
              if (c == 16 && pad) p.pad_bottom = 0;
              p.dilation_h = p.dilation_w = dilation;
              p.ceil_mode = ceil;
              p.count_include_pad = include;
              check(p, c % 3, c % 5, kind == PoolKind::kMax || c == 7);
              if (HasFatalFailure()) return;
            }
          }
        }
      }
    }
  }
}

TEST(Pool, LastWindowOfCeilModeStartsInsideTheImageOrItsLeftPad) {
  PoolProblem p;
  p.kh = p.kw = 2;
  p.stride_h = p.stride_w = 3;
  p.ceil_mode = true;
  p.h = 7, p.w = 6;  // positions 0, 3, 6 and 0, 3: the last window of a row of 6 would start at 6
  EXPECT_EQ(p.oh(), 3);
  EXPECT_EQ(p.ow(), 2);
  p.h = 1;
  EXPECT_EQ(p.oh(), 1);  // a window that overhangs still counts in ceil mode
  p.ceil_mode = false;
  EXPECT_EQ(p.oh(), 0);
}

TEST(Pool, NanStaysOnlyInLastPlace) {
  PoolProblem p;
  p.h = p.w = p.kh = p.kw = p.stride_h = p.stride_w = 2;
  p.c = 1;
  for_each_isa([&](Isa) {
    for (int at = 0; at < 4; ++at) {
      float src[4] = {1, 2, 3, 4}, dst = 0;
      src[at] = std::numeric_limits<float>::quiet_NaN();
      ThreadPool pool(1);
      run_pool(p, src, &dst, pool);
      if (at == 3) {
        EXPECT_TRUE(std::isnan(dst));
      } else {
        EXPECT_EQ(dst, 4);
      }
    }
  });
}

TEST(Pool, GlobalSumsStayExactOverManyPixels) {
  for (const PoolKind kind : {PoolKind::kMax, PoolKind::kAverage}) {
    for (const DType type : {kF32, kBF16}) {
      for (const std::int64_t c : {1, 15, 16, 130, 257}) {
        for (const std::int64_t pixels : {1, 49, 1000}) {
          Buffer src(3 * pixels, c, c + c % 4, type);
          Random random(static_cast<std::uint64_t>(c));
          src.fill(random);
          for_each_isa([&](Isa isa) {
            const DType to = c == 130 ? kF32 : type;
            Buffer dst(3, c, c + c % 3, to);
            ThreadPool pool(2);
            run_global_pool({kind, 3, pixels, c, type, to, src.stride(), dst.stride()}, src.data(), dst.data(), pool);
            ASSERT_TRUE(dst.intact());
            for (std::int64_t n = 0; n < 3; ++n) {
              for (std::int64_t i = 0; i < c; ++i) {
                double sum = 0;
                float best = -INFINITY;
                for (std::int64_t x = 0; x < pixels; ++x) {
                  sum += src.at(n * pixels + x, i);
                  best = std::max(best, src.at(n * pixels + x, i));
                }
                const double want = kind == PoolKind::kMax ? best : sum / static_cast<double>(pixels);
                ASSERT_TRUE(close(dst.at(n, i), want, to, kind == PoolKind::kMax)) << isa_name(isa) << " " << dst.at(n, i) << " " << want;
              }
            }
          });
        }
      }
    }
  }
}

}  // namespace
}  // namespace lathe::cpu
