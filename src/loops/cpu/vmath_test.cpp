// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// float32 functions against the C library in double: 4 units in the last place over a sweep through all exponents and both signs, with
// NaN, infinities and denormals, on every instruction set of this CPU.

#include <bit>
#include <limits>

#include "loops/cpu/emitter_test_util.h"

namespace lathe::loops::cpu::testing {
namespace {

/// Every `step`-th bit pattern, then special ones.
std::vector<float> sweep(std::uint32_t step) {
  std::vector<float> values;
  for (std::uint64_t bits = 0; bits < 0x1'0000'0000ull; bits += step) {
    const auto x = std::bit_cast<float>(static_cast<std::uint32_t>(bits));
    if (!std::isnan(x)) values.push_back(x);
  }
  constexpr float kInf = std::numeric_limits<float>::infinity();
  for (const float x : {0.0f,
                        -0.0f,
                        kInf,
                        -kInf,
                        std::numeric_limits<float>::quiet_NaN(),
                        std::numeric_limits<float>::denorm_min(),
                        std::numeric_limits<float>::max(),
                        std::numeric_limits<float>::lowest(),
                        1.0f,
                        -1.0f,
                        0.625f,
                        -0.625f,
                        0.922f,
                        -0.922f,
                        4.05f,
                        88.72f,
                        88.73f,
                        -87.33f,
                        -103.9f,
                        -104.1f,
                        8192.0f})
    values.push_back(x);
  // Where the functions change most.
  for (int i = -20000; i <= 20000; ++i) values.push_back(static_cast<float>(i) * 5e-3f + 1e-4f);
  return values;
}

/// Distance in units in the last place of the exact result (denormal results: in the least denormal).
double ulps(float got, double exact) {
  if (std::isnan(exact)) return std::isnan(got) ? 0 : 1e30;
  const double limit = 0x1.ffffffp127;
  if (std::fabs(exact) >= limit)
    return (std::isinf(got) || std::fabs(got) == std::numeric_limits<float>::max()) && std::signbit(got) == std::signbit(exact) ? 0 : 1e30;
  const double unit = std::fabs(exact) < 0x1p-126 ? 0x1p-149 : std::ldexp(1.0, std::ilogb(exact) - 23);
  return std::fabs(static_cast<double>(got) - exact) / unit;
}

void hold(ExprOp op, double (*exact)(double), double limit, double absolute = 0) {
  const std::vector<float> x = sweep(4001);
  std::vector<float> y(x.size());
  for_each_target([&](std::string_view target) {
    const KernelFn fn = kernels().unary(op, VmType::kF32);
    // In tiles, as programs call it.
    for (std::size_t i = 0; i < x.size(); i += 1000) fn(y.data() + i, x.data() + i, nullptr, nullptr, std::min<std::size_t>(1000, x.size() - i));
    double worst = 0;
    float at = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double e = exact(static_cast<double>(x[i]));
      if (absolute > 0 && std::fabs(y[i] - e) <= absolute) continue;
      const double u = ulps(y[i], e);
      if (!(u <= worst)) {
        worst = u;
        at = x[i];
      }
    }
    EXPECT_LE(worst, limit) << op_name(op) << " on " << target << " at " << at;
    ::testing::Test::RecordProperty(std::string(op_name(op)) + "_" + std::string(target), std::to_string(worst));
  });
}

TEST(VectorMath, Exp) {
  hold(
      ExprOp::kExp, [](double x) { return std::exp(x); }, 4);
}
TEST(VectorMath, Log) {
  hold(
      ExprOp::kLog, [](double x) { return std::log(x); }, 4);
}
TEST(VectorMath, Erf) {
  hold(
      ExprOp::kErf, [](double x) { return std::erf(x); }, 4);
}
TEST(VectorMath, Tanh) {
  hold(
      ExprOp::kTanh, [](double x) { return std::tanh(x); }, 4);
}
TEST(VectorMath, Sigmoid) {
  hold(
      ExprOp::kSigmoid, [](double x) { return 1 / (1 + std::exp(-x)); }, 4, 0x1p-126);
}
TEST(VectorMath, Sin) {
  hold(
      ExprOp::kSin, [](double x) { return std::sin(x); }, 4, 1e-6);
}
TEST(VectorMath, Cos) {
  hold(
      ExprOp::kCos, [](double x) { return std::cos(x); }, 4, 1e-6);
}

TEST(VectorMath, SiluIsTheProductWithTheSigmoid) {
  std::vector<float> x = sweep(40009), y(x.size());
  for_each_target([&](std::string_view target) {
    kernels().silu()(y.data(), x.data(), nullptr, nullptr, x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double e = x[i] == -std::numeric_limits<float>::infinity() ? NAN : static_cast<double>(x[i]) / (1 + std::exp(-static_cast<double>(x[i])));
      if (std::isinf(x[i])) continue;  // inf * 0: the two forms differ
      ASSERT_TRUE(ulps(y[i], e) <= 4 || std::fabs(y[i] - e) <= 0x1p-120) << target << " at " << x[i] << ": " << y[i] << " instead of " << e;
    }
  });
}

}  // namespace
}  // namespace lathe::loops::cpu::testing
