// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Activations of the epilogue (vmath.h) on every level against double precision: worst error over a sweep, and that errors do not lean to one
// side, which a network would add up layer by layer.
#include <cmath>
#include <limits>
#include <random>

#include "backend/cpu/conv.h"
#include "backend/cpu/test_util.h"

namespace lathe::cpu {
namespace {

using namespace testing;

/// act(x) by the epilogue of a 1x1 convolution of one channel with the weight 1.
std::vector<float> activated(const Epilogue& epilogue, const std::vector<float>& x) {
  ConvProblem p;
  p.w = static_cast<std::int64_t>(x.size());
  const ConvPlan plan = conv_plans(p, detect_cpu_features(), 1, true).at(0);
  Scratch packed(conv_weight_bytes(p, plan)), scratch(conv_scratch_bytes(p, plan, 1));
  const float one = 1;
  pack_conv_weights(p, plan, &one, packed.data());
  std::vector<float> y(x.size());
  ThreadPool pool(1);
  ConvArgs args;
  args.src = x.data();
  args.weights = packed.data();
  args.dst = y.data();
  args.scratch = scratch.data();
  run_conv(p, plan, epilogue, args, pool);
  return y;
}

struct Bound {
  Activation activation;
  double absolute, relative;  // |error| <= absolute + relative * |y|
  double lean;                // of the mean relative error over normally distributed arguments
};

TEST(Epilogue, ActivationsAreWithinTheirBounds) {
  // GeluErf: 1 + erf(x) cancels for negative x.
  const Bound bounds[] = {{Activation::kSilu, 2e-7, 2.5e-7, 1e-8},    {Activation::kSigmoid, 2e-7, 0, 1e-8},     {Activation::kTanh, 3e-7, 0, 2e-8},
                          {Activation::kGeluErf, 8e-7, 2.5e-7, 7e-8}, {Activation::kGeluTanh, 4e-7, 4e-7, 2e-8}, {Activation::kElu, 2e-7, 0, 2e-8},
                          {Activation::kMish, 4e-7, 4e-7, 2e-8}};
  std::vector<float> sweep, normal;
  for (double x = -40; x <= 40; x += 0.0007) sweep.push_back(static_cast<float>(x));
  for (float x = 1; x > 0; x /= 3) sweep.push_back(x), sweep.push_back(-x);
  std::mt19937 random(1);
  std::normal_distribution<float> distribution;
  for (int i = 0; i < 200000; ++i) normal.push_back(distribution(random));
  for_each_isa([&](Isa isa) {
    for (const Bound& bound : bounds) {
      SCOPED_TRACE(std::string(isa_name(isa)) + ", activation " + std::to_string(static_cast<int>(bound.activation)));
      const Epilogue epilogue = make_epilogue(bound.activation);
      const std::vector<float> y = activated(epilogue, sweep);
      double worst = 0;
      for (std::size_t i = 0; i < sweep.size(); ++i) {
        const double want = activate(epilogue, sweep[i]);
        worst = std::max(worst, std::fabs(y[i] - want) - bound.relative * std::fabs(want));
      }
      EXPECT_LE(worst, bound.absolute);
      const std::vector<float> z = activated(epilogue, normal);
      double sum = 0;
      for (std::size_t i = 0; i < normal.size(); ++i) {
        const double want = activate(epilogue, normal[i]);
        if (want != 0) sum += std::max(-1e-6, std::min(1e-6, (z[i] - want) / std::fabs(want)));  // without what cancels near zero
      }
      EXPECT_LE(std::fabs(sum / static_cast<double>(normal.size())), bound.lean);
    }
  });
}

TEST(Epilogue, ActivationsOfInfinityAndNaN) {
  const float inf = std::numeric_limits<float>::infinity();
  for_each_isa([&](Isa isa) {
    SCOPED_TRACE(isa_name(isa));
    const std::vector<float> x = {inf, -inf, std::nanf(""), 200, -200};
    const std::vector<float> sigmoid = activated(make_epilogue(Activation::kSigmoid), x), hyperbolic = activated(make_epilogue(Activation::kTanh), x);
    EXPECT_EQ(sigmoid[0], 1);
    EXPECT_EQ(sigmoid[1], 0);
    EXPECT_TRUE(std::isnan(sigmoid[2]));
    EXPECT_EQ(sigmoid[3], 1);
    EXPECT_NEAR(sigmoid[4], 0, 1e-30);
    EXPECT_EQ(hyperbolic[0], 1);
    EXPECT_EQ(hyperbolic[1], -1);
    EXPECT_TRUE(std::isnan(hyperbolic[2]));
    const std::vector<float> silu = activated(make_epilogue(Activation::kSilu), x);
    EXPECT_EQ(silu[0], inf);
    EXPECT_TRUE(std::isnan(silu[2]));
    EXPECT_EQ(silu[3], 200);
    EXPECT_NEAR(silu[4], 0, 1e-30);
  });
}

}  // namespace
}  // namespace lathe::cpu
