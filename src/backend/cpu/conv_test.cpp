// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Convolution against a plain loop with double sums, for every plan, level, type and epilogue.
#include "backend/cpu/conv.h"

#include "backend/cpu/test_util.h"
#include "base/swept.h"

namespace lathe::cpu {
namespace {

using namespace testing;

struct Case {
  ConvProblem p;
  Epilogue e;
  bool bias = true, residual = false;
  DType residual_type = kF32;
  std::int64_t src_extra = 0, dst_extra = 0;  // pixel strides beyond the channels
};

struct Reference {
  std::vector<double> value, mass;  // [pixel][cout], before the epilogue
};

class ConvCheck {
 public:
  explicit ConvCheck(const Case& c)
      : c_(c),
        p_(c.p),
        src_(rows(), cols(), cols() + (p_.src_nchw ? 0 : c.src_extra), p_.src),
        residual_(p_.n * p_.oh() * p_.ow(), p_.cout, p_.cout + 3, c.residual_type) {
    Random random(static_cast<std::uint64_t>(p_.cin * 131 + p_.cout * 17 + p_.h * 3 + p_.kw));
    src_.fill(random);
    residual_.fill(random);
    weights_.resize(static_cast<std::size_t>(p_.cout * (p_.cin / p_.groups) * p_.kh * p_.kw));
    for (float& w : weights_) w = random.uniform();
    bias_.resize(static_cast<std::size_t>(p_.cout));
    for (float& b : bias_) b = random.uniform();
    compute();
  }

  void run(const ConvPlan& plan, int threads, double c) {
    SCOPED_TRACE(describe(plan) + " on " + std::string(isa_name(kernel_table().isa)) + ", " + std::to_string(threads) + " threads, src " +
                 std::to_string(p_.h) + "x" + std::to_string(p_.w) + "x" + std::to_string(p_.cin) + " -> " + std::to_string(p_.cout) + " k" +
                 std::to_string(p_.kh) + "x" + std::to_string(p_.kw) + " act " + std::to_string(static_cast<int>(c_.e.activation)));
    const std::size_t weight_bytes = conv_weight_bytes(p_, plan);
    Scratch packed(weight_bytes), scratch(conv_scratch_bytes(p_, plan, threads));
    pack_conv_weights(p_, plan, weights_.data(), packed.data());
    ASSERT_TRUE(packed.intact());
    Buffer dst(p_.n * p_.oh() * p_.ow(), p_.cout, p_.cout + c_.dst_extra, p_.dst);
    ThreadPool pool(threads);
    ConvArgs args;
    args.src = src_.data();
    args.src_pixel_stride = src_.stride();
    args.weights = packed.data();
    args.bias = c_.bias ? bias_.data() : nullptr;
    if (c_.residual) {
      args.residual = residual_.data();
      args.residual_pixel_stride = residual_.stride();
      args.residual_type = c_.residual_type;
    }
    args.dst = dst.data();
    args.dst_pixel_stride = dst.stride();
    args.scratch = scratch.data();
    run_conv(p_, plan, c_.e, args, pool);
    ASSERT_TRUE(dst.intact());
    ASSERT_TRUE(scratch.intact());
    const std::int64_t k = p_.cin / p_.groups * p_.kh * p_.kw;
    int bad = 0;
    for (std::int64_t i = 0; i < p_.n * p_.oh() * p_.ow() && bad < 3; ++i) {
      for (std::int64_t o = 0; o < p_.cout && bad < 3; ++o) {
        const std::size_t at = static_cast<std::size_t>(i * p_.cout + o);
        double x = reference_.value[at] * c_.e.scale + (c_.bias ? bias_[static_cast<std::size_t>(o)] : 0.0f);
        const double r = c_.residual ? residual_.at(i, o) * c_.e.residual_scale : 0.0;
        if (!c_.e.residual_after) x += r;
        double y = activate(c_.e, x);
        if (c_.e.residual_after) y += r;
        const double error = std::fabs(dst.at(i, o) - y);
        if (!(error <= tolerance(c, k, reference_.mass[at] + std::fabs(r) + 1, y, p_.dst))) {
          ++bad;
          ADD_FAILURE() << "pixel " << i << " channel " << o << ": " << dst.at(i, o) << " instead of " << y << ", error " << error;
        }
      }
    }
  }

  void run_all() {
    ASSERT_EQ(conv_unsupported(p_), "");
    for_each_isa([&](Isa isa) {
      for (const ConvPlan& plan : conv_plans(p_, detect_cpu_features().limited_to(isa), 2, false)) {
        // Depthwise kernels compute in fp32 whatever the weights' type; tiles would round an fp32 source to bf16 first.
        if (is_depthwise() && plan.algorithm == ConvAlgorithm::kTiles && p_.src != p_.weights) continue;
        run(plan, 2, plan.fast() ? 64 : 2);
        if (::testing::Test::HasFatalFailure()) return;
      }
      run(conv_plans(p_, detect_cpu_features().limited_to(isa), 1, true)[0], 1, 2);
      // An engine may come from a machine of another level, with other panels.
      for (const ConvPlan& plan : conv_plans(p_, detect_cpu_features().limited_to(isa == Isa::kAvx2 ? Isa::kGeneric : Isa::kAvx2), 2, false)) {
        if (is_depthwise() && plan.algorithm == ConvAlgorithm::kTiles && p_.src != p_.weights) continue;
        run(plan, 2, plan.fast() ? 64 : 2);
        if (plan.algorithm == ConvAlgorithm::kTiles) break;
      }
    });
  }

 private:
  bool is_depthwise() const { return p_.groups > 1 && p_.groups == p_.cin && p_.cin == p_.cout; }
  std::int64_t rows() const { return p_.src_nchw ? p_.n * p_.cin : p_.n * p_.h * p_.w; }
  std::int64_t cols() const { return p_.src_nchw ? p_.h * p_.w : p_.cin; }
  // Inputs and weights as the kernel multiplies them.
  float as_product(float x) const { return p_.weights == kBF16 ? bfloat16_to_float(float_to_bfloat16(x)) : x; }
  float input(std::int64_t n, std::int64_t y, std::int64_t x, std::int64_t c) const {
    const float v = p_.src_nchw ? src_.at(n * p_.cin + c, y * p_.w + x) : src_.at((n * p_.h + y) * p_.w + x, c);
    return is_depthwise() ? v : as_product(v);
  }
  void compute() {
    const std::int64_t oh = p_.oh(), ow = p_.ow(), gi = p_.cin / p_.groups, go = p_.cout / p_.groups;
    reference_.value.resize(static_cast<std::size_t>(p_.n * oh * ow * p_.cout));
    reference_.mass.resize(reference_.value.size());
    for (std::int64_t n = 0; n < p_.n; ++n) {
      for (std::int64_t oy = 0; oy < oh; ++oy) {
        for (std::int64_t ox = 0; ox < ow; ++ox) {
          for (std::int64_t o = 0; o < p_.cout; ++o) {
            double sum = 0, mass = 0;
            for (std::int64_t ky = 0; ky < p_.kh; ++ky) {
              const std::int64_t iy = oy * p_.stride_h - p_.pad_top + ky * p_.dilation_h;
              if (iy < 0 || iy >= p_.h) continue;
              for (std::int64_t kx = 0; kx < p_.kw; ++kx) {
                const std::int64_t ix = ox * p_.stride_w - p_.pad_left + kx * p_.dilation_w;
                if (ix < 0 || ix >= p_.w) continue;
                for (std::int64_t c = 0; c < gi; ++c) {
                  const double a = input(n, iy, ix, o / go * gi + c);
                  const double b = as_product(weights_[static_cast<std::size_t>(((o * gi + c) * p_.kh + ky) * p_.kw + kx)]);
                  sum += a * b;
                  mass += std::fabs(a * b);
                }
              }
            }
            const std::size_t at = static_cast<std::size_t>(((n * oh + oy) * ow + ox) * p_.cout + o);
            reference_.value[at] = sum;
            reference_.mass[at] = mass;
          }
        }
      }
    }
  }

  Case c_;
  ConvProblem p_;
  Buffer src_, residual_;
  std::vector<float> weights_, bias_;
  Reference reference_;
};

ConvProblem problem(std::int64_t h, std::int64_t w, std::int64_t cin, std::int64_t cout, std::int64_t k, std::int64_t stride = 1, std::int64_t pad = 0,
                    std::int64_t groups = 1) {
  ConvProblem p;
  p.h = h, p.w = w, p.cin = cin, p.cout = cout, p.kh = p.kw = k, p.stride_h = p.stride_w = stride;
  p.pad_top = p.pad_left = p.pad_bottom = p.pad_right = pad;
  p.groups = groups;
  return p;
}

std::vector<ConvProblem> shapes() {
  std::vector<ConvProblem> list = {
      problem(1, 1, 1, 1, 1),
      problem(5, 7, 3, 5, 1),
      problem(9, 31, 16, 32, 1),
      problem(6, 5, 64, 255, 1),
      problem(13, 11, 33, 17, 1, 2),
      problem(7, 7, 16, 48, 3, 1, 1),
      problem(11, 13, 5, 33, 3, 1, 1),
      problem(10, 29, 24, 40, 3, 2, 1),
      problem(20, 20, 3, 32, 6, 2, 2),
      problem(9, 9, 8, 16, 5, 1, 2),
      problem(17, 15, 3, 16, 7, 2, 3),
      problem(8, 8, 16, 32, 3, 1, 1, 4),
      problem(9, 8, 6, 9, 3, 1, 1, 3),
      problem(12, 10, 32, 32, 3, 1, 1, 32),
      problem(15, 16, 37, 37, 5, 2, 2, 37),
      problem(3, 40, 70, 70, 3, 1, 1, 70),
      problem(4, 3, 160, 64, 3, 1, 1),
      problem(13, 14, 256, 20, 3, 1, 1),
      problem(2, 2, 512, 40, 1),
      problem(2, 3, 1100, 17, 1),       // sums long enough to be cut: along the channels,
      problem(3, 4, 600, 24, 3, 1, 1),  // within a tap
      problem(3, 3, 16, 16, 3, 1, 0),
  };
  ConvProblem p = problem(9, 12, 19, 21, 3, 1, 2);  // dilation, uneven pads, batch
  p.dilation_h = p.dilation_w = 2, p.n = 2, p.pad_bottom = 0, p.pad_right = 3;
  list.push_back(p);
  p = problem(8, 9, 40, 24, 1, 1, 0);
  p.kw = 5, p.pad_left = 4, p.stride_h = 3, p.n = 3;
  list.push_back(p);
  p = problem(7, 6, 12, 12, 3, 1, 1, 12);
  p.dilation_w = 2, p.pad_left = p.pad_right = 4, p.n = 2;
  list.push_back(p);
  p = problem(5, 9, 24, 34, 3, 1, 1);  // Winograd over a batch
  p.n = 3;
  list.push_back(p);
  for (std::int64_t k : {3, 6, 7}) {
    p = problem(19, 22, 3, 24, k, 2, k / 2);
    p.src_nchw = true, p.n = 2;
    list.push_back(p);
  }
  p = problem(9, 10, 6, 8, 3, 1, 1, 2);
  p.src_nchw = true;
  list.push_back(p);
  p = problem(2, 3, 4, 5, 4, 1, 9);  // padding wider than the image
  list.push_back(p);
  return list;
}

TEST(Conv, ShapesF32) {
  for (const ConvProblem& p : shapes()) {
    Case c;
    c.p = p;
    c.src_extra = 5;
    c.dst_extra = 7;
    c.e = make_epilogue(Activation::kSilu);
    ConvCheck(c).run_all();
  }
}

TEST(Conv, ShapesBf16) {
  for (ConvProblem p : shapes()) {
    p.src = p.weights = p.dst = kBF16;
    Case c;
    c.p = p;
    c.src_extra = 3;
    c.dst_extra = 1;
    ConvCheck(c).run_all();
  }
}

TEST(Conv, MixedTypes) {
  for (int mix = 1; mix < 7; ++mix) {
    for (ConvProblem p : {problem(9, 10, 18, 20, 3, 1, 1), problem(6, 7, 32, 33, 1), problem(8, 8, 20, 20, 3, 1, 1, 20)}) {
      p.src = mix & 1 ? kBF16 : kF32;
      p.weights = mix & 2 ? kBF16 : kF32;
      p.dst = mix & 4 ? kBF16 : kF32;
      Case c;
      c.p = p;
      c.residual = true;
      c.residual_type = mix & 1 ? kF32 : kBF16;
      ConvCheck(c).run_all();
    }
  }
}

TEST(Conv, ActivationsAndResiduals) {
  for (int a = 0; a < kActivationCount; ++a) {
    for (int r = 0; r < 3; ++r) {
      Case c;
      c.p = a % 3 == 0 ? problem(6, 7, 16, 24, 3, 1, 1) : a % 3 == 1 ? problem(5, 8, 20, 37, 1) : problem(6, 6, 24, 24, 3, 1, 1, 24);
      c.e = make_epilogue(static_cast<Activation>(a));
      c.residual = r > 0;
      c.e.residual_after = r == 2;
      c.e.residual_scale = r == 2 ? 0.5f : 1.0f;
      c.e.scale = r == 1 ? 1.5f : 1.0f;
      c.bias = r != 1;
      ConvCheck(c).run_all();
    }
  }
}

TEST(Conv, ResidualMayBeTheDestination) {
  Case c;
  c.p = problem(9, 9, 16, 32, 3, 1, 1);
  ConvCheck check(c);  // plain call for the data path; in place below
  const ConvProblem& p = c.p;
  for (const ConvPlan& plan : conv_plans(p, detect_cpu_features(), 2, false)) {
    Random random(5);
    Buffer src(81, 16, 16, kF32), a(81, 32, 32, kF32), b(81, 32, 32, kF32), residual(81, 32, 32, kF32);
    src.fill(random);
    residual.fill(random);
    std::memcpy(b.data(), residual.data(), 81 * 32 * 4);
    std::vector<float> w(32 * 16 * 9);
    for (float& x : w) x = random.uniform();
    Scratch packed(conv_weight_bytes(p, plan)), scratch(conv_scratch_bytes(p, plan, 2));
    pack_conv_weights(p, plan, w.data(), packed.data());
    ThreadPool pool(2);
    ConvArgs args;
    args.src = src.data();
    args.weights = packed.data();
    args.scratch = scratch.data();
    args.residual = residual.data();
    args.dst = a.data();
    run_conv(p, plan, {}, args, pool);
    args.residual = args.dst = b.data();
    run_conv(p, plan, {}, args, pool);
    EXPECT_EQ(std::memcmp(a.data(), b.data(), 81 * 32 * 4), 0) << describe(plan);
  }
}

TEST(Conv, NanAndInfinityStayInTheirWindow) {
  for (DType type : {kF32, kBF16}) {
    for (bool nchw : {false, true}) {
      ConvProblem p = problem(12, 12, 3, 16, 3, 2, 1);
      p.src = p.weights = p.dst = type;
      p.src_nchw = nchw;
      for (const ConvPlan& plan : conv_plans(p, detect_cpu_features(), 1, true)) {
        Buffer src(nchw ? 3 : 144, nchw ? 144 : 3, nchw ? 144 : 3, type), dst(36, 16, 16, type);
        Random random(3);
        src.fill(random);
        const float inf = std::numeric_limits<float>::infinity();
        if (nchw) {
          src.set(1, 5 * 12 + 6, inf);
        } else {
          src.set(5 * 12 + 6, 1, inf);
        }
        std::vector<float> w(16 * 27, 0.5f);
        Scratch packed(conv_weight_bytes(p, plan)), scratch(conv_scratch_bytes(p, plan, 1));
        pack_conv_weights(p, plan, w.data(), packed.data());
        ThreadPool pool(1);
        ConvArgs args;
        args.src = src.data();
        args.weights = packed.data();
        args.scratch = scratch.data();
        args.dst = dst.data();
        run_conv(p, plan, {}, args, pool);
        for (std::int64_t oy = 0; oy < 6; ++oy) {
          for (std::int64_t ox = 0; ox < 6; ++ox) {
            const bool touched = std::abs(oy * 2 - 5) <= 1 && std::abs(ox * 2 - 6) <= 1;
            for (std::int64_t o = 0; o < 16; ++o) {
              const float v = dst.at(oy * 6 + ox, o);
              if (touched) {
                ASSERT_EQ(v, inf) << oy << " " << ox;
              } else {
                ASSERT_TRUE(std::isfinite(v)) << oy << " " << ox << " " << describe(plan);
              }
            }
          }
        }
      }
    }
  }
}

TEST(Conv, RefitKeepsThePackedWeights) {
  const ConvProblem small = problem(8, 8, 200, 48, 3, 1, 1);
  ConvProblem large = small;
  large.h = 31, large.w = 17, large.n = 2;
  std::uint64_t number = 0;
  for (const ConvPlan& plan : conv_plans(small, detect_cpu_features(), 2, false)) {
    if (!test::swept(number++)) continue;
    const ConvPlan other = refit_conv_plan(plan, large, 2);
    ASSERT_EQ(conv_weight_bytes(small, plan), conv_weight_bytes(large, other));
    std::vector<float> w(48 * 200 * 9);
    Random random(9);
    for (float& x : w) x = random.uniform();
    std::vector<char> a(conv_weight_bytes(small, plan)), b(a.size());
    pack_conv_weights(small, plan, w.data(), a.data());
    pack_conv_weights(large, other, w.data(), b.data());
    EXPECT_EQ(a, b);
    Case c;
    c.p = large;
    ConvCheck(c).run(other, 2, plan.fast() ? 64 : 2);
  }
}

// A plan of a stranger's engine file may be any numbers.
TEST(Conv, PlansThatDoNotFitAreKnown) {
  for (const std::int64_t kernel : {1, 3}) {
    const ConvProblem p = problem(9, 10, 64, 48, kernel, 1, kernel / 2);
    for (const ConvPlan& plan : conv_plans(p, detect_cpu_features(), 2, false)) {
      EXPECT_TRUE(conv_plan_fits(p, plan)) << describe(plan);
      const auto changed = [&](auto change) {
        ConvPlan other = plan;
        change(other);
        return conv_plan_fits(p, other);
      };
      EXPECT_FALSE(changed([](ConvPlan& c) { c.panel = 0; }));
      EXPECT_FALSE(changed([](ConvPlan& c) { c.panels = 0; }));
      EXPECT_FALSE(changed([](ConvPlan& c) { c.rows = 0; }));
      EXPECT_FALSE(changed([](ConvPlan& c) { c.chunk = 8; }));
      EXPECT_FALSE(changed([](ConvPlan& c) { c.flat = 2; }));
      EXPECT_FALSE(changed([](ConvPlan& c) { c.algorithm = ConvAlgorithm::kDepthwise; }));
      EXPECT_FALSE(changed([](ConvPlan& c) { c.rows = 1 << 20; }));
      if (plan.algorithm != ConvAlgorithm::kTiles) continue;
      EXPECT_FALSE(kernel == 3 && changed([](ConvPlan& c) { c.flat = 1; }));   // reads past a row
      EXPECT_FALSE(kernel == 3 && changed([](ConvPlan& c) { c.patch = 0; }));  // reads before the image
      EXPECT_FALSE(kernel == 1 && changed([](ConvPlan& c) { c.algorithm = ConvAlgorithm::kWinograd4; }));
    }
  }
}

TEST(Conv, UnsupportedSaysWhy) {
  ConvProblem p = problem(3, 3, 4, 4, 5);
  EXPECT_NE(conv_unsupported(p), "");
  p = problem(3, 3, 4, 4, 3, 1, 0, 3);
  EXPECT_NE(conv_unsupported(p), "");
  p = problem(3, 3, 4, 4, 3);
  p.src = DType::kInt8;
  EXPECT_NE(conv_unsupported(p), "");
  EXPECT_TRUE(conv_plans(p, detect_cpu_features(), 1, false).empty());
}

}  // namespace
}  // namespace lathe::cpu
